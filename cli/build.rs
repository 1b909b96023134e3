//! How `forestay` is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where a program that may lie anywhere in memory has to be mended at its start, in bits rather than in entries of 24 bytes:
    // 0.7 MB that every process would read, and hold, for nothing else. Needs glibc 2.36, to which it is linked.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
