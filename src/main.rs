//! The binary: arguments in, exit code out. Everything else is in `cli` (what people see) and in the
//! library (what is done).

mod cli;

/// Reading a history takes and gives back buffers of all sizes, in libgit2 more than here (hence the
/// feature `override`): a fifth of the time with glibc's allocator. Version 3 would cost each hook 0.3 ms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
