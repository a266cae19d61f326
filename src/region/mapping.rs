//! Where bytes are in this process, and what the system is told of them.
#![allow(unsafe_code)]

use super::{MemoryMut, Region, RegionCopy, RegionMut};
use crate::error::Error;
use crate::sys::{self, Access, Advice, Map};
use std::io::ErrorKind;
use std::ops::{Bound, Deref, Range, RangeBounds};
use std::ptr::NonNull;

/// Mapped bytes, whatever they are bytes of: a [`Region`](crate::Region), [`RegionMut`](crate::RegionMut),
/// [`MemoryMut`](crate::MemoryMut) and [`RegionCopy`](crate::RegionCopy) is one, and has all of these methods.
///
/// They tell the system which of the bytes are wanted, where and when; none of them changes a byte. What is said of a byte
/// holds for its whole page, for this mapping alone, and until it is unmapped; a dead peer changes nothing.
///
/// ```
/// use memlane::{Advice, Memory};
///
/// let memory = Memory::anonymous(1 << 20)?;
/// let region = memory.map(..)?;
/// region.advise(Advice::Sequential)?;
/// region.populate()?;
/// let huge = region.request_huge_pages()?;
/// println!("{huge} of {} bytes lie in huge pages", region.len());
/// # Ok::<(), memlane::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    map: Map,
    /// What the bytes are of, for errors.
    name: Box<str>,
    access: Access,
    /// Where they are in `map`.
    start: usize,
    len: usize,
    /// From where on `map` is there for them alone: an object's header may lie before.
    own: usize,
}

impl Mapping {
    /// The bytes of `map` from `start` on; from `own` on it is there for them alone.
    pub(super) fn new(map: Map, name: &str, access: Access, own: usize, start: usize) -> Self {
        let len = map.len() - start;
        Self { map, name: name.into(), access, start, len, own }
    }

    pub(super) fn map(&self) -> &Map {
        &self.map
    }

    /// What the bytes are of: the name or path that it was opened by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of bytes.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "the length of a mapping, not of a collection")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of the first byte. Other processes may change what is there at any time.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.base().as_ptr()
    }

    /// The address of the first byte.
    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        // SAFETY: `start` is at most the length of the mapping: all who set it saw to it.
        unsafe { self.map.base().add(self.start) }
    }

    fn all(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// Where `range` of the bytes is in `map`.
    fn range(&self, range: &impl RangeBounds<usize>) -> Result<Range<usize>, Error> {
        let bounds = (range.start_bound().map(|at| *at as u64), range.end_bound().map(|at| *at as u64));
        let range = range_in(bounds, self.len as u64, &self.name)?;
        Ok(self.start + range.start as usize..self.start + range.end as usize)
    }

    /// The address of `len` bytes at `offset`, checked to lie in the region and to be aligned.
    pub(super) fn find(&self, offset: usize, len: usize, align: usize) -> Result<NonNull<u8>, Error> {
        let (size, base) = (self.len, self.base());
        let inside = offset.checked_add(len).is_some_and(|end| end <= size);
        if inside && base.addr().get().wrapping_add(offset).is_multiple_of(align) {
            // SAFETY: the offset lies in the mapping, or one past its end, as just checked.
            Ok(unsafe { base.add(offset) })
        } else {
            Err(Error::OutOfBounds { offset, len, align, size })
        }
    }

    pub(super) fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        let from = self.find(offset, to.len(), 1)?;
        // SAFETY: the range lies in the mapping, which lives as long as `self`.
        unsafe { copy_out(from.as_ptr(), to) };
        Ok(())
    }

    /// Of a mapping that can be written.
    pub(super) fn put_at(&mut self, offset: usize, from: &[u8]) -> Result<(), Error> {
        let to = self.find(offset, from.len(), 1)?;
        // SAFETY: the range lies in the mapping, which is writable and lives as long as `self`; `&mut self` keeps
        // this process's references out of it, and `from`, a slice of this process, does not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
        Ok(())
    }

    pub(super) fn shrink_to(&mut self, range: &impl RangeBounds<usize>) -> Result<(), Error> {
        let (kept, all) = (self.range(range)?, self.own..self.map.len());
        (self.start, self.len) = (kept.start, kept.len());
        // With what was given back before: a page of it may have held what goes only now.
        let mut release = |range| self.map.release(range).map_err(Error::os("unmap a part of", &self.name));
        release(all.start..kept.start)?;
        release(kept.end..all.end)
    }

    /// Says how the bytes will be used. The system may act on it or not.
    ///
    /// [`Advice::DontNeed`] does nothing to a [`RegionCopy`](crate::RegionCopy), whose changes it would lose.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the system refuses, as it does for `DontNeed` of what is locked in memory.
    pub fn advise(&self, advice: Advice) -> Result<(), Error> {
        if advice == Advice::DontNeed && self.access == Access::Copy {
            return Ok(());
        }
        self.map.advise(self.all(), advice).map_err(Error::os("give advice on", &self.name))
    }

    /// Brings every byte into memory and into this process's page table, so that its first touch costs nothing. The pages of a
    /// [`RegionCopy`](crate::RegionCopy) are copied. On a kernel before 5.14 nothing happens.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if there is no memory for a page.
    pub fn populate(&self) -> Result<(), Error> {
        self.map.populate(self.all(), self.access).map_err(Error::os("populate", &self.name))
    }

    /// Asks for huge pages, at once, and says how many of the bytes lie in such pages now: 0 if the system gives none, which
    /// is no error. Memory in tmpfs, and anonymous memory, gets them from Linux 6.1 on, if
    /// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` does not say `deny`.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the system does not say what it has done.
    pub fn request_huge_pages(&self) -> Result<u64, Error> {
        self.map.request_huge_pages(self.all()).map_err(Error::os("look for the huge pages of", &self.name))
    }

    /// Brings every byte into memory and keeps it there, for good or until
    /// [`unlock_from_memory`](Self::unlock_from_memory): it is never swapped out. The pages of a [`RegionCopy`](crate::RegionCopy) are copied. A child made by `fork` does not
    /// inherit it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] if this process may not lock so much, with what it may and how to get more, and [`Error::Os`].
    pub fn lock_in_memory(&self) -> Result<(), Error> {
        self.map.lock(self.all()).map_err(|source| {
            let limited = matches!(source.kind(), ErrorKind::OutOfMemory | ErrorKind::PermissionDenied);
            match sys::lock_limit().filter(|_| limited) {
                Some((limit, locked)) => Error::NoSpace {
                    name: self.name.to_string(),
                    need: self.len as u64,
                    available: limit.saturating_sub(locked),
                    place: format!("the limit of {limit} bytes that this process may lock in memory").into(),
                    fix: "raise it with `ulimit -l`, in a container `docker run --ulimit memlock=-1`".into(),
                },
                None => Error::os("lock in memory", &self.name)(source),
            }
        })
    }

    /// Lets the bytes be swapped out again.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the system refuses.
    pub fn unlock_from_memory(&self) -> Result<(), Error> {
        self.map.unlock(self.all()).map_err(Error::os("unlock from memory", &self.name))
    }

    /// Writes these bytes of a file to its disk, and waits for it; the file's size too. Memory without a disk, and a
    /// [`RegionCopy`](crate::RegionCopy), have nothing to write.
    ///
    /// Other processes see what was written without it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRange`], and [`Error::Os`] if the disk refuses.
    pub fn flush(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.map.flush(self.range(&range)?, true).map_err(Error::os("flush", &self.name))
    }

    /// Like [`flush`](Self::flush), but waits for nothing.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn flush_async(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.map.flush(self.range(&range)?, false).map_err(Error::os("flush", &self.name))
    }
}

macro_rules! is_a_mapping {
    ($($region:ty: $($field:ident).+),*) => {$(
        impl Deref for $region {
            type Target = Mapping;

            fn deref(&self) -> &Mapping {
                &self.$($field).+
            }
        }
    )*};
}

is_a_mapping!(Region: mapping, RegionMut: attachment.mapping, RegionCopy: mapping, MemoryMut: mapping);

/// The bytes that `range` means, of `size`.
pub(super) fn range_in(range: impl RangeBounds<u64>, size: u64, name: &str) -> Result<Range<u64>, Error> {
    let start = match range.start_bound() {
        Bound::Included(at) => Some(*at),
        Bound::Excluded(at) => at.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at.checked_add(1),
        Bound::Excluded(at) => Some(*at),
        Bound::Unbounded => Some(size),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= size => Ok(start..end),
        (start, end) => {
            let (start, end) = (start.unwrap_or(u64::MAX), end.unwrap_or(u64::MAX));
            Err(Error::NoSuchRange { name: name.to_owned(), start, end, size })
        }
    }
}

/// Copies out of memory that others may write meanwhile.
///
/// # Safety
///
/// `from` is valid for reads of `to.len()` bytes.
unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    let words = to.len() / 8;
    for word in 0..words {
        // SAFETY: the caller vouches for `to.len()` bytes. Volatile: the bytes may change while they are read, and
        // the compiler must neither read them twice nor assume anything of them.
        let bytes = unsafe { from.add(word * 8).cast::<[u8; 8]>().read_volatile() };
        to[word * 8..word * 8 + 8].copy_from_slice(&bytes);
    }
    for (index, byte) in to.iter_mut().enumerate().skip(words * 8) {
        // SAFETY: as above.
        *byte = unsafe { from.add(index).read_volatile() };
    }
}
