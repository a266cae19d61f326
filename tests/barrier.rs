//! Barriers between threads and real processes.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, times};
use memlane::{
    Barrier, LockError, Name, Options, OwnerId, Party, Passed, Region, Segment, Shareable, Until, WaitError, retire,
};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    arrived: AtomicU64,
    last: AtomicU64,
    two: Barrier<2>,
    three: Barrier<3>,
}

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, (), &Options::new(), |_| ()).expect("a fresh object")
}

fn patiently() -> Until {
    Until::timeout(PATIENCE)
}

fn at_once() -> Until {
    Until::timeout(Duration::ZERO)
}

fn is_broken_by(ended: &Result<Passed, WaitError>, pid: u32) -> bool {
    matches!(ended, Err(WaitError::Broken { who: Some(who), .. }) if who.pid == pid)
}

fn waits_for(ended: &Result<Passed, WaitError>, pid: u32) -> bool {
    matches!(ended, Err(WaitError::TimedOut { peer: Some(who), .. }) if who.pid == pid)
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let shared = Segment::<Shared>::open("b").expect("the parent's object");
    match role.as_str() {
        // Waits each time it is told to.
        "party" => {
            let mut party = shared.two.join(&shared).expect("a seat");
            say("here");
            while let Some(word) = hear() {
                match word.as_str() {
                    "wait" => say(&format!("{:?}", party.wait(patiently()).map(|passed| passed.phase))),
                    "arrive" => say(&format!("{:?}", waits_in_vain(&mut party))),
                    "leave" => break,
                    other => panic!("no word {other}"),
                }
            }
            drop(party);
            say("left");
            hear();
        }
        "walk" => walk(&shared, times(200, 20_000)),
        other => panic!("no role {other}"),
    }
}

fn waits_in_vain<const PARTIES: usize>(party: &mut Party<'_, PARTIES>) -> bool {
    matches!(party.wait(at_once()), Err(WaitError::TimedOut { .. }))
}

/// Walks through so many phases with two others: all have arrived at each, and one of them is the last.
fn walk(shared: &Segment<Shared>, phases: u64) {
    let mut party = shared.three.join(shared).expect("a seat");
    for phase in 1..=phases {
        shared.arrived.fetch_add(1, Ordering::Relaxed);
        let passed = party.wait(patiently()).expect("all come");
        let arrived = shared.arrived.load(Ordering::Relaxed);
        assert!((3 * phase..3 * phase + 3).contains(&arrived), "{arrived} in phase {phase}");
        assert_eq!(passed.phase, phase);
        shared.last.fetch_add(u64::from(passed.last), Ordering::Relaxed);
    }
}

fn start(dir: &Dir) -> Child {
    let mut child = spawn(dir.path(), "party", &[]);
    child.expect("here");
    child
}

/// Returns when somebody sleeps, or is about to.
fn wait_for_a_waiter(dir: &Dir) {
    let bytes = Region::open(dir.name("b")).expect("it is there");
    let (start, mut word) = (Instant::now(), [0; 4]);
    while u32::from_ne_bytes(word) & 1 == 0 {
        assert!(start.elapsed() < PATIENCE, "nobody waits");
        std::thread::yield_now();
        bytes.read_at(offset_of!(Shared, two), &mut word).expect("inside");
    }
}

#[test]
fn nobody_passes_before_all_have_arrived() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let phases = if cfg!(miri) { 4 } else { times(2_000, 50_000) };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| walk(&shared, phases)))));
    assert_eq!(shared.last.load(Ordering::Relaxed), phases, "one is the last of each phase");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn processes_pass_together() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let walkers: Vec<Child> = (0..3).map(|_| spawn(dir.path(), "walk", &[])).collect();
    walkers.into_iter().for_each(|walker| assert!(walker.finish().success()));
    assert_eq!(shared.last.load(Ordering::Relaxed), times(200, 20_000), "nobody died: one is the last of each");
    assert!(!shared.three.is_broken());
}

#[test]
fn an_arrival_outlives_the_time_of_its_wait() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let (mut one, mut other) = (shared.two.join(&shared).expect("a seat"), shared.two.join(&shared).expect("a seat"));
    for phase in [1, 2] {
        assert!(waits_for(&one.wait(Until::timeout(SHORT)), std::process::id()), "the other is named");
        let (others, its) = (other.wait(at_once()).expect("both"), one.wait(at_once()).expect("the same phase"));
        assert_eq!((others.phase, others.last, its.phase, its.last), (phase, true, phase, false));
    }
}

#[test]
fn there_are_as_many_seats_as_parties() {
    let dir = Dir::new();
    let (shared, elsewhere) = (create(&dir.name("b")), create(&dir.name("c")));
    assert!(matches!(shared.two.join(&elsewhere), Err(LockError::NotInSegment { .. })));
    let (one, _other) = (shared.two.join(&shared).expect("a seat"), shared.two.join(&shared).expect("a seat"));
    let refused = shared.two.join(&shared).expect_err("no third").to_string();
    assert!(refused.starts_with("no seat of `two` of 'b' is free, waited "), "{refused}");
    drop(one);
    drop(shared.two.join(&shared).expect("nobody has arrived: the seat is free"));
    assert!(!shared.two.is_broken() && !shared.two.reset(&shared).expect("it lives"), "there is nothing to mend");
}

#[test]
fn who_leaves_in_the_middle_of_a_phase_breaks_it() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let (mut one, other) = (shared.two.join(&shared).expect("a seat"), shared.two.join(&shared).expect("a seat"));
    assert!(waits_in_vain(&mut one));
    drop(other);
    assert!(shared.two.is_broken());
    for _ in 0..2 {
        let ended = one.wait(patiently());
        assert!(is_broken_by(&ended, std::process::id()), "{ended:?}");
        let text = ended.expect_err("it is broken").to_string();
        assert!(text.starts_with("the barrier `two` of 'b' is broken, pid "), "{text}");
    }
    assert!(matches!(shared.two.join(&shared), Err(LockError::NoneFree { .. })), "the seat names who has left");
    assert!(shared.two.reset(&shared).expect("it lives") && !shared.two.reset(&shared).expect("it lives"));
    let mut next = shared.two.join(&shared).expect("the seat is free");
    assert!(waits_in_vain(&mut one) && next.wait(at_once()).expect("both").last && one.wait(at_once()).is_ok());
}

/// Of a broken barrier seats can be left, and taken: what was left is nobody's when it is mended.
#[test]
fn seats_of_a_broken_barrier_are_left_and_taken() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let victim = Segment::<Shared>::open(dir.name("b")).expect("the same object");
    std::mem::forget(victim.two.join(&victim).expect("a seat"));
    drop(victim);
    let mut one = shared.two.join(&shared).expect("a seat");
    assert!(matches!(one.wait(at_once()), Err(WaitError::Broken { .. })));
    drop(one);
    drop(shared.two.join(&shared).expect("the seat that was left"));
    assert!(shared.two.reset(&shared).expect("nobody else is at it"));
    let mut both = [(); 2].map(|()| shared.two.join(&shared).expect("a seat"));
    assert!(waits_in_vain(&mut both[0]) && both[1].wait(at_once()).is_ok());
}

/// Also who has arrived, and not heard of it.
#[test]
fn who_has_arrived_and_leaves_breaks_it_too() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let (mut one, mut other) = (shared.two.join(&shared).expect("a seat"), shared.two.join(&shared).expect("a seat"));
    assert!(waits_in_vain(&mut one));
    drop(one);
    assert!(is_broken_by(&other.wait(patiently()), std::process::id()));
    // One that had arrived when it was reset begins anew.
    assert!(shared.two.reset(&shared).expect("it lives"));
    let mut next = shared.two.join(&shared).expect("the seat is free");
    assert!(waits_in_vain(&mut other), "an arrival is left from before");
    assert!(next.wait(at_once()).expect("both are there").last && other.wait(at_once()).is_ok());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "reads bytes that others change: a race, if there are no two mappings")]
fn a_wait_ends_when_the_object_is_retired() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| shared.two.join(&shared).expect("a seat").wait(patiently()));
        wait_for_a_waiter(&dir);
        retire(dir.name("b")).expect("it is there");
        let ended = waiter.join().expect("no panic");
        assert!(matches!(ended, Err(WaitError::Lock(LockError::Retired { .. }))), "{ended:?}");
    });
    assert!(matches!(shared.two.join(&shared), Err(LockError::Retired { .. })));
    assert!(matches!(shared.two.reset(&shared), Err(LockError::Retired { .. })));
}

#[test]
fn a_wait_ends_when_the_peer_is_lost() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let gone = Segment::<Shared>::open(dir.name("b")).expect("the same object").region().owner();
    let mut party = shared.two.join(&shared).expect("a seat");
    let ended = party.wait(patiently().or_peer_lost(gone));
    assert!(matches!(ended, Err(WaitError::PeerLost { .. })), "{ended:?}");
    let mut other = shared.two.join(&shared).expect("a seat");
    assert!(other.wait(at_once()).is_ok() && party.wait(at_once().or_peer_lost(OwnerId::NOBODY)).is_ok());
}

/// An attachment that closes is dead to all others.
#[test]
fn a_death_breaks_it_until_it_is_reset() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let victim = Segment::<Shared>::open(dir.name("b")).expect("the same object");
    std::mem::forget(victim.two.join(&victim).expect("a seat"));
    let mut one = shared.two.join(&shared).expect("a seat");
    assert!(waits_in_vain(&mut one), "it lives");
    drop(victim);
    assert!(matches!(one.wait(Until::forever()), Err(WaitError::Broken { who: Some(_), .. })));
    assert!(matches!(one.wait(Until::forever()), Err(WaitError::Broken { .. })), "and those who come later");
    assert!(shared.two.join(&shared).is_err(), "the dead one has its seat");
    assert!(shared.two.reset(&shared).expect("it lives"));
    let mut next = shared.two.join(&shared).expect("its seat");
    assert!(waits_in_vain(&mut one) && next.wait(at_once()).is_ok() && one.wait(at_once()).is_ok());
}

/// What nobody has noticed can be mended as well.
#[test]
fn the_seats_of_the_dead_are_given_back_though_nobody_waited() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let victim = Segment::<Shared>::open(dir.name("b")).expect("the same object");
    (0..2).for_each(|_| std::mem::forget(victim.two.join(&victim).expect("a seat")));
    drop(victim);
    assert!(!shared.two.is_broken() && shared.two.join(&shared).is_err());
    assert!(shared.two.reset(&shared).expect("it lives"));
    let _both = [(); 2].map(|()| shared.two.join(&shared).expect("a seat"));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_killed_party_is_named() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let mut one = shared.two.join(&shared).expect("a seat");
    let mut child = start(&dir);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| (one.wait(Until::forever()), one));
        wait_for_a_waiter(&dir);
        child.kill();
        let (ended, mut one) = waiter.join().expect("no panic");
        assert!(is_broken_by(&ended, child.pid()), "{ended:?}");
        assert!(is_broken_by(&one.wait(at_once()), child.pid()), "whoever comes later is told too");
    });
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_phase_at_which_the_dead_has_arrived_is_passed_and_the_next_is_broken() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let mut child = start(&dir);
    let mut one = shared.two.join(&shared).expect("a seat");
    child.say("arrive");
    child.expect("true");
    child.kill();
    let passed = one.wait(patiently()).expect("both have arrived");
    assert_eq!((passed.phase, passed.last), (1, true));
    assert!(is_broken_by(&one.wait(patiently()), child.pid()));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn a_seat_that_was_left_between_phases_is_anothers() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let mut one = shared.two.join(&shared).expect("a seat");
    for phase in 1..=3 {
        let mut child = start(&dir);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| one.wait(patiently()).map(|passed| passed.phase));
            child.say("wait");
            child.expect(&format!("Ok({phase})"));
            assert_eq!(waiter.join().expect("no panic").expect("both have arrived"), phase);
        });
        child.say("leave");
        child.expect("left");
    }
    assert!(!shared.two.is_broken());
}

/// Parties that are killed at any moment, and those who live reset what was broken: each of theirs passes again.
#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn whoever_lives_goes_on_after_each_death() {
    let dir = Dir::new();
    let shared = create(&dir.name("b"));
    let mut party = shared.two.join(&shared).expect("a seat");
    let (mut passed, mut broken) = (0, 0);
    for round in 0..times(15, 400) {
        let mut child = start(&dir);
        // A death before it arrives, at some moment, whichever, or after the other has passed.
        match round % 3 {
            0 => child.kill(),
            1 => {
                child.say("wait");
                std::thread::sleep(Duration::from_micros(round * 37 % 400));
                child.kill();
            }
            _ => child.say("wait"),
        }
        match party.wait(patiently()) {
            Ok(_) => passed += 1,
            Err(WaitError::Broken { who: Some(who), .. }) => {
                assert_eq!(who.pid, child.pid());
                broken += 1;
            }
            Err(other) => panic!("a wait that nothing ended: {other}"),
        }
        child.kill();
        shared.two.reset(&shared).expect("it lives");
    }
    assert!(passed > 0 && broken > 0, "{passed} passed, {broken} broken");
}
