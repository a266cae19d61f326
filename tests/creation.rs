//! Creation against openers, against `kill -9`, and against the last user's leaving.
//!
//! `MEMLANE_LONG=1` makes each run as long as it is meant to be for a release.
#![allow(missing_docs)]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Child, Dir, hear, role, say, spawn, times};
use memlane::{Error, Name, Options, Origin, Segment, Shareable, SharedMemory};
use random::Random;
use std::sync::Barrier;
use std::time::{Duration, Instant};

#[derive(Debug, Shareable)]
#[repr(C)]
struct Frame {
    stamp: u64,
    pixels: [u8],
}

/// Every byte follows from the stamp and its place.
fn page(stamp: u64) -> [u8; 4096] {
    std::array::from_fn(|index| (stamp.wrapping_mul(0x9e37_79b9) >> (index % 23)) as u8 | 1)
}

fn build(frame: &mut Frame, stamp: u64) {
    let page = page(stamp);
    frame.stamp = stamp;
    frame.pixels.chunks_mut(page.len()).for_each(|chunk| chunk.copy_from_slice(&page[..chunk.len()]));
}

fn is_complete(frame: &Frame, stamp: u64, len: usize) -> bool {
    let page = page(stamp);
    let mut chunks = frame.pixels.chunks(page.len());
    frame.stamp == stamp && frame.pixels.len() == len && chunks.all(|chunk| *chunk == page[..chunk.len()])
}

fn create(name: &Name, stamp: u64, len: usize) -> Result<Segment<Frame>, Error> {
    Segment::create(name, len, &Options::new(), |frame: &mut Frame| build(frame, stamp))
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let number = |index: usize| arguments[index].parse().expect("a number");
    match role.as_str() {
        "open in a loop" => open_in_a_loop(number(0) as usize),
        "create" => {
            let name = Name::new("cam").expect("a name");
            let len = number(0) as usize;
            say("before");
            if arguments[1] == "before" {
                hear();
            }
            let frame = Segment::create(name, len, &Options::new(), |frame: &mut Frame| {
                build(frame, 1);
                say("during");
                if arguments[1] == "during" {
                    hear();
                }
            });
            say("after");
            hear();
            drop(frame);
        }
        "come and go" => come_and_go(number(0)),
        other => panic!("no role {other}"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The start race

/// For each stamp the parent says: opens until there is an object, and says what it was like.
fn open_in_a_loop(len: usize) {
    while let Some(stamp) = hear() {
        let stamp: u64 = stamp.parse().expect("a stamp");
        let mut too_early = 0_u64;
        let end = loop {
            match Segment::<Frame>::open("cam") {
                Ok(frame) if is_complete(&frame, stamp, len) => break "complete".to_owned(),
                Ok(frame) => break format!("a bad open: {:?}", frame.stamp),
                Err(Error::NotFound { .. }) => too_early += 1,
                Err(error) => break format!("a bad open: {error:?}"),
            }
            if too_early == 1 {
                say("looping");
            }
        };
        say(&format!("{end} {too_early}"));
    }
}

#[test]
fn an_opener_gets_nothing_or_a_complete_object() {
    const OPENERS: u64 = 2;
    let races = times(100, 1_000);
    for size in [64, 1 << 20, 8 << 20] {
        let dir = Dir::new();
        let len = size - size_of::<u64>();
        let text = len.to_string();
        let mut openers: Vec<Child> = (0..OPENERS).map(|_| spawn(dir.path(), "open in a loop", &[&text])).collect();
        let (mut opens, mut too_early) = (0, 0);
        let start = Instant::now();
        for stamp in 1..=races / OPENERS {
            openers.iter_mut().for_each(|opener| opener.say(&stamp.to_string()));
            openers.iter_mut().for_each(|opener| opener.expect("looping"));
            let frame = create(&dir.name("cam"), stamp, len).expect("a fresh object");
            for opener in &mut openers {
                let said = opener.hear().expect("an answer");
                let missed = said.strip_prefix("complete ").unwrap_or_else(|| panic!("{said}"));
                opens += 1;
                too_early += missed.parse::<u64>().expect("a number");
            }
            drop(frame);
            assert!(dir.files().is_empty());
        }
        assert_eq!(opens, races);
        println!("{size} bytes: {opens} races, {too_early} times not found, 0 bad, {:?}", start.elapsed());
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Creators that are killed

/// What must hold whenever a creator was killed: the next open finds nothing, the next create works and is opened.
fn creation_works(dir: &Dir) {
    match Segment::<Frame>::open(dir.name("cam")) {
        Err(Error::NotFound { .. }) => {}
        other => panic!("its only user is dead: {other:?}"),
    }
    let frame = create(&dir.name("cam"), 2, 1000).expect("the name is free");
    assert_eq!(frame.origin(), Origin::Created);
    assert!(is_complete(&Segment::open(dir.name("cam")).expect("it is there"), 2, 1000));
    drop(frame);
    assert_eq!(dir.files(), [""; 0], "a stray file");
}

#[test]
fn a_creator_killed_before_during_or_after_creation_leaves_nothing_in_the_way() {
    let dir = Dir::new();
    for (phase, named) in [("before", false), ("during", false), ("after", true)] {
        let mut creator = spawn(dir.path(), "create", &["100000", phase]);
        while creator.hear().expect("it lives") != phase {}
        creator.kill();
        assert_eq!(!dir.files().is_empty(), named, "killed {phase} creation");
        creation_works(&dir);
    }
}

#[test]
fn a_creator_killed_at_any_time_of_its_first_15_ms_leaves_nothing_in_the_way() {
    let dir = Dir::new();
    let mut random = Random::new();
    let (kills, mut named) = (times(60, 300), 0);
    for _ in 0..kills {
        let start = Instant::now();
        let mut creator = spawn(dir.path(), "create", &["4000000", "never"]);
        let at = Duration::from_micros(random.below(15_000));
        std::thread::sleep(at.saturating_sub(start.elapsed()));
        creator.kill();
        named += u64::from(!dir.files().is_empty());
        if random.below(2) == 0 {
            creation_works(&dir);
        } else {
            // The first to come may also be a create.
            drop(create(&dir.name("cam"), 3, 10).expect("the name is free"));
            assert_eq!(dir.files(), [""; 0], "a stray file");
        }
    }
    println!("{kills} kills, {named} of them after the object had its name");
}

// ---------------------------------------------------------------------------------------------------------------
// The last user and the next one

/// Says how often it created the object.
fn come_and_go(count: u64) {
    let mut created = 0;
    for _ in 0..count {
        let mine = SharedMemory::open_or_create("cam", 16, &Options::new()).expect("one or the other");
        let found = SharedMemory::open("cam").map(|found| found.id());
        assert!(matches!(found, Ok(id) if id == mine.id()), "the name of a living object leads to {found:?}");
        created += u64::from(mine.origin() == Origin::Created);
    }
    say(&created.to_string());
}

#[test]
fn nobody_joins_an_object_that_its_last_user_takes_the_name_of() {
    const USERS: u64 = 3;
    let count = times(5_000, 100_000);
    let dir = Dir::new();
    let mut users: Vec<Child> = (0..USERS).map(|_| spawn(dir.path(), "come and go", &[&count.to_string()])).collect();
    let created = users.iter_mut().map(|user| user.hear().expect("it found nothing wrong"));
    let created: u64 = created.map(|number| number.parse::<u64>().expect("a number")).sum();
    users.into_iter().for_each(|user| assert!(user.finish().success()));
    assert_eq!(dir.files(), [""; 0]);
    println!("{} attaches of {USERS} processes to {created} objects, one after the other", USERS * count);
    assert!(created > 100 && created < USERS * count, "no race: {created}");
}

#[test]
fn of_two_who_close_an_object_at_once_one_takes_its_name() {
    let dir = Dir::new();
    let together = Barrier::new(2);
    for _ in 0..times(5_000, 20_000) {
        let first = SharedMemory::create(dir.name("cam"), 16, &Options::new()).expect("the name is free");
        let second = SharedMemory::open(dir.name("cam")).expect("it is there");
        std::thread::scope(|scope| {
            for user in [first, second] {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    drop(user);
                });
            }
        });
        assert_eq!(dir.files(), [""; 0], "each took the other for alive");
    }
}

#[test]
fn raw_objects_of_dead_creators_leave_nothing_in_the_way_either() {
    let dir = Dir::new();
    let mut creator = spawn(dir.path(), "create", &["1000", "never"]);
    while creator.hear().expect("it lives") != "after" {}
    creator.kill();
    let raw = SharedMemory::create(dir.name("cam"), 10, &Options::new()).expect("the name is free");
    assert_eq!((raw.origin(), raw.size()), (Origin::Created, 10));
}
