//! Running other programs with an end.

use std::io;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a command that prints little (a pipe holds 64 KiB), at most so long; then it is ended.
pub(super) fn within(mut command: Command, limit: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not end within {} s", limit.as_secs()),
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_end_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = within(command, Duration::from_millis(50)).expect_err("no end");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let output = within(Command::new("true"), Duration::from_secs(20)).expect("an end");
        assert!(output.status.success());
    }
}
