//! The one door to atomics and to waiting on them.
//!
//! Two faces, chosen by `--cfg`: the real atomics, or (`memlane_failpoints`, or the system on the heap) the same
//! operations counted, where the process kills itself at the N-th step that changed shared bytes.

use crate::sys;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use core::sync::atomic::fence;
#[cfg(not(any(memlane_failpoints, miri, memlane_heap)))]
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(any(miri, memlane_heap))]
pub use counted::die_at;
#[cfg(any(memlane_failpoints, miri, memlane_heap))]
pub(crate) use counted::{AtomicU8, AtomicU32, AtomicU64, Ordering};

static INTERRUPT: OnceLock<fn() -> bool> = OnceLock::new();

/// Lets every wait of this process be interrupted: `asked` is called in the thread that waits, whenever it has slept, which
/// is at most 50 ms after it began and as soon as a signal was handled; when it says so, the wait ends with
/// [`LockError::Interrupted`](crate::LockError) or [`Error::Interrupted`](crate::Error), a
/// [`WaitSet`](crate::WaitSet)'s as if it had been woken. For programs whose signal handlers want
/// to be heard, such as interpreters; only the first call counts.
pub fn interrupt_waits(asked: fn() -> bool) {
    let _ = INTERRUPT.set(asked);
}

/// Whether a wait that has slept is to end.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPT.get().is_some_and(|asked| asked())
}

/// A sequentially consistent fence, where the last change of shared memory was an exchange: on x86-64 that is one already.
#[inline]
pub(crate) fn fence_after_exchange() {
    if cfg!(all(target_arch = "x86_64", not(any(miri, memlane_heap)))) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Marks a step that changed what other processes see, outside the atomics: a name, a file, a lock.
#[inline]
pub(crate) fn step() {
    #[cfg(any(memlane_failpoints, miri, memlane_heap))]
    counted::step();
}

/// Sleeps at most `limit` while `word` holds `expected`; may return early for any reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
    let holds = || word.load(Ordering::Relaxed) == expected;
    sys::wait(std::ptr::from_ref(word).cast(), expected, holds, limit);
}

/// How many words [`wait_any`] can wait for.
pub(crate) const WAIT_MOST: usize = sys::WAIT_MOST;

/// Like [`wait`] while each of up to [`WAIT_MOST`] words holds what is expected of it.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], limit: Duration) {
    let hold = || words.iter().all(|(word, expected)| word.load(Ordering::Relaxed) == *expected);
    let addresses: Vec<_> =
        words.iter().map(|(word, expected)| (std::ptr::from_ref(*word).cast(), *expected)).collect();
    sys::wait_any(&addresses, hold, limit);
}

/// Wakes up to `count` sleepers of `word`; returns how many.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    sys::wake(std::ptr::from_ref(word).cast(), count)
}

/// Like [`wait`] for the low half of a 64-bit word; a change of the high half alone is not noticed.
pub(crate) fn wait_low(word: &AtomicU64, expected: u32, limit: Duration) {
    let holds = || word.load(Ordering::Relaxed) as u32 == expected;
    sys::wait(low_half(word), expected, holds, limit);
}

/// Like [`wake`] for those who wait with [`wait_low`].
pub(crate) fn wake_low(word: &AtomicU64, count: u32) -> u32 {
    sys::wake(low_half(word), count)
}

/// Wakes everybody who sleeps on the word at an address of a mapping.
pub(crate) fn wake_at(word: *const u32) {
    sys::wake(word, u32::MAX);
}

fn low_half(word: &AtomicU64) -> *const u32 {
    std::ptr::from_ref(word).cast::<u32>().wrapping_add(usize::from(cfg!(target_endian = "big")))
}

#[cfg(any(memlane_failpoints, miri, memlane_heap))]
mod counted {
    pub(crate) use core::sync::atomic::Ordering;
    use core::sync::atomic::{AtomicU8 as Real8, AtomicU32 as Real32, AtomicU64 as Real64};

    /// Counts one step; at the one that `MEMLANE_DIE_AT` names (from 1), the process kills itself.
    #[cfg(not(any(miri, memlane_heap)))]
    pub(crate) fn step() {
        use super::OnceLock;
        static STEPS: Real64 = Real64::new(0);
        static DIE_AT: OnceLock<u64> = OnceLock::new();
        let die_at = *DIE_AT.get_or_init(|| {
            std::env::var("MEMLANE_DIE_AT").ok().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX)
        });
        if STEPS.fetch_add(1, Ordering::Relaxed) + 1 == die_at {
            crate::sys::kill_self();
        }
    }

    #[cfg(any(miri, memlane_heap))]
    thread_local! {
        /// The steps that this thread, a process of its own, has still to live; none left: it lives on.
        static LEFT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// Lets the process that this thread is die at its `step`-th step from now; 0: never.
    #[cfg(any(miri, memlane_heap))]
    pub fn die_at(step: u64) {
        LEFT.set(step);
    }

    /// Counts one step of this thread.
    #[cfg(any(miri, memlane_heap))]
    pub(crate) fn step() {
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        if left == 1 {
            crate::sys::kill_self();
        }
    }

    macro_rules! counted {
        ($name:ident, $real:ident, $int:ident) => {
            #[derive(Debug)]
            #[repr(transparent)]
            pub(crate) struct $name($real);

            #[allow(dead_code, reason = "not all of it is used of all widths")]
            impl $name {
                pub(crate) const fn new(value: $int) -> Self {
                    Self($real::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $int {
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $int, order: Ordering) {
                    self.0.store(value, order);
                    step();
                }

                pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                    let old = self.0.swap(value, order);
                    step();
                    old
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $int,
                    new: $int,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$int, $int> {
                    let result = self.0.compare_exchange(current, new, success, failure);
                    if result.is_ok() {
                        step();
                    }
                    result
                }
            }
        };
    }

    counted!(AtomicU8, Real8, u8);
    counted!(AtomicU32, Real32, u32);
    counted!(AtomicU64, Real64, u64);
}
