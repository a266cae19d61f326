//! A value of which there is always a whole one to be read, whoever writes, or dies writing.

use super::copies::Copies;
use super::mutex::Mutex;
use crate::error::LockError;
use crate::region::Attached;
use crate::segment::Shareable;
use std::fmt;
use std::time::Duration;

/// A plain value that any number of processes read without a lock, and one at a time writes: there are two places for
/// it, and the one that is not being written is whole. 16 bytes, and twice the value, each rounded up to 8 bytes;
/// zeroed, it is a value whose bytes are zero.
///
/// To read never fails, waits for no writer, and gives a value that was written whole, wherever a writer was killed:
/// the new one from the moment on in which it is complete, the old one until then. It is begun again if two writes
/// begin while it goes on; so some reader or writer always goes on (lock-free), but readers of a large value that is
/// written without a pause may have to try often. Of a small one that is seldom read, [`SeqCell`](crate::SeqCell) takes
/// half the room.
///
/// Writers exclude each other by a lock; one that dies is succeeded by the next, at the latest after 50 ms. `T` is
/// plain (no atomics, no locks) and has no padding.
///
/// ```
/// use memlane::{Options, Segment, Shareable, Versioned};
///
/// #[derive(Debug, Clone, Copy, PartialEq, Shareable)]
/// #[repr(C)]
/// struct Pose {
///     x: f64,
///     y: f64,
///     angle: f64,
/// }
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Robot {
///     pose: Versioned<Pose>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let robot = Segment::<Robot>::create(&name, (), &Options::new(), |_| ())?;
/// robot.pose.write(&robot, Pose { x: 1.0, y: 2.0, angle: 0.5 })?;
/// robot.pose.update(&robot, |pose| pose.x += 1.0)?;
///
/// // in another process
/// let viewer = Segment::<Robot>::open(&name)?;
/// assert_eq!(viewer.pose.read(), Pose { x: 2.0, y: 2.0, angle: 0.5 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Versioned<T> {
    writer: Mutex<()>,
    pub(super) copies: Copies<T, 2>,
}

impl<T: Shareable<Tail = ()> + Copy> Versioned<T> {
    /// One whose first value this is.
    pub fn new(value: T) -> Self {
        Self { writer: Mutex::new(()), copies: Copies::new(value) }
    }

    /// The last value that was written whole. Acts on memory alone: also in the child of a fork, and in an object that
    /// was retired. Nobody wakes it, as it does not sleep.
    #[must_use]
    pub fn read(&self) -> T {
        loop {
            if let Some(value) = self.copies.read() {
                return value;
            }
            std::hint::spin_loop();
        }
    }

    /// Writes it, waiting until other writers are done, or dead.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`]; [`LockError::AlreadyLocked`] within [`update`](Self::update).
    pub fn write(&self, by: &(impl Attached + ?Sized), value: T) -> Result<(), LockError> {
        self.change(by, None, |old| *old = value)
    }

    /// Writes it, waiting at most for `timeout` for other writers.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock_timeout`].
    pub fn write_timeout(&self, by: &(impl Attached + ?Sized), value: T, timeout: Duration) -> Result<(), LockError> {
        self.change(by, Some(timeout), |old| *old = value)
    }

    /// Writes what `change` makes of the value, which no other writer changes meanwhile. Whoever reads sees the old one
    /// until `change` has returned; if it panics, nothing has happened.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); nothing was changed then.
    pub fn update(&self, by: &(impl Attached + ?Sized), change: impl FnOnce(&mut T)) -> Result<(), LockError> {
        self.change(by, None, change)
    }

    /// [`update`](Self::update), waiting at most for `timeout` for other writers.
    ///
    /// # Errors
    ///
    /// As [`write_timeout`](Self::write_timeout); nothing was changed then.
    pub fn update_timeout(
        &self,
        by: &(impl Attached + ?Sized),
        change: impl FnOnce(&mut T),
        timeout: Duration,
    ) -> Result<(), LockError> {
        self.change(by, Some(timeout), change)
    }

    fn change(
        &self,
        by: &(impl Attached + ?Sized),
        timeout: Option<Duration>,
        change: impl FnOnce(&mut T),
    ) -> Result<(), LockError> {
        // Whatever a dead writer left, it is not what is read.
        let attachment = by.region().attachment();
        let _writing = self.writer.acquire(attachment, timeout)?.or_repair(|()| ());
        let mut value = self.read();
        change(&mut value);
        attachment.check_fork()?;
        self.copies.write(&value);
        Ok(())
    }
}

impl<T: Shareable<Tail = ()> + Copy + fmt::Debug> fmt::Debug for Versioned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Versioned").field(&self.read()).finish()
    }
}
