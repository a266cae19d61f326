//! Programs that are careless or unlucky: forgotten guards, raw access to typed objects, garbage where the library
//! keeps its own words, a peer that leaves while everybody is busy.
#![allow(missing_docs)]

mod common;

use common::Dir;
use memlane::{
    Attached, Condvar, Error, LockError, Locked, Mutex, Options, OwnerId, Persistence, Segment, Shareable,
    SharedMemory, Until, WaitError, list,
};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A public struct whose last field's type is private.
#[derive(Debug, Shareable)]
#[repr(C)]
pub struct Shared {
    changed: Condvar,
    state: Mutex<Private>,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Private {
    waiting: u64,
    tail: [u8],
}

fn create(dir: &Dir, options: &Options) -> Segment<Shared> {
    Segment::create(dir.name("x"), 8, options, |_| ()).expect("fresh")
}

fn scribble(dir: &Dir, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(dir.path().join("x")).expect("the object's file");
    file.write_all_at(bytes, offset).expect("room");
}

#[test]
fn a_typed_object_cannot_be_written_as_bytes() {
    let dir = Dir::new();
    let _shared = create(&dir, &Options::new());
    match SharedMemory::open(dir.name("x")).expect("it is there").map_mut() {
        Err(Error::TypeMismatch { difference, .. }) => assert!(difference.contains("Shared"), "{difference}"),
        other => panic!("expected a mismatch, got {other:?}"),
    }
    assert!(SharedMemory::open(dir.name("x")).expect("it is there").map().is_ok(), "reading is harmless");
}

#[test]
fn a_forgotten_guard_locks_only_as_long_as_its_attachment_lives() {
    let dir = Dir::new();
    let kept = Options::new().persistence(Persistence::Keep);
    let shared = create(&dir, &kept);
    std::mem::forget(shared.state.lock(&shared).expect("the lock"));
    assert!(matches!(shared.state.try_lock(&shared), Err(LockError::AlreadyLocked { .. })));
    drop(shared);
    let shared = Segment::<Shared>::open(dir.name("x")).expect("kept");
    assert!(matches!(shared.state.try_lock(&shared), Ok(Locked::OwnerDied(_))), "its holder is gone");
}

#[test]
fn garbage_in_the_participant_table_does_not_give_a_lock_away_within_a_process() {
    let dir = Dir::new();
    let shared = create(&dir, &Options::new());
    let _guard = shared.state.lock(&shared).expect("the lock");
    scribble(&dir, 256, &77_u32.to_ne_bytes()); // the generation of slot 0, which is this process
    std::thread::scope(|scope| {
        let other = scope.spawn(|| matches!(shared.state.try_lock(&shared), Err(LockError::TimedOut { .. })));
        assert!(other.join().expect("no panic"));
    });
}

#[test]
fn a_garbage_state_is_damage_and_not_a_death() {
    let dir = Dir::new();
    let shared = create(&dir, &Options::new());
    scribble(&dir, 128, &[9]);
    assert!(matches!(Segment::<Shared>::open(dir.name("x")), Err(Error::Corrupt { field: "state", .. })));
    assert!(list(Some(dir.path())).expect("the directory")[0].problem.is_some());
    assert!(memlane::gc(Some(dir.path()), false).expect("the directory").is_empty());
    assert_eq!(dir.files(), ["x"], "a living object is not taken for a dead one");
    memlane::remove(dir.name("x")).expect("it can be removed by hand");
    drop(shared);
}

#[test]
fn a_lost_peer_is_told_also_when_somebody_holds_the_lock_at_that_moment() {
    let dir = Dir::new();
    let shared = create(&dir, &Options::new());
    let peer = Segment::<Shared>::open(dir.name("x")).expect("the same object");
    let until = Until::forever().or_peer_lost(peer.region().owner());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            state.waiting = 1;
            shared.changed.wait_while(state, until, |_| true).map(drop)
        });
        // Once this thread sees `waiting`, the other has given the lock back and waits.
        let guard = loop {
            let guard = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            if guard.waiting == 1 {
                break guard;
            }
        };
        drop(peer);
        let held = Instant::now();
        while held.elapsed() < Duration::from_millis(120) {
            std::hint::spin_loop(); // longer than the longest slice: the waiter finds the lock held
        }
        drop(guard);
        assert!(matches!(waiter.join().expect("no panic"), Err(WaitError::PeerLost { .. })));
    });
}

#[test]
fn a_lost_peer_is_told_also_when_the_lock_cannot_be_had_in_time() {
    let dir = Dir::new();
    let shared = create(&dir, &Options::new());
    let peer = Segment::<Shared>::open(dir.name("x")).expect("the same object");
    let until = Until::timeout(Duration::from_secs(2)).or_peer_lost(peer.region().owner());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            state.waiting = 1;
            shared.changed.wait_while(state, until, |_| true).map(drop)
        });
        let _held = loop {
            let guard = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            if guard.waiting == 1 {
                break guard;
            }
        };
        drop(peer);
        assert!(matches!(waiter.join().expect("no panic"), Err(WaitError::PeerLost { .. })));
    });
}

#[test]
fn a_peer_that_is_gone_is_told_also_when_the_time_is_over() {
    let dir = Dir::new();
    let shared = create(&dir, &Options::new());
    let gone = Segment::<Shared>::open(dir.name("x")).expect("the same object").region().owner();
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    let until = Until::timeout(Duration::ZERO).or_peer_lost(gone);
    assert!(matches!(shared.changed.wait_while(state, until, |_| true), Err(WaitError::PeerLost { .. })));
}

#[test]
fn a_wait_for_a_name_is_not_disturbed_by_others_in_the_directory() {
    let dir = Dir::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for neighbour in ["a", "b"] {
            let name = dir.name(neighbour);
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    drop(SharedMemory::create(&name, 8, &Options::new()).expect("a name of its own"));
                }
            });
        }
        let waits = (0..40).map(|_| Segment::<Shared>::wait_for(dir.name("x"), Some(Duration::from_millis(5))));
        let disturbed: Vec<_> = waits.filter(|wait| !matches!(wait, Err(Error::TimedOut { .. }))).collect();
        done.store(true, Ordering::Relaxed);
        assert!(disturbed.is_empty(), "{disturbed:?}");
    });
}

#[test]
fn nobody_is_no_peer() {
    let dir = Dir::new();
    let shared = create(&dir, &Options::new());
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    let until = Until::timeout(Duration::from_millis(20)).or_peer_lost(OwnerId::NOBODY);
    assert!(matches!(shared.changed.wait_while(state, until, |_| true), Err(WaitError::TimedOut { .. })));
}

#[test]
fn a_wait_for_a_name_keeps_its_time_also_when_the_directory_is_held() {
    let dir = Dir::new();
    let directory = std::fs::File::open(dir.path()).expect("the directory");
    directory.lock().expect("nobody else has it");
    let (done, ended) = mpsc::channel();
    let name = dir.name("x");
    std::thread::spawn(move || {
        let result = Segment::<Shared>::wait_for(&name, Some(Duration::from_millis(50))).map(drop);
        done.send(matches!(result, Err(Error::Busy { .. }))).expect("the test listens");
    });
    // The directory's own patience is 5 s.
    assert_eq!(ended.recv_timeout(Duration::from_secs(4)), Ok(true));
}

#[test]
fn a_link_behind_a_slash_is_a_link() {
    let dir = Dir::new();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    std::fs::create_dir(&real).expect("a directory");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    for path in [format!("{}", link.display()), format!("{}/", link.display())] {
        let name = memlane::Name::new("x").expect("a name").in_directory(path);
        assert!(matches!(SharedMemory::create(name, 8, &Options::new()), Err(Error::Directory { .. })));
    }
}

#[test]
fn a_shared_handle_can_be_locked_with() {
    fn owner(by: &impl Attached) -> OwnerId {
        by.region().owner()
    }
    let dir = Dir::new();
    let shared = Arc::new(create(&dir, &Options::new()));
    assert!(shared.state.lock(&shared).is_ok());
    assert_eq!(owner(&&shared), owner(&*shared));
}
