//! What a transport is here: two processes that open the two sides of a case and then do rounds of it.
//!
//! A case is a workload with its numbers. The controlling process (see `pair.rs`) starts one process for each side of
//! each transport, keeps them on different processors, and tells both what to do over their standard input (see
//! `worker.rs`); only one transport works at a time, and the others sleep.

use clap::ValueEnum;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The bytes of every answer, and of the smallest message.
pub(crate) const SMALL: usize = 64;

/// What is done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "verbatim")]
pub(crate) enum Workload {
    /// A message to the other side, and an answer of 64 bytes.
    RoundTrip,
    /// A message, one of many in a row: the other side answers the last one only.
    OneWay,
    /// A message to `count` receivers in the other process, which takes them in turn, and one answer. What is measured
    /// is the sending alone.
    FanOut,
    /// The same, while each receiver is a thread that sleeps: what is measured includes that they are woken.
    FanOutAsleep,
    /// As `RoundTrip`, through one of `count` channels, each in its turn; the other side does not know which is next.
    Channels,
    /// To lock and unlock what nobody else wants. The other side does nothing.
    Lock,
    /// The same while the other side does so too.
    LockContended,
    /// To create a channel for messages of `len` bytes and its sender. To close it again is not measured.
    Create,
    /// To open the receiving end of a channel that the other side has created. To close it again is not measured.
    Open,
    /// To close that end. To open it is not measured.
    Close,
    /// As `RoundTrip`, but one side alone thinks, which is to sleep for long: what counts is the processor time of
    /// both, of which the other one waits so long.
    Idle,
    /// A channel for messages of `len` bytes and `count` receivers, with nothing set that need not be, each buffer of
    /// which was used once if messages went on for long: measured is no time, but bytes.
    Memory,
}

/// Who a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The side that begins each round, and is measured.
    Ask,
    /// The other one.
    Answer,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Answer => "answer",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Ask => Self::Answer,
            Self::Answer => Self::Ask,
        }
    }

    /// What both sides do in a round that is nothing but to `tell` and to `hear`.
    #[inline(always)]
    pub(crate) fn turn(self, think: &dyn Fn(), tell: impl FnOnce(), hear: impl FnOnce()) {
        if self == Self::Ask {
            tell();
            hear();
            think();
        } else {
            hear();
            think();
            tell();
        }
    }
}

/// A workload with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Case {
    pub(crate) workload: Workload,
    /// The bytes of a message.
    pub(crate) len: usize,
    /// Whether each message is written in full by its sender ([`fill`]) and read in full by its receiver ([`sum`]).
    pub(crate) touched: bool,
    /// How many receivers or channels there are.
    pub(crate) count: usize,
    /// Whether both sides think in each round for so long that the other one falls asleep. A transport that cannot
    /// sleep does not offer it.
    pub(crate) asleep: bool,
}

/// What a side needs to know to open a case.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) role: Role,
    pub(crate) case: Case,
    /// An empty directory for both sides alone, under /dev/shm: for names, sockets and files. Who opens last may be
    /// first.
    pub(crate) directory: PathBuf,
    /// Letters, digits and `-` only: differs in every case of every run. For what has a name in no directory.
    pub(crate) name: String,
}

/// One side of a case that is open. Dropping it closes everything and leaves nothing.
pub(crate) trait Side {
    /// Does its side of so many rounds. `think` takes the time that was asked for, none unless the case is `asleep` or
    /// `Idle`; each side calls it once a round, the asking one after it got its answer, the answering one before it
    /// answers.
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps);
}

/// One way to get bytes, or a lock, from one process to another.
pub(crate) struct Transport {
    /// Short, with what makes it different from another one of its kind, as in `iceoryx2 polling`.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// Why it cannot be had here, and how it could.
    pub(crate) missing: fn() -> Option<String>,
    /// Whether it can do that.
    pub(crate) offers: fn(Case) -> bool,
    pub(crate) how: How,
}

/// How the processes of its sides are started.
pub(crate) enum How {
    /// As this program; waits for the other side up to [`PATIENCE`].
    Side(fn(&Setup) -> Box<dyn Side>),
    /// As a program of its own, which speaks what `worker.rs` describes: its path, and its arguments.
    Program(fn(Role) -> (PathBuf, Vec<String>)),
}

/// How long a side waits for the other one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The time of each round, if it is wanted, or of parts of rounds.
#[derive(Debug, Default)]
pub(crate) struct Laps {
    /// Set if each round is to be timed: that takes some 25 ns of it.
    each: bool,
    last: Option<Instant>,
    /// Nanoseconds of each round, or of what was measured of it.
    pub(crate) samples: Vec<u64>,
    /// What was measured of each round, if it was not all.
    parts: Vec<Duration>,
    /// Reserved and resident bytes, if those were asked for.
    pub(crate) memory: Option<(u64, u64)>,
}

impl Laps {
    /// Begins now.
    pub(crate) fn start(each: bool) -> Self {
        Self { each, last: Some(Instant::now()), ..Self::default() }
    }

    /// A round is over. To be called by the asking side only, once a round.
    #[inline(always)]
    pub(crate) fn lap(&mut self) {
        if self.each {
            self.note();
        }
    }

    #[inline(never)]
    fn note(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.samples.push((now - last).as_nanos() as u64);
        }
    }

    /// Measures a part of a round: only such parts count then. Not together with [`lap`](Self::lap).
    #[inline(always)]
    pub(crate) fn part<T>(&mut self, part: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = part();
        self.parts.push(start.elapsed());
        result
    }

    /// The time of all parts, if such were measured, without what it takes to look at the clock: some of them are as
    /// short.
    pub(crate) fn measured(&mut self) -> Option<Duration> {
        if self.parts.is_empty() {
            return None;
        }
        let mut nothing = Self::default();
        (0..101).for_each(|_| nothing.part(|| ()));
        nothing.parts.sort_unstable();
        let clock = nothing.parts[nothing.parts.len() / 2];
        let parts = self.parts.iter().map(|part| part.saturating_sub(clock));
        self.samples.extend(parts.clone().map(|part| part.as_nanos() as u64));
        Some(parts.sum())
    }

    /// Says how many bytes are reserved for a case, and how many of them are resident.
    pub(crate) fn set_memory(&mut self, reserved: u64, resident: u64) {
        self.memory = Some((reserved, resident));
    }
}

/// Writes every byte.
pub(crate) fn fill(bytes: &mut [u8], value: u8) {
    std::hint::black_box(bytes).fill(value);
}

/// Reads every byte.
pub(crate) fn sum(bytes: &[u8]) {
    let (words, rest) = std::hint::black_box(bytes).as_chunks::<8>();
    let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    std::hint::black_box(rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte))));
}

impl Case {
    /// Writes the message of a round, if messages are touched.
    #[inline(always)]
    pub(crate) fn write(&self, round: u64, bytes: &mut [u8]) {
        if self.touched {
            fill(bytes, round as u8);
        }
    }

    /// Reads the message of a round, if messages are touched, and panics if it is not that one.
    #[inline(always)]
    pub(crate) fn read(&self, round: u64, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.len, "the length of what arrived");
        if self.touched {
            assert_eq!(bytes[0], round as u8, "the first byte of what arrived");
            sum(bytes);
        }
    }
}
