//! Bytes that this process changes for itself.

use super::Mapping;
use crate::error::Error;
use crate::object::Object;
use crate::sys::Access;
use std::ops::{Range, RangeBounds};

/// A private copy of an object's or a [`Memory`](crate::Memory)'s bytes, made page by page as they are written. Unmapped
/// when dropped.
///
/// Nobody else sees what is written here, and it takes memory for the pages that were written. It is no snapshot: a byte of a page in which
/// nothing was written yet is as others change it. The right to read is enough. No locks can lie in it: nobody else would
/// see them.
///
/// ```
/// let memory = memlane::Memory::anonymous(100)?;
/// let mut mine = memory.map_copy(..)?;
/// mine.write_at(10, b"mine")?;
///
/// let mut theirs = [0xff; 4];
/// memory.map(..)?.read_at(10, &mut theirs)?;
/// assert_eq!(theirs, [0; 4]);
/// # Ok::<(), memlane::Error>(())
/// ```
#[derive(Debug)]
pub struct RegionCopy {
    // Dropped in this order: the bytes go before the locks that say they are in use.
    pub(super) mapping: Mapping,
    _object: Option<Object>,
}

impl RegionCopy {
    pub(super) fn of(object: Object, range: Range<u64>) -> Result<Self, Error> {
        let mapping = object.map_data(Access::Copy, range)?;
        Ok(Self { mapping, _object: Some(object) })
    }

    pub(super) fn of_memory(mapping: Mapping) -> Self {
        Self { mapping, _object: None }
    }

    /// Copies the bytes at `offset` into `to`, as [`Region::read_at`](crate::Region::read_at) does.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.mapping.read_at(offset, to)
    }

    /// Copies `from` to the bytes at `offset`, for this region alone.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.mapping.put_at(offset, from)
    }

    /// The address of the first byte, for writing.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.mapping.base().as_ptr()
    }

    /// Gives everything but `range` back, with the changes there, as [`Region::shrink_to`](crate::Region::shrink_to) does.
    ///
    /// # Errors
    ///
    /// As [`Region::shrink_to`](crate::Region::shrink_to).
    pub fn shrink_to(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.mapping.shrink_to(&range)
    }
}
