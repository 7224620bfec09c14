//! The allocator of the whole program.

/// Reading a history takes and gives back buffers of all sizes, in libgit2 more than here (hence the
/// feature `override`): a fifth of the time with glibc's allocator. Version 3 would cost each hook 0.3 ms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc's header of version 2, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// For reading much of a history: what was freed goes back to the system after 100 ms, not after 10. Contents of
/// all sizes come and go, and being given a page anew costs more than zlib takes to fill it: two page faults in
/// three are spared, for a twentieth more memory.
pub(super) fn keep() {
    #[expect(unsafe_code, reason = "an option of the allocator, which the bindings give as it is")]
    // SAFETY: sets a number that the allocator reads atomically.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 100);
    }
}
