//! Bounds what libgit2 takes of memory at once while it reads a content.
//!
//! It allocates an object whole before it inflates it, and does without where it gets nothing. So that a huge content
//! is not inflated, and yet no header is read before each content only to know its size, which costs a fifth of
//! reading it.
//!
//! There is one limit, that of a file: libgit2 forgets to let go of an object in its cache of bases (each at most
//! 1 MiB) that it gets no copy of, and later looks for room there without end, so a limit below the largest of these
//! would not do. What it cannot free, where it gets no room for a delta, is the delta's base above 1 MiB.
#![expect(unsafe_code, reason = "libgit2 takes its allocator as functions of the C language")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

use super::MAX_FILE_BYTES;

thread_local! {
    static MOST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Runs `read`, which may take as much as a file's content at once.
pub(super) fn for_contents<T>(read: impl FnOnce() -> T) -> T {
    // One byte more than the content, as libgit2 takes.
    within(usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX).saturating_add(1), read)
}

/// Runs `read` with at most `most` bytes for each thing that libgit2 allocates on this thread.
fn within<T>(most: usize, read: impl FnOnce() -> T) -> T {
    /// Puts back what was, also where `read` panics.
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            MOST.set(self.0);
        }
    }
    let _before = Before(MOST.replace(most));
    read()
}

/// libgit2's `git_allocator`, which the bindings do not declare.
#[repr(C)]
struct Allocator {
    malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
}

unsafe extern "C" fn malloc(size: usize, _file: *const c_char, _line: c_int) -> *mut c_void {
    if size > MOST.get() {
        return std::ptr::null_mut();
    }
    // SAFETY: takes any number.
    unsafe { libc::malloc(size) }
}

unsafe extern "C" fn realloc(
    old: *mut c_void,
    size: usize,
    _file: *const c_char,
    _line: c_int,
) -> *mut c_void {
    if size > MOST.get() {
        return std::ptr::null_mut();
    }
    // SAFETY: the caller's promise, passed on.
    unsafe { libc::realloc(old, size) }
}

unsafe extern "C" fn free(pointer: *mut c_void) {
    // SAFETY: the caller's promise, passed on.
    unsafe { libc::free(pointer) }
}

/// Makes libgit2 ask here. What it has allocated before came from the same functions of the C library.
pub(super) fn bound() {
    let allocator = Allocator { malloc, realloc, free };
    // SAFETY: called while `Once` keeps every other opening of a repository waiting; libgit2 copies what is pointed to.
    let code = unsafe {
        libgit2_sys::git_libgit2_opts(
            libgit2_sys::GIT_OPT_SET_ALLOCATOR as c_int,
            std::ptr::from_ref(&allocator),
        )
    };
    // Only an unknown option fails. Without a limit of its memory a huge content would be inflated, and then left out.
    debug_assert_eq!(code, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_allocated_and_only_meanwhile() {
        let taken = |size| {
            // SAFETY: what is allocated is freed.
            unsafe {
                let pointer = malloc(size, std::ptr::null(), 0);
                free(pointer);
                !pointer.is_null()
            }
        };
        within(1000, || {
            assert!(taken(1000) && !taken(1001));
            within(10, || assert!(!taken(1000)));
            assert!(taken(1000));
            // SAFETY: grows nothing, and frees nothing.
            assert!(unsafe { realloc(std::ptr::null_mut(), 1001, std::ptr::null(), 0) }.is_null());
        });
        assert!(taken(100_000));
        let panicked = std::panic::catch_unwind(|| within(10, || panic!("in between")));
        assert!(panicked.is_err() && taken(100_000));
    }

    #[test]
    fn libgit2_asks_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = git2::Repository::init(folder.path()).expect("a repository");
        crate::capture::Repo::open(folder.path()).expect("the limit is set where one is opened");
        let id = repository.blob(&[b'x'; 2000]).expect("a content");
        let odb = repository.odb().expect("its objects");
        assert!(
            within(2000, || odb.read(id)).is_err_and(|error| error.class() == git2::ErrorClass::NoMemory)
        );
        assert_eq!(within(2001, || odb.read(id)).map(|object| object.len()), Ok(2000));
    }
}
