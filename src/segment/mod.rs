//! Typed segments: an object that holds one value, built in place, described by its schema.

mod layout;
mod offset;
mod schema;
mod shareable;

pub use layout::Layout;
pub use offset::Placed;
pub use schema::{Field, Schema, field_path};
pub(crate) use shareable::private;
pub use shareable::{Bool, PickTail, Shareable, Tail, TailIf};

use crate::error::Error;
use crate::object::{Object, Options, Origin, SCHEMA_MAX, ToName};
use crate::region::{Attached, RegionMut, SharedMemory, header_of, open_or_create};
use crate::sys::Access;
use offset::Slot;
use std::fmt;
use std::time::Duration;

/// A shared memory object that holds one `T`: it is there whole, and of that type, or it cannot be opened.
///
/// It derefs to the `T`. Dropping the segment closes it and leaves the `T` as it is; `T`'s own `Drop` never runs by
/// itself, see [`Segment::drop_in_place`].
///
/// ```
/// use memlane::{Options, Segment, Shareable};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Log {
///     written: AtomicU64,
///     lines: [u8],
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let log = Segment::<Log>::create(&name, 1024, &Options::new(), |log| log.lines.fill(b' '))?;
/// log.written.store(1, Ordering::Release);
///
/// // in another process
/// let log = Segment::<Log>::open(&name)?;
/// assert_eq!(log.lines.len(), 1024);
/// # Ok::<(), memlane::Error>(())
/// ```
pub struct Segment<T: Shareable + ?Sized> {
    slot: Slot<T>,
    region: RegionMut,
}

impl<T: Shareable + ?Sized> fmt::Debug for Segment<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("slot", &self.slot).field("region", &self.region).finish()
    }
}

impl<T: Shareable + ?Sized> Segment<T> {
    /// Creates an object that holds a `T` with `tail` elements (`()` if it has no tail), built by `init` from zeroed
    /// bytes before the name appears. If `init` panics or the process dies in it, there never was an object.
    ///
    /// An object of that name that is dead is replaced. One that others still use although its creator died is taken
    /// over if its type and size are the same: then `init` ran in vain, or not at all, what is in the object stayed,
    /// its options included, and [`Segment::origin`] says [`Origin::TakenOver`]. Otherwise it is retired and replaced.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if a living or kept object has the name, [`Error::NoSpace`] if the memory cannot be
    /// had, in which case nothing is left behind, [`Error::TooLarge`], and the others if the name or its directory
    /// cannot be used.
    pub fn create(
        name: impl ToName,
        tail: T::Tail,
        options: &Options,
        init: impl FnOnce(&mut T),
    ) -> Result<Self, Error> {
        let name = name.to_name()?;
        let too_large = || Error::TooLarge { name: name.to_string() };
        let schema = Schema::of::<T>();
        let size =
            T::LAYOUT.size(tail.to_len()).filter(|_| schema.as_str().len() <= SCHEMA_MAX).ok_or_else(too_large)?;
        let header = header_of(size as u64, tail.to_len(), schema.into_text());
        let mut draft = RegionMut::of(Object::draft(name.clone(), header, options)?)?;
        if draft.origin() == Origin::Created {
            Self::build(&mut draft, tail, init)?;
        }
        Self::of(draft.publish()?)
    }

    /// Opens an object that another process created, if it holds a `T`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::TypeMismatch`] with the differences if it holds another type,
    /// [`Error::Foreign`], [`Error::Corrupt`] or [`Error::Incompatible`] if it is no sound object of this format.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        Self::of(RegionMut::of(Object::open(name.to_name()?, Access::ReadWrite)?)?)
    }

    /// Waits until an object of that name exists, at most for `timeout` (for ever if `None`), and opens it. It is
    /// looked for at least every 10 ms.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), with [`Error::TimedOut`] instead of `NotFound`.
    pub fn wait_for(name: impl ToName, timeout: Option<Duration>) -> Result<Self, Error> {
        Self::of(RegionMut::of(Object::wait_for(&name.to_name()?, Access::ReadWrite, timeout)?)?)
    }

    /// Opens the object, or creates it if there is none. An existing one keeps its own tail and options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), but neither `NotFound` nor `AlreadyExists`.
    pub fn open_or_create(
        name: impl ToName,
        tail: T::Tail,
        options: &Options,
        mut init: impl FnMut(&mut T),
    ) -> Result<Self, Error> {
        let name = name.to_name()?;
        open_or_create(|| Self::open(&name), || Self::create(&name, tail, options, &mut init))
    }

    /// Checks that a region holds a `T`.
    fn of(region: RegionMut) -> Result<Self, Error> {
        let header = region.header();
        Schema::of::<T>().check(region.name(), &header.schema)?;
        let corrupt = |field| Error::Corrupt { name: region.name().to_string(), field };
        let tail = T::Tail::from_len(header.tail).ok_or_else(|| corrupt("tail length"))?;
        if T::LAYOUT.size(header.tail).map(|size| size as u64) != Some(header.data_len) {
            return Err(corrupt("tail length"));
        }
        Ok(Self { slot: Slot::find(&region, 0, tail)?, region })
    }

    /// The bytes of the object, and this process's attachment to it: its name, who takes part, whether it was retired.
    pub fn region(&self) -> &RegionMut {
        &self.region
    }

    /// Whether this process created the object, took it over, or opened it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.region.origin()
    }
}

impl SharedMemory {
    /// The description of what is in it; an empty one if that is raw bytes. See also [`Schema::at`]: the messages of a channel
    /// are described at `message`, the requests and answers of a service at `message` and `answer`.
    #[must_use]
    pub fn schema(&self) -> Schema {
        Schema::from_text(&self.header().schema)
    }

    /// The elements of the flexible tail of what is in it; 0 if there is none.
    #[must_use]
    pub fn tail_len(&self) -> u64 {
        self.header().tail
    }
}

impl<T: Shareable + ?Sized> Attached for Segment<T> {
    fn region(&self) -> &RegionMut {
        &self.region
    }
}
