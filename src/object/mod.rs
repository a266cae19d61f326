//! Objects, most of them named: created whole or not at all, opened ready or not at all, removed without harm to who uses them.
//!
//! An object is a file in memory. Its life is decided by two lock bytes: everybody who uses it shares the *life*
//! byte, and its creator alone holds the *role* byte. Every decision over a name is made under the directory's lock,
//! so that nobody can join an object in the moment it is found dead. docs/DESIGN.md says what a death leaves behind.

mod directory;
pub(crate) mod handover;
mod header;
mod name;

use directory::PATIENCE;
pub(crate) use directory::{Directory, lock_whole};
use handover::Opening;
pub use header::Persistence;
pub(crate) use header::{CREATOR_OFFSET, Header, LIVE, RETIRED, SCHEMA_MAX, STATE_OFFSET, TABLE_OFFSET};
use name::Place;
pub use name::{Name, ToName};

use crate::error::{Error, Who};
use crate::owner::{self, LIFE_BYTE, OwnerId, ROLE_BYTE, Sleep, TABLE_SIZE};
use crate::prim;
use crate::sys::{self, Access, Fd, Kind, LockFd, Map, Meta, Sharing};
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many names a create looks at in passing, to reclaim what crashes left.
const SWEEP: usize = 16;

/// The least a wait for a name lets others finish with the directory, also when its time is over.
const GRACE: Duration = Duration::from_millis(250);

/// How an object is created.
///
/// The default: mode `0600`, all memory reserved, [`Persistence::UntilLastUser`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    mode: u32,
    sparse: bool,
    persistence: Persistence,
}

impl Default for Options {
    fn default() -> Self {
        Self { mode: 0o600, sparse: false, persistence: Persistence::default() }
    }
}

impl Options {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the permission bits, exactly as given, whatever the umask is. Only the lowest nine bits are used; with
    /// `0o002`, which lets strangers write, creating fails with [`Error::UnsafeMode`].
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Does not reserve memory: pages come with their first use, and when there are none left, that first use ends
    /// the process (SIGBUS). For huge objects of which little is used.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// Sets how long the object stays.
    #[must_use]
    pub fn persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = persistence;
        self
    }
}

/// How this process came to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was made new, and built by this process.
    Created,
    /// Its creator had died or closed it, others still use it, and this process is its creator now. What is in it
    /// stayed.
    TakenOver,
    /// It existed, and this process opened it.
    Opened,
}

/// An object in use by this process: it holds the life byte, and perhaps the role.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) name: Name,
    pub(crate) header: Header,
    pub(crate) locks: LockFd,
    pub(crate) origin: Origin,
    /// Where its name is; of what was opened by descriptor that is not known.
    directory: Option<Arc<Directory>>,
    file: Arc<Fd>,
}

impl Header {
    /// Reads and checks the header in an object of `len` bytes.
    fn of(name: &str, file: &Fd, len: u64) -> Result<Self, Error> {
        Self::validate(name, len, |offset, count| {
            let mut bytes = vec![0; count];
            sys::read_at(file, &mut bytes, offset).ok().map(|()| bytes)
        })
    }

    /// Whether the user's bytes of both are laid out the same.
    fn same_shape(&self, other: &Self) -> bool {
        (self.data_len, self.tail, &self.schema) == (other.data_len, other.tail, &other.schema)
    }
}

impl Object {
    /// Makes an object without a name: everything reserved, the header written, the user's bytes zero. Nobody else
    /// can see it, and it vanishes with this process, until it is published. If the object that has the name now is
    /// one to take over, it is that one instead, and complete.
    pub(crate) fn draft(mut name: Name, mut header: Header, options: &Options) -> Result<Self, Error> {
        if options.mode & 0o002 != 0 {
            // `Directory::trusts` would refuse it to everybody, and leave it for ever if its user is killed.
            return Err(Error::UnsafeMode { name: name.to_string(), mode: options.mode });
        }
        if let Place::Opening(_) = name.place {
            let fix = "open it, or create another with `Name::anonymous`";
            return Err(Error::Unnamed { name: name.to_string(), action: "create", fix });
        }
        let directory = Directory::of(&name)?;
        header.id = sys::random().map_err(Error::os("draw an id for", &name))?;
        header.persistence = options.persistence;
        header.sparse = options.sparse;
        let total = header.total().ok_or_else(|| Error::TooLarge { name: name.to_string() })?;
        if let Some(directory) = &directory
            && let Some(object) = Self::take_over(&name, &header, directory)?
        {
            return Ok(object);
        }
        let collect = || directory.as_ref().and_then(|directory| gc(Some(directory.path()), false).ok());
        let file = match reserve(&name, directory.as_deref(), total, options) {
            // What the dead left keeps its memory as long as it has its name.
            Err(Error::NoSpace { .. }) if collect().is_some_and(|dead| !dead.is_empty()) => {
                reserve(&name, directory.as_deref(), total, options)
            }
            result => result,
        }?;
        let file = Arc::new(file);
        if directory.is_none() {
            name.place = Place::Opening(Opening { file: Arc::clone(&file), id: header.id });
        }
        let no_space = |error| out_of_space(error, &name, directory.as_deref(), total);
        prim::step();
        sys::write_at(&file, &header.to_bytes(), 0).map_err(no_space)?;
        prim::step();
        let locks = LockFd::reopen(&file, Access::ReadWrite).map_err(Error::os("open the locks of", &name))?;
        locks.try_lock(LIFE_BYTE, Sharing::Shared).map_err(Error::os("lock", &name))?;
        locks.try_lock(ROLE_BYTE, Sharing::Exclusive).map_err(Error::os("lock", &name))?;
        prim::step();
        Ok(Self { name, header, locks, origin: Origin::Created, directory, file })
    }

    /// The object that has the name already, if it is one to take over. That it cannot be replaced is said before
    /// anything is made.
    fn take_over(name: &Name, header: &Header, directory: &Arc<Directory>) -> Result<Option<Self>, Error> {
        let _lock = directory.lock()?;
        match Found::open(name, directory, Access::ReadWrite)? {
            Some(found) if found.is_to_take_over(header)? => {
                found.join(Some(Arc::clone(directory)), Origin::TakenOver).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Gives a draft its name: `None`. If a living object has the name by now, that is an error, unless its creator
    /// is gone and it is of the same shape: then this process takes its role over and uses that one instead.
    pub(crate) fn publish(&self) -> Result<Option<Self>, Error> {
        if self.origin == Origin::TakenOver {
            return Ok(None);
        }
        let (name, Some(directory)) = (&self.name, &self.directory) else { return Ok(None) };
        // What is replaced is closed, and its memory freed, only after others have the directory again.
        let mut replaced = Vec::new();
        let lock = directory.lock()?;
        loop {
            match sys::publish(&self.file, directory.fd(), name.as_str()) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::os("publish", name)(error)),
            }
            let Some(found) = Found::open(name, directory, Access::ReadWrite)? else { continue };
            if found.is_to_take_over(&self.header)? {
                return found.join(Some(Arc::clone(directory)), Origin::TakenOver).map(Some);
            }
            if found.condition()? == Condition::Orphaned {
                found.retire()?;
            }
            unlink(directory, name)?;
            replaced.push(found);
        }
        prim::step();
        drop(lock);
        directory.sweep();
        Ok(None)
    }

    /// Opens a living object, or a kept one.
    pub(crate) fn open(name: Name, access: Access) -> Result<Self, Error> {
        Self::open_within(name, access, PATIENCE)
    }

    fn open_within(name: Name, access: Access, patience: Duration) -> Result<Self, Error> {
        let missing = || Error::NotFound { name: name.to_string() };
        let Some(directory) = Directory::of(&name)? else {
            // Nobody acts on what is found dead and has no name, so no lock is needed.
            let found = Found::received(&name, access)?;
            let dead = found.condition()? == Condition::Dead;
            return if dead { Err(missing()) } else { found.join(None, Origin::Opened) };
        };
        let lock = directory.lock_within(patience)?;
        let found = Found::open(&name, &directory, access)?.ok_or_else(missing)?;
        if found.condition()? == Condition::Dead {
            unlink(&directory, &found.name)?;
            drop(lock); // before `found`: its memory is freed after others have the directory again
            return Err(missing());
        }
        found.join(Some(directory), Origin::Opened)
    }

    /// Like [`open`](Self::open), but waits for the object to appear. A descriptor will lead to no other.
    pub(crate) fn wait_for(name: &Name, access: Access, timeout: Option<Duration>) -> Result<Self, Error> {
        let start = Instant::now();
        let mut nap = Duration::from_micros(200);
        loop {
            let left = || timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(start.elapsed()));
            match Self::open_within(name.clone(), access, left().clamp(GRACE, PATIENCE)) {
                Err(Error::NotFound { .. }) if name.directory().is_some() => {}
                result => return result,
            }
            let (waited, left) = (start.elapsed(), left());
            if left.is_zero() {
                return Err(Error::TimedOut { name: name.to_string(), waited });
            }
            std::thread::sleep(nap.min(left));
            if prim::is_interrupted() {
                return Err(Error::Interrupted { name: name.to_string() });
            }
            nap = (nap * 2).min(Duration::from_millis(10));
        }
    }

    /// Maps these bytes of the file; those of `gap`, which lie among them, take addresses only.
    pub(crate) fn map(&self, access: Access, bytes: Range<u64>, gap: Range<u64>) -> Result<Map, Error> {
        if self.locks.is_forked() {
            return Err(Error::Forked { name: self.name.to_string() });
        }
        let place = |offset: u64| {
            usize::try_from(offset - bytes.start).map_err(|_| Error::TooLarge { name: self.name.to_string() })
        };
        let (len, gap) = (place(bytes.end)?, place(gap.start)?..place(gap.end)?);
        let mut map = Map::of(&self.file, bytes.start, len, access).map_err(Error::os("map", &self.name))?;
        let parts = if gap.is_empty() { [0..len, len..len] } else { [0..gap.start, gap.end..len] };
        map.release(gap).map_err(Error::os("map", &self.name))?;
        if !self.header.sparse {
            // The memory was reserved when the object was created, but another program may have cut it off since.
            let access = if access == Access::ReadWrite { access } else { Access::Read };
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                let no_space = |error| out_of_space(error, &self.name, self.directory.as_deref(), bytes.end);
                map.populate(part, access).map_err(no_space)?;
            }
        }
        Ok(map)
    }
}

impl Object {
    /// Takes the object's name away, if it still has it.
    pub(crate) fn remove_name(&self) -> Result<(), Error> {
        if let Some(directory) = &self.directory {
            let _lock = directory.lock()?;
            return self.remove_name_in(directory);
        }
        let fix = "remove it where it was created, by its name";
        let unknown = || Error::Unnamed { name: self.name.to_string(), action: "remove the name of", fix };
        if self.has_no_name() { Ok(()) } else { Err(unknown()) }
    }

    /// The caller holds the directory's lock.
    fn remove_name_in(&self, directory: &Directory) -> Result<(), Error> {
        let named = sys::meta_at(directory.fd(), self.name.as_str()).map(|meta| meta.identity).ok();
        if named.is_some() && named == sys::meta(&self.file).map(|meta| meta.identity).ok() {
            unlink(directory, &self.name)?;
        }
        Ok(())
    }

    /// Whether it never had a name, or not any more.
    fn has_no_name(&self) -> bool {
        sys::meta(&self.file).is_ok_and(|meta| meta.links == 0)
    }
}

impl Drop for Object {
    /// The last user of an object that nobody asked to keep takes its name away.
    fn drop(&mut self) {
        if self.header.persistence != Persistence::UntilLastUser || self.locks.is_forked() {
            return;
        }
        // Nobody can find an object without a name, a draft or a removed one: it goes with its last opening.
        if self.has_no_name() {
            return;
        }
        // Without the directory's lock the object is left to the next create, open or gc, as if this process died.
        let Some(directory) = &self.directory else { return };
        let Ok(_lock) = directory.lock() else { return };
        // The life byte is given back under the directory's lock, or two last users could each see the other.
        let used = self.locks.unlock(LIFE_BYTE).and_then(|()| self.locks.is_locked(LIFE_BYTE));
        prim::step();
        if used.is_ok_and(|used| !used) {
            // Failing leaves the name to gc.
            let _ = self.remove_name_in(directory);
        }
    }
}

/// What the lock bytes say about an object. Only a holder of the directory's lock may act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its creator lives.
    Created,
    /// Its creator is gone, others use it.
    Orphaned,
    /// Nobody uses it, and it is to be kept.
    Idle,
    /// Nobody uses it and nobody asked to keep it, or it was retired.
    Dead,
}

/// What was found under a name: checked, but not joined.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: Name,
    pub(crate) header: Header,
    pub(crate) locks: LockFd,
    file: Arc<Fd>,
}

impl Found {
    /// Opens and checks what a name stands for.
    pub(crate) fn find(name: &Name, access: Access) -> Result<Self, Error> {
        let Some(directory) = Directory::of(name)? else { return Self::received(name, access) };
        let _lock = directory.lock()?;
        Self::open(name, &directory, access)?.ok_or_else(|| Error::NotFound { name: name.to_string() })
    }

    /// Opens and checks what has the name; `None` if nothing has.
    pub(crate) fn open(name: &Name, directory: &Directory, access: Access) -> Result<Option<Self>, Error> {
        let foreign = |what: &str| Error::Foreign { name: name.to_string(), what: what.to_owned() };
        let file = match sys::open_at(directory.fd(), name.as_str(), access) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let meta = sys::meta_at(directory.fd(), name.as_str());
                return Err(match meta.as_ref().map(|meta| meta.kind) {
                    Ok(Kind::Link) => foreign("a symbolic link"),
                    Ok(Kind::Directory) => foreign("a directory"),
                    Ok(Kind::Other) => foreign("a pipe, socket or device"),
                    _ => refusal("open", name, directory, meta)(error),
                });
            }
        };
        let meta = sys::meta(&file).map_err(Error::os("look at", name))?;
        if meta.kind != Kind::File {
            return Err(foreign(if meta.kind == Kind::Directory { "a directory" } else { "a pipe, socket or device" }));
        }
        if !directory.trusts(&meta) {
            let (user, mode, fix) = (meta.user, meta.mode, directory.how_to_share(&meta));
            let what = format!("a file of user {user} with mode {mode:04o}, which is not to be trusted ({fix})");
            return Err(foreign(&what));
        }
        if meta.links > 1 {
            return Err(foreign("a file with further names"));
        }
        let header = Header::of(name.as_str(), &file, meta.len)?;
        let locks = LockFd::reopen(&file, access).map_err(Error::os("open the locks of", name))?;
        Ok(Some(Self { name: name.clone(), header, locks, file: Arc::new(file) }))
    }

    /// What the lock bytes and the state say.
    pub(crate) fn condition(&self) -> Result<Condition, Error> {
        let locked = |byte| self.locks.is_locked(byte).map_err(Error::os("look at the locks of", &self.name));
        let mut state = [0; 4];
        sys::read_at(&self.file, &mut state, STATE_OFFSET as u64).map_err(Error::os("read", &self.name))?;
        Ok(match (u32::from_ne_bytes(state), locked(LIFE_BYTE)?) {
            (LIVE, true) if locked(ROLE_BYTE)? => Condition::Created,
            (LIVE, true) => Condition::Orphaned,
            (LIVE, false) if self.header.persistence == Persistence::Keep => Condition::Idle,
            (LIVE, false) | (RETIRED, _) => Condition::Dead,
            _ => return Err(Error::Corrupt { name: self.name.to_string(), field: "state" }),
        })
    }

    /// Whether a create takes the object over instead of its name; an error if it may have neither.
    fn is_to_take_over(&self, header: &Header) -> Result<bool, Error> {
        match self.condition()? {
            Condition::Dead => Ok(false),
            Condition::Orphaned if self.header.persistence == Persistence::UntilLastUser => {
                Ok(self.header.same_shape(header))
            }
            Condition::Orphaned | Condition::Idle | Condition::Created => Err(self.taken()),
        }
    }

    /// Becomes a user of the object; the caller holds the lock of its directory, if that is known.
    fn join(self, directory: Option<Arc<Directory>>, origin: Origin) -> Result<Object, Error> {
        let Self { name, header, locks, file } = self;
        let fail = || Error::os("lock", &name);
        let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        if !locks.try_lock(LIFE_BYTE, Sharing::Shared).map_err(fail())? {
            return Err(fail()(busy()));
        }
        if origin == Origin::TakenOver && !locks.try_lock(ROLE_BYTE, Sharing::Exclusive).map_err(fail())? {
            return Err(fail()(busy()));
        }
        prim::step();
        if origin == Origin::TakenOver {
            // Whoever had the role is not to be named for it any more; who takes part says so when it attaches.
            sys::write_at(&file, &OwnerId::NOBODY.word().to_ne_bytes(), CREATOR_OFFSET as u64)
                .map_err(Error::os("take over", &name))?;
            prim::step();
        }
        Ok(Object { name, header, locks, origin, directory, file })
    }

    /// Tells every user to let go, and wakes those who sleep.
    fn retire(&self) -> Result<(), Error> {
        sys::write_at(&self.file, &RETIRED.to_ne_bytes(), STATE_OFFSET as u64)
            .map_err(Error::os("retire", &self.name))?;
        prim::step();
        // Best effort: whoever is not woken looks at the state at the end of a slice.
        if let Some(len) = self.header.map_len()
            && let Ok(map) = Map::of(&self.file, 0, len, Access::Read)
        {
            let (data, table) = (self.header.data_offset(), self.table()?);
            let words = owner::sleeps_in(&table).flat_map(Sleep::words);
            words.filter_map(|offset| map.word(data.checked_add(offset)?)).for_each(prim::wake_at);
        }
        Ok(())
    }

    /// The error for a name that is taken.
    fn taken(&self) -> Error {
        Error::AlreadyExists { name: self.name.to_string(), creator: self.creator() }
    }

    /// Who created the object or took it over last.
    pub(crate) fn creator(&self) -> Option<Who> {
        let mut word = [0; 8];
        sys::read_at(&self.file, &mut word, CREATOR_OFFSET as u64).ok()?;
        owner::who_in(&self.table().ok()?, OwnerId::in_word(u64::from_ne_bytes(word)))
    }

    /// What the file system knows of it.
    pub(crate) fn meta(&self) -> Result<Meta, Error> {
        sys::meta(&self.file).map_err(Error::os("look at", &self.name))
    }

    /// Copies what is at `offset` of the user's bytes.
    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), Error> {
        let start = self.header.data_offset().saturating_add(offset);
        sys::read_at(&self.file, to, start).map_err(Error::os("read", &self.name))
    }

    /// A copy of the participant table.
    pub(crate) fn table(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; TABLE_SIZE];
        sys::read_at(&self.file, &mut bytes, TABLE_OFFSET as u64).map_err(Error::os("read", &self.name))?;
        Ok(bytes)
    }
}

/// The error for what the system refuses to do with an object: whose it is, if that is why.
fn refusal(
    action: &'static str,
    name: &Name,
    directory: &Directory,
    meta: io::Result<Meta>,
) -> impl FnOnce(io::Error) -> Error {
    move |error| match meta {
        Ok(meta) if error.kind() == io::ErrorKind::PermissionDenied => directory.denied(action, name, &meta),
        _ => Error::os(action, name)(error),
    }
}

/// Takes the name away; the caller holds the directory's lock, and looked at what has the name under it.
fn unlink(directory: &Directory, name: &Name) -> Result<(), Error> {
    match sys::unlink(directory.fd(), name.as_str()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refusal("remove", name, directory, sys::meta_at(directory.fd(), name.as_str()))(error))
        }
        _ => {
            prim::step();
            Ok(())
        }
    }
}

/// Takes a name away. Whoever uses the object goes on undisturbed; its memory is free again when the last of them
/// has unmapped it. The name can be used for another object at once.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing has the name, [`Error::Foreign`] if something has it that is no memlane object,
/// which is left alone. A dead object that still has its name, and a damaged one, is removed. [`Error::Unnamed`] if `name` stands
/// for a descriptor, or for none yet.
pub fn remove(name: impl ToName) -> Result<(), Error> {
    take_away(&name.to_name()?, Access::Read, |_| Ok(()))
}

/// Takes a name away like [`remove`], and tells everybody who uses the object to let go: each of their calls that
/// locks or waits fails with [`LockError::Retired`](crate::LockError::Retired). Those already asleep are woken, or wake
/// within 50 ms. An object that `name` is a descriptor of is retired as well; a name that it has leads to a dead one from then on.
///
/// # Errors
///
/// As [`remove`].
pub fn retire(name: impl ToName) -> Result<(), Error> {
    let name = name.to_name()?;
    match name.place {
        Place::Opening(_) => Found::received(&name, Access::ReadWrite)?.retire(),
        _ => take_away(&name, Access::ReadWrite, Found::retire),
    }
}

fn take_away(name: &Name, access: Access, first: impl FnOnce(&Found) -> Result<(), Error>) -> Result<(), Error> {
    let fix = "`retire` it to end all use of it; its memory goes with its last user";
    let unnamed = || Error::Unnamed { name: name.to_string(), action: "remove", fix };
    let directory = Directory::of(name)?.ok_or_else(unnamed)?;
    let lock = directory.lock()?;
    match Found::open(name, &directory, access) {
        Ok(None) => Err(Error::NotFound { name: name.to_string() }),
        Ok(Some(found)) => {
            first(&found)?;
            unlink(&directory, &found.name)?;
            drop(lock); // before `found`: its memory is freed after others have the directory again
            Ok(())
        }
        Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => unlink(&directory, name),
        Err(error) => Err(error),
    }
}

/// What [`gc`] removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaimed {
    /// The object.
    pub name: String,
    /// The memory it took, in bytes.
    pub size: u64,
}

/// Removes every object in `directory` (the default one if `None`) that nobody uses and nobody asked to keep; with
/// `dry_run` only says which. What is alive, kept, damaged or foreign is left alone, whatever the timing.
///
/// # Errors
///
/// [`Error::Directory`] or [`Error::Busy`] if the directory cannot be used.
pub fn gc(directory: Option<&Path>, dry_run: bool) -> Result<Vec<Reclaimed>, Error> {
    let directory = Directory::open(&path_or_default(directory))?;
    let mut reclaimed = Vec::new();
    for name in directory.names()? {
        reclaimed.extend(directory.reclaim(&name, dry_run)?);
    }
    Ok(reclaimed)
}

/// What the memory limit of this process leaves, if there is one that is known.
pub(crate) fn memory_left() -> Option<u64> {
    sys::limits().1
}

/// That directory, or the default one.
pub(crate) fn path_or_default(directory: Option<&Path>) -> PathBuf {
    directory.map_or_else(|| name::default_directory().0, Path::to_owned)
}

impl Directory {
    /// Removes the object if it is dead.
    fn reclaim(&self, name: &str, dry_run: bool) -> Result<Option<Reclaimed>, Error> {
        self.reclaim_within(name, dry_run, PATIENCE)
    }

    fn reclaim_within(&self, name: &str, dry_run: bool, patience: Duration) -> Result<Option<Reclaimed>, Error> {
        let Ok(name) = Name::new(name) else { return Ok(None) };
        let lock = self.lock_within(patience)?;
        let found = match Found::open(&name, self, Access::Read) {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => return Ok(None),
        };
        if !found.condition().is_ok_and(|condition| condition == Condition::Dead) {
            return Ok(None);
        }
        if !dry_run {
            unlink(self, &name)?;
        }
        drop(lock); // before `found`: its memory is freed after others have the directory again
        Ok(Some(Reclaimed { name: name.to_string(), size: found.header.total().unwrap_or(0) }))
    }

    /// Looks at some names in passing and reclaims the dead among them. It is a courtesy: what fails here is left to
    /// `gc`.
    fn sweep(&self) {
        let names = self.names().unwrap_or_default();
        let start = sys::random().map_or(0, |random| random as usize % names.len().max(1));
        for name in names.iter().cycle().skip(start).take(SWEEP.min(names.len())) {
            // Whoever else wants the directory now goes first.
            if matches!(self.reclaim_within(name, false, Duration::ZERO), Err(Error::Busy { .. })) {
                break;
            }
        }
    }
}

/// Makes an unnamed file and pays for its memory, or leaves nothing.
fn reserve(name: &Name, directory: Option<&Directory>, total: u64, options: &Options) -> Result<Fd, Error> {
    check_space(name, directory, total, total, options.sparse)?;
    let no_space = |error| out_of_space(error, name, directory, total);
    let file = match directory {
        Some(directory) => sys::create_unnamed(directory.fd(), options.mode),
        None => sys::create_anonymous(name.as_str(), options.mode),
    };
    let file = file.map_err(no_space)?;
    if options.sparse { sys::set_len(&file, total) } else { sys::reserve(&file, total) }.map_err(no_space)?;
    if directory.is_none() {
        sys::seal(&file).map_err(Error::os("seal", name))?;
    }
    Ok(file)
}

/// Refuses before anything is made what cannot be paid for: by the file system of `directory`, or by the machine if it is to
/// have no name. The file is to have `size` bytes, of which `need` are new, and are paid for unless it is `sparse`.
pub(crate) fn check_space(
    name: &impl Display,
    directory: Option<&Directory>,
    size: u64,
    need: u64,
    sparse: bool,
) -> Result<(), Error> {
    let (file_size, memory) = sys::limits();
    let refuse = |need: u64, available: u64, place: &str, fix: &str| {
        Err(Error::NoSpace { name: name.to_string(), need, available, place: place.into(), fix: fix.into() })
    };
    // Else the system would end this process with SIGXFSZ.
    if let Some(limit) = file_size.filter(|limit| *limit < size) {
        return refuse(size, limit, "the file size limit of this process", "raise it with `ulimit -f unlimited`");
    }
    if sparse {
        return Ok(());
    }
    let system = directory.map(Directory::file_system).transpose()?;
    // A file system without a limit says that it has 0 bytes in all.
    let free = system.map_or_else(sys::free_memory, |system| (system.total > 0).then_some(system.free));
    if free.is_some_and(|free| free < need) {
        return Err(no_space(name, directory, need));
    }
    if system.is_some_and(|system| !system.in_memory) {
        return Ok(());
    }
    match memory.filter(|limit| *limit < need) {
        Some(limit) => refuse(need, limit, "the memory limit of this container", "give the container more memory"),
        None => Ok(()),
    }
}

/// What to do when the file system is full.
fn more_space(directory: &Directory) -> String {
    let system = directory.file_system().ok();
    let mount = directory.mount().display();
    if system.is_some_and(|system| !system.in_memory) {
        return format!("free some on the file system at {mount}, or use another one");
    }
    if system.is_some_and(|system| system.out_of_files) {
        return format!(
            "it has no inode left, and each object needs one: free some with `memlane gc`, or \
             `mount -o remount,nr_inodes=NUMBER {mount}`"
        );
    }
    let total = system.map_or(0, |system| system.total);
    format!(
        "free some with `memlane gc`, or enlarge it (it has {total} bytes in all): \
         `mount -o remount,size=SIZE {mount}`, in a container `docker run --shm-size=SIZE`"
    )
}

fn no_space(name: &impl Display, directory: Option<&Directory>, need: u64) -> Error {
    let (available, place, fix) = match directory {
        Some(directory) => (
            directory.file_system().map_or(0, |system| system.free),
            directory.path().to_owned(),
            more_space(directory),
        ),
        None => (
            sys::free_memory().unwrap_or(0),
            "the memory of this machine".into(),
            "end a program that takes much of it, or add swap space".into(),
        ),
    };
    Error::NoSpace { name: name.to_string(), need, available, place, fix }
}

/// Makes a clean error of a full file system.
pub(crate) fn out_of_space(error: io::Error, name: &impl Display, directory: Option<&Directory>, need: u64) -> Error {
    match (error.kind(), directory) {
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) | (io::ErrorKind::OutOfMemory, None) => {
            no_space(name, directory, need)
        }
        (io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory, Some(directory)) => Error::Directory {
            path: directory.path().to_owned(),
            reason: "its file system has no unnamed files: use one in memory (tmpfs)".into(),
        },
        (io::ErrorKind::PermissionDenied, Some(directory)) => directory.closed(),
        _ => Error::os("reserve memory for", name)(error),
    }
}
