//! mimalloc as a program's allocator, told how tensors are used.

use std::ffi::c_int;

use libmimalloc_sys::mi_option_set_default;

/// `mi_option_purge_delay` of mimalloc's header, versions 2 and 3; the crate has no name for it.
const PURGE_DELAY: c_int = 15;

/// Keeps memory that was let go for what comes next. mimalloc would give it back to the system after a second, and a network asks for as
/// much again in its next layer or step, page by page: a twentieth of the time of a U-Net that takes four seconds. The program's
/// peak stays as it is. For a program whose global allocator is mimalloc, at its start; `MIMALLOC_PURGE_DELAY` in the
/// environment has the last word.
pub fn keep_freed_memory() {
    // SAFETY: it sets a number that mimalloc keeps for itself, from one thread, before others are there to read it; a number that is no option is
    // ignored.
    #[allow(unsafe_code, reason = "the allocator is written in C")]
    unsafe {
        mi_option_set_default(PURGE_DELAY, -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_kept() {
        keep_freed_memory();
        // SAFETY: it reads a number.
        #[allow(unsafe_code, reason = "the allocator is written in C")]
        let delay = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay, -1);
    }
}
