//! What is initialised once, by whoever is first, whoever dies at it.

use super::mutex::Mutex;
use crate::error::LockError;
use crate::prim::{AtomicU64, Ordering};
use crate::region::{Attached, Attachment};
use std::fmt;
use std::time::Duration;

const COMPLETE: u64 = 1;

/// A value that one process initialises and all read, without a lock from then on. 16 bytes and the value; zeroed, it
/// is not initialised yet.
///
/// One that dies or panics while it initialises hands on to the next: that one gets the bytes as they were left (zero
/// at first), and begins anew. So it must not matter how often it is begun.
///
/// What is initialised when the object is created needs no `Once`: nobody sees the object before that.
///
/// ```
/// use memlane::{Once, Options, Segment, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Shared {
///     table: Once<[u32; 256]>,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let shared = Segment::<Shared>::create(&name, (), &Options::new(), |_| ())?;
/// assert!(shared.table.get().is_none());
/// let table = shared.table.get_or_init(&shared, |table| table.iter_mut().zip(0..).for_each(|(entry, n)| *entry = n * n))?;
/// assert_eq!(table[16], 256);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Once<T: ?Sized> {
    complete: AtomicU64,
    pub(super) value: Mutex<T>,
}

impl<T: ?Sized + Sync> Once<T> {
    /// The value, if it is initialised. Acts on memory alone: also in the child of a fork, and in an object that was
    /// retired.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.initialised()
    }

    /// Whether it is initialised.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `set_complete`: the value is what was made then.
        self.complete.load(Ordering::Acquire) == COMPLETE
    }

    /// The value, after `init` has initialised it, unless somebody else has: waits until that one is done, or dead, or
    /// has panicked.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyLocked`] within `init` of the same one; [`LockError::Retired`], [`LockError::Forked`] and
    /// [`LockError::NotInSegment`] if it is not initialised yet.
    pub fn get_or_init(&self, by: &(impl Attached + ?Sized), init: impl FnOnce(&mut T)) -> Result<&T, LockError> {
        self.initialise(by.region().attachment(), None, init)
    }

    /// [`get_or_init`](Self::get_or_init), waiting at most for `timeout` for somebody else.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`], with who initialises it, and those of [`get_or_init`](Self::get_or_init).
    pub fn get_or_init_timeout(
        &self,
        by: &(impl Attached + ?Sized),
        timeout: Duration,
        init: impl FnOnce(&mut T),
    ) -> Result<&T, LockError> {
        self.initialise(by.region().attachment(), Some(timeout), init)
    }

    fn initialise(
        &self,
        attachment: &Attachment,
        timeout: Option<Duration>,
        init: impl FnOnce(&mut T),
    ) -> Result<&T, LockError> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        // What one left that died, or panicked, is what the next one begins with.
        let mut value = self.value.acquire(attachment, timeout)?.or_repair(|_| ());
        if !self.is_complete() {
            init(&mut value);
            attachment.check_fork()?;
        }
        Ok(self.publish(value))
    }

    pub(super) fn set_complete(&self) {
        // ORDERING: Release pairs with the Acquire in `is_complete`.
        self.complete.store(COMPLETE, Ordering::Release);
    }
}

impl<T: ?Sized + Sync + fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}
