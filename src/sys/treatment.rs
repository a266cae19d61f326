//! What the kernel is told of a mapping: which of its pages are wanted, where, and how.
#![allow(unsafe_code)]

use super::{Map, check};
use crate::sys::{Access, Advice};
use std::fs;
use std::io;
use std::ops::Range;

/// Values that libc does not have for every C library.
const POPULATE_READ: libc::c_int = 22;
const POPULATE_WRITE: libc::c_int = 23;
const COLLAPSE: libc::c_int = 25;

/// The size of a page in bytes.
pub(super) fn page_size() -> usize {
    // SAFETY: the call takes no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Where `len` bytes at `offset` of a file can be mapped so that huge pages can hold them, if it is still free when it is used;
/// null if they are too few.
pub(super) fn roomy_address(len: usize, offset: libc::off_t) -> *mut libc::c_void {
    const HUGE: usize = 2 << 20;
    let (nowhere, flags) = (std::ptr::null_mut(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    let Some(room) = len.checked_add(HUGE).filter(|_| len >= HUGE) else { return nowhere };
    // SAFETY: a fresh mapping at an address the kernel chooses, of which nobody but the next lines knows.
    let found = unsafe { libc::mmap(nowhere, room, libc::PROT_NONE, flags, -1, 0) };
    if found == libc::MAP_FAILED {
        return nowhere;
    }
    // SAFETY: exactly what was just mapped.
    unsafe { libc::munmap(found, room) };
    let ahead = (offset as usize).wrapping_sub(found.addr()) % HUGE;
    found.wrapping_byte_add(ahead)
}

impl Map {
    /// The pages that hold `range`: where they begin, and their length in bytes.
    pub(super) fn pages(&self, range: Range<usize>) -> io::Result<(*mut libc::c_void, usize)> {
        if range.start > range.end || range.end > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let before = (self.lead + range.start) % page_size();
        let first = self.base.as_ptr().wrapping_add(range.start).wrapping_sub(before);
        Ok((first.cast(), if range.is_empty() { 0 } else { before + range.len() }))
    }

    fn advise_raw(&self, range: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        let (first, len) = self.pages(range)?;
        // SAFETY: the range lies in this mapping, and no advice that is given here changes a byte of it.
        check(unsafe { libc::madvise(first, len, advice) }).map(drop)
    }

    pub(crate) fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        let advice = match advice {
            Advice::Normal => libc::MADV_NORMAL,
            Advice::Sequential => libc::MADV_SEQUENTIAL,
            Advice::Random => libc::MADV_RANDOM,
            Advice::WillNeed => libc::MADV_WILLNEED,
            Advice::DontNeed => libc::MADV_DONTNEED,
        };
        self.advise_raw(range, advice)
    }

    pub(crate) fn populate(&self, range: Range<usize>, access: Access) -> io::Result<()> {
        let advice = if access == Access::Read { POPULATE_READ } else { POPULATE_WRITE };
        match self.advise_raw(range, advice) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn request_huge_pages(&self, range: Range<usize>) -> io::Result<u64> {
        // Asked for, and at once; whatever the kernel refuses is seen in what it has done.
        let _ = self.advise_raw(range.clone(), libc::MADV_HUGEPAGE);
        let _ = self.advise_raw(range.clone(), COLLAPSE);
        let (first, len) = self.pages(range)?;
        let wanted = first.addr()..first.addr() + len;
        let (mut inside, mut bytes) = (false, 0);
        for line in fs::read_to_string("/proc/self/smaps")?.lines() {
            let word = line.split(' ').next().unwrap_or_default();
            if let Some((start, end)) = word.split_once('-') {
                let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
                inside = number(start) < wanted.end && wanted.start < number(end);
            } else if inside && matches!(word, "AnonHugePages:" | "ShmemPmdMapped:" | "FilePmdMapped:") {
                let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
                bytes += number.unwrap_or(0) * 1024;
            }
        }
        Ok(bytes.min(len as u64))
    }

    pub(crate) fn lock(&self, range: Range<usize>) -> io::Result<()> {
        let (first, len) = self.pages(range)?;
        // SAFETY: the range lies in this mapping; the call changes no byte of it.
        check(unsafe { libc::mlock(first, len) }).map(drop)
    }

    pub(crate) fn unlock(&self, range: Range<usize>) -> io::Result<()> {
        let (first, len) = self.pages(range)?;
        // SAFETY: as in `lock`.
        check(unsafe { libc::munlock(first, len) }).map(drop)
    }

    pub(crate) fn flush(&self, range: Range<usize>, waits: bool) -> io::Result<()> {
        let (first, len) = self.pages(range)?;
        let how = if waits { libc::MS_SYNC } else { libc::MS_ASYNC };
        // SAFETY: as in `lock`.
        check(unsafe { libc::msync(first, len, how) }).map(drop)
    }

    pub(crate) fn release(&mut self, range: Range<usize>) -> io::Result<()> {
        let page = page_size();
        let (before, start) = (self.lead + range.start, self.base.as_ptr().wrapping_sub(self.lead));
        let end = self.lead + range.end;
        // Only whole pages; but nothing else shares the first and the last one.
        let end = if range.end == self.len { end.next_multiple_of(page) } else { end - end % page };
        let first = if range.start == 0 { 0 } else { before.next_multiple_of(page) };
        self.pages(range.clone())?;
        if range.is_empty() || first >= end {
            return Ok(());
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: the range lies in this mapping, and in what the caller, who has it for itself, gives up.
        let done = unsafe { libc::mmap(start.wrapping_add(first).cast(), end - first, libc::PROT_NONE, flags, -1, 0) };
        if done == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// How many bytes this process may lock in memory, and how many it has; `None` if it may lock all.
pub(crate) fn lock_limit() -> Option<(u64, u64)> {
    // SAFETY: all-zero bytes are a valid `rlimit`, a plain C struct.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is valid for writes for the duration of the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let locked = field("VmLck:")?.split_whitespace().next()?.parse::<u64>().ok()?;
    const IPC_LOCK: u32 = 14;
    // That right counts in the first user namespace alone, in which every user is as it is.
    let first = fs::read_to_string("/proc/self/uid_map").ok()?.split_whitespace().eq(["0", "0", "4294967295"]);
    let all = first && u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()? >> IPC_LOCK & 1 == 1;
    (known && !all && limit.rlim_cur != libc::RLIM_INFINITY).then_some((limit.rlim_cur, locked * 1024))
}

/// How much memory the machine can still give, in bytes, swap included.
pub(crate) fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((field("MemAvailable:")? + field("SwapFree:")?) * 1024)
}
