//! A small value that is read without a lock while nobody writes it.

use super::copies::Copies;
use super::mutex::Mutex;
use super::{LONGEST_SLICE, spin};
use crate::error::LockError;
use crate::region::{Attached, Attachment};
use crate::segment::Shareable;
use std::fmt;
use std::time::Duration;

/// A small plain value that processes read without a lock, and one at a time writes: a sequence lock. 16 bytes and the
/// value, rounded up to 8 bytes; zeroed, it is a value whose bytes are zero.
///
/// There is one place for it, so a writer that is killed while it writes leaves none: whoever reads is told
/// ([`LockError::NeedsRepair`]) until somebody writes anew. Where there is always to be one,
/// [`Versioned`](crate::Versioned) has two.
///
/// Writers exclude each other by a lock; one that dies is succeeded by the next, at the latest after 50 ms. `T` is
/// plain (no atomics, no locks) and has no padding.
///
/// ```
/// use memlane::{Options, SeqCell, Segment, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Clock {
///     offset: SeqCell<[i64; 2]>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let clock = Segment::<Clock>::create(&name, (), &Options::new(), |_| ())?;
/// clock.offset.write(&clock, [17, -17])?;
///
/// // in another process
/// let reader = Segment::<Clock>::open(&name)?;
/// assert_eq!(reader.offset.read(&reader)?, [17, -17]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct SeqCell<T> {
    writer: Mutex<()>,
    pub(super) copies: Copies<T, 1>,
}

impl<T: Shareable<Tail = ()> + Copy> SeqCell<T> {
    /// One whose first value this is.
    pub fn new(value: T) -> Self {
        Self { writer: Mutex::new(()), copies: Copies::new(value) }
    }

    /// The value. It is read without the lock for some microseconds; then, as there are writes again and again, with
    /// it, after at most 50 ms: a writer that gives the lock back, or dies, ends this wait.
    ///
    /// # Errors
    ///
    /// [`LockError::NeedsRepair`] if a writer died while it wrote, [`LockError::TimedOut`], with the writer, if one has
    /// been at it for 50 ms, and the others of [`Mutex::lock_timeout`]. Within [`update`](Self::update) it gives the value
    /// as it was.
    pub fn read(&self, by: &(impl Attached + ?Sized)) -> Result<T, LockError> {
        let attachment = by.region().attachment();
        let read = if attachment.may_lock(&self.writer) { self.copies.read() } else { None };
        read.map_or_else(|| self.read_contended(attachment), Ok)
    }

    /// With the lock nobody writes: if there is no value, nobody who lives was to write it.
    #[cold]
    fn read_contended(&self, attachment: &Attachment) -> Result<T, LockError> {
        if attachment.may_lock(&self.writer)
            && let Some(value) = spin(|| self.copies.read())
        {
            return Ok(value);
        }
        let _reading = self.writer.acquire(attachment, Some(LONGEST_SLICE))?.or_repair(|()| ());
        self.whole(attachment)
    }

    fn whole(&self, attachment: &Attachment) -> Result<T, LockError> {
        let missing = || match attachment.offset_of(self) {
            Ok(offset) => LockError::NeedsRepair { object: attachment.name(), lock: attachment.lock_at(offset) },
            Err(elsewhere) => elsewhere,
        };
        self.copies.read().ok_or_else(missing)
    }

    /// Writes it, waiting until other writers are done, or dead. It mends what one of them left that died.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`]; [`LockError::AlreadyLocked`] within [`update`](Self::update).
    pub fn write(&self, by: &(impl Attached + ?Sized), value: T) -> Result<(), LockError> {
        self.write_within(by, value, None)
    }

    /// Writes it, waiting at most for `timeout` for other writers.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock_timeout`].
    pub fn write_timeout(&self, by: &(impl Attached + ?Sized), value: T, timeout: Duration) -> Result<(), LockError> {
        self.write_within(by, value, Some(timeout))
    }

    fn write_within(
        &self,
        by: &(impl Attached + ?Sized),
        value: T,
        timeout: Option<Duration>,
    ) -> Result<(), LockError> {
        let _writing = self.writer.acquire(by.region().attachment(), timeout)?.or_repair(|()| ());
        self.copies.write(&value);
        Ok(())
    }

    /// Writes what `change` makes of the value, which no other writer changes meanwhile. If it panics, or the process
    /// is killed in it, nothing has happened.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and [`LockError::NeedsRepair`]; nothing was changed then.
    pub fn update(&self, by: &(impl Attached + ?Sized), change: impl FnOnce(&mut T)) -> Result<(), LockError> {
        self.update_within(by.region().attachment(), change, None)
    }

    /// [`update`](Self::update), waiting at most for `timeout` for other writers.
    ///
    /// # Errors
    ///
    /// As [`write_timeout`](Self::write_timeout), and [`LockError::NeedsRepair`]; nothing was changed then.
    pub fn update_timeout(
        &self,
        by: &(impl Attached + ?Sized),
        change: impl FnOnce(&mut T),
        timeout: Duration,
    ) -> Result<(), LockError> {
        self.update_within(by.region().attachment(), change, Some(timeout))
    }

    fn update_within(
        &self,
        attachment: &Attachment,
        change: impl FnOnce(&mut T),
        timeout: Option<Duration>,
    ) -> Result<(), LockError> {
        let _writing = self.writer.acquire(attachment, timeout)?.or_repair(|()| ());
        let mut value = self.whole(attachment)?;
        change(&mut value);
        attachment.check_fork()?;
        self.copies.write(&value);
        Ok(())
    }
}

impl<T: Shareable<Tail = ()> + Copy + fmt::Debug> fmt::Debug for SeqCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SeqCell").field(&self.copies.read()).finish()
    }
}
