//! A lock for a file, between all programs that take it, which the system frees when one dies.

use crate::error::Error;
use crate::object::lock_whole;
use crate::prim;
use crate::sys::{self, Access, Kind, LockFd, Sharing};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A lock for a path, for one exclusively or for several at a time, without any shared memory: it is the one that
/// `flock(1)` and `flock(2)` take on that file, so scripts can take part.
///
/// The system frees it when the process that holds it ends, however that ends. It says so to nobody: who waits asks
/// again after at most 10 ms. The file is made if it is not there, and neither read, written nor removed.
///
/// Each handle is an opening of its own: two of them exclude each other within one process as well, and within one
/// thread, which then waits for itself.
///
/// ```
/// use memlane::{FileLock, Name};
///
/// # let path = std::path::Path::new("/dev/shm").join(Name::unique("doc")?.as_str());
/// let mut lock = FileLock::open(&path)?;
/// let guard = lock.lock()?;
/// assert!(FileLock::open(&path)?.try_lock_shared().is_err());
/// drop(guard);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    lock: LockFd,
}

/// A file that is locked; dropping it gives it back. In the child of a fork it does nothing: the lock is its parent's.
#[derive(Debug)]
#[must_use = "the lock is given back as soon as this is dropped"]
pub struct FileGuard<'a> {
    lock: &'a LockFd,
}

impl FileLock {
    /// Opens the file, or makes it (for everybody, but for what the umask forbids). It is not locked yet.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if it can be neither opened nor made, or is no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let open = || {
            let file = sys::open_or_make(&path)?;
            match sys::meta(&file)?.kind {
                Kind::File => LockFd::reopen(&file, Access::Read),
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
            }
        };
        let lock = open().map_err(Error::os("open for locking", path.display()))?;
        Ok(Self { path, lock })
    }

    /// Locks it for itself alone, waiting until nobody else has it.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::Interrupted`], or [`Error::Os`] if its file system has no locks.
    pub fn lock(&mut self) -> Result<FileGuard<'_>, Error> {
        self.acquire(Sharing::Exclusive, None)
    }

    /// Locks it for itself alone if nobody else has it.
    ///
    /// # Errors
    ///
    /// [`Error::FileLocked`], with the holder where the system shows it, if somebody has, and those of
    /// [`lock`](Self::lock).
    pub fn try_lock(&mut self) -> Result<FileGuard<'_>, Error> {
        self.acquire(Sharing::Exclusive, Some(Duration::ZERO))
    }

    /// Locks it for itself alone, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Self::try_lock).
    pub fn lock_timeout(&mut self, timeout: Duration) -> Result<FileGuard<'_>, Error> {
        self.acquire(Sharing::Exclusive, Some(timeout))
    }

    /// Locks it beside others that do the same, waiting until nobody has it for itself alone. Who wants it alone waits
    /// for all of these, also for those that come later.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn lock_shared(&mut self) -> Result<FileGuard<'_>, Error> {
        self.acquire(Sharing::Shared, None)
    }

    /// Locks it beside others if nobody has it for itself alone.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Self::try_lock).
    pub fn try_lock_shared(&mut self) -> Result<FileGuard<'_>, Error> {
        self.acquire(Sharing::Shared, Some(Duration::ZERO))
    }

    /// Locks it beside others, waiting at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Self::try_lock).
    pub fn lock_shared_timeout(&mut self, timeout: Duration) -> Result<FileGuard<'_>, Error> {
        self.acquire(Sharing::Shared, Some(timeout))
    }

    fn acquire(&mut self, sharing: Sharing, timeout: Option<Duration>) -> Result<FileGuard<'_>, Error> {
        const LONGEST: Duration = Duration::from_millis(10);
        if self.lock.is_forked() {
            return Err(Error::Forked { name: self.path.display().to_string() });
        }
        let nap = |waited| {
            let left = timeout.map_or(LONGEST, |timeout| timeout.saturating_sub(waited).min(LONGEST));
            (waited.is_zero() || !prim::is_interrupted()).then_some(left)
        };
        let locked = lock_whole(&self.lock, sharing, nap);
        match locked.map_err(Error::os("lock", self.path.display()))? {
            Ok(()) => Ok(FileGuard { lock: &self.lock }),
            Err(waited) if timeout.is_none_or(|timeout| waited < timeout) => {
                Err(Error::Interrupted { name: self.path.display().to_string() })
            }
            Err(waited) => {
                Err(Error::FileLocked { path: self.path.clone(), holder: self.lock.whole_lock_holder(), waited })
            }
        }
    }
}

impl Drop for FileGuard<'_> {
    fn drop(&mut self) {
        // Of a fork it fails, and leaves the parent its lock. Otherwise it frees what this opening holds, and cannot
        // fail.
        let _ = self.lock.unlock_whole();
    }
}
