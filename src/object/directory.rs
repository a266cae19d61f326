//! The directory that holds the objects: trusted before use, locked while names change.

use super::name::{Name, default_directory};
use crate::error::Error;
use crate::prim;
use crate::sys::{self, Access, Fd, FileSystem, Kind, LockFd, Meta, Sharing};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait for the directory, which is normally held for microseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// An open, checked directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: Fd,
    path: PathBuf,
    meta: Meta,
}

impl Directory {
    /// The directory that a name is looked up in, if it is in one.
    pub(super) fn of(name: &Name) -> Result<Option<Arc<Self>>, Error> {
        name.directory().map(|path| Self::open(path).map(Arc::new)).transpose()
    }

    /// Opens and checks `path`. The user's own directory is made when it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // A link is followed, O_NOFOLLOW or not, when a slash comes after it.
        let path = path.components().as_path();
        let refuse = |reason: String| Error::Directory { path: path.to_owned(), reason };
        if path.is_relative() {
            // Two programs in different working directories would not meet, and not know why.
            return Err(refuse("it is relative to where each program runs: name it from the root".into()));
        }
        let (own_path, own) = default_directory();
        let own = own && path == own_path;
        let fd = match sys::open_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && own => match sys::make_directory(path, 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refuse(error.to_string())),
                _ => sys::open_directory(path),
            },
            result => result,
        };
        let fd = fd.map_err(|error| {
            refuse(match sys::meta_of(path) {
                Ok(meta) if meta.kind == Kind::Link => "it is a symbolic link: name the directory itself".into(),
                Ok(meta) if meta.kind != Kind::Directory => "it is not a directory: name one with MEMLANE_DIR".into(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    "it does not exist: make it, or name another with MEMLANE_DIR".into()
                }
                Ok(meta) if error.kind() == io::ErrorKind::PermissionDenied => no_member(&meta),
                _ => error.to_string(),
            })
        })?;
        let meta = sys::meta(&fd).map_err(|error| refuse(error.to_string()))?;
        let user = sys::user();
        if meta.user != user && (own || meta.user != 0) {
            return Err(refuse(format!(
                "it belongs to user {}, and this process acts for user {user}: name another one with MEMLANE_DIR, or, \
                 for a group to share it, `chown root` it",
                meta.user
            )));
        }
        if own && meta.mode & 0o077 != 0 {
            return Err(refuse(format!("its mode {:04o} lets others in: chmod it to 0700", meta.mode)));
        }
        if meta.mode & 0o1002 == 0o002 {
            return Err(refuse(format!(
                "its mode {:04o} lets anybody remove objects: chmod it to 0700 or 2770",
                meta.mode
            )));
        }
        Ok(Self { fd, path: path.to_owned(), meta })
    }

    /// Opens a directory that is not one of objects: nothing is asked of it.
    pub(crate) fn of_files(path: &Path) -> io::Result<Self> {
        // Also if it is a link.
        let fd = sys::open_directory(&path.join("."))?;
        let meta = sys::meta(&fd)?;
        Ok(Self { fd, path: path.to_owned(), meta })
    }

    pub(crate) fn fd(&self) -> &Fd {
        &self.fd
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that its file system is mounted on.
    pub(crate) fn mount(&self) -> &Path {
        let same = |path: &&Path| sys::meta_of(path).is_ok_and(|meta| meta.identity.0 == self.meta.identity.0);
        self.path.ancestors().take_while(same).last().unwrap_or(&self.path)
    }

    pub(crate) fn file_system(&self) -> Result<FileSystem, Error> {
        sys::file_system(&self.fd).map_err(Error::os("look at the file system of", self.path.display()))
    }

    /// Whether a group shares it on purpose.
    fn is_shared(&self) -> bool {
        self.meta.mode & 0o2020 == 0o2020
    }

    /// Whether an object with this owner, group and mode may be trusted here: it is the user's own, or the directory
    /// is shared by a group on purpose and the object is in that group; and strangers cannot write into it.
    pub(crate) fn trusts(&self, object: &Meta) -> bool {
        let group = self.is_shared() && object.group == self.meta.group;
        (object.user == sys::user() || group) && object.mode & 0o002 == 0
    }

    /// What to do for this process to use an object of somebody else.
    pub(super) fn how_to_share(&self, object: &Meta) -> String {
        let group = self.meta.group;
        if object.mode & 0o002 != 0 {
            return "create it with a mode that does not let strangers write".into();
        }
        if !self.is_shared() {
            return format!(
                "for group {group} to share the directory, `chmod 2770` it, and create objects in it with mode 0660"
            );
        }
        if object.group != group {
            return format!("it was made before the directory was shared: create it again, or `chgrp {group}` it");
        }
        if object.mode & 0o060 != 0o060 {
            return "create it with mode 0660, for the group to use it".into();
        }
        format!("be in group {group}, and let the directory be not sticky")
    }

    /// The error for an object that this process is kept from.
    pub(super) fn denied(&self, action: &'static str, name: &Name, object: &Meta) -> Error {
        Error::Denied {
            action,
            name: name.to_string(),
            directory: self.path.clone(),
            user: object.user,
            group: object.group,
            mode: object.mode,
            us: sys::user(),
            fix: self.how_to_share(object),
        }
    }

    /// The error for a directory in which this process may make nothing.
    pub(super) fn closed(&self) -> Error {
        Error::Directory { path: self.path.clone(), reason: no_member(&self.meta) }
    }

    /// Locks the directory against all other changes of names, in this process and in others.
    pub(crate) fn lock(&self) -> Result<DirectoryLock, Error> {
        self.lock_within(PATIENCE)
    }

    /// Like [`lock`](Self::lock), with less patience.
    pub(super) fn lock_within(&self, patience: Duration) -> Result<DirectoryLock, Error> {
        let fail = |source| Error::Os { action: "lock the directory", name: self.path.display().to_string(), source };
        let lock = LockFd::reopen(&self.fd, Access::Read).map_err(fail)?;
        let nap = |waited| patience.checked_sub(waited).map(|left| left.min(Duration::from_millis(2)));
        match lock_whole(&lock, Sharing::Exclusive, nap).map_err(fail)? {
            Ok(()) => Ok(DirectoryLock { _lock: lock }),
            Err(waited) => Err(Error::Busy { path: self.path.clone(), holder: lock.whole_lock_holder(), waited }),
        }
    }

    /// The names in the directory that could be objects' names.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let list = sys::names(&self.fd).map_err(Error::os("list", self.path.display()))?;
        let mut names: Vec<String> = list.into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// Why a directory keeps this process out.
fn no_member(directory: &Meta) -> String {
    let Meta { user, group, mode, .. } = directory;
    format!(
        "it belongs to user {user} and group {group} with mode {mode:04o}, and this process acts for user {}: make that one \
         a member of the group (`usermod -aG {group}`) and the mode 2770, or name another directory with MEMLANE_DIR",
        sys::user()
    )
}

/// Locks the whole of `lock`, asking for it again and again: soon at first, then after no longer than `nap` says for the
/// time that was waited so far. When that says nothing, or that no time is left, returns how long it has waited.
pub(crate) fn lock_whole(
    lock: &LockFd,
    sharing: Sharing,
    nap: impl Fn(Duration) -> Option<Duration>,
) -> io::Result<Result<(), Duration>> {
    let start = Instant::now();
    let mut next = Duration::from_micros(20);
    while !lock.try_lock_whole(sharing)? {
        let waited = start.elapsed();
        let Some(longest) = nap(waited).filter(|longest| !longest.is_zero()) else { return Ok(Err(waited)) };
        std::thread::sleep(next.min(longest));
        next = (next * 2).min(longest);
    }
    prim::step();
    Ok(Ok(()))
}

/// Held while names change; dropping it, or dying, gives the directory back.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _lock: LockFd,
}
