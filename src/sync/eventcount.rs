//! A word on which processes sleep until something that lies elsewhere may have changed.
//!
//! Word: sequence (31 bits) | somebody sleeps (1 bit). Whoever waits marks the word, looks once more whether what it waits
//! for is there, and sleeps while the word is the same. Whoever has changed something looks at the mark, and only if it is
//! set goes on to the next sequence number and wakes everybody. Nothing counts the sleepers, so one that dies leaves
//! nothing but a mark. Method: eventcounts (Reed and Kanodia, 1979), with the look after the mark of Dekker's algorithm.

use crate::prim::{self, AtomicU32, Ordering};
use std::time::Duration;

/// Somebody sleeps, or did.
const SLEEPERS: u32 = 1;

/// See the module. Its zeroed bytes are ready.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct EventCount(AtomicU32);

impl EventCount {
    /// One of this process alone.
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Says that somebody is about to sleep; what it waits for must be looked at once more before [`sleep`](Self::sleep).
    pub(crate) fn prepare(&self) -> u32 {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & SLEEPERS == 0 {
            match self.0.compare_exchange(seen, seen | SLEEPERS, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => seen |= SLEEPERS,
                Err(now) => seen = now,
            }
        }
        // ORDERING: pairs with the fence in `notify`: either the notifier sees this mark, or the look that follows sees
        // what it notifies of.
        prim::fence(Ordering::SeqCst);
        seen
    }

    /// Sleeps at most for `slice` while nobody has notified since `prepared`.
    pub(crate) fn sleep(&self, prepared: u32, slice: Duration) {
        prim::wait(&self.0, prepared, slice);
    }

    /// What is slept on while it is what [`prepare`](Self::prepare) has said.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Wakes everybody who sleeps; what they wait for has been changed already.
    #[inline]
    pub(crate) fn notify(&self) {
        // ORDERING: pairs with the fence in `prepare`.
        prim::fence(Ordering::SeqCst);
        self.wake_sleepers();
    }

    /// Like [`notify`](Self::notify), where all that was changed was changed by exchanges.
    #[inline]
    pub(crate) fn notify_after_exchange(&self) {
        // ORDERING: as in `notify`.
        prim::fence_after_exchange();
        self.wake_sleepers();
    }

    #[inline]
    fn wake_sleepers(&self) {
        if self.0.load(Ordering::Relaxed) & SLEEPERS != 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen & SLEEPERS != 0 {
            let next = (seen & !SLEEPERS).wrapping_add(2);
            match self.0.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    prim::wake(&self.0, u32::MAX);
                    return;
                }
                Err(now) => seen = now,
            }
        }
    }
}
