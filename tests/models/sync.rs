//! The library's locks, with a time that does not pass: a wait is for ever, or over before it begins.

#[path = "../../src/sync/barrier.rs"]
pub mod barrier;
#[path = "../../src/sync/condvar.rs"]
pub mod condvar;
#[path = "../../src/sync/copies.rs"]
pub mod copies;
#[path = "../../src/sync/event.rs"]
pub mod event;
#[path = "../../src/sync/eventcount.rs"]
pub mod eventcount;
#[path = "../../src/sync/guard.rs"]
pub mod guard;
#[path = "../../src/sync/look.rs"]
pub mod look;
#[path = "../../src/sync/mutex.rs"]
pub mod mutex;
#[path = "../../src/sync/once.rs"]
pub mod once;
#[path = "../../src/sync/reentrant.rs"]
pub mod reentrant;
#[path = "../../src/sync/rwlock.rs"]
pub mod rwlock;
#[path = "../../src/sync/semaphore.rs"]
pub mod semaphore;
#[path = "../../src/sync/seqcell.rs"]
pub mod seqcell;
#[path = "../../src/sync/sleep.rs"]
pub mod sleep;
#[path = "../../src/sync/versioned.rs"]
pub mod versioned;
#[path = "../../src/sync/word.rs"]
mod word;

pub(crate) use eventcount::EventCount;
use std::time::Duration;

/// Over before it begins, as every wait is that is not for ever.
const LONGEST_SLICE: Duration = Duration::from_millis(50);

pub(crate) struct Slices {
    timeout: Option<Duration>,
}

impl Slices {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout }
    }

    pub(crate) fn waited(&self) -> Duration {
        Duration::ZERO
    }

    pub(crate) fn left(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.timeout.is_none().then_some(Duration::MAX)
    }

    pub(crate) fn grow(&mut self) {}
}

/// Looks once; ends of channels have looked just before, so that another look finds nothing new but more schedules.
pub(crate) fn spin<T>(mut done: impl FnMut() -> Option<T>) -> Option<T> {
    done()
}
