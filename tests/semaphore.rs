//! Semaphores between threads and real processes.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, times};
use memlane::{LockError, Name, Options, Permit, Region, Segment, Semaphore, Shareable, held_locks, retire};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    inside: AtomicU64,
    most: AtomicU64,
    slots: Semaphore<3>,
}

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, (), &Options::new(), |_| ()).expect("a fresh object")
}

fn all(shared: &Segment<Shared>) -> [Permit<'_>; 3] {
    std::array::from_fn(|_| shared.slots.try_acquire(shared).expect("it is free"))
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let shared = Segment::<Shared>::open("s").expect("the parent's object");
    match role.as_str() {
        "hold one" => {
            let _permit = shared.slots.acquire(&shared).expect("a permit");
            say("held");
            hear();
        }
        "hold two" => {
            let _permits = [(); 2].map(|()| shared.slots.acquire(&shared).expect("a permit"));
            say("held");
            hear();
        }
        "wait" => {
            say("here");
            let _permit = shared.slots.acquire(&shared).expect("a permit");
            say("got it");
            hear();
        }
        "come and go" => come_and_go(&shared, times(300, 10_000)),
        other => panic!("no role {other}"),
    }
}

/// Takes permits and gives them back; never are more inside than there are permits.
fn come_and_go(shared: &Segment<Shared>, rounds: u64) {
    for _ in 0..rounds {
        let permit = shared.slots.acquire_timeout(shared, PATIENCE).expect("a permit");
        let inside = shared.inside.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(inside, Ordering::SeqCst);
        assert!(inside <= 3, "{inside} are inside");
        std::thread::yield_now();
        shared.inside.fetch_sub(1, Ordering::SeqCst);
        drop(permit);
    }
}

fn start(dir: &Dir, role: &str, says: &str) -> Child {
    let mut child = spawn(dir.path(), role, &[]);
    child.expect(says);
    child
}

/// Returns when somebody sleeps, or is about to, for a permit.
fn wait_for_a_waiter(dir: &Dir) {
    let bytes = Region::open(dir.name("s")).expect("it is there");
    let (start, mut word) = (Instant::now(), [0; 4]);
    while u32::from_ne_bytes(word) & 1 == 0 {
        assert!(start.elapsed() < PATIENCE, "nobody waits");
        std::thread::yield_now();
        bytes.read_at(offset_of!(Shared, slots), &mut word).expect("inside");
    }
}

#[test]
fn permits_are_taken_and_come_back() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    let other = Segment::<Shared>::open(dir.name("s")).expect("the same object");
    assert_eq!(shared.slots.available(&other), 3, "zeroed, all are free");
    let [first, second, third] = all(&shared);
    for by in [&shared, &other] {
        assert_eq!(by.slots.available(by), 0);
        for refused in [by.slots.try_acquire(by), by.slots.acquire_timeout(by, SHORT)] {
            assert!(matches!(refused, Err(LockError::NoneFree { of: "permit", .. })), "{refused:?}");
        }
    }
    drop(second);
    assert_eq!(other.slots.available(&other), 1);
    let taken = other.slots.acquire(&other).expect("what was given back");
    std::thread::scope(|scope| scope.spawn(|| drop((first, third))).join().expect("any thread gives it back"));
    assert_eq!(shared.slots.available(&shared), 2);
    drop(taken);
    assert_eq!(shared.slots.available(&shared), 3);
}

#[test]
fn a_permit_of_an_attachment_that_closed_is_free() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    let other = Segment::<Shared>::open(dir.name("s")).expect("the same object");
    all(&other).into_iter().for_each(std::mem::forget);
    assert_eq!((shared.slots.available(&shared), other.slots.available(&other)), (0, 0));
    assert!(shared.slots.try_acquire(&shared).is_err(), "it lives");
    drop(other);
    assert_eq!(shared.slots.available(&shared), 3);
    drop(all(&shared));
}

#[test]
fn no_more_are_inside_than_there_are_permits() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| come_and_go(&shared, if cfg!(miri) { 3 } else { times(1_000, 20_000) }));
        }
    });
    assert_eq!(shared.slots.available(&shared), 3);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "reads bytes that others change: a race, if there are no two mappings")]
fn a_wait_ends_when_a_permit_comes_back_or_the_object_is_retired() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    let (first, _others) = {
        let [first, second, third] = all(&shared);
        (first, [second, third])
    };
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let waits = || tell.send(shared.slots.acquire(&shared).map(std::mem::forget)).expect("the test listens");
        scope.spawn(waits);
        wait_for_a_waiter(&dir);
        drop(first);
        assert!(told.recv_timeout(PATIENCE).expect("it ends").is_ok());
        scope.spawn(waits);
        wait_for_a_waiter(&dir);
        retire(dir.name("s")).expect("it is there");
        assert!(matches!(told.recv_timeout(PATIENCE), Ok(Err(LockError::Retired { .. }))));
    });
    for refused in [shared.slots.try_acquire(&shared), shared.slots.acquire(&shared)] {
        assert!(matches!(refused, Err(LockError::Retired { .. })));
    }
}

#[test]
fn a_free_permit_of_a_retired_object_is_refused() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    retire(dir.name("s")).expect("it is there");
    assert!(matches!(shared.slots.acquire(&shared), Err(LockError::Retired { .. })));
    assert_eq!(shared.slots.available(&shared), 3, "nobody has taken it");
}

#[test]
fn a_semaphore_elsewhere_is_refused() {
    let dir = Dir::new();
    let (one, two) = (create(&dir.name("one")), create(&dir.name("two")));
    assert!(matches!(one.slots.acquire(&two), Err(LockError::NotInSegment { .. })));
    assert_eq!(one.slots.available(&one), 3);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_timeout_names_the_holders() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    let mine = shared.slots.acquire(&shared).expect("it is free");
    let child = start(&dir, "hold two", "held");
    let Err(LockError::NoneFree { holders, waited, .. }) = shared.slots.acquire_timeout(&shared, SHORT) else {
        panic!("all are taken")
    };
    let mut pids: Vec<u32> = holders.iter().map(|who| who.pid).collect();
    pids.sort_unstable();
    let mut expected = [std::process::id(), child.pid()];
    expected.sort_unstable();
    assert_eq!(pids, expected, "each of them once");
    assert!(waited >= SHORT);
    let text = shared.slots.try_acquire(&shared).expect_err("all are taken").to_string();
    assert!(text.starts_with("no permit of `slots` of 's' is free, waited "), "{text}");
    assert!(text.contains(&format!("pid {} (", child.pid())) && text.contains(") have them; look at "), "{text}");
    let held = held_locks(dir.name("s")).expect("it can be read");
    assert!(held.iter().all(|held| held.alive && held.lock == "slots"));
    assert_eq!(held.iter().filter(|held| held.holder.as_ref().is_some_and(|who| who.pid == child.pid())).count(), 2);
    assert_eq!(held.len(), 3);
    drop(mine);
    assert_eq!(held_locks(dir.name("s")).expect("it can be read").len(), 2);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn the_permits_of_a_killed_holder_come_back() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    let mut child = start(&dir, "hold two", "held");
    let _mine = shared.slots.acquire(&shared).expect("the third");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| [(); 2].map(|()| shared.slots.acquire(&shared).expect("a dead one's")));
        wait_for_a_waiter(&dir);
        child.kill();
        let permits = waiter.join().expect("no panic");
        assert_eq!(shared.slots.available(&shared), 0);
        drop(permits);
    });
    assert_eq!(shared.slots.available(&shared), 2);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_killed_waiter_leaves_it_to_the_others() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    let permits = all(&shared);
    let mut victim = start(&dir, "wait", "here");
    wait_for_a_waiter(&dir);
    let mut other = start(&dir, "wait", "here");
    victim.kill();
    drop(permits);
    other.expect("got it");
    assert_eq!(shared.slots.available(&shared), 2);
}

/// Some hold, some wait, some come and go; all of them are killed at any time.
#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn nobody_killed_takes_permits_along_or_lets_too_many_in() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    for round in 0..times(10, 300) {
        let mut victims = [start(&dir, "hold one", "held"), spawn(dir.path(), "wait", &[])];
        // Whoever holds nothing that is to be killed goes in and out of what is left.
        let runner = spawn(dir.path(), "come and go", &[]);
        std::thread::sleep(Duration::from_micros(round * 379 % 5_000)); // a death at some moment, whichever
        victims.iter_mut().for_each(Child::kill);
        assert!(runner.finish().success(), "too many were inside, or a permit did not come back");
        drop(all(&shared));
    }
    assert!(shared.most.load(Ordering::Relaxed) > 0);
}
