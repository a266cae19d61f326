//! An event in one 32-bit word: it is set or not, and stays so until somebody changes it.
//!
//! Word: sequence (30 bits) | set (1 bit) | somebody sleeps (1 bit). The sequence goes up when an event is set that was
//! not: so whoever waited then sees it though it has been reset since, and nobody sleeps on a word from before. Method: the
//! events of Windows NT (`SetEvent`, `ResetEvent`), on a futex; but whether it is reset, automatically or not at all, is
//! said by the call that waits and not by the event.

use super::condvar::{Sleeper, Until};
use super::look::Looked;
use crate::error::WaitError;
use crate::prim::{self, AtomicU32, Ordering};
use crate::region::{Attached, Attachment};

/// Somebody sleeps on the word, or did.
const SLEEPERS: u32 = 1;
/// It is set: nobody goes to sleep then.
const SET: u32 = 2;
/// The lowest bit of the sequence.
const NEXT: u32 = 4;

/// Something that has happened, or not yet: a flag that processes set, reset and wait for. 4 bytes; zeroed, it is an
/// event that is not set.
///
/// [`wait`](Self::wait) leaves it set, so all who wait go on (manual reset); [`take`](Self::take) resets it, so of those
/// one does for each time it was set (automatic reset). [`WaitSet::add_event`](crate::WaitSet::add_event) waits for
/// several, and for messages. It needs no lock: what was written before [`set`](Self::set) is seen by whoever finds it set.
/// It counts nothing: set twice before anybody looks, it is set.
///
/// Whoever is killed leaves it set or not, whatever it was doing, and no one asleep for more than 50 ms after it was set.
///
/// ```
/// use memlane::{Event, Options, Segment, Shareable, Until};
/// use std::time::Duration;
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Camera {
///     ready: Event,
///     stop: Event,
/// }
///
/// # let name = memlane::Name::unique("doc")?.in_directory("/dev/shm");
/// let camera = Segment::<Camera>::create(&name, (), &Options::new(), |_| ())?;
/// camera.ready.set();
///
/// // in another process
/// let viewer = Segment::<Camera>::open(&name)?;
/// viewer.ready.wait(&viewer, Until::timeout(Duration::from_secs(5)))?;
/// assert!(viewer.ready.is_set() && !viewer.stop.is_set());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct Event {
    word: AtomicU32,
}

impl Event {
    /// Sets it and wakes all who wait for it, also if it was set already. What this thread has written before is seen by
    /// whoever finds it set, or resets it.
    pub fn set(&self) {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let awake = seen & !SLEEPERS;
            let next = if awake & SET == 0 { awake.wrapping_add(NEXT) | SET } else { awake };
            // ORDERING: Release pairs with the Acquire of whoever finds it set. It is exchanged also if it is set already:
            // whoever resets it next sees what was written before this call too, or leaves it to be set by this call.
            match self.word.compare_exchange(seen, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & SLEEPERS != 0 {
            prim::wake(&self.word, u32::MAX);
        }
    }

    /// Resets it; says whether it was set. Of several who do this, or [`take`](Self::take), at the same time, one is
    /// told so: it is a `take` that does not wait.
    pub fn reset(&self) -> bool {
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & SET != 0 {
            // ORDERING: Acquire pairs with the Release in `set`.
            match self.word.compare_exchange(seen, seen & !SET, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `set`.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set, and leaves it set. Whoever waits when it is set goes on also if it is reset at once.
    ///
    /// `by` is the segment or region that it lies in.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] or [`WaitError::PeerLost`] as `until` says, if it is not set after all, [`WaitError::Lock`]
    /// if the object was retired, this process is a fork, or the event does not lie in the object.
    pub fn wait(&self, by: &(impl Attached + ?Sized), until: Until) -> Result<(), WaitError> {
        let began = self.word.load(Ordering::Relaxed);
        self.sleep_until(by.region().attachment(), until, || {
            // ORDERING: Acquire pairs with the Release in `set`, also if others have exchanged the word since.
            let seen = self.word.load(Ordering::Acquire);
            seen & SET != 0 || (seen ^ began) >= NEXT
        })
    }

    /// Waits until it is set, and resets it: of all who do this, one goes on for each time it was set. All are woken,
    /// as it is not known who waits how; the others go on waiting.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); it was not reset then.
    pub fn take(&self, by: &(impl Attached + ?Sized), until: Until) -> Result<(), WaitError> {
        self.sleep_until(by.region().attachment(), until, || self.reset())
    }

    /// Waits until `done` says so.
    fn sleep_until(&self, attachment: &Attachment, until: Until, done: impl Fn() -> bool) -> Result<(), WaitError> {
        let mut sleeper = Sleeper::new(attachment, until);
        let ended = sleeper.sleep_until(&self.word, || self.prepare(), |_| done().then_some(()))?;
        ended.map_err(|woken| sleeper.error(woken))
    }

    /// Says that somebody is about to sleep, unless it is set: look once more before sleeping while [`word`](Self::word) is
    /// what this returns.
    pub(crate) fn prepare(&self) -> u32 {
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & (SET | SLEEPERS) == 0 {
            match self.word.compare_exchange(seen, seen | SLEEPERS, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => seen |= SLEEPERS,
                Err(now) => seen = now,
            }
        }
        seen
    }

    /// What is slept on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }
}

/// What the word says.
pub(super) fn look(word: u32) -> Looked {
    Looked::new(if word & SET != 0 { "set" } else { "not set" })
}
