//! The model's shared memory: a participant table, and attachments to it.

use crate::error::{Error, LockError};
use crate::object::{Header, Object};
use crate::owner::{OwnerId, Sleep, Table};
use crate::prim;
use crate::segment::Shareable;
use crate::sync::EventCount;
use crate::sync::condvar::Condvar;
use crate::sync::event::Event;
use crate::sys::{self, LockFd};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::rc::Rc;

/// The table of an object that nobody is attached to yet.
pub(crate) fn table() -> Rc<Table> {
    // SAFETY: a table is made of the model's atomics, which are transparent around integers: zero is a value.
    Rc::new(unsafe { MaybeUninit::<Table>::zeroed().assume_init() })
}

/// A condition nobody waits for yet.
pub(crate) fn condvar() -> Rc<Condvar> {
    // SAFETY: as in `table`.
    Rc::new(unsafe { MaybeUninit::<Condvar>::zeroed().assume_init() })
}

/// An event that is not set.
pub(crate) fn event() -> Rc<Event> {
    // SAFETY: as in `table`.
    Rc::new(unsafe { MaybeUninit::<Event>::zeroed().assume_init() })
}

/// An eventcount nobody waits on yet.
pub(crate) fn eventcount() -> Rc<EventCount> {
    // SAFETY: as in `table`.
    Rc::new(unsafe { MaybeUninit::<EventCount>::zeroed().assume_init() })
}

/// Something of words that are all 0, as it lies in a new object.
pub(crate) fn zeroed<T: Shareable<Tail = ()>>() -> Rc<T> {
    // SAFETY: as in `table`; every byte pattern is a value of a `Shareable`.
    Rc::new(unsafe { MaybeUninit::<T>::zeroed().assume_init() })
}

/// The header of an object that holds what `schema` says.
pub(crate) fn header_of(data_len: u64, _: u64, schema: String) -> Header {
    Header { schema, data_len, id: 1 }
}

/// Nobody takes names away.
pub(crate) fn open_or_create<T>(
    open: impl Fn() -> Result<T, Error>,
    _: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    open()
}

#[derive(Debug)]
pub(crate) struct Attachment {
    table: Rc<Table>,
    /// What it is an attachment to, if that is more than a table.
    object: Option<Object>,
    locks: LockFd,
    me: OwnerId,
}

/// What stands for the mapping that a process has of the object.
pub struct RegionMut(pub(crate) Attachment);

pub trait Attached {
    fn region(&self) -> &RegionMut;
}

impl Attached for RegionMut {
    fn region(&self) -> &RegionMut {
        self
    }
}

impl RegionMut {
    pub(crate) fn attachment(&self) -> &Attachment {
        &self.0
    }

    /// Attaches process `pid`, which this thread of the model is from now on.
    pub(crate) fn attach(table: &Rc<Table>, pid: u32) -> Self {
        sys::be(pid);
        Self(Attachment::new(table, None))
    }

    /// Its process is dead.
    pub(crate) fn die(&self) {
        self.0.locks.die();
    }
}

impl Attachment {
    fn new(table: &Rc<Table>, object: Option<Object>) -> Self {
        let locks = LockFd::default();
        let me = table.attach(&locks).expect("no system, no errors").expect("there are slots enough");
        Self { table: Rc::clone(table), object, locks, me }
    }

    /// All of it can be written.
    pub(crate) fn with_writable(object: Object, _: u64) -> Result<Self, Error> {
        Ok(Self::new(&Rc::clone(object.table()), Some(object)))
    }

    pub(crate) fn allow_write(&self, _: u64, _: u64) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn publish(&self) -> Result<Option<Object>, Error> {
        Ok(None)
    }

    pub(crate) fn object(&self) -> &Object {
        self.object.as_ref().expect("only channels ask")
    }

    pub(crate) fn data(&self) -> NonNull<u8> {
        self.object().data()
    }

    pub(crate) fn len(&self) -> usize {
        self.object().header.data_len as usize
    }

    pub(crate) fn me(&self) -> OwnerId {
        self.me
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Whoever unwinds has died, or found an error in the model: it changes nothing any more, like a fork.
    pub(crate) fn is_forked(&self) -> bool {
        std::thread::panicking()
    }

    pub(crate) fn set_sleep(&self, sleep: Option<Sleep>) {
        self.table.set_sleep(self.me, sleep);
    }

    pub(crate) fn name(&self) -> Box<str> {
        "model".into()
    }

    pub(crate) fn may_lock<T>(&self, _: &T) -> bool {
        true
    }

    pub(crate) fn lock_at(&self, _: usize) -> Box<str> {
        "model".into()
    }

    pub(crate) fn check_fork(&self) -> Result<(), LockError> {
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), LockError> {
        Ok(())
    }

    pub(crate) fn check_awake(&self) -> Result<(), LockError> {
        Ok(())
    }

    pub(crate) fn is_dead(&self, owner: OwnerId) -> bool {
        self.table.is_dead(&self.locks, self.me, owner)
    }

    pub(crate) fn offset_of<T>(&self, word: &T) -> Result<usize, LockError> {
        Ok(std::ptr::from_ref(word).addr())
    }

    pub(crate) fn place_of<T>(&self, word: &T) -> u64 {
        self.place_of_held(word, self.me)
    }

    /// Names a thread too: the library's list of the locks that a thread holds is one for all threads of the model.
    pub(crate) fn place_of_held<T>(&self, word: &T, owner: OwnerId) -> u64 {
        let mut hasher = DefaultHasher::new();
        (prim::thread(), owner.word(), std::ptr::from_ref(word).addr()).hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn word_at(&self, _: u64) -> Option<u64> {
        None
    }
}
