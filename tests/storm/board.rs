//! What the storm's processes share with their parent, and what each of them has at hand.

use crate::random::Random;
use memlane::{Condvar, Locked, Mutex, MutexGuard, OwnerId, RwLock, Segment, Shareable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nothing takes as long that does not hang.
pub const HANG: Duration = Duration::from_secs(30);

/// What must happen in a storm, or it is blind to it.
pub const EVENTS: [&str; 28] = [
    "created",
    "taken over",
    "opened",
    "exists already",
    "not found",
    "removed",
    "retired",
    "told that it is retired",
    "reclaimed by gc",
    "the name leads to the object",
    "kept",
    "came and went",
    "listed",
    "raw object written",
    "raw object read",
    "owner died: one lock",
    "owner died: one lock, left unrepaired",
    "owner died: two locks",
    "owner died: frame",
    "owner died: talk",
    "owner died: readers and writers",
    "needs repair",
    "upgraded",
    "not upgraded in time",
    "downgraded",
    "owner died: object",
    "lock timed out",
    "peer lost",
];

/// The names that come and go. The first is created with one size only, so that none of its objects is retired by a
/// create; the third is kept; the fourth holds raw bytes.
pub const NAMES: [&str; 4] = ["red", "green", "kept", "raw"];

#[derive(Shareable)]
#[repr(C)]
pub struct Board {
    /// How often the process at each place has gone round.
    pub turns: [AtomicU64; 32],
    pub events: [AtomicU64; EVENTS.len()],
    /// Counts, under its lock, whatever takes a name away from those who live: who sees another object under a name
    /// than its own looks whether that was so.
    pub removals: [Mutex<u64>; NAMES.len()],
    pub single: Mutex<Account>,
    /// Taken together only.
    pub both: [Mutex<Account>; 2],
    pub talk: Talk,
    pub rw: RwLock<Account, 8>,
}

/// Two numbers that are equal whenever nobody is inside.
#[derive(Shareable)]
#[repr(C)]
pub struct Account {
    pub inside: OwnerId,
    pub count: u64,
    pub copy: u64,
}

/// Questions by number, and the last one that was answered.
#[derive(Shareable)]
#[repr(C)]
pub struct Talk {
    pub asked: Condvar,
    pub answered: Condvar,
    pub state: Mutex<Questions>,
}

#[derive(Shareable)]
#[repr(C)]
pub struct Questions {
    pub asker: OwnerId,
    pub answerer: OwnerId,
    pub question: u64,
    pub answer: u64,
}

/// One process of the storm.
pub struct Me {
    pub board: Arc<Segment<Board>>,
    pub random: Random,
    place: usize,
}

impl Me {
    pub fn new(place: usize, seed: u64) -> Self {
        let board = Arc::new(Segment::open("board").expect("the parent's object"));
        Self { board, random: Random::from_seed(seed), place }
    }

    /// Has gone round once.
    pub fn turn(&self) {
        self.board.turns[self.place].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, event: &str) {
        let index = EVENTS.iter().position(|known| *known == event).expect("an event");
        self.board.events[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Works for less than a time by chance, so that the others have the processor and a death may come.
    pub fn work(&mut self, limit: Duration) {
        std::thread::sleep(Duration::from_micros(self.random.below(limit.as_micros() as u64)));
    }

    /// The guard, after the death of an owner was counted; whole numbers say what is complete, so there is nothing
    /// else to repair.
    pub fn take<'a, T: ?Sized>(&self, locked: Locked<MutexGuard<'a, T>>, event: &str) -> MutexGuard<'a, T> {
        if matches!(locked, Locked::OwnerDied(_)) {
            self.count(event);
        }
        locked.or_repair(|_| ())
    }
}
