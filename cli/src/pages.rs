//! The pages of the program's own code that a process holds.
#![allow(unsafe_code)] // the kernel is told by address which pages it may take

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Gives back the code that has run so far: for a server, at the end of its start. With each page that is touched the kernel
/// maps its neighbours, up to 64 KiB (`fault_around_bytes`), so a start, which runs a little of nearly everything, leaves
/// most of the program resident. What goes on being used comes back at its next use, from the page cache.
pub(crate) fn forget_start() {
    if let Err(error) = code().and_then(forget) {
        tracing::debug!(%error, "the code of the start stays resident");
    }
}

fn forget(code: Range<usize>) -> io::Result<()> {
    let start = NonNull::new(std::ptr::with_exposed_provenance_mut::<c_void>(code.start));
    let start = start.ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: a private mapping of a file that nobody can write to; after this call its pages are read from the file as
    // they were the first time, by whichever thread runs into them.
    Ok(unsafe { madvise(start, code.len(), MmapAdvise::MADV_DONTNEED) }?)
}

/// Where this program's code is.
fn code() -> io::Result<Range<usize>> {
    let here = forget_start as fn() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    maps.lines().filter_map(code_of_file).find(|range| range.contains(&here)).ok_or(io::ErrorKind::NotFound.into())
}

/// The addresses of a line of `/proc/<pid>/maps` that is about code in a file (proc_pid_maps(5)). Others may hold what is
/// nowhere else: a page that can be written to, or that was, as those are which the program was relocated in.
fn code_of_file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (mode, _offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let address = |hex: &str| usize::from_str_radix(hex, 16).ok();
    (mode == "r-xp" && inode != "0").then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::{code, code_of_file, forget_start};

    #[test]
    fn code_of_a_file_and_nothing_else() {
        for (line, expected) in [
            ("7f00a000-7f01b000 r-xp 00002000 fe:00 1234                       /usr/bin/forestay", true),
            ("7f00a000-7f01b000 r-xp 00002000 fe:00 1234                       /a file (deleted)", true),
            ("7f00a000-7f01b000 r--p 00002000 fe:00 1234                       /usr/bin/forestay", false),
            ("7f00a000-7f01b000 rw-p 00002000 fe:00 1234                       /usr/bin/forestay", false),
            ("7f00a000-7f01b000 rwxp 00002000 fe:00 1234                       /usr/bin/forestay", false),
            ("7f00a000-7f01b000 r-xs 00002000 fe:00 1234                       /usr/bin/forestay", false),
            ("7f00a000-7f01b000 r-xp 00000000 00:00 0                          [vdso]", false),
            ("7f00a000 r-xp 00000000 00:00 1", false),
            ("", false),
        ] {
            let expected = expected.then_some(0x7f00_a000..0x7f01_b000);
            assert_eq!(code_of_file(line), expected, "{line}");
        }
    }

    /// How much of the code is resident, in KiB.
    fn resident() -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let code = code().unwrap();
        let of_code = smaps.lines().skip_while(|line| code_of_file(line).as_ref() != Some(&code));
        let rss = of_code.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn the_program_goes_on_with_less_of_it_resident() {
        let before = resident();
        forget_start();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} after");
    }
}
