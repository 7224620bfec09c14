//! Begins the program without the standard library's own beginning, where the system gives the arguments another way.
//!
//! That beginning looks for the end of the main thread's stack in `/proc/self/maps`, which is a twentieth of a hook's
//! processor time, only to say in other words that a stack was too small. What else it does is done here.

use std::ffi::{c_char, c_int};
use std::io::Write as _;

/// Called by the C library.
#[expect(unsafe_code, reason = "the symbol that the C library calls, and a few calls of POSIX")]
// SAFETY: no other `main` is linked; the standard library's is left out by `no_main`.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // SAFETY: numbers, and a string with its end.
    unsafe {
        // A file that takes a closed descriptor's number would be written to in place of it.
        for descriptor in 0..3 {
            if libc::fcntl(descriptor, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            }
        }
        // A reader that has gone is an error to handle, not a reason to die.
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    let code = super::run();
    // What cannot be written any more was an error where it was printed.
    let _ = std::io::stdout().flush();
    // SAFETY: takes a number. Everything was closed and written; the destructors of the libraries would only give memory
    // back, piece by piece.
    unsafe { libc::_exit(c_int::from(u8::from(code))) }
}

/// Mathematics that dependencies ask of the C library, so that it need not load a second one for three functions. The
/// results are those of `libm`, which the model of the risk takes for being the same on every machine.
mod mathematics {
    macro_rules! of_libm {
        ($($name:ident($($argument:ident),+);)+) => {$(
            #[expect(unsafe_code, reason = "symbols that the C library declares")]
            // SAFETY: as C declares it; a definition in the program goes before a library's.
            #[unsafe(no_mangle)]
            extern "C" fn $name($($argument: f64),+) -> f64 {
                libm::$name($($argument),+)
            }
        )+};
    }
    of_libm! {
        exp2(x);
        log(x);
        pow(x, y);
    }
}
