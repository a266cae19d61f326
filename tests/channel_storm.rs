//! The storm over channels: senders, receivers and both are killed at any time, one by one and all at once. No message is
//! torn, lost or received twice as far as its policy promises; numbers have no gap; who lives goes on; and when all are
//! dead, every lane, every receiver's place and every buffer can be used.
//!
//! `MEMLANE_LONG=1` makes it a minute for each policy.
#![allow(missing_docs, unreachable_pub)]

#[path = "channel_storm/audit.rs"]
mod audit;
#[path = "channel_storm/board.rs"]
mod board;
#[path = "common/channel.rs"]
mod channel;
mod common;
#[path = "common/random.rs"]
mod random;
#[path = "channel_storm/worker.rs"]
mod worker;

use board::{Board, EVENTS, Me};
use channel::Shape;
use common::{Child, HANG, hear, role, run_alone, say, spawn, times};
use memlane::{Name, Options, Policy, Region, Segment, Sender};
use random::Random;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Small, so that buffers are used again soon, and a window is soon full.
const SHAPES: [Shape; 3] = [
    Shape { policy: Policy::Lossless, slots: 4, senders: 2, receivers: 3, claims: 2, loans: 2, max: 1 << 16 },
    Shape { policy: Policy::Newest, slots: 2, senders: 2, receivers: 3, claims: 2, loans: 2, max: 1 << 16 },
    Shape { policy: Policy::Queue, slots: 6, senders: 2, receivers: 3, claims: 2, loans: 2, max: 1 << 16 },
];

/// The kills are due at this pace; where the processors are busy, they come later.
const PACE: Duration = Duration::from_millis(10);

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    if role == "storm" {
        for shape in &SHAPES {
            storm(Path::new(&arguments[0]), arguments[1] == "alone", shape);
        }
        return;
    }
    // Goes with its parent.
    std::thread::spawn(|| {
        while hear().is_some() {}
        std::process::exit(0);
    });
    let me = Me::new(Shape::from_text(&arguments[0]), &arguments[1..]);
    match role.as_str() {
        "sender" => worker::send(me),
        "receiver" => worker::receive(me),
        other => panic!("no role {other}"),
    }
}

/// A role that is always filled: whoever dies has a successor.
struct Place {
    role: &'static str,
    child: Child,
    /// The number of its process, of all that there ever were.
    process: u64,
    turns: u64,
    since: Instant,
}

struct Storm<'a> {
    directory: &'a Path,
    shape: &'a Shape,
    board: &'a Segment<Board>,
    random: Random,
    places: Vec<Place>,
    processes: u64,
    kills: u64,
}

impl<'a> Storm<'a> {
    fn new(directory: &'a Path, shape: &'a Shape, board: &'a Segment<Board>) -> Self {
        let mut storm =
            Self { directory, shape, board, random: Random::new(), places: Vec::new(), processes: 0, kills: 0 };
        for (role, count) in [("sender", shape.senders), ("receiver", shape.receivers)] {
            for _ in 0..count {
                let place = storm.start(role, storm.places.len());
                storm.places.push(place);
            }
        }
        storm
    }

    fn start(&mut self, role: &'static str, place: usize) -> Place {
        self.processes += 1;
        let process = self.processes;
        let arguments =
            [self.shape.to_text(), place.to_string(), process.to_string(), (self.random.next() >> 1).to_string()];
        let child = spawn(self.directory, role, &arguments.each_ref().map(String::as_str));
        Place { role, child, process, turns: self.board.turns[place].load(Relaxed), since: Instant::now() }
    }

    /// Looks whether everybody goes on; true if everybody has since its process was started.
    fn look(&mut self) -> bool {
        let mut all = true;
        for (index, place) in self.places.iter_mut().enumerate() {
            let turns = self.board.turns[index].load(Relaxed);
            if turns > place.turns {
                (place.turns, place.since) = (turns, Instant::now());
            } else {
                assert!(!place.child.has_ended(), "a {} found something wrong", place.role);
                assert!(place.since.elapsed() < HANG, "a {} hangs", place.role);
                all = false;
            }
        }
        all
    }

    /// Who dies next: one, one of each role, all of a role, or all.
    fn victims(&mut self) -> Vec<usize> {
        let (all, senders) = (self.places.len() as u64, self.shape.senders);
        let (sender, receiver) = (self.random.below(senders), senders + self.random.below(all - senders));
        let victims: Vec<u64> = match self.random.below(40) {
            0..11 => vec![sender],
            11..22 => vec![receiver],
            22..33 => vec![sender, receiver],
            33..36 => (0..senders).collect(),
            36..39 => (senders..all).collect(),
            _ => (0..all).collect(),
        };
        victims.into_iter().map(|victim| victim as usize).collect()
    }

    fn kill(&mut self, victims: &[usize]) {
        for victim in victims {
            self.board.doom(self.places[*victim].process);
            let place = &mut self.places[*victim];
            assert!(place.child.kill_if_alive(), "a {} found something wrong", place.role);
            self.kills += 1;
        }
        if victims.len() > 1 {
            // Whoever waits for them may find out before others come.
            std::thread::sleep(Duration::from_micros(self.random.below(40_000)));
        }
        for victim in victims {
            self.places[*victim] = self.start(self.places[*victim].role, *victim);
        }
    }

    /// What has not happened yet, and must, or the storm is blind to it.
    fn missing(&self) -> Vec<&str> {
        let never = |(event, (_, policies)): &(usize, &(&str, &[Policy]))| {
            policies.contains(&self.shape.policy) && self.board.events[*event].load(Relaxed) == 0
        };
        EVENTS.iter().enumerate().filter(never).map(|(_, (what, _))| *what).collect()
    }

    fn rage(&mut self, time: Duration) {
        let (start, mut due) = (Instant::now(), Duration::ZERO);
        while start.elapsed() < time || !self.missing().is_empty() {
            assert!(start.elapsed() < 10 * time + HANG, "never happened: {:?}", self.missing());
            let victims = self.victims();
            self.kill(&victims);
            self.look();
            let pause = self.random.below(2 * PACE.as_micros() as u64);
            due = (due + victims.len() as u32 * Duration::from_micros(pause)).max(start.elapsed());
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        self.report(start.elapsed());
        let now = Instant::now();
        for (index, place) in self.places.iter_mut().enumerate() {
            (place.turns, place.since) = (self.board.turns[index].load(Relaxed), now);
        }
        // Everybody goes on when it is over.
        while !self.look() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn report(&self, time: Duration) {
        let Board { sent, received, longest_send, longest_recv, .. } = &**self.board;
        let longest = |nanos: &std::sync::atomic::AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        say(&format!(
            "{:?}: {} kills in {time:.1?}, {:.0} a second; {} messages sent, {} received; longest send {:.1?}, longest recv {:.1?}",
            self.shape.policy,
            self.kills,
            self.kills as f64 / time.as_secs_f64(),
            sent.load(Relaxed),
            received.load(Relaxed),
            longest(longest_send),
            longest(longest_recv),
        ));
        let happened = EVENTS.iter().zip(&self.board.events).filter(|(_, count)| count.load(Relaxed) > 0);
        let happened: Vec<String> =
            happened.map(|((what, _), count)| format!("{what} {}", count.load(Relaxed))).collect();
        say(&format!("  {}", happened.join(", ")));
    }
}

fn storm(directory: &Path, alone: bool, shape: &Shape) {
    let free = || memlane::space(Some(directory)).expect("the directory").free;
    let before = free();
    let name = |text: &str| Name::new(text).expect("a name").in_directory(directory);
    let board = Segment::<Board>::create(name("board"), (), &Options::new(), |_| ()).expect("fresh");
    drop(Sender::<[u8]>::create(name("cam"), &shape.options().persistence(memlane::Persistence::Keep)).expect("fresh"));
    let region = Region::open(name("cam")).expect("it is there");
    let mut storm = Storm::new(directory, shape, &board);
    storm.rage(Duration::from_secs(times(3, 60)));
    let all: Vec<usize> = (0..storm.places.len()).collect();
    for victim in all {
        storm.board.doom(storm.places[victim].process);
        assert!(storm.places[victim].child.kill_if_alive(), "a {} found something wrong", storm.places[victim].role);
    }
    drop(storm);
    audit::all(&name("cam"), shape, &board, &region);
    drop((board, region));
    memlane::remove(name("cam")).expect("it is there");
    assert_eq!(std::fs::read_dir(directory).expect("the directory").count(), 0, "something is left behind");
    assert!(!alone || free() == before, "memory is not given back");
}

#[test]
fn no_kill_loses_tears_or_stops_anything() {
    run_alone("size=64m", "storm");
}
