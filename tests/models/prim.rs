//! The model's door to atomics and to waiting: loom's atomics, a futex, and death.
//!
//! A word in shared memory is bytes, a loom atomic is not: so each word has its loom atomic beside it, found by the
//! word's address. All are made before the threads of the model start, and start as 0, as shared memory does.
//!
//! To find schedules that differ, loom (0.7.3) remembers the last access of an atomic, one, and compares a store with that.
//! If the storing thread has loaded the word itself just before, that is the last access: it would never try whether others
//! that loaded the word before that could see the store. So each load is preceded by an access of another atomic that
//! loom takes for a change: it tries all orders of these. Words that nobody exchanges need none, see [`plain`].

pub(crate) use loom::sync::atomic::{Ordering, fence};
use loom::thread::{Thread, current, park};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

/// As everywhere but on x86-64.
pub(crate) fn fence_after_exchange() {
    fence(Ordering::SeqCst);
}

type Word = Rc<loom::sync::atomic::AtomicU64>;

/// A word, and what is accessed before it is loaded.
#[derive(Clone)]
struct Pair {
    word: Word,
    before: Option<Word>,
}

/// How many words the largest model touches, but for those that it [reserves](reserve).
const WORDS: usize = 80;

/// No word of the library ever has this value.
const IMPOSSIBLE: u64 = u64::MAX;

#[derive(Default)]
struct World {
    unused: Vec<Word>,
    words: HashMap<usize, Pair>,
    plain: Vec<Range<usize>>,
    sleepers: Vec<Sleeper>,
    /// How often everybody's slice of sleep has ended.
    ends: u64,
    /// How many have died because their steps were over.
    deaths: u64,
}

struct Sleeper {
    address: usize,
    thread: Thread,
    life: Rc<Life>,
}

/// What a thread of the model has behind it and before it.
#[derive(Default)]
struct Life {
    /// The steps it has left to live, if it is to die.
    left: Cell<Option<u64>>,
    /// Which of these ends was the last of its own sleep on a word.
    ends: RefCell<HashMap<usize, u64>>,
}

thread_local! {
    // Of the thread that runs the model: the model's own threads all run on it, one at a time.
    static WORLD: RefCell<World> = RefCell::default();
}

loom::thread_local! {
    static LIFE: Rc<Life> = Rc::default();
}

fn world<T>(act: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(act)
}

/// Starts one run of a model: no word is used yet.
pub(crate) fn begin() {
    world(|world| *world = World::default());
    reserve(WORDS);
}

/// Makes that many words more, before the threads of the model start.
pub(crate) fn reserve(words: usize) {
    let more: Vec<_> = (0..words).map(|_| Rc::new(loom::sync::atomic::AtomicU64::new(0))).collect();
    world(|world| world.unused.extend(more));
}

/// No word at these addresses is both loaded and changed by one thread.
pub(crate) fn plain(addresses: Range<usize>) {
    world(|world| world.plain.push(addresses));
}

/// How many have died in this run because their steps were over.
pub(crate) fn deaths() -> u64 {
    world(|world| world.deaths)
}

fn pair(address: usize) -> Pair {
    world(|world| {
        let World { words, unused, plain, .. } = world;
        let new = || {
            let is_plain = plain.iter().any(|range| range.contains(&address));
            let mut next = || unused.pop().expect("WORDS is large enough");
            Pair { word: next(), before: (!is_plain).then(next) }
        };
        words.entry(address).or_insert_with(new).clone()
    })
}

fn word(address: usize) -> Word {
    pair(address).word
}

/// The last value in the order of all changes, which a plain load need not return; orders nothing.
fn latest(word: &Word) -> u64 {
    word.compare_exchange(IMPOSSIBLE, IMPOSSIBLE, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|value| value)
}

/// Tells this thread of the model from the others, which all run on one thread of the machine.
pub(crate) fn thread() -> u64 {
    LIFE.with(|own| Rc::as_ptr(own).addr() as u64)
}

/// What is in the first word of `object` now, whoever could see it.
pub(crate) fn word_of<T>(object: &T) -> u64 {
    latest(&word(std::ptr::from_ref(object).addr()))
}

struct Death;

/// Dies here, within [`mortal`].
pub(crate) fn die() -> ! {
    resume_unwind(Box::new(Death))
}

/// Lives `life`, but dies after `steps` steps: nothing of it happens after that. Returns `None` if it died.
pub(crate) fn mortal<T>(steps: u64, life: impl FnOnce() -> T) -> Option<T> {
    LIFE.with(|own| own.left.set(Some(steps)));
    let result = catch_unwind(AssertUnwindSafe(life));
    LIFE.with(|own| own.left.set(None));
    match result {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Death>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// Marks a step that changed what others see: whoever is to die here does.
pub(crate) fn step() {
    let left = LIFE.with(|own| {
        own.left.set(own.left.get().map(|left| left - 1));
        own.left.get()
    });
    if left == Some(0) {
        world(|world| world.deaths += 1);
        die();
    }
}

/// The address of no word: where the model counts the ends of slices, for loom to see them.
const ENDS: usize = 1;

/// Time passes: ends the slice of everybody who sleeps, and the next one on any other word of everybody. Who looks after
/// that sees what happened before. A model does so after a death; no more slices end than these.
pub(crate) fn end_slices() {
    word(ENDS).fetch_add(1, Ordering::Release);
    let (sleepers, ends) = world(|world| {
        world.ends += 1;
        (std::mem::take(&mut world.sleepers), world.ends)
    });
    for sleeper in sleepers {
        sleeper.life.ends.borrow_mut().insert(sleeper.address, ends);
        sleeper.thread.unpark();
    }
}

/// Whether this slice has ended before it began.
fn is_over(life: &Life, address: usize) -> bool {
    let ends = world(|world| world.ends);
    let is_over = life.ends.borrow_mut().insert(address, ends).unwrap_or(0) < ends;
    if is_over {
        let _ = word(ENDS).compare_exchange(IMPOSSIBLE, IMPOSSIBLE, Ordering::Relaxed, Ordering::Acquire);
    }
    is_over
}

/// Sleeps while the low half of the word at `address` is `expected`, with no limit but [`end_slices`].
fn sleep_on(address: usize, expected: u32) {
    step();
    let life = LIFE.with(Rc::clone);
    // Tells loom that this depends on the ends of slices.
    latest(&word(ENDS));
    // Between two operations of loom's nothing else happens: as in the kernel, to compare and to lie down is one step.
    if latest(&word(address)) as u32 == expected && !is_over(&life, address) {
        world(|world| world.sleepers.push(Sleeper { address, thread: current(), life }));
        park();
    }
    step();
}

fn wake_up(address: usize, count: u32) -> u32 {
    // Tells loom that this depends on what sleepers of the word do.
    latest(&word(address));
    let mut woken = 0;
    let threads = world(|world| {
        let is_woken = |sleeper: &mut Sleeper| {
            let is_woken = sleeper.address == address && woken < count;
            woken += u32::from(is_woken);
            is_woken
        };
        world.sleepers.extract_if(.., is_woken).collect::<Vec<_>>()
    });
    threads.iter().for_each(|sleeper| sleeper.thread.unpark());
    woken
}

pub(crate) fn wait(word: &AtomicU32, expected: u32, _: Duration) {
    sleep_on(word.address(), expected);
}

pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    wake_up(word.address(), count)
}

pub(crate) fn wait_low(word: &AtomicU64, expected: u32, _: Duration) {
    sleep_on(word.address(), expected);
}

pub(crate) fn wake_low(word: &AtomicU64, count: u32) -> u32 {
    wake_up(word.address(), count)
}

macro_rules! modelled {
    ($name:ident, $int:ty) => {
        /// Counts by its address alone; what is in it lies in loom's atomic.
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name($int);

        #[allow(dead_code, reason = "not all of it is used of all widths")]
        impl $name {
            pub(crate) const fn new(value: $int) -> Self {
                assert!(value == 0, "every word starts as 0");
                Self(value)
            }

            fn address(&self) -> usize {
                std::ptr::from_ref(self).addr()
            }

            pub(crate) fn load(&self, order: Ordering) -> $int {
                let Pair { word, before } = pair(self.address());
                if let Some(before) = before {
                    latest(&before);
                }
                word.load(order) as $int
            }

            pub(crate) fn store(&self, value: $int, order: Ordering) {
                word(self.address()).store(u64::from(value), order);
                step();
            }

            pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                let old = word(self.address()).swap(u64::from(value), order);
                step();
                old as $int
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                let (current, new) = (u64::from(current), u64::from(new));
                let result = word(self.address()).compare_exchange(current, new, success, failure);
                if result.is_ok() {
                    step();
                }
                result.map(|value| value as $int).map_err(|value| value as $int)
            }
        }
    };
}

modelled!(AtomicU8, u8);
modelled!(AtomicU32, u32);
modelled!(AtomicU64, u64);

/// The loom atomic of a lock byte.
pub(crate) fn lock_byte(byte: u64) -> Word {
    word(byte as usize)
}
