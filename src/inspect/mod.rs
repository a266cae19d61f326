//! What there is and who uses it: read-only, and never in anybody's way.

mod fields;

pub use fields::{FieldValue, Holder, Inspected, LockState};

use crate::channel::{awaited_in_channel, is_channel};
use crate::error::{Error, Who};
use crate::object::{Condition, Directory, Found, Name, Persistence, ToName, memory_left, path_or_default};
use crate::owner::{self, PARTICIPANTS, Sleep};
use crate::sys::Access;
use fields::Reading;
use std::path::{Path, PathBuf};

/// One object, as [`list`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The memory it takes, in bytes, with its header; 0 if it is damaged.
    pub size: u64,
    /// The type of what is in it; `None` for raw bytes.
    pub type_name: Option<String>,
    /// How long it stays; `None` if it is damaged.
    pub persistence: Option<Persistence>,
    /// Whether nobody uses it any more, and nobody asked to keep it: `gc` will remove it.
    pub stale: bool,
    /// Whether its creator is gone and others use it: the next create takes it over, or replaces it.
    pub orphaned: bool,
    /// Who created it, or took it over, and lives; not known if it has not mapped it for writing.
    pub creator: Option<Who>,
    /// Who is attached to it for reading and writing, an entry for each attachment.
    pub users: Vec<Who>,
    /// Whether anybody uses it; those who only read it are not in `users`.
    pub in_use: bool,
    /// Why it cannot be used, if it cannot.
    pub problem: Option<String>,
    /// Whether it is something else than a memlane object, damaged or not.
    pub foreign: bool,
}

/// Lists the objects in `directory` (the default one if `None`), by name. It takes no part in any object.
///
/// # Errors
///
/// [`Error::Directory`] or [`Error::Busy`] if the directory cannot be used.
pub fn list(directory: Option<&Path>) -> Result<Vec<Listed>, Error> {
    let path = path_or_default(directory);
    let directory = Directory::open(&path)?;
    let mut objects = Vec::new();
    for name in directory.names()? {
        let Ok(name) = Name::new(&name) else { continue };
        // Under the lock an object is either there, with its locks, or not; it is held for microseconds each.
        let _lock = directory.lock()?;
        match Found::open(&name, &directory, Access::Read).and_then(|found| found.map(describe).transpose()) {
            Ok(object) => objects.extend(object),
            Err(error) => objects.push(damaged(&name, &error)),
        }
    }
    Ok(objects)
}

fn describe(found: Found) -> Result<Listed, Error> {
    describe_with(&found, &found.table()?)
}

fn describe_with(found: &Found, table: &[u8]) -> Result<Listed, Error> {
    let condition = found.condition()?;
    let reading = Reading { found, table };
    let users = (0..PARTICIPANTS).filter_map(|index| reading.attached(index)).collect();
    Ok(Listed {
        name: found.name.to_string(),
        size: found.header.total().unwrap_or(0),
        type_name: found.header.type_name(),
        persistence: Some(found.header.persistence),
        stale: condition == Condition::Dead,
        orphaned: condition == Condition::Orphaned,
        creator: found.creator().filter(|_| condition == Condition::Created),
        users,
        in_use: matches!(condition, Condition::Created | Condition::Orphaned),
        problem: None,
        foreign: false,
    })
}

fn damaged(name: &Name, error: &Error) -> Listed {
    Listed {
        name: name.to_string(),
        size: 0,
        type_name: None,
        persistence: None,
        stale: false,
        orphaned: false,
        creator: None,
        users: Vec::new(),
        in_use: false,
        problem: Some(error.to_string()),
        foreign: matches!(error, Error::Foreign { .. }),
    }
}

/// An object, and all that can be seen in it, as [`inspect`] found it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// Its name, type and state, and who uses it.
    pub object: Listed,
    /// A random number that no other object has or had.
    pub id: u128,
    /// The number of bytes for the user.
    pub data_size: u64,
    /// The elements of its flexible tail; 0 if it has none.
    pub tail: u64,
    /// Whether its memory was not reserved.
    pub sparse: bool,
    /// The user it belongs to.
    pub user: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Who is attached to it for reading and writing.
    pub participants: Vec<Participant>,
    /// What its description names, each part after the one it is in, and what is in it. Empty for raw
    /// bytes, and for channels, for which there is the [`Observer`](crate::Observer).
    pub fields: Vec<Inspected>,
}

/// An attachment to an object for reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// Its place in the participant table.
    pub slot: usize,
    /// Who it is.
    pub who: Who,
    /// What it sleeps on, as it says itself: the path of a lock, condition or event; in a channel `messages` or `room`.
    pub sleeps_on: Option<String>,
}

/// Looks into an object, whatever is in it, with the first `most` elements of each array. It takes no part in it: nobody
/// waits for it, and what changes meanwhile may be of different moments.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Foreign`] and those of a damaged object.
pub fn inspect(name: impl ToName, most: usize) -> Result<Inspection, Error> {
    let found = Found::find(&name.to_name()?, Access::Read)?;
    let (table, meta) = (found.table()?, found.meta()?);
    let reading = Reading { found: &found, table: &table };
    let fields = if is_channel(&found.header) { Vec::new() } else { reading.fields(most) };
    let awaited = |offset| match awaited_in_channel(offset).filter(|_| is_channel(&found.header)) {
        Some(what) => what.to_owned(),
        None => fields::awaited(&fields, offset),
    };
    let participant = |slot| {
        let who = reading.attached(slot)?;
        let offset = owner::sleep_in(&table, slot).map(Sleep::offset);
        Some(Participant { slot, who, sleeps_on: offset.map(awaited) })
    };
    Ok(Inspection {
        object: describe_with(&found, &table)?,
        id: found.header.id,
        data_size: found.header.data_len,
        tail: found.header.tail,
        sparse: found.header.sparse,
        user: meta.user,
        mode: meta.mode & 0o777,
        participants: (0..PARTICIPANTS).filter_map(participant).collect(),
        fields,
    })
}

/// A lock that is held by somebody, or a permit of a semaphore.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldLock {
    /// The path of its field in the type.
    pub lock: String,
    /// Who holds it, dead or alive, if that is known.
    pub holder: Option<Who>,
    /// Whether the holder lives; if not, the next one to lock takes it over, or the permit is free.
    pub alive: bool,
}

/// So many elements of an array of locks are looked at.
const LOCKS: usize = 64;

/// The locks of a typed object that are held, and the permits that are taken, an entry for each holder; who initialises a
/// [`Once`](crate::Once), or writes a [`SeqCell`](crate::SeqCell) or [`Versioned`](crate::Versioned), holds the lock in it.
/// Of an array of locks it looks at the first 64.
///
/// # Errors
///
/// [`Error::NotFound`], and those of a damaged object.
pub fn held_locks(name: impl ToName) -> Result<Vec<HeldLock>, Error> {
    let fields = inspect(name, LOCKS)?.fields.into_iter().filter(|field| field.kind != "barrier");
    let held = fields.flat_map(|Inspected { path, value, .. }| {
        let holders = if let FieldValue::Lock(state) = value { state.holders } else { Vec::new() };
        holders.into_iter().map(move |Holder { who, alive, .. }| HeldLock { lock: path.clone(), holder: who, alive })
    });
    Ok(held.collect())
}

/// Where objects are, and how much memory is left there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// The directory.
    pub directory: PathBuf,
    /// Bytes left for new objects.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Whether the directory is in memory; if not, everything works, but slowly, and is written to a disk.
    pub in_memory: bool,
    /// Bytes that the memory limit of this process's control group (of its container) leaves, if there is one that is known.
    pub memory_left: Option<u64>,
}

/// Says how much memory is left for objects in `directory` (the default one if `None`).
///
/// # Errors
///
/// [`Error::Directory`] if the directory cannot be used.
pub fn space(directory: Option<&Path>) -> Result<Space, Error> {
    let path = path_or_default(directory);
    let system = Directory::open(&path)?.file_system()?;
    let (free, total, in_memory) = (system.free, system.total, system.in_memory);
    Ok(Space { directory: path, free, total, in_memory, memory_left: memory_left() })
}
