//! The allocator of this program.
#![allow(unsafe_code)] // mimalloc gives memory back in C only

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory that is free back to the operating system. mimalloc does it by itself a second after memory became free, but only when
/// memory is asked for then, and a proxy whose configuration has just come is idle.
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time on any thread of a program whose allocator is mimalloc, as this one's is.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
