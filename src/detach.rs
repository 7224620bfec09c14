//! Starting the delivery in the background, so that the hook can leave.
//!
//! Measured: a new session alone does not free the pipe that `git commit 2>&1 | cat`, or a GUI, reads
//! until its last writer is gone; the standard streams must be somewhere else *and* every inherited descriptor
//! from 3 up closed. So the hook gives the child null streams ([`spawn_worker`], 0.1 ms: without a
//! hook between fork and exec the standard library can use `posix_spawn`), and the child frees itself of the rest
//! first of all ([`become_daemon`]).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// What Git sets for the repository at hand (`git rev-parse --local-env-vars`). A worker delivers for all
/// repositories and must not take any of them for its own.
pub const LOCAL_ENVIRONMENT: [&str; 17] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_QUARANTINE_PATH",
];

/// Starts `exe args` and does not wait for it. `lock` becomes its standard input, which keeps the lock while
/// it changes hands; standard output and error go to the null device.
///
/// # Errors
/// When the process cannot be started. The lock is free again then.
pub fn spawn_worker(exe: &Path, args: &[impl AsRef<OsStr>], lock: Option<File>) -> io::Result<()> {
    let mut command = Command::new(exe);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.stdin(lock.map_or_else(Stdio::null, Stdio::from));
    for name in LOCAL_ENVIRONMENT {
        command.env_remove(name);
    }
    // The child outlives this process; init will collect it.
    command.spawn().map(drop)
}

/// What a worker does before anything else: a session of its own, so that the terminal's end is not its own; every
/// descriptor from 3 up closed, so that nobody waits for it; and the root as working
/// folder, so that no repository is kept busy. Must be called while the process has opened nothing yet.
///
/// # Errors
/// When descriptors cannot be listed, where the kernel cannot close them in one call, or the root cannot
/// be entered.
#[expect(unsafe_code, reason = "the standard library has neither setsid nor close_range")]
pub fn become_daemon() -> io::Result<()> {
    // SAFETY: takes no pointer; fails only for the leader of a process group, which then has what it asks for.
    unsafe { libc::setsid() };
    close_from_3()?;
    std::env::set_current_dir("/")
}

#[expect(unsafe_code, reason = "inherited descriptors have no owner in this program that could close them")]
fn close_from_3() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: no pointers. The descriptors were inherited: nothing in this process owns them, by the
        // requirement of `become_daemon`.
        if unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } == 0 {
            return Ok(());
        }
    }
    let numbers: Vec<libc::c_int> = std::fs::read_dir("/dev/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // SAFETY: as above; the descriptor of the listing itself is closed already, and closing a number
        // that is not open only answers EBADF.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Takes the file that came as standard input, and puts the null device there: what this process starts must
/// not inherit the lock.
///
/// # Errors
/// When descriptors run out or there is no null device.
#[expect(unsafe_code, reason = "the standard library cannot put another file under descriptor 0")]
pub fn take_stdin() -> io::Result<File> {
    use std::os::fd::AsRawFd;

    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // SAFETY: no pointers; descriptor 0 is replaced in one step and never closed, as `std::io::stdin` expects.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(taken))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn covers_what_git_calls_local() {
        let output = Command::new("git").args(["rev-parse", "--local-env-vars"]).output().unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        assert!(names.contains("GIT_DIR"));
        for name in names.lines() {
            assert!(LOCAL_ENVIRONMENT.contains(&name), "{name} would leak into the worker");
        }
    }
}
