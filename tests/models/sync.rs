//! The library's locks, with a time that does not pass: a wait is for ever or not at all.

#[path = "../../src/sync/condvar.rs"]
pub mod condvar;
#[path = "../../src/sync/guard.rs"]
pub mod guard;
#[path = "../../src/sync/mutex.rs"]
pub mod mutex;

use std::time::Duration;

struct Slices {
    timeout: Option<Duration>,
}

impl Slices {
    fn new(timeout: Option<Duration>) -> Self {
        Self { timeout }
    }

    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    fn left(&self) -> Option<Duration> {
        self.timeout
    }

    fn next(&self) -> Option<Duration> {
        let slice = self.timeout.unwrap_or(Duration::MAX);
        (!slice.is_zero()).then_some(slice)
    }

    fn grow(&mut self) {}
}

/// Looks once.
fn spin<T>(mut done: impl FnMut() -> Option<T>) -> Option<T> {
    done()
}
