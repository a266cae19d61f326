//! Locks and conditions between processes, of which no death makes a hang.
//!
//! Everything sleeps in slices: at the end of each it looks whether whoever it waits for is still alive. A wake-up is
//! a hint, the state is the truth.

mod condvar;
mod guard;
mod mutex;

pub use condvar::{Condvar, Until};
pub use guard::{Locked, MutexGuard, OwnerDied};
pub use mutex::{Mutex, lock_both};

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest sleep between two looks at whether the other side lives.
const LONGEST_SLICE: Duration = Duration::from_millis(50);

/// The lengths of the sleeps of one wait: 1, 2, 4, ... 50 ms, cut at the deadline.
#[derive(Debug)]
struct Slices {
    start: Instant,
    timeout: Option<Duration>,
    next: Duration,
}

impl Slices {
    fn new(timeout: Option<Duration>) -> Self {
        Self { start: Instant::now(), timeout, next: Duration::from_millis(1) }
    }

    /// How long this wait has taken.
    fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    /// What is left of the timeout: `None` if there is none.
    fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.waited()))
    }

    /// The next sleep, or `None` when the time is over.
    fn next(&self) -> Option<Duration> {
        let slice = self.next.min(self.left().unwrap_or(Duration::MAX));
        (!slice.is_zero()).then_some(slice)
    }

    /// Makes the next sleep longer, after one.
    fn grow(&mut self) {
        self.next = (self.next * 2).min(LONGEST_SLICE);
    }
}

/// Spins for a few microseconds at most until `done` has an answer. The budget adapts: where spinning never helps (one
/// core, or both sides on the same one) it shrinks to a few rounds, and grows again as soon as it does help.
fn spin<T>(mut done: impl FnMut() -> Option<T>) -> Option<T> {
    const MOST: u32 = 256;
    const LEAST: u32 = 4;
    static BUDGET: AtomicU32 = AtomicU32::new(MOST);
    let budget = BUDGET.load(Ordering::Relaxed).clamp(LEAST, MOST);
    for _ in 0..budget {
        if let Some(answer) = done() {
            if budget < MOST {
                BUDGET.store(budget * 2, Ordering::Relaxed);
            }
            return Some(answer);
        }
        std::hint::spin_loop();
    }
    BUDGET.store(budget - budget / 8, Ordering::Relaxed);
    None
}
