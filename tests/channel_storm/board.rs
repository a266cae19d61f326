//! What the storm's processes share with their parent, and what each of them has at hand.

use crate::channel::Shape;
use crate::random::Random;
use memlane::{Policy, Region, Segment, Shareable};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

const ALL: &[Policy] = &[Policy::Lossless, Policy::Newest, Policy::Queue];
const WAITING: &[Policy] = &[Policy::Lossless, Policy::Queue];

/// What must happen in a storm, and under which policies.
pub const EVENTS: [(&str, &[Policy]); 16] = [
    ("sender died", ALL),
    ("sender closed", ALL),
    ("sent by one that died before it knew", ALL),
    ("loan dropped", ALL),
    ("several sent at once", ALL),
    ("no receiver, one died", WAITING),
    ("no receiver, closed", &[]),
    ("kept for the next to come", &[Policy::Lossless]),
    ("given back", ALL),
    ("delivered again after a death", &[Policy::Queue]),
    ("delivered again after it was given back", &[Policy::Queue]),
    ("missed", &[Policy::Newest]),
    ("ticket: processed", ALL),
    ("ticket: died", &[Policy::Lossless]),
    ("ticket: timed out", &[]),
    ("receiver closed", ALL),
];

/// More messages than a window has.
const RING: u64 = 64;
const LANES: usize = 2;
/// Processes in one storm.
const PROCESSES: usize = 1 << 16;

#[derive(Shareable)]
#[repr(C)]
pub struct Board {
    /// How often the process at each place has gone round.
    pub turns: [AtomicU64; 8],
    pub events: [AtomicU64; EVENTS.len()],
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// In nanoseconds.
    pub longest_send: AtomicU64,
    pub longest_recv: AtomicU64,
    /// A bit for each process that is killed, or about to be.
    doomed: [AtomicU64; PROCESSES / 64],
    /// The last message of each lane that its sender knows to be sent.
    pub committed: [AtomicU64; LANES],
    /// What was done with the last messages of each lane: see [`Mark`].
    marks: [[AtomicU64; RING as usize]; LANES],
}

/// What a receiver does with a message: it says so before it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Take,
    GiveBack,
    Process,
}

/// What was done last with a message of a number, and by which process.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    pub sequence: u64,
    pub process: u64,
    pub did: Did,
}

impl Mark {
    fn to_word(self) -> u64 {
        self.sequence << 20 | self.process << 2 | self.did as u64
    }

    fn from_word(word: u64) -> Self {
        let did = [Did::Take, Did::GiveBack, Did::Process, Did::Process][(word & 3) as usize];
        Self { sequence: word >> 20, process: word >> 2 & 0x3_ffff, did }
    }
}

impl Board {
    pub fn doom(&self, process: u64) {
        self.doomed[process as usize / 64].fetch_or(1 << (process % 64), SeqCst);
    }

    pub fn is_doomed(&self, process: u64) -> bool {
        self.doomed[process as usize / 64].load(SeqCst) & 1 << (process % 64) != 0
    }

    fn mark_of(&self, lane: u64, sequence: u64) -> &AtomicU64 {
        &self.marks[lane as usize][(sequence % RING) as usize]
    }

    pub fn mark(&self, lane: u64, sequence: u64) -> Mark {
        Mark::from_word(self.mark_of(lane, sequence).load(SeqCst))
    }

    /// The mark that this one replaces.
    pub fn set_mark(&self, lane: u64, mark: Mark) -> Mark {
        Mark::from_word(self.mark_of(lane, mark.sequence).swap(mark.to_word(), SeqCst))
    }

    /// Whether a message was processed; of those that are not older than the marks.
    pub fn is_processed(&self, lane: u64, sequence: u64) -> bool {
        let mark = self.mark(lane, sequence);
        sequence == 0 || mark.sequence == sequence && mark.did == Did::Process
    }
}

/// One process of the storm.
pub struct Me {
    pub shape: Shape,
    pub board: Segment<Board>,
    pub region: Region,
    pub random: Random,
    pub process: u64,
    place: usize,
}

impl Me {
    /// From place, number of the process and seed.
    pub fn new(shape: Shape, arguments: &[String]) -> Self {
        let number = |index: usize| arguments[index].parse::<u64>().expect("a number");
        Self {
            shape,
            board: Segment::open("board").expect("the parent's object"),
            region: Region::open("cam").expect("the parent's channel"),
            random: Random::from_seed(number(2)),
            process: number(1),
            place: number(0) as usize,
        }
    }

    /// Has gone round once.
    pub fn turn(&self) {
        self.board.turns[self.place].fetch_add(1, Relaxed);
    }

    pub fn count(&self, event: &str) {
        let index = EVENTS.iter().position(|(known, _)| *known == event).expect("an event");
        self.board.events[index].fetch_add(1, Relaxed);
    }

    pub fn last(&self, lane: u64) -> u64 {
        self.shape.last(&self.region, lane)
    }

    /// Works for less than a time by chance, so that the others have the processor and a death may come.
    pub fn work(&mut self, limit: Duration) {
        std::thread::sleep(Duration::from_micros(self.random.below(limit.as_micros() as u64)));
    }
}
