//! The allocator of this program.
#![allow(unsafe_code)] // mimalloc gives memory back in C only

/// Thousands of small, short-lived objects a second: the system's allocator keeps several times their size.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory that is free back to the operating system.
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time on any thread of a program whose allocator is mimalloc, as this one's is.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
