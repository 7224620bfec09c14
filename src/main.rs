//! The binary: arguments in, exit code out. Everything else is in `cli` (what people see) and in the
//! library (what is done).
#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

mod cli;

#[cfg(any(test, not(all(target_os = "linux", target_env = "gnu"))))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(u8::from(cli::run()))
}
