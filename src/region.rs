//! Memory: an object as a handle, and its bytes as a region.
//!
//! [`SharedMemory`] is the object, [`Region`] and [`RegionMut`] are its bytes in this process, for reading only or
//! for both. A region that can be written is a participant of the object: it can hold locks that lie in it.
#![allow(unsafe_code)]

mod copy;
mod mapping;
mod memory;
mod passing;

pub use copy::RegionCopy;
pub use mapping::Mapping;
use mapping::range_in;
pub use memory::{Memory, MemoryMut};

use crate::error::{Error, LockError, Who};
use crate::object::{CREATOR_OFFSET, Header, LIVE, Name, Object, Options, Origin, Persistence, STATE_OFFSET};
use crate::object::{TABLE_OFFSET, ToName};
use crate::owner::{OwnerId, PARTICIPANTS, Sleep, Table};
use crate::prim::{self, AtomicU32, AtomicU64, Ordering};
use crate::sys::{self, Access, Socket};
use std::ops::{Range, RangeBounds};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

/// A named shared memory object of raw bytes, open in this process but not mapped.
///
/// While the handle or a region made from it lives, the object counts as used.
///
/// ```
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let mut region = memlane::SharedMemory::create(&name, 4096, &memlane::Options::new())?.map_mut()?;
/// region.write_at(0, b"hello")?;
///
/// let mut copy = [0; 5];
/// memlane::SharedMemory::open(&name)?.map()?.read_at(0, &mut copy)?;
/// assert_eq!(&copy, b"hello");
/// # Ok::<(), memlane::Error>(())
/// ```
#[derive(Debug)]
pub struct SharedMemory {
    object: Object,
}

impl SharedMemory {
    /// Creates an object of `size` bytes, all zero, reserved and ready when its name appears.
    ///
    /// If nobody uses an object of that name any more, it is replaced. If its creator has died or closed it and others
    /// still use it, it is taken over, with its own options, if it has the same size, see [`SharedMemory::origin`];
    /// otherwise it is retired and replaced. An object that is to be [kept](Persistence::Keep) is neither taken over nor replaced.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if a living or kept object has the name, [`Error::NoSpace`] if the memory cannot be
    /// had, in which case nothing is left behind, and the others if the name or its directory cannot be used.
    pub fn create(name: impl ToName, size: u64, options: &Options) -> Result<Self, Error> {
        let header = raw_header(size);
        let draft = Object::draft(name.to_name()?, header, options)?;
        Ok(Self { object: draft.publish()?.unwrap_or(draft) })
    }

    /// Opens an object that another process created, whatever type is in it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is none, [`Error::Foreign`], [`Error::Corrupt`] or [`Error::Incompatible`] if
    /// what has the name is no sound object of this format.
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        Ok(Self { object: Object::open(name.to_name()?, Access::ReadWrite)? })
    }

    /// Opens the object, or creates it with `size` bytes if there is none.
    ///
    /// An existing object keeps its own size and options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), but neither `NotFound` nor `AlreadyExists`.
    pub fn open_or_create(name: impl ToName, size: u64, options: &Options) -> Result<Self, Error> {
        let name = name.to_name()?;
        open_or_create(|| Self::open(&name), || Self::create(&name, size, options))
    }

    /// What was checked when the object was opened.
    pub(crate) fn header(&self) -> &Header {
        &self.object.header
    }

    /// The name it was opened by.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.object.name
    }

    /// The number of bytes for the user.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.object.header.data_len
    }

    /// A random number that no other object has or had: a name that was removed and created again leads to another.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.object.header.id
    }

    /// How long the object stays.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.object.header.persistence
    }

    /// Whether this handle created the object, took it over, or opened it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.object.origin
    }

    /// Hands the object over to whoever has the other end of `socket`: they get it by [`Name::receive_from`], with or without
    /// a directory in common, and open it as what it is. The object goes on here, too: unless it is to be
    /// [kept](Persistence::Keep), it must not be closed before they have opened it.
    ///
    /// The message is 232 bytes and one descriptor, sent in one call if the socket has room for it; else this waits, at
    /// most for the socket's [write timeout](std::os::unix::net::UnixStream::write_timeout), and not at all if the
    /// socket does not block. The other side ends the wait by reading, or by its death.
    ///
    /// # Errors
    ///
    /// [`Error::HandOver`], whose kind says why: the other side is gone, the time is over, or the object is not in memory.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        self.object.send_over(socket)
    }

    /// Maps the bytes for reading only.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] or [`Error::Os`] if the address space is used up.
    pub fn map(self) -> Result<Region, Error> {
        self.map_range(..)
    }

    /// Maps the bytes for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), [`Error::TypeMismatch`] if the object holds a typed value, which only a
    /// [`Segment`](crate::Segment) may change, and [`Error::TooManyParticipants`].
    pub fn map_mut(self) -> Result<RegionMut, Error> {
        self.map_mut_range(..)
    }

    /// Maps some of the bytes for reading only: any, from any offset on. An empty range is an empty region.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRange`] if they do not lie in the object, and as [`map`](Self::map).
    pub fn map_range(self, range: impl RangeBounds<u64>) -> Result<Region, Error> {
        let range = self.range(range)?;
        Region::of(self.object, range)
    }

    /// Maps some of the bytes for reading and writing: any, from any offset on. What lies in them can be locked as in a
    /// region of the whole, and a lock is the same lock in each region that it lies in. What lies between the object's header
    /// and the range takes addresses, and no memory.
    ///
    /// ```
    /// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
    /// # let options = memlane::Options::new();
    /// let mut last = memlane::SharedMemory::create(&name, 10_000, &options)?.map_mut_range(9_000..)?;
    /// assert_eq!(last.len(), 1_000);
    /// last.write_at(0, b"hello")?; // at 9000 of the object
    /// # Ok::<(), memlane::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRange`] if they do not lie in the object, and as [`map_mut`](Self::map_mut).
    pub fn map_mut_range(self, range: impl RangeBounds<u64>) -> Result<RegionMut, Error> {
        if let Some(type_name) = self.object.header.type_name() {
            let difference = format!("  it holds a `{type_name}`, this program wants raw bytes to write");
            return Err(Error::TypeMismatch { name: self.name().to_string(), difference });
        }
        let range = self.range(range)?;
        RegionMut::of_range(self.object, range)
    }

    /// Maps some of the bytes, or all (`..`), for reading and for changes that nobody else sees.
    ///
    /// # Errors
    ///
    /// As [`map_range`](Self::map_range).
    pub fn map_copy(self, range: impl RangeBounds<u64>) -> Result<RegionCopy, Error> {
        let range = self.range(range)?;
        RegionCopy::of(self.object, range)
    }

    fn range(&self, range: impl RangeBounds<u64>) -> Result<Range<u64>, Error> {
        range_in(range, self.size(), self.name().as_str())
    }
}

/// The header of an object of raw bytes.
fn raw_header(size: u64) -> Header {
    header_of(size, 0, String::new())
}

/// The header of an object that holds what `schema` says.
pub(crate) fn header_of(data_len: u64, tail: u64, schema: String) -> Header {
    Header { id: 0, persistence: Persistence::default(), sparse: false, data_len, tail, schema }
}

/// Opens or creates, until one of them has an answer: the object may come and go between the two.
pub(crate) fn open_or_create<T>(
    open: impl Fn() -> Result<T, Error>,
    mut create: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        match open() {
            Err(Error::NotFound { .. }) => {}
            result => return result,
        }
        match create() {
            Err(Error::AlreadyExists { .. }) => {}
            result => return result,
        }
    }
}

/// The bytes of an object in this process, for reading only. Unmapped when dropped.
///
/// Nothing here can write through it: such a call does not exist.
///
/// ```compile_fail
/// let mut region = memlane::Region::open("cam0")?;
/// region.write_at(0, b"no")?; // there is no such method
/// # Ok::<(), memlane::Error>(())
/// ```
#[derive(Debug)]
pub struct Region {
    // Dropped in this order: the bytes go before the locks that say they are in use.
    mapping: Mapping,
    _object: Option<Object>,
}

impl Region {
    /// Opens an object and maps it for reading only; the right to read it is enough. The object counts as used.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::open`] and [`SharedMemory::map`].
    pub fn open(name: impl ToName) -> Result<Self, Error> {
        let object = Object::open(name.to_name()?, Access::Read)?;
        let all = 0..object.header.data_len;
        Self::of(object, all)
    }

    fn of(object: Object, range: Range<u64>) -> Result<Self, Error> {
        let mapping = object.map_data(Access::Read, range)?;
        Ok(Self { mapping, _object: Some(object) })
    }

    /// Copies the bytes at `offset` into `to`.
    ///
    /// If another process writes them at the same time, some copied bytes are old and some are new.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.mapping.read_at(offset, to)
    }

    /// Gives everything but `range` back, at the front, the back or both: exactly that many bytes are left, at the addresses
    /// that they have, and whole pages of memory are free. The addresses of these stay taken until the region is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRange`] if the range does not lie in the region, and [`Error::Os`], which leaves it as short.
    pub fn shrink_to(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.mapping.shrink_to(&range)
    }
}

impl Object {
    /// Maps some of the user's bytes, without the header.
    fn map_data(&self, access: Access, range: Range<u64>) -> Result<Mapping, Error> {
        let data = self.header.data_offset();
        let (start, end) = (data + range.start, data + range.end);
        let map = self.map(access, start..end, start..start)?;
        Ok(Mapping::new(map, self.name.as_str(), access, 0, 0))
    }
}

/// The bytes of an object in this process, for reading and writing. Unmapped when dropped.
#[derive(Debug)]
pub struct RegionMut {
    attachment: Attachment,
}

impl RegionMut {
    /// Maps an object and becomes a participant of it.
    pub(crate) fn of(object: Object) -> Result<Self, Error> {
        let all = 0..object.header.data_len;
        Self::of_range(object, all)
    }

    fn of_range(object: Object, range: Range<u64>) -> Result<Self, Error> {
        let data = object.header.data_offset();
        let map = object.map(Access::ReadWrite, 0..data + range.end, data..data + range.start)?;
        let start = (data + range.start) as usize;
        let mapping = Mapping::new(map, object.name.as_str(), Access::ReadWrite, data as usize, start);
        Ok(Self { attachment: Attachment::new(object, mapping)? })
    }

    /// Gives a draft its name, or takes over the object that has it: then this region is of that object.
    pub(crate) fn publish(self) -> Result<Self, Error> {
        match self.attachment.publish()? {
            None => Ok(self),
            Some(other) => Self::of(other),
        }
    }

    /// What was checked when the object was opened.
    pub(crate) fn header(&self) -> &Header {
        &self.attachment.object.header
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The name it was opened by.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.attachment.object.name
    }

    /// Whether this handle created the object, took it over, or opened it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.attachment.object.origin
    }

    /// A random number that no other object has or had.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.attachment.object.header.id
    }

    /// Names this attachment, to be stored in shared data.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.attachment.me
    }

    /// Who `owner` is, if that is still known; it may be dead.
    #[must_use]
    pub fn who(&self, owner: OwnerId) -> Option<Who> {
        self.attachment.table().who(owner)
    }

    /// Whether `owner` is an attachment that lives: its process does, and has not closed the object.
    #[must_use]
    pub fn is_alive(&self, owner: OwnerId) -> bool {
        !self.attachment.is_dead(owner)
    }

    /// Takes the object's name away, if it still has it, as [`remove`](crate::remove()) does; a name that leads to
    /// another object by now stays.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] or [`Error::Os`] if the directory cannot be changed.
    pub fn remove_name(&self) -> Result<(), Error> {
        self.attachment.object.remove_name()
    }

    /// Hands the object over to whoever has the other end of `socket`, as [`SharedMemory::send_over`](crate::SharedMemory::send_over)
    /// does; it goes on here.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        self.attachment.object.send_over(socket)
    }

    /// Whether the object was retired (removed by force): its users are to let go of it.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        matches!(self.attachment.check(), Err(LockError::Retired { .. }))
    }

    /// The address of the first byte, for writing.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base().as_ptr()
    }

    /// Copies the bytes at `offset` into `to`, as [`Region::read_at`] does. Exclusive in this process, because
    /// something placed in the region may be locked and written by another of its threads.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn read_at(&mut self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.attachment.mapping.read_at(offset, to)
    }

    /// Copies `from` to the bytes at `offset`.
    ///
    /// If another process writes or reads them at the same time, it may see some old and some new bytes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.attachment.mapping.put_at(offset, from)
    }

    /// Gives everything but `range` back, as [`Region::shrink_to`] does. A lock that this participant holds in what is given
    /// back stays held until the region is dropped.
    ///
    /// # Errors
    ///
    /// As [`Region::shrink_to`].
    pub fn shrink_to(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.attachment.mapping.shrink_to(&range)
    }

    /// The address of `len` bytes at `offset`, checked to lie in the region and to be aligned.
    pub(crate) fn range(&self, offset: usize, len: usize, align: usize) -> Result<NonNull<u8>, Error> {
        self.find(offset, len, align)
    }
}

/// What acts on an object for this process: a [`RegionMut`], or whatever holds one. Locks ask for it.
pub trait Attached {
    /// The region.
    fn region(&self) -> &RegionMut;
}

impl Attached for RegionMut {
    fn region(&self) -> &RegionMut {
        self
    }
}

macro_rules! attached_through {
    ($($pointer:ty),*) => {$(
        impl<A: Attached + ?Sized> Attached for $pointer {
            fn region(&self) -> &RegionMut {
                (**self).region()
            }
        }
    )*};
}

attached_through!(&A, Box<A>, Rc<A>, Arc<A>);

/// One attachment of this process to an object: the mapping, and the participant that acts on it.
#[derive(Debug)]
pub(crate) struct Attachment {
    // Dropped in this order: the bytes go before the locks that say they are in use.
    mapping: Mapping,
    object: Object,
    me: OwnerId,
    /// What names the locks that this participant holds, but for their offsets: see `place_of`.
    salt: u64,
    /// Where the user's bytes start in the object, and so from where its mapping does.
    offset: usize,
}

impl Attachment {
    /// Makes this process a participant of a mapped object.
    fn new(object: Object, mapping: Mapping) -> Result<Self, Error> {
        let offset = object.header.data_offset() as usize;
        let mut attachment = Self { mapping, object, me: OwnerId::NOBODY, salt: 0, offset };
        attachment.attach()?;
        Ok(attachment)
    }

    /// Maps an object for reading, but for its header and the first `writable` of the user's bytes, which can be
    /// written, and makes this process a participant of it.
    pub(crate) fn with_writable(object: Object, writable: u64) -> Result<Self, Error> {
        let data = object.header.data_offset();
        let map = object.map(Access::Read, 0..data + object.header.data_len, 0..0)?;
        let end = data + writable;
        map.allow_write(0, end as usize).map_err(Error::os("map", &object.name))?;
        let mapping = Mapping::new(map, object.name.as_str(), Access::Read, data as usize, data as usize);
        Self::new(object, mapping)
    }

    /// Lets `len` of the user's bytes at `offset` be written too.
    pub(crate) fn allow_write(&self, offset: u64, len: u64) -> Result<(), Error> {
        let start = self.offset as u64 + offset;
        self.mapping.map().allow_write(start as usize, len as usize).map_err(Error::os("map", &self.object.name))
    }

    /// Gives a draft its name; the object to use instead, if that is taken over.
    pub(crate) fn publish(&self) -> Result<Option<Object>, Error> {
        self.object.publish()
    }

    fn attach(&mut self) -> Result<(), Error> {
        let name = || self.object.name.to_string();
        let attached = self.table().attach(&self.object.locks).map_err(Error::os("attach to", name()))?;
        self.me = attached.ok_or_else(|| Error::TooManyParticipants { name: name(), limit: PARTICIPANTS })?;
        self.salt = self.salt_of(self.me);
        if self.object.origin != Origin::Opened {
            self.creator().store(self.me.word(), Ordering::Relaxed);
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn me(&self) -> OwnerId {
        self.me
    }

    /// Where the user's bytes that are mapped start.
    pub(crate) fn data(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    pub(crate) fn table(&self) -> &Table {
        // SAFETY: the header, which every mapping covers whole, holds the table at this offset, aligned to 64 from a
        // page boundary. The table is made of atomics, so any bytes are a value and anybody may write them.
        unsafe { self.mapping.map().base().add(TABLE_OFFSET).cast().as_ref() }
    }

    #[inline]
    fn state(&self) -> &AtomicU32 {
        // SAFETY: as for `table`: inside the header, aligned, atomic.
        unsafe { self.mapping.map().base().add(STATE_OFFSET).cast().as_ref() }
    }

    fn creator(&self) -> &AtomicU64 {
        // SAFETY: as for `table`: inside the header, aligned, atomic.
        unsafe { self.mapping.map().base().add(CREATOR_OFFSET).cast().as_ref() }
    }

    /// Whether this process is a fork of the one that attached.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.object.locks.is_forked()
    }

    /// Says in the table what this participant sleeps on.
    pub(crate) fn set_sleep(&self, sleep: Option<Sleep>) {
        self.table().set_sleep(self.me, sleep);
    }

    /// The object's name, for errors.
    pub(crate) fn name(&self) -> Box<str> {
        self.object.name.as_str().into()
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// The number of the user's bytes that are mapped.
    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Whether `word` lies in the object, and this process may still act on it: if so, neither `offset_of` nor `check`
    /// fails.
    #[inline]
    pub(crate) fn may_lock<T>(&self, word: &T) -> bool {
        self.holds(word) && !self.is_forked() && self.state().load(Ordering::Relaxed) == LIVE
    }

    /// What the lock at `offset` of the user's bytes is called, for errors.
    pub(crate) fn lock_at(&self, offset: usize) -> Box<str> {
        let path = self.object.header.lock_at(offset);
        path.map_or(format!("at offset {offset}"), |path| format!("`{path}`")).into()
    }

    /// Whether this process is the one that attached: no fork of it, also if it was forked since it was asked last.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<(), LockError> {
        if self.is_forked() { Err(LockError::Forked { object: self.name() }) } else { Ok(()) }
    }

    /// Whether this process may still act on the object.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), LockError> {
        self.check_fork()?;
        if self.state().load(Ordering::Relaxed) != LIVE {
            return Err(LockError::Retired { object: self.name() });
        }
        Ok(())
    }

    /// The same for a wait that has slept, which may be interrupted.
    pub(crate) fn check_awake(&self) -> Result<(), LockError> {
        self.check()?;
        if prim::is_interrupted() { Err(LockError::Interrupted { object: self.name() }) } else { Ok(()) }
    }

    /// Whether `owner` is gone for good.
    pub(crate) fn is_dead(&self, owner: OwnerId) -> bool {
        self.table().is_dead(&self.object.locks, self.me, owner)
    }

    /// Whether `word` lies in the user's bytes that are mapped.
    #[inline]
    fn holds<T>(&self, word: &T) -> bool {
        std::ptr::from_ref(word).addr().wrapping_sub(self.mapping.base().addr().get()) < self.mapping.len()
    }

    /// The offset of `word`, which lies in the user's bytes, among all of them.
    #[inline]
    fn offset<T>(&self, word: &T) -> usize {
        std::ptr::from_ref(word).addr().wrapping_sub(self.mapping.map().base().addr().get() + self.offset)
    }

    /// The offset of `word` in the user's bytes, if it lies there.
    pub(crate) fn offset_of<T>(&self, word: &T) -> Result<usize, LockError> {
        if self.holds(word) { Ok(self.offset(word)) } else { Err(LockError::NotInSegment { object: self.name() }) }
    }

    /// Names the lock at the offset of `word`, held by this participant, among all that this process can hold: the
    /// same at whatever address it is mapped, another after a fork, and for two different ones as unlikely to be equal
    /// as two random numbers.
    #[inline]
    pub(crate) fn place_of<T>(&self, word: &T) -> u64 {
        self.salt.wrapping_add(self.offset(word) as u64)
    }

    /// The same for a lock that is held by `owner`.
    pub(crate) fn place_of_held<T>(&self, word: &T, owner: OwnerId) -> u64 {
        self.salt_of(owner).wrapping_add(self.offset(word) as u64)
    }

    fn salt_of(&self, owner: OwnerId) -> u64 {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15; // odd, with no pattern in its bits
        // The middle bits of an owner's word are free.
        let holder = (owner.word() ^ (self.object.locks.forks() << 16)).wrapping_mul(SPREAD);
        (self.object.header.id as u64).wrapping_add(holder)
    }

    /// What the lock at `offset` of the user's bytes says, if there can be one. Read through the object's file: the
    /// offset came from a peer, and may point to bytes that this process must not read through its own mapping.
    pub(crate) fn word_at(&self, offset: u64) -> Option<u64> {
        let end = offset.checked_add(8)?;
        let mut word = [0; 8];
        let fits = end <= self.object.header.data_len;
        let file = self.object.locks.file().ok().filter(|_| fits)?;
        sys::read_at(file, &mut word, self.offset as u64 + offset).ok()?;
        Some(u64::from_ne_bytes(word))
    }
}
