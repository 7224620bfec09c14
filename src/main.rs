//! The binary: arguments in, exit code out. Everything else is in `cli` (what people see) and in the
//! library (what is done).

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
