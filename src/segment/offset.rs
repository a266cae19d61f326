//! The one place where bytes become references.
#![allow(unsafe_code)]

use super::shareable::{Shareable, Tail};
use super::{Schema, Segment};
use crate::error::Error;
use crate::object::{Object, Options, Origin, SCHEMA_MAX, ToName};
use crate::region::{Attached, RegionMut, header_of};
use crate::sys::Access;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

/// A `T` in a region: checked to lie in it, aligned, and never moved or dropped.
pub(super) struct Slot<T: ?Sized>(NonNull<T>);

// SAFETY: a `Slot` is used as a shared reference to a `T`, which is `Sync` as every `Shareable` is.
unsafe impl<T: Shareable + ?Sized> Send for Slot<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable + ?Sized> Sync for Slot<T> {}

impl<T: Shareable + ?Sized> Slot<T> {
    /// Finds the place of a `T` with `tail` elements at `offset` of `region`. The caller keeps the region, and with
    /// it the mapping, for as long as the slot.
    pub(super) fn find(region: &RegionMut, offset: usize, tail: T::Tail) -> Result<Self, Error> {
        let name = || region.name().to_string();
        let len = T::LAYOUT.size(tail.to_len()).ok_or_else(|| Error::TooLarge { name: name() })?;
        let base = region.range(offset, len, T::LAYOUT.align())?;
        let pointer =
            NonNull::new(T::from_base(base.as_ptr(), tail)).ok_or_else(|| Error::TooLarge { name: name() })?;
        Ok(Self(pointer))
    }

    /// # Safety
    ///
    /// The region that the slot was found in is still mapped, and nobody in this process has a `&mut` to it.
    pub(super) unsafe fn get(&self) -> &T {
        // SAFETY: `find` checked that size and alignment fit into the mapping; the caller vouches for the mapping.
        // Every byte pattern is a `T`, whatever a peer wrote. That a peer does not write plain fields while they are
        // read here is the contract of this tier (docs/DESIGN.md, "Trust"); locks and atomics do not rely on it.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    ///
    /// As [`get`](Self::get), and nobody in this process has any other reference into the slot.
    unsafe fn get_mut(&mut self) -> &mut T {
        // SAFETY: as in `get`; the caller vouches for exclusiveness.
        unsafe { self.0.as_mut() }
    }
}

impl<T: ?Sized> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

/// A value at an offset of a raw region, and the right to lock what is in it.
pub struct Placed<'a, T: ?Sized> {
    region: &'a mut RegionMut,
    slot: Slot<T>,
}

impl<T: ?Sized> fmt::Debug for Placed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed").field("slot", &self.slot).field("region", &self.region).finish()
    }
}

impl<T: Shareable + ?Sized> Deref for Placed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the borrowed region keeps the mapping; who made this vouched for how else the bytes are used.
        unsafe { self.slot.get() }
    }
}

impl<T: Shareable + ?Sized> Segment<T> {
    /// Lets `init` fill in the zeroed value of an object that has no name yet.
    pub(super) fn build(draft: &mut RegionMut, tail: T::Tail, init: impl FnOnce(&mut T)) -> Result<(), Error> {
        let mut slot = Slot::<T>::find(draft, 0, tail)?;
        // SAFETY: `&mut draft` keeps the mapping and every other reference of this process out until `init` is done,
        // and no other process can see an object without a name.
        init(unsafe { slot.get_mut() });
        Ok(())
    }

    /// Runs `T`'s destructor on the value in shared memory. Nothing else ever does.
    ///
    /// # Safety
    ///
    /// No process uses the value again, this one through this segment included, but to close it.
    pub unsafe fn drop_in_place(&mut self) {
        // SAFETY: the slot lies in the mapping that `self` keeps, and the caller vouches that nobody uses the value.
        unsafe { std::ptr::drop_in_place(self.slot.get_mut()) };
    }
}

impl<T: Shareable + ?Sized> Deref for Segment<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the slot was found in `self.region`, which is mapped as long as `self` lives, and no `&mut` to it
        // exists: `build` ran on a draft that was not a segment yet, `drop_in_place` borrows `self` exclusively.
        unsafe { self.slot.get() }
    }
}

impl RegionMut {
    /// Builds a `T` with `tail` elements at `offset`: zeroes its bytes and lets `init` fill them in.
    ///
    /// A raw region says nothing about what is in it, and nobody is kept from looking before it is complete: tell
    /// the other process when it may use [`RegionMut::at`]. A [`Segment`](crate::Segment) does both, and needs no
    /// `unsafe`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if it does not fit there or is not aligned, [`Error::TooLarge`].
    ///
    /// # Safety
    ///
    /// Until it has returned, nobody uses these bytes through another mapping. From then on, and as long as anybody
    /// uses the `T`, everybody uses them as this `T` at this offset, and nobody reads or writes them as bytes.
    pub unsafe fn place<T: Shareable + ?Sized>(
        &mut self,
        offset: usize,
        tail: T::Tail,
        init: impl FnOnce(&mut T),
    ) -> Result<Placed<'_, T>, Error> {
        let mut slot = Slot::<T>::find(self, offset, tail)?;
        let len = T::LAYOUT.size(tail.to_len()).unwrap_or(0);
        // SAFETY: `find` checked that `len` bytes lie there; `&mut self` keeps this mapping's references out, the
        // caller those of others.
        unsafe { self.as_mut_ptr().add(offset).write_bytes(0, len) };
        // SAFETY: as above, until `init` is done.
        init(unsafe { slot.get_mut() });
        Ok(Placed { region: self, slot })
    }

    /// The `T` with `tail` elements that was built at `offset`; this region is what its locks are locked by.
    ///
    /// # Errors
    ///
    /// As [`place`](Self::place).
    ///
    /// # Safety
    ///
    /// As long as anybody uses the `T`, everybody uses these bytes as this `T` at this offset, and nobody reads or
    /// writes them as bytes.
    pub unsafe fn at<T: Shareable + ?Sized>(&self, offset: usize, tail: T::Tail) -> Result<&T, Error> {
        let slot = Slot::find(self, offset, tail)?;
        // SAFETY: the slot lies in the mapping that `self` keeps; the caller vouches that there is no `&mut` to it.
        Ok(unsafe { &*slot.0.as_ptr() })
    }

    /// Creates an object that holds what `schema` describes, with `tail` elements (0 if it has no tail): for programs that
    /// learn the type when they run. `init` fills in its zeroed bytes before the name appears. Otherwise as
    /// [`Segment::create`](crate::Segment::create).
    ///
    /// # Errors
    ///
    /// As [`Segment::create`](crate::Segment::create), [`Error::TooLarge`] also if it cannot be told how large it is.
    ///
    /// # Safety
    ///
    /// Nothing keeps this process from changing bytes of it that somebody else has a reference to, or that are locks: read
    /// and write what may change as the [`Segment`](crate::Segment) would, with the locks that lie in it.
    pub unsafe fn create_as(
        name: impl ToName,
        schema: &Schema,
        tail: u64,
        options: &Options,
        init: impl FnOnce(&mut [u8]),
    ) -> Result<Self, Error> {
        let name = name.to_name()?;
        let layout = schema.layout().filter(|_| schema.as_str().len() <= SCHEMA_MAX);
        let size = layout.and_then(|layout| layout.size(tail));
        let size = size.ok_or_else(|| Error::TooLarge { name: name.to_string() })?;
        let header = header_of(size as u64, tail, schema.clone().into_text());
        let mut draft = Self::of(Object::draft(name, header, options)?)?;
        if draft.origin() == Origin::Created {
            let bytes = std::ptr::slice_from_raw_parts_mut(draft.as_mut_ptr(), draft.len());
            // SAFETY: they are the bytes of the mapping, which `draft` keeps, and no other process can see an object
            // without a name.
            init(unsafe { &mut *bytes });
        }
        draft.publish()
    }

    /// Opens an object that holds what `schema` describes: for programs that learn the type when they run.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`](crate::Segment::open).
    ///
    /// # Safety
    ///
    /// As [`create_as`](Self::create_as).
    pub unsafe fn open_as(name: impl ToName, schema: &Schema) -> Result<Self, Error> {
        let region = Self::of(Object::open(name.to_name()?, Access::ReadWrite)?)?;
        schema.check(region.name(), &region.header().schema)?;
        Ok(region)
    }
}

impl<T: Shareable + ?Sized> Attached for Placed<'_, T> {
    fn region(&self) -> &RegionMut {
        self.region
    }
}
