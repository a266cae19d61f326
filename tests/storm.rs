//! The storm: processes in every role the library has, and `kill -9` of any of them at any time. Whoever lives goes on,
//! and so does whoever comes after a dead one; nothing that anybody sees is inconsistent; and when all are dead, every
//! lock is to be had, every name can be used, and nothing is left behind.
//!
//! `MEMLANE_LONG=1` makes it 10,000 kills.
#![allow(missing_docs, unreachable_pub)]

#[path = "storm/board.rs"]
mod board;
mod common;
#[path = "storm/handoff.rs"]
mod handoff;
#[path = "storm/locks.rs"]
mod locks;
#[path = "storm/names.rs"]
mod names;
#[path = "common/random.rs"]
mod random;
#[path = "storm/rwlocks.rs"]
mod rwlocks;

use board::{Board, EVENTS, HANG, Me, NAMES};
use common::{Child, hear, role, run_alone, say, spawn, times};
use handoff::Handoff;
use memlane::{Mutex, Options, Origin, Segment, Shareable, SharedMemory, gc, list};
use random::Random;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A role, and the group of those who depend on each other.
const ROLES: [(&str, &str); 32] = [
    ("holder of a lock", "locks"),
    ("holder of a lock", "locks"),
    ("waiter for a lock", "locks"),
    ("waiter for a lock", "locks"),
    // Three: when one lets go, two that took them in different orders could each get one.
    ("holder of two locks", "two locks"),
    ("holder of two locks", "two locks"),
    ("holder of two locks", "two locks"),
    ("reader", "readers and writers"),
    ("reader", "readers and writers"),
    ("reader", "readers and writers"),
    ("writer", "readers and writers"),
    ("upgrader", "readers and writers"),
    ("asker", "condition"),
    ("asker", "condition"),
    ("answerer", "condition"),
    ("sender small", "64 KiB"),
    ("receiver small", "64 KiB"),
    ("holder of the frame small", "64 KiB"),
    ("sender large", "1 MiB"),
    ("receiver large", "1 MiB"),
    ("holder of the frame large", "1 MiB"),
    ("creator", "names"),
    ("creator", "names"),
    ("opener", "names"),
    ("comer and goer", "names"),
    ("comer and goer", "names"),
    ("comer and goer", "names"),
    ("remover and retirer", "names"),
    ("collector", "names"),
    ("lister", "names"),
    ("writer of raw bytes", "names"),
    ("reader of raw bytes", "names"),
];

fn act(role: &str, me: Me) {
    match role {
        "holder of a lock" => locks::hold(me),
        "waiter for a lock" => locks::wait_for_lock(me),
        "holder of two locks" => locks::hold_both(me),
        "reader" => rwlocks::read(me),
        "writer" => rwlocks::write(me),
        "upgrader" => rwlocks::upgrade(me),
        "asker" => locks::ask(me),
        "answerer" => locks::answer(me),
        "sender small" => handoff::send(me, "small"),
        "receiver small" => handoff::receive(me, "small"),
        "sender large" => handoff::send(me, "large"),
        "receiver large" => handoff::receive(me, "large"),
        "holder of the frame small" => handoff::hold(me, "small"),
        "holder of the frame large" => handoff::hold(me, "large"),
        "creator" => names::create(me),
        "opener" => names::open(me),
        "comer and goer" => names::come_and_go(me),
        "remover and retirer" => names::take_away(me),
        "collector" => names::collect(me),
        "lister" => names::look(me),
        "writer of raw bytes" => names::write_raw(me),
        "reader of raw bytes" => names::read_raw(me),
        other => panic!("no role {other}"),
    }
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    if role == "storm" {
        return storm(Path::new(&arguments[0]), arguments[1] == "alone");
    }
    // Goes with its parent.
    std::thread::spawn(|| {
        while hear().is_some() {}
        std::process::exit(0);
    });
    let number = |index: usize| arguments[index].parse::<u64>().expect("a number");
    act(&role, Me::new(number(0) as usize, number(1)));
}

/// A role that is always filled: whoever dies has a successor.
struct Place {
    role: &'static str,
    group: &'static str,
    child: Child,
    /// The first death in its group since it went round last, and how often it had then.
    waits: Option<(Instant, u64)>,
    /// Whether it has died itself since.
    replaced: bool,
    kills: u64,
    /// The longest it took from a death to its next turn: the same process, and its successors.
    longest: [Duration; 2],
}

struct Storm<'a> {
    directory: &'a Path,
    board: &'a Segment<Board>,
    random: Random,
    places: Vec<Place>,
    stopped: Vec<usize>,
    stops: u64,
}

fn start(directory: &Path, role: &str, place: usize, random: &mut Random) -> Child {
    spawn(directory, role, &[&place.to_string(), &(random.next() >> 1).to_string()])
}

impl<'a> Storm<'a> {
    fn new(directory: &'a Path, board: &'a Segment<Board>) -> Self {
        let mut random = Random::new();
        let places = ROLES.iter().enumerate().map(|(place, (role, group))| {
            let child = start(directory, role, place, &mut random);
            let longest = [Duration::ZERO; 2];
            Place { role, group, child, waits: Some((Instant::now(), 0)), replaced: true, kills: 0, longest }
        });
        let places = places.collect();
        Self { directory, board, random, places, stopped: Vec::new(), stops: 0 }
    }

    fn turns(&self, place: usize) -> u64 {
        self.board.turns[place].load(Ordering::Relaxed)
    }

    /// Looks who has gone on; true if nobody is waited for any more.
    fn look(&mut self) -> bool {
        for index in 0..self.places.len() {
            let turns = self.turns(index);
            let place = &mut self.places[index];
            let Some((since, before)) = place.waits else { continue };
            if turns > before {
                let longest = &mut place.longest[usize::from(place.replaced)];
                *longest = since.elapsed().max(*longest);
                (place.waits, place.replaced) = (None, false);
            } else {
                assert!(!place.child.has_ended(), "{} found something wrong", place.role);
                assert!(since.elapsed() < HANG, "{} hangs", place.role);
            }
        }
        self.places.iter().all(|place| place.waits.is_none())
    }

    fn kill(&mut self, victim: usize) {
        let moment = Instant::now();
        assert!(self.places[victim].child.kill_if_alive(), "{} found something wrong", self.places[victim].role);
        self.stopped.retain(|stopped| *stopped != victim);
        for index in 0..self.places.len() {
            let turns = self.turns(index);
            if self.places[index].group == self.places[victim].group {
                self.places[index].waits.get_or_insert((moment, turns));
            }
        }
        let child = start(self.directory, self.places[victim].role, victim, &mut self.random);
        let place = &mut self.places[victim];
        (place.child, place.replaced) = (child, true);
        place.kills += 1;
    }

    fn resume(&mut self) {
        for stopped in self.stopped.drain(..) {
            self.places[stopped].child.signal("CONT");
        }
    }

    /// Some deaths, one soon after the other; now and then a process is stopped meanwhile. Then everybody goes on.
    fn gust(&mut self) {
        for _ in 0..1 + self.random.below(30) {
            let victim = self.random.below(ROLES.len() as u64) as usize;
            match self.random.below(20) {
                0 => {
                    self.places[victim].child.signal("STOP");
                    self.stopped.push(victim);
                    self.stops += 1;
                }
                1..4 => self.resume(),
                _ => {}
            }
            std::thread::sleep(Duration::from_micros(self.random.below(3_000)));
            self.look();
            let victim = self.random.below(ROLES.len() as u64) as usize;
            self.kill(victim);
        }
        self.resume();
        while !self.look() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn kills(&self) -> u64 {
        self.places.iter().map(|place| place.kills).sum()
    }

    fn event(&self, index: usize) -> u64 {
        self.board.events[index].load(Ordering::Relaxed)
    }

    /// What has not happened yet.
    fn missing(&self) -> Vec<&str> {
        (0..EVENTS.len()).filter(|index| self.event(*index) == 0).map(|index| EVENTS[index]).collect()
    }

    fn report(&self, time: Duration) {
        let longest = self.places.iter().flat_map(|place| place.longest).max().unwrap_or_default();
        let (kills, stops) = (self.kills(), self.stops);
        say(&format!("{kills} kills and {stops} stops in {time:.1?}, 0 hangs, longest recovery {longest:.1?}"));
        for (index, place) in self.places.iter().enumerate() {
            let [same, next] = place.longest;
            let (role, kills, turns) = (place.role, place.kills, self.turns(index));
            say(&format!(
                "{role:25} {kills:6} kills, {turns:8} turns, longest recovery {same:.1?}, of a successor {next:.1?}"
            ));
        }
        for (index, event) in EVENTS.iter().enumerate() {
            say(&format!("{event:40} {:8}", self.event(index)));
        }
    }
}

fn is_to_be_had<T: ?Sized + Shareable>(lock: &Mutex<T>, by: &Segment<impl Shareable + ?Sized>) {
    drop(lock.try_lock(by).expect("all who held it are dead").or_repair(|_| ()));
}

/// When all are dead.
fn audit(directory: &Path, board: &Segment<Board>, handoffs: &[Segment<Handoff>]) {
    board.removals.iter().for_each(|lock| is_to_be_had(lock, board));
    board.both.iter().for_each(|lock| is_to_be_had(lock, board));
    is_to_be_had(&board.single, board);
    drop(board.rw.try_write(board).expect("all who held it are dead"));
    is_to_be_had(&board.talk.state, board);
    handoffs.iter().for_each(|handoff| is_to_be_had(&handoff.frame, handoff));
    for name in NAMES {
        let _ = memlane::remove(memlane::Name::new(name).expect("a name").in_directory(directory));
        let name = memlane::Name::new(name).expect("a name").in_directory(directory);
        let mine = SharedMemory::create(&name, 1, &Options::new()).expect("the name can be used");
        assert_eq!(mine.origin(), Origin::Created);
        assert_eq!(SharedMemory::open(&name).expect("it is there").id(), mine.id());
    }
    gc(Some(directory), false).expect("the directory");
    let listed = list(Some(directory)).expect("the directory");
    let listed: Vec<(&str, usize)> = listed.iter().map(|object| (object.name.as_str(), object.users.len())).collect();
    assert_eq!(listed, [("board", 1), ("large", 1), ("small", 1)], "somebody or something is left");
}

fn storm(directory: &Path, alone: bool) {
    let free = || memlane::space(Some(directory)).expect("the directory").free;
    let before = free();
    let name = |text: &str| memlane::Name::new(text).expect("a name").in_directory(directory);
    let board = Segment::<Board>::create(name("board"), (), &Options::new(), |_| ()).expect("fresh");
    let handoffs = [("small", 64 << 10), ("large", 1 << 20)]
        .map(|(text, size)| Segment::<Handoff>::create(name(text), size, &Options::new(), |_| ()).expect("fresh"));
    let start = Instant::now();
    let mut storm = Storm::new(directory, &board);
    let enough = times(500, 10_000);
    while storm.kills() < enough || !storm.missing().is_empty() {
        storm.gust();
        assert!(storm.kills() < 10 * enough, "never happened: {:?}", storm.missing());
    }
    storm.report(start.elapsed());
    for place in &mut storm.places {
        assert!(place.child.kill_if_alive(), "{} found something wrong", place.role);
    }
    drop(storm);
    audit(directory, &board, &handoffs);
    drop((board, handoffs));
    assert_eq!(std::fs::read_dir(directory).expect("the directory").count(), 0, "something is left behind");
    assert!(!alone || free() == before, "memory is not given back");
}

#[test]
fn no_kill_stops_or_confuses_anybody() {
    run_alone("size=64m", "storm");
}
