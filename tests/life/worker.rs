//! What a worker process does: one command at a time, each answered with what came of it.

use crate::common::{hear, say};
use memlane::{
    Error, LockError, Locked, Mutex, Options, Origin, Persistence, Region, RegionMut, Segment, Shareable, SharedMemory,
    gc, list, remove, retire,
};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Shareable)]
#[repr(C)]
struct Note {
    born: u64,
    value: Mutex<u64>,
    rest: [u8],
}

/// Another type; `born` and what `value` guards lie where they lie in a [`Note`].
#[derive(Shareable)]
#[repr(C)]
struct Ticket {
    born: u64,
    value: Mutex<u64>,
    number: u64,
}

/// Where `born` and the value lie in every object, raw ones included.
const BORN: usize = 0;
const VALUE: usize = 16;

enum Handle {
    Note(Segment<Note>),
    Ticket(Segment<Ticket>),
    Raw(RegionMut),
    Reader(Region),
    Bare(SharedMemory),
}

type Said = Result<String, String>;

/// The name of an error's variant.
fn kind(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

fn failed(error: &Error) -> String {
    match error {
        Error::AlreadyExists { creator, .. } => {
            format!("AlreadyExists {}", creator.as_ref().map_or(0, |who| who.pid))
        }
        other => kind(other),
    }
}

fn refused(error: &LockError) -> String {
    match error {
        LockError::TimedOut { holder, .. } => format!("TimedOut {}", holder.as_ref().map_or(0, |who| who.pid)),
        other => kind(other),
    }
}

/// Creates what `shape` says: a `Note` of two sizes, a `Ticket`, raw bytes of two sizes.
fn create(name: &str, shape: &str, options: &Options, stamp: u64) -> Result<Handle, Error> {
    let note = |tail| Segment::create(name, tail, options, |note: &mut Note| note.born = stamp).map(Handle::Note);
    let raw = |size| SharedMemory::create(name, size, options).map(Handle::Bare);
    match shape {
        "SmallNote" => note(8),
        "LargeNote" => note(5000),
        "Ticket" => Segment::create(name, (), options, |it: &mut Ticket| it.born = stamp).map(Handle::Ticket),
        "SmallRaw" => raw(64),
        _ => raw(9000),
    }
}

fn open_or_create(name: &str, shape: &str, options: &Options, stamp: u64) -> Result<Handle, Error> {
    let note =
        |tail| Segment::open_or_create(name, tail, options, |note: &mut Note| note.born = stamp).map(Handle::Note);
    let raw = |size| SharedMemory::open_or_create(name, size, options).map(Handle::Bare);
    match shape {
        "SmallNote" => note(8),
        "LargeNote" => note(5000),
        "Ticket" => Segment::open_or_create(name, (), options, |it: &mut Ticket| it.born = stamp).map(Handle::Ticket),
        "SmallRaw" => raw(64),
        _ => raw(9000),
    }
}

fn open(name: &str, view: &str) -> Result<Handle, Error> {
    match view {
        "Note" => Segment::open(name).map(Handle::Note),
        "Ticket" => Segment::open(name).map(Handle::Ticket),
        "Reader" => Region::open(name).map(Handle::Reader),
        _ => SharedMemory::open(name).map(Handle::Bare),
    }
}

fn wait_for(name: &str, view: &str, timeout: Duration) -> Result<Handle, Error> {
    match view {
        "Note" => Segment::wait_for(name, Some(timeout)).map(Handle::Note),
        _ => Segment::wait_for(name, Some(timeout)).map(Handle::Ticket),
    }
}

impl Handle {
    fn region(&self) -> Option<&RegionMut> {
        match self {
            Self::Note(note) => Some(note.region()),
            Self::Ticket(ticket) => Some(ticket.region()),
            Self::Raw(region) => Some(region),
            Self::Reader(_) | Self::Bare(_) => None,
        }
    }

    fn value(&self) -> Option<(&Mutex<u64>, &RegionMut)> {
        match self {
            Self::Note(note) => Some((&note.value, note.region())),
            Self::Ticket(ticket) => Some((&ticket.value, ticket.region())),
            Self::Raw(_) | Self::Reader(_) | Self::Bare(_) => None,
        }
    }

    /// How it came to what object.
    fn describe(&self) -> String {
        match (self, self.region()) {
            (Self::Bare(bare), _) => identity(bare.origin(), bare.id(), bare.size()),
            (_, Some(region)) => identity(region.origin(), region.id(), region.len() as u64),
            (Self::Reader(reader), None) => format!("Opened {}", reader.len()),
            _ => unreachable!("every other handle has a region"),
        }
    }

    /// Adds one to the value: under the lock, if it has one.
    fn add(&mut self, repair: bool) -> Said {
        if let Some((value, region)) = self.value() {
            return Ok(match value.try_lock(region).map_err(|error| refused(&error))? {
                Locked::Clean(mut value) => {
                    *value += 1;
                    format!("Clean {}", *value)
                }
                Locked::OwnerDied(died) if !repair => format!("OwnerDied {}", *died),
                Locked::OwnerDied(died) => {
                    let mut value = died.mark_consistent();
                    *value += 1;
                    format!("OwnerDied {}", *value)
                }
            });
        }
        let Self::Raw(region) = self else { return Err("ReadOnly".into()) };
        let mut bytes = [0; 8];
        region.read_at(VALUE, &mut bytes).map_err(|error| failed(&error))?;
        let value = u64::from_ne_bytes(bytes) + 1;
        region.write_at(VALUE, &value.to_ne_bytes()).map_err(|error| failed(&error))?;
        Ok(format!("Clean {value}"))
    }

    /// Takes the lock and never gives it back: that is left to the end of the attachment.
    fn hold(&self) -> Said {
        let Some((value, region)) = self.value() else { return Err("NoLock".into()) };
        let locked = value.try_lock(region).map_err(|error| refused(&error))?;
        let said = format!("{locked:?}");
        std::mem::forget(locked);
        Ok(said)
    }

    /// What can be seen without the lock: who built it, whether it was retired, and in raw bytes the value.
    fn look(&mut self) -> Said {
        let mut bytes = [0; 24];
        let retired = self.region().is_some_and(RegionMut::is_retired);
        match self {
            Self::Note(note) => return Ok(format!("{} retired: {retired}", note.born)),
            Self::Ticket(ticket) => return Ok(format!("{} retired: {retired}", ticket.born)),
            Self::Bare(bare) => return Ok(bare.size().to_string()),
            Self::Raw(region) => region.read_at(BORN, &mut bytes),
            Self::Reader(reader) => reader.read_at(BORN, &mut bytes),
        }
        .map_err(|error| failed(&error))?;
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|index| bytes[at + index]));
        Ok(format!("{} {} retired: {retired}", word(BORN), word(VALUE)))
    }
}

fn identity(origin: Origin, id: u128, size: u64) -> String {
    format!("{origin:?} {id} {size}")
}

/// Obeys until the parent is gone.
pub fn obey() {
    let mut handles: BTreeMap<String, Handle> = BTreeMap::new();
    while let Some(command) = hear() {
        let words: Vec<&str> = command.split(' ').collect();
        let said = obey_one(&words, &mut handles);
        say(&said.unwrap_or_else(|error| error));
    }
}

fn obey_one(words: &[&str], handles: &mut BTreeMap<String, Handle>) -> Said {
    let done = |result: Result<(), Error>| result.map(|()| "Done".to_owned()).map_err(|error| failed(&error));
    let key = words.get(1).copied().unwrap_or_default();
    match *words {
        ["remove", name] => done(remove(name)),
        ["retire", name] => done(retire(name)),
        ["gc", dry] => {
            let dead = gc(None, dry == "true").map_err(|error| failed(&error))?;
            Ok(dead.iter().map(|dead| format!("{} {};", dead.name, dead.size)).collect())
        }
        ["list"] => list_all().map_err(|error| failed(&error)),
        ["reset"] => {
            handles.clear();
            Ok("Done".into())
        }
        ["close", key] => Ok(handles.remove(key).map_or("NoHandle", |_| "Done").into()),
        ["map", key, view] => {
            let Some(Handle::Bare(bare)) = handles.remove(key) else { return Err("NoHandle".into()) };
            let mapped = if view == "Raw" { bare.map_mut().map(Handle::Raw) } else { bare.map().map(Handle::Reader) };
            handles.insert(key.into(), mapped.map_err(|error| failed(&error))?);
            Ok("Done".into())
        }
        ["create" | "either" | "open" | "wait", ..] => {
            let handle = attach(words).map_err(|error| failed(&error))?;
            let said = handle.describe();
            handles.insert(key.into(), handle);
            Ok(said)
        }
        _ => {
            let handle = handles.get_mut(key).ok_or("NoHandle")?;
            match *words {
                ["unname", _] => done(handle.region().map_or(Ok(()), RegionMut::remove_name)),
                ["add", _, repair] => handle.add(repair == "true"),
                ["hold", _] => handle.hold(),
                ["look", _] => handle.look(),
                _ => panic!("no command {words:?}"),
            }
        }
    }
}

fn attach(words: &[&str]) -> Result<Handle, Error> {
    let options = |keep| match keep {
        "true" => Options::new().persistence(Persistence::Keep),
        _ => Options::new(),
    };
    let number = |text: &str| text.parse().expect("a number");
    match *words {
        ["create", _, name, shape, keep, stamp] => create(name, shape, &options(keep), number(stamp)),
        ["either", _, name, shape, keep, stamp] => open_or_create(name, shape, &options(keep), number(stamp)),
        ["open", _, name, view] => open(name, view),
        ["wait", _, name, view, millis] => wait_for(name, view, Duration::from_millis(number(millis))),
        _ => panic!("no command {words:?}"),
    }
}

fn list_all() -> Result<String, Error> {
    let line = |listed: memlane::Listed| {
        let mut users: Vec<u32> = listed.users.iter().map(|who| who.pid).collect();
        users.sort_unstable();
        let kind = listed.type_name.as_deref().unwrap_or("-");
        let kept = listed.persistence == Some(Persistence::Keep);
        let creator = listed.creator.map_or(0, |who| who.pid);
        format!(
            "{} {} {kind} kept: {kept} stale: {} creator: {creator} users: {users:?} used: {} sound: {};",
            listed.name,
            listed.size,
            listed.stale,
            listed.in_use,
            listed.problem.is_none() && !listed.foreign
        )
    };
    Ok(list(None)?.into_iter().map(line).collect())
}
