//! What there is and who uses it: read-only, and never in anybody's way.

use crate::error::{Error, Who, shown};
use crate::object::{Condition, Directory, Found, Name, Persistence, ToName, path_or_default};
use crate::owner::{self, OwnerId, PARTICIPANTS};
use crate::sys::Access;
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
    let condition = found.condition()?;
    let table = found.table()?;
    let held = |index: &usize| owner::is_held(&found.locks, *index).unwrap_or(false);
    let users = (0..PARTICIPANTS).filter(held).filter_map(|index| owner::holder_in(&table, index)).collect();
    Ok(Listed {
        name: found.name.to_string(),
        size: found.header.total().unwrap_or(0),
        type_name: found.header.type_name(),
        persistence: Some(found.header.persistence),
        stale: condition == Condition::Dead,
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
        creator: None,
        users: Vec::new(),
        in_use: false,
        problem: Some(error.to_string()),
        foreign: matches!(error, Error::Foreign { .. }),
    }
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldLock {
    /// The path of its field in the type.
    pub lock: String,
    /// Who holds it, dead or alive, if that is known.
    pub holder: Option<Who>,
    /// Whether the holder lives; if not, the next one to lock takes it over.
    pub alive: bool,
}

/// The locks of a typed object that are held. Of an array of locks it looks at the first.
///
/// # Errors
///
/// [`Error::NotFound`], and those of a damaged object.
pub fn held_locks(name: impl ToName) -> Result<Vec<HeldLock>, Error> {
    let found = Found::find(&name.to_name()?, Access::Read)?;
    let table = found.table()?;
    let mut held = Vec::new();
    for (path, offset) in found.header.fields_of("mutex") {
        let mut word = [0; 8];
        // A description may say anything.
        if found.read(offset, &mut word).is_err() {
            continue;
        }
        let owner = OwnerId::in_word(u64::from_ne_bytes(word));
        if !owner.is_nobody() {
            let alive = owner::living_in(&table, &found.locks, owner).is_some();
            held.push(HeldLock { lock: shown(path), holder: owner::who_in(&table, owner), alive });
        }
    }
    Ok(held)
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
}

/// Says how much memory is left for objects in `directory` (the default one if `None`).
///
/// # Errors
///
/// [`Error::Directory`] if the directory cannot be used.
pub fn space(directory: Option<&Path>) -> Result<Space, Error> {
    let path = path_or_default(directory);
    let system = Directory::open(&path)?.file_system()?;
    Ok(Space { directory: path, free: system.free, total: system.total, in_memory: system.in_memory })
}
