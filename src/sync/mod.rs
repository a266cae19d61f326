//! Locks, conditions, events and their like between processes, of which no death makes a hang.
//!
//! Everything sleeps in slices: at the end of each it looks whether whoever it waits for is still alive. A wake-up is
//! a hint, the state is the truth.

mod barrier;
mod condvar;
mod copies;
mod event;
mod eventcount;
mod file_lock;
mod guard;
mod look;
mod mutex;
mod named;
mod once;
mod reentrant;
mod rwlock;
mod semaphore;
mod seqcell;
mod sleep;
mod versioned;
mod word;

pub use barrier::{Barrier, Party, Passed};
pub use condvar::{Condvar, Until};
pub use event::Event;
pub(crate) use eventcount::EventCount;
pub use file_lock::{FileGuard, FileLock};
pub use guard::{Locked, MutexGuard, OwnerDied};
pub(crate) use look::{Looked, look};
pub use mutex::{Mutex, lock_both};
pub use once::Once;
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{NotUpgraded, RwLock, RwLockReadGuard, RwLockUpgradableGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use seqcell::SeqCell;
pub use versioned::Versioned;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest sleep between two looks at whether the other side lives.
const LONGEST_SLICE: Duration = Duration::from_millis(50);

/// The lengths of the sleeps of one wait: 10, 20, 40, 50, 50 ... ms, cut at the deadline.
#[derive(Debug)]
pub(crate) struct Slices {
    start: Instant,
    timeout: Option<Duration>,
    next: Duration,
}

impl Slices {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { start: Instant::now(), timeout, next: Duration::from_millis(10) }
    }

    /// How long this wait has taken.
    pub(crate) fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    /// What is left of the timeout: `None` if there is none.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.waited()))
    }

    /// The next sleep, or `None` when the time is over.
    pub(crate) fn next(&self) -> Option<Duration> {
        let slice = self.next.min(self.left().unwrap_or(Duration::MAX));
        (!slice.is_zero()).then_some(slice)
    }

    /// Makes the next sleep longer, after one.
    pub(crate) fn grow(&mut self) {
        self.next = (self.next * 2).min(LONGEST_SLICE);
    }
}

/// Spins until `done` has an answer: mostly for 2 us at most, for 0.5 us where that has not helped for long, as on one
/// core, and for 50 us now and then; a timeout that is shorter than that is seen after it.
///
/// Two sides that hand over to and fro both spin, or else both sleep: then each takes longer to wake up than the other
/// spins. So now and then (when it failed for the 1st, 2nd, 4th ... time in a row) one spins for longer than it takes
/// to wake the other, which then gets its answer while it spins itself.
pub(crate) fn spin<T>(mut done: impl FnMut() -> Option<T>) -> Option<T> {
    const SHORTEST: Duration = Duration::from_nanos(500);
    const SHORT: Duration = Duration::from_micros(2);
    const LONG: Duration = Duration::from_micros(50);
    static FAILED: AtomicU32 = AtomicU32::new(0);
    let failed = FAILED.load(Ordering::Relaxed);
    let limit = match failed {
        0 => SHORT,
        _ if failed.is_power_of_two() || failed.is_multiple_of(1024) => LONG,
        1..16 => SHORT,
        _ => SHORTEST,
    };
    let start = Instant::now();
    let mut spun = Duration::ZERO;
    let answer = loop {
        // Several looks to one at the clock, which takes as long, and none after the answer, which is waited for.
        let answer = (0..32).find_map(|look| {
            if look % 4 == 0 {
                std::hint::spin_loop();
            }
            done()
        });
        if answer.is_some() {
            break answer;
        }
        spun = start.elapsed();
        if spun >= limit {
            break None;
        }
    };
    let helped = answer.is_some() && spun < SHORT;
    FAILED.store(if helped { 0 } else { failed.wrapping_add(1) }, Ordering::Relaxed);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sleep_is_longer_than_50_ms() {
        let mut slices = Slices::new(None);
        for expected in [10, 20, 40, 50, 50] {
            assert_eq!(slices.next(), Some(Duration::from_millis(expected)));
            slices.grow();
        }
    }

    #[test]
    fn no_sleep_goes_on_when_the_time_is_over() {
        let over = Slices::new(Some(Duration::ZERO));
        assert_eq!((over.next(), over.left()), (None, Some(Duration::ZERO)));
        let short = Duration::from_millis(9);
        assert!(Slices::new(Some(short)).next().is_none_or(|slice| slice <= short));
    }
}

#[cfg(all(test, not(any(miri, memlane_heap))))]
mod event_tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    const LONG: Duration = Duration::from_secs(60);
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_notification_wakes_all_who_sleep() {
        let event = Arc::new(EventCount::new());
        let (says, hears) = mpsc::channel();
        for _ in 0..3 {
            let (event, says) = (Arc::clone(&event), says.clone());
            std::thread::spawn(move || {
                let prepared = event.prepare();
                says.send(()).expect("somebody listens");
                event.sleep(prepared, LONG);
                says.send(())
            });
        }
        let all = |what| (0..3).for_each(|_| hears.recv_timeout(PATIENCE).expect(what));
        all("it is about to sleep");
        // Most sleep by then. Whoever does not sees the changed word, and does not begin to.
        std::thread::sleep(Duration::from_millis(50));
        event.notify();
        all("it was woken");
    }

    #[test]
    fn who_was_notified_before_it_sleeps_does_not_sleep_though_another_one_has_come() {
        let event = EventCount::new();
        let first = event.prepare();
        event.notify();
        assert_ne!(event.prepare(), first);
    }
}
