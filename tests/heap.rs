//! Many processes in one, over an operating system on the heap (`src/sys/heap.rs`), for Miri and ThreadSanitizer: each
//! attachment is a participant of its own, and all of them have the object at the same address, so that a missing
//! ordering between any two is seen. Without that system nothing of this is compiled; `./check` says how to run it, or
//! `RUSTFLAGS='--cfg memlane_heap' cargo test --test heap --target-dir target/heap`.
#![cfg(any(miri, memlane_heap))]
#![allow(missing_docs)]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Dir, times};
use memlane::heap::{peek, poke};
use memlane::{
    Condvar, Error, Event, LockError, Locked, Mutex, MutexGuard, Name, Options, Origin, OwnerId, Persistence, Region,
    Segment, Shareable, SharedMemory, Until, WaitError, gc, list, lock_both, remove, retire, space,
};
use random::Random;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

// Where things lie in an object, as docs/DESIGN.md draws it.
const STATE: u64 = 128;
const TABLE: u64 = 256;
const DATA: u64 = 12_288;
const WORD: u64 = DATA + offset_of!(Shared, state) as u64;

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    changed: Condvar,
    event: Event,
    state: Mutex<State>,
    other: Mutex<u64>,
    flag: AtomicU64,
    /// Written when the object is made, and never again.
    made: [u64; 8],
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct State {
    value: u64,
    copy: u64,
    waiting: u64,
    peer: OwnerId,
}

/// Few under Miri, which is a thousand times slower.
fn rounds(miri: u64, short: u64) -> u64 {
    if cfg!(miri) { miri } else { times(short, 20 * short) }
}

fn create(name: &Name) -> Segment<Shared> {
    let built = Segment::create(name, (), &Options::new(), |shared: &mut Shared| shared.made = [7; 8]);
    built.expect("a fresh object")
}

fn open(name: &Name) -> Segment<Shared> {
    Segment::open(name).expect("the object")
}

/// Again and again as long as the directory is busy: the 5 s after which it is are over soon on Miri's own clock, which
/// counts its steps.
fn patient<T>(mut act: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match act() {
            Err(Error::Busy { .. }) => {}
            result => break result.expect("the object, or the directory"),
        }
    }
}

fn lock(shared: &Segment<Shared>) -> MutexGuard<'_, State> {
    shared.state.lock_timeout(shared, PATIENCE).expect("the lock").or_repair(|state| state.copy = state.value)
}

// ---------------------------------------------------------------------------------------------------------------
// The life of a name

#[test]
fn a_raw_object_is_created_found_listed_and_gone() {
    let dir = Dir::new();
    let name = dir.name("raw");
    assert!(matches!(SharedMemory::open(&name), Err(Error::NotFound { .. })));
    let memory = SharedMemory::open_or_create(&name, 5000, &Options::new()).expect("fresh");
    assert_eq!((memory.origin(), memory.size()), (Origin::Created, 5000));
    let mut bytes = memory.map_mut().expect("mapped");
    let again = SharedMemory::create(&name, 1, &Options::new());
    assert!(matches!(again, Err(Error::AlreadyExists { creator: Some(_), .. })));
    bytes.write_at(4990, b"0123456789").expect("inside");
    let region = Region::open(&name).expect("it is there");
    let (mut read, mut all) = ([0; 10], vec![1; 5000]);
    region.read_at(4990, &mut read).expect("inside");
    bytes.read_at(0, &mut all).expect("inside");
    assert_eq!((&read, &all[4990..], all[..4990].iter().all(|byte| *byte == 0)), (b"0123456789", &read[..], true));
    assert!(region.read_at(4991, &mut read).is_err() && bytes.write_at(5000, &[1]).is_err());
    let listed = list(Some(dir.path())).expect("the directory");
    assert_eq!((listed.len(), listed[0].users.len(), listed[0].in_use, listed[0].stale), (1, 1, true, false));
    assert!(gc(Some(dir.path()), false).expect("the directory").is_empty(), "it is in use");
    let mut second = SharedMemory::open(&name).and_then(SharedMemory::map_mut).expect("it is there");
    second.write_at(0, &[9]).expect("inside");
    drop((bytes, region));
    assert_eq!(dir.files(), ["raw"], "somebody still uses it");
    drop(second);
    assert_eq!(dir.files(), [""; 0]);
    assert!(space(Some(dir.path())).expect("the directory").in_memory);
    let large = SharedMemory::create(&name, 1 << 50, &Options::new());
    assert!(matches!(large, Err(Error::NoSpace { .. })), "{large:?}");
}

#[test]
fn a_kept_object_stays_and_a_removed_or_retired_one_does_not() {
    let dir = Dir::new();
    let name = dir.name("kept");
    let keep = Options::new().persistence(Persistence::Keep).sparse();
    drop(Segment::<[u32]>::create(&name, 100, &keep, |numbers| numbers.fill(3)).expect("fresh"));
    assert!(gc(Some(dir.path()), false).expect("the directory").is_empty(), "it is to be kept");
    let numbers = Segment::<[u32]>::open(&name).expect("kept");
    assert!(numbers.len() == 100 && numbers.iter().all(|number| *number == 3));
    remove(&name).expect("it is there");
    assert_eq!((dir.files().len(), numbers[99]), (0, 3), "whoever uses it goes on");
    assert!(matches!(remove(&name), Err(Error::NotFound { .. })));

    let shared = create(&name);
    assert!(matches!(Segment::<[u32]>::open(&name), Err(Error::TypeMismatch { .. })));
    retire(&name).expect("it is there");
    assert!(shared.region().is_retired());
    assert!(matches!(shared.state.lock(&shared), Err(LockError::Retired { .. })));
}

#[test]
fn an_orphan_is_taken_over_or_retired() {
    let dir = Dir::new();
    let name = dir.name("orphan");
    let creator = create(&name);
    lock(&creator).value = 5;
    let user = open(&name);
    drop(creator);
    let next =
        Segment::<Shared>::create(&name, (), &Options::new(), |shared| shared.made = [0; 8]).expect("taken over");
    assert_eq!((next.origin(), lock(&next).value, next.made), (Origin::TakenOver, 5, [7; 8]));
    drop(next);
    let other = Segment::<[u64; 3]>::create(&name, (), &Options::new(), |_| ()).expect("another type");
    assert_eq!((other.origin(), user.region().is_retired()), (Origin::Created, true));
}

#[test]
fn what_has_no_name_is_handed_over_with_what_was_written() {
    let (here, there) = UnixStream::pair().expect("a pair of sockets");
    let shared = create(&Name::anonymous("cam").expect("a label"));
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let name = Name::receive_from(&there).expect("an object");
            let theirs = Segment::<Shared>::open(&name).expect("it is used");
            lock(&theirs).value = 7;
            theirs.event.set();
            name
        });
        shared.region().send_over(&here).expect("there is room");
        shared.event.take(&shared, Until::timeout(PATIENCE)).expect("it is set");
        assert_eq!(lock(&shared).value, 7);
        let name = other.join().expect("no panic");
        assert_eq!(&name, shared.region().name());
        retire(&name).expect("it is there");
        assert!(
            shared.region().is_retired()
                && matches!(Segment::<Shared>::open(&name).expect_err("it was retired"), Error::NotFound { .. })
        );
    });
    // Miri cannot send bytes over a socket, but write them.
    let mut here = File::from(OwnedFd::from(here));
    here.write_all(&[0; 232]).expect("there is room");
    let error = Name::receive_from(&there).expect_err("no object");
    assert!(matches!(error, Error::HandOver { kind: ErrorKind::InvalidData, .. }), "{error:?}");
    drop(here);
    let error = Name::receive_from(&there).expect_err("the end");
    assert!(matches!(error, Error::HandOver { kind: ErrorKind::UnexpectedEof, .. }), "{error:?}");
}

#[test]
fn whoever_finds_an_object_finds_what_its_creator_wrote() {
    for _ in 0..rounds(1, 100) {
        let dir = Dir::new();
        let name = dir.name("cam");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let found = patient(|| Segment::<Shared>::wait_for(&name, Some(PATIENCE)));
                    assert_eq!(found.made, [7; 8], "complete");
                    found.flag.fetch_add(1, Ordering::Relaxed);
                });
            }
            let made = create(&name);
            while made.flag.load(Ordering::Relaxed) < 2 {
                thread::yield_now();
            }
        });
        assert_eq!(dir.files(), [""; 0]);
    }
    let dir = Dir::new();
    let waited = Segment::<Shared>::wait_for(dir.name("cam"), Some(SHORT));
    assert!(matches!(waited, Err(Error::TimedOut { .. })));
}

#[test]
fn who_comes_and_goes_is_seen_whole_or_not_at_all() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let shared = create(&name);
    thread::scope(|scope| {
        let comes_and_goes = || {
            for _ in 0..rounds(2, 300) {
                let mine = patient(|| Segment::<Shared>::open(&name));
                let me = mine.region().owner();
                lock(&mine).peer = me;
                assert!(mine.region().is_alive(me));
            }
        };
        let users = [scope.spawn(comes_and_goes), scope.spawn(comes_and_goes)];
        while !users.iter().all(|user| user.is_finished()) {
            let listed = patient(|| list(Some(dir.path())));
            let known = |user: &memlane::Who| user.pid == std::process::id() && user.name == "on the heap";
            // A list is a copy that nothing orders: of one who has just come it may not have the name yet.
            let new = |user: &memlane::Who| user.pid == std::process::id() && user.name.is_empty();
            let right = |user: &memlane::Who| known(user) || new(user);
            assert!(listed[0].problem.is_none() && listed[0].users.iter().all(right), "{listed:?}");
            let peer = lock(&shared).peer;
            assert!(shared.region().who(peer).is_none_or(|who| known(&who)));
            let _ = shared.region().is_alive(peer);
        }
    });
    assert!(!shared.region().is_alive(lock(&shared).peer));
}

#[test]
fn a_name_that_many_open_and_create_leads_to_one_object() {
    let dir = Dir::new();
    let name = dir.name("cam");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..rounds(2, 200) {
                    let init = |new: &mut Shared| new.made = [7; 8];
                    let mine = patient(|| Segment::open_or_create(&name, (), &Options::new(), init));
                    let found = patient(|| Segment::<Shared>::open(&name));
                    assert_eq!((mine.made, found.region().id()), ([7; 8], mine.region().id()));
                    patient(|| gc(Some(dir.path()), false));
                }
            });
        }
    });
    patient(|| gc(Some(dir.path()), false)); // what was not closed in time is as if its user had died
    assert_eq!(dir.files(), [""; 0]);
}

// ---------------------------------------------------------------------------------------------------------------
// Locks

#[test]
fn what_a_lock_guards_is_changed_by_one_at_a_time() {
    const USERS: u64 = 3;
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    let count = rounds(8, 5000);
    thread::scope(|scope| {
        for _ in 0..USERS {
            scope.spawn(|| {
                let mine = open(&name);
                for round in 0..count {
                    let locked = match round % 3 {
                        0 => mine.state.try_lock(&mine),
                        1 => mine.state.lock(&mine),
                        _ => mine.state.lock_timeout(&mine, PATIENCE),
                    };
                    let state = match locked {
                        Err(LockError::TimedOut { .. }) => mine.state.lock(&mine).expect("the lock"),
                        other => other.expect("the lock"),
                    };
                    let mut state = state.or_repair(|_| panic!("nobody died"));
                    assert_eq!(state.value, state.copy);
                    state.value += 1;
                    state.copy += 1;
                }
            });
        }
    });
    assert_eq!(lock(&shared).copy, USERS * count);
}

#[test]
fn threads_of_one_attachment_exclude_each_other_too() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let count = rounds(6, 5000);
    thread::scope(|scope| {
        for turn in 0..2 {
            let shared = &shared;
            scope.spawn(move || {
                for _ in 0..count {
                    if turn == 0 {
                        let (state, other) = lock_both(&shared.state, &shared.other, shared, None).expect("both");
                        (state.or_repair(|_| ()).value, *other.or_repair(|_| ())) = (1, 2);
                    } else {
                        let (other, state) = lock_both(&shared.other, &shared.state, shared, None).expect("both");
                        (state.or_repair(|_| ()).value, *other.or_repair(|_| ())) = (3, 4);
                    }
                }
            });
        }
    });
    let ended = (lock(&shared).value, *shared.other.lock(&shared).expect("the lock").or_repair(|_| ()));
    assert!([(1, 2), (3, 4)].contains(&ended), "{ended:?}");
}

#[test]
fn what_a_dead_holder_left_is_taken_over_by_one_of_those_who_wait() {
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    for _ in 0..rounds(1, 100) {
        let holder = open(&name);
        let (held, turn) = (Barrier::new(3), Barrier::new(3));
        let marked: usize = thread::scope(|scope| {
            let waiter = || {
                let mine = open(&name);
                held.wait();
                turn.wait();
                match mine.state.lock_timeout(&mine, PATIENCE).expect("the dead keep no lock") {
                    Locked::Clean(state) => {
                        assert_eq!(state.value, state.copy);
                        0
                    }
                    Locked::OwnerDied(mut died) => {
                        died.copy = died.value;
                        drop(died.mark_consistent());
                        1
                    }
                }
            };
            let waiters = [scope.spawn(waiter), scope.spawn(waiter)];
            scope.spawn(|| {
                let mut state = lock(&holder);
                state.value += 1;
                std::mem::forget(state);
                held.wait();
                turn.wait();
                drop(holder); // detaching is a death to all others
            });
            waiters.into_iter().map(|waiter| waiter.join().expect("no panic")).sum()
        });
        assert_eq!(marked, 1, "the mark is given once");
    }
    assert_eq!(lock(&shared).value, rounds(1, 100));
}

#[test]
fn a_lock_says_what_is_wrong() {
    let dir = Dir::new();
    let (name, again) = (dir.name("m"), dir.name("n"));
    let (shared, elsewhere) = (create(&name), create(&again));
    let same = open(&name);
    let guard = lock(&shared);
    assert!(matches!(same.state.lock(&same), Err(LockError::AlreadyLocked { .. })));
    assert!(matches!(shared.other.lock(&elsewhere), Err(LockError::NotInSegment { .. })));
    let waits = || {
        let mine = open(&name);
        match mine.state.lock_timeout(&mine, SHORT) {
            Err(LockError::TimedOut { holder: Some(holder), cycle, .. }) => {
                assert!(holder.pid == std::process::id() && cycle.is_empty(), "{holder:?} {cycle:?}");
            }
            other => panic!("it is held: {other:?}"),
        }
    };
    thread::scope(|scope| scope.spawn(waits).join().expect("no panic"));
    drop(guard);
    let panics = || {
        let _guard = lock(&shared);
        std::panic::resume_unwind(Box::new(()));
    };
    assert!(thread::scope(|scope| scope.spawn(panics).join().is_err()));
    assert!(matches!(same.state.try_lock(&same), Ok(Locked::OwnerDied(_))));
}

#[test]
fn a_deadlock_between_two_attachments_is_named() {
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    let both = Barrier::new(2);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mine = open(&name);
            let _other = mine.other.lock(&mine).expect("the lock");
            both.wait();
            mine.state.lock_timeout(&mine, PATIENCE).map(drop)
        });
        let state = lock(&shared);
        both.wait();
        let cycle = loop {
            match shared.other.lock_timeout(&shared, SHORT) {
                Err(LockError::TimedOut { cycle, .. }) if cycle.is_empty() => {} // it does not sleep yet
                Err(LockError::TimedOut { cycle, .. }) => break cycle,
                other => panic!("it is held: {other:?}"),
            }
        };
        assert_eq!(cycle.len(), 1);
        drop(state);
        other.join().expect("no panic").expect("the lock, at last");
    });
}

// ---------------------------------------------------------------------------------------------------------------
// Conditions

#[test]
fn two_who_take_turns_wake_each_other() {
    let dir = Dir::new();
    let name = dir.name("m");
    let _kept = create(&name);
    let count = rounds(5, 2000);
    let plays = |turn: u64| {
        let mine = open(&name);
        for round in 0..count {
            let until = Until::timeout(PATIENCE);
            let state = mine.changed.wait_while(lock(&mine), until, |state| state.value != 2 * round + turn);
            let mut state = state.expect("a turn").or_repair(|_| panic!("nobody died"));
            assert_eq!(state.copy, state.value);
            state.value += 1;
            state.copy += 1;
            state.unlock();
            if round % 2 == 0 { mine.changed.notify_one() } else { mine.changed.notify_all() }
        }
    };
    thread::scope(|scope| (0..2).for_each(|turn| drop(scope.spawn(move || plays(turn)))));
}

#[test]
fn every_notification_wakes_as_many_as_it_should() {
    const WAITERS: u64 = 3;
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    for all in [true, false] {
        thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| {
                    let mine = open(&name);
                    let mut state = lock(&mine);
                    state.waiting += 1;
                    let until = Until::timeout(PATIENCE);
                    let state = mine.changed.wait_while(state, until, |state| state.value == 0);
                    let mut state = state.expect("notified").or_repair(|_| ());
                    state.value -= 1;
                    state.waiting -= 1;
                });
            }
            while lock(&shared).waiting < WAITERS {
                thread::yield_now();
            }
            if all {
                lock(&shared).value = WAITERS;
                shared.changed.notify_all();
            } else {
                for _ in 0..WAITERS {
                    lock(&shared).value += 1;
                    shared.changed.notify_one();
                }
            }
        });
        let state = lock(&shared);
        assert_eq!((state.value, state.waiting), (0, 0));
    }
}

#[test]
fn what_was_written_before_a_notification_is_seen_without_the_lock() {
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    for round in 1..=rounds(2, 500) {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mine = open(&name);
                let mut state = lock(&mine);
                state.waiting = round;
                drop(mine.changed.wait(state, Until::timeout(PATIENCE)).expect("notified"));
                assert_eq!(mine.flag.load(Ordering::Relaxed), round);
            });
            while lock(&shared).waiting < round {
                thread::yield_now();
            }
            shared.flag.store(round, Ordering::Relaxed);
            shared.changed.notify_all();
        });
    }
}

/// Waits for what nobody makes true while `ends` does something about it.
fn wait_in_vain(name: &Name, until: Until, ends: impl FnOnce()) -> Result<(), WaitError> {
    let shared = open(name);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mine = open(name);
            let mut state = lock(&mine);
            state.waiting = 1;
            mine.changed.wait_while(state, until, |_| true).map(drop)
        });
        while std::mem::take(&mut lock(&shared).waiting) == 0 {
            thread::yield_now();
        }
        ends();
        waiter.join().expect("no panic")
    })
}

#[test]
fn a_wait_ends_with_its_time_its_peer_or_its_object() {
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    let ended = wait_in_vain(&name, Until::timeout(SHORT), || ());
    assert!(matches!(ended, Err(WaitError::TimedOut { .. })), "{ended:?}");
    let peer = open(&name);
    let until = Until::forever().or_peer_lost(peer.region().owner());
    let ended = wait_in_vain(&name, until, || drop(peer));
    assert!(matches!(ended, Err(WaitError::PeerLost { .. })), "{ended:?}");
    let ended = wait_in_vain(&name, Until::forever(), || retire(&name).expect("it is there"));
    assert!(matches!(ended, Err(WaitError::Lock(LockError::Retired { .. }))), "{ended:?}");
    assert!(matches!(shared.state.lock(&shared), Err(LockError::Retired { .. })));
}

// ---------------------------------------------------------------------------------------------------------------
// Events

#[test]
fn what_was_written_before_an_event_was_set_is_seen_by_the_one_who_takes_it() {
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    let count = rounds(6, 2000);
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mine = open(&name);
                loop {
                    mine.event.take(&mine, Until::timeout(PATIENCE)).expect("it is set again and again");
                    if taken.load(Ordering::Relaxed) == count {
                        return;
                    }
                    assert_eq!(mine.flag.load(Ordering::Relaxed), taken.fetch_add(1, Ordering::Release) + 1);
                }
            });
        }
        for round in 1..=count {
            shared.flag.store(round, Ordering::Relaxed);
            shared.event.set();
            // Nothing but the event carries the flag there; that it was taken is carried back.
            while taken.load(Ordering::Acquire) < round {
                thread::yield_now();
            }
            assert!(!shared.event.is_set());
        }
        // One after the other.
        shared.event.set();
        while shared.event.is_set() {
            thread::yield_now();
        }
        shared.event.set();
    });
    assert_eq!(taken.into_inner(), count);
}

#[test]
fn all_who_wait_for_an_event_go_on_and_a_wait_ends_with_its_peer_or_its_object() {
    let dir = Dir::new();
    let name = dir.name("m");
    let shared = create(&name);
    let waits = |until| {
        let mine = open(&name);
        mine.event.wait(&mine, until)
    };
    for _ in 0..rounds(1, 50) {
        thread::scope(|scope| {
            let waiters = [(); 3].map(|()| scope.spawn(|| waits(Until::timeout(PATIENCE))));
            shared.event.set();
            assert!(waiters.into_iter().all(|waiter| waiter.join().expect("no panic").is_ok()));
        });
        assert!(shared.event.reset());
    }
    thread::scope(|scope| {
        let peer = open(&name);
        let until = Until::forever().or_peer_lost(peer.region().owner());
        let waiter = scope.spawn(move || waits(until));
        drop(peer);
        let ended = waiter.join().expect("no panic");
        assert!(matches!(ended, Err(WaitError::PeerLost { .. })), "{ended:?}");
        let mine = open(&name);
        let waiter = scope.spawn(move || mine.event.take(&mine, Until::forever()));
        retire(&name).expect("it is there");
        let ended = waiter.join().expect("no panic");
        assert!(matches!(ended, Err(WaitError::Lock(LockError::Retired { .. }))), "{ended:?}");
    });
}

// ---------------------------------------------------------------------------------------------------------------
// Garbage

/// Calls everything there is on an object that may be damaged: only errors may come of it.
fn use_all(dir: &Dir, name: &Name) -> usize {
    let errors = [
        Segment::<Shared>::open(name).map(drop).is_err(),
        Segment::<[u8]>::open(name).map(drop).is_err(),
        Segment::<Shared>::open_or_create(name, (), &Options::new(), |_| ()).map(drop).is_err(),
        Segment::<Shared>::create(name, (), &Options::new(), |_| ()).map(drop).is_err(),
        SharedMemory::open(name).and_then(SharedMemory::map_mut).map(drop).is_err(),
        Region::open(name).map(drop).is_err(),
    ];
    assert_eq!(list(Some(dir.path())).expect("the directory").len(), 1);
    assert!(gc(Some(dir.path()), true).expect("the directory").is_empty(), "it is in use");
    errors.into_iter().filter(|error| *error).count()
}

#[test]
fn garbage_in_the_header_is_an_error() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mine = create(&name);
    let mut good = vec![0; DATA as usize];
    peek(dir.path(), "cam", &mut good, 0).expect("the header");
    let sound = use_all(&dir, &name);
    let fields =
        [(0, 8), (8, 4), (12, 4), (16, 4), (20, 4), (40, 8), (48, 8), (56, 8), (64, 4), (68, 4), (72, 4), (96, 8)];
    // One in four under Miri.
    for (offset, size) in fields.into_iter().step_by(if cfg!(miri) { 4 } else { 1 }) {
        let garbage = if cfg!(miri) { &[[0xff; 8]][..] } else { &[[0xff; 8], [0x7f; 8], [3, 0, 0, 0, 0, 0, 0, 0x80]] };
        for garbage in garbage {
            poke(dir.path(), "cam", &garbage[..size], offset as u64).expect("inside");
            assert!(use_all(&dir, &name) > sound, "{garbage:?} at {offset} is believed");
            poke(dir.path(), "cam", &good[offset..offset + size], offset as u64).expect("inside");
        }
    }
    assert_eq!(use_all(&dir, &name), sound, "whole again");
    assert_eq!(lock(&mine).value, 0);
}

#[test]
fn garbage_in_a_lock_word_is_a_holder_that_is_dead() {
    let dir = Dir::new();
    let mine = create(&dir.name("cam"));
    for word in [1, 128, 129, 0xffff, u64::MAX, 1 << 32 | 100, 7 << 32 | 1, 1 << 63 | 1 << 31 | 2] {
        poke(dir.path(), "cam", &u64::to_ne_bytes(word), WORD).expect("inside");
        assert!(matches!(mine.state.lock(&mine), Ok(Locked::OwnerDied(_))), "{word:#x} names nobody alive");
        poke(dir.path(), "cam", &u64::to_ne_bytes(0), WORD).expect("inside");
    }
}

/// Scribbles over what the library itself reads of an object in use, with accesses of the sizes that it uses itself:
/// those of another size cannot be told from the library's own mistakes here.
#[test]
fn garbage_in_an_object_in_use_is_an_error_or_a_wait() {
    let mut random = Random::new();
    for _ in 0..rounds(1, 12) {
        let dir = Dir::new();
        let name = dir.name("cam");
        let _kept = create(&name);
        let user = || {
            let mine = open(&name);
            for _ in 0..rounds(4, 60) {
                let _ = mine.other.try_lock(&mine).map(drop);
                match mine.state.lock_timeout(&mine, Duration::from_millis(1)) {
                    Ok(locked) => {
                        let until = Until::timeout(Duration::from_millis(1)).or_peer_lost(mine.region().owner());
                        let _ = mine.changed.wait(locked.or_repair(|_| ()), until).map(drop);
                    }
                    Err(_) => mine.changed.notify_one(),
                }
                let until = Until::timeout(Duration::from_millis(1));
                let _ = (mine.event.reset(), mine.event.wait(&mine, until), mine.event.take(&mine, until));
                mine.event.set();
                let _ = (mine.region().who(mine.region().owner()), mine.region().is_retired());
            }
        };
        thread::scope(|scope| {
            let users = [scope.spawn(user), scope.spawn(user)];
            while !users.iter().all(|user| user.is_finished()) {
                let slot = TABLE + 64 * random.below(4);
                let other = DATA + offset_of!(Shared, other) as u64;
                let (offset, size) = match random.below(8) {
                    0 => (slot, 4),
                    1 => (slot + 4, 4),
                    2 => (slot + 8 * (1 + random.below(4)), 8),
                    3 => (DATA + offset_of!(Shared, changed) as u64, 4),
                    4 => (slot + 32, 8),
                    5 => (other, 8),
                    6 => (DATA + offset_of!(Shared, event) as u64, 4),
                    _ => (STATE + 8, 8),
                };
                let value = match random.below(4) {
                    0 => 0,
                    1 => random.below(8) | random.below(3) << 32,
                    2 => (WORD - DATA) | 1,
                    _ => random.next(),
                };
                poke(dir.path(), "cam", &value.to_ne_bytes()[..size], offset).expect("inside");
                let _ = list(Some(dir.path())).expect("the directory");
            }
        });
        retire(&name).expect("it is still there");
    }
}
