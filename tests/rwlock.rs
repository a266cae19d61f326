//! RwLock between threads, attachments and real processes.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn};
use memlane::{
    LockError, Locked, Mutex, Name, Options, Region, RwLock, RwLockWriteGuard, Segment, Shareable, held_locks,
};
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);
const AT_ONCE: Duration = Duration::ZERO;

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    state: RwLock<State>,
    /// With room for two participants that read.
    few: RwLock<u64, 2>,
    other: Mutex<u64>,
}

/// Two numbers that are equal unless a writer is at work on them.
#[derive(Debug, Shareable)]
#[repr(C)]
struct State {
    value: u64,
    copy: u64,
}

// As docs/DESIGN.md draws the words.
const WRITER: usize = offset_of!(Shared, state);
const READER: usize = WRITER + 8;
const FEW: usize = offset_of!(Shared, few) + 8;
const WAITERS: u64 = 1 << 31;
const DRAINING: u64 = 1 << 28;

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, (), &Options::new(), |_| ()).expect("a fresh object")
}

fn open(dir: &Dir) -> Segment<Shared> {
    Segment::open(dir.name("m")).expect("the same object")
}

/// The word at `offset` of the shared value, as anybody can see it.
fn word(dir: &Dir, offset: usize) -> u64 {
    let mut word = [0; 8];
    Region::open(dir.name("m")).and_then(|bytes| bytes.read_at(offset, &mut word)).expect("it is there");
    u64::from_ne_bytes(word)
}

/// Overwrites the readers' words of `few`.
fn poke(dir: &Dir, words: [u64; 2]) {
    let file = File::options().write(true).read(true).open(dir.path().join("m")).expect("the object");
    let mut data = [0; 8];
    file.read_exact_at(&mut data, 40).expect("its header"); // which says where the data begins
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    file.write_all_at(&bytes, u64::from_ne_bytes(data) + FEW as u64).expect("words of it");
}

/// Returns when the word at `offset` has one of these bits.
fn wait_for(dir: &Dir, offset: usize, bits: u64) {
    let start = Instant::now();
    while word(dir, offset) & bits == 0 {
        assert!(start.elapsed() < PATIENCE, "it never comes to that");
        std::thread::yield_now();
    }
}

fn write(shared: &Segment<Shared>) -> RwLockWriteGuard<'_, State> {
    clean(shared.state.write_timeout(shared, PATIENCE))
}

fn clean<G>(locked: Result<Locked<G>, LockError>) -> G {
    match locked.expect("the lock") {
        Locked::Clean(guard) => guard,
        Locked::OwnerDied(_) => panic!("nobody has died"),
    }
}

fn holder<G>(result: Result<G, LockError>) -> u32 {
    match result {
        Err(LockError::TimedOut { holder: Some(who), lock, .. }) if *lock == *"`state`" => who.pid,
        Err(other) => panic!("expected a timeout that names lock and holder, got {other:?}"),
        Ok(_) => panic!("somebody is in the way"),
    }
}

fn timed_out<G>(result: Result<G, LockError>) -> bool {
    matches!(result, Err(LockError::TimedOut { .. }))
}

fn already_locked<G>(result: Result<G, LockError>) -> bool {
    matches!(result, Err(LockError::AlreadyLocked { .. }))
}

fn needs_repair<G>(result: Result<G, LockError>) -> bool {
    matches!(result, Err(LockError::NeedsRepair { .. }))
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let shared = Segment::<Shared>::open("m").expect("the parent's object");
    match role.as_str() {
        "read" => {
            let _guard = shared.state.read(&shared).expect("the lock");
            say("held");
            hear();
        }
        "read upgradable" => {
            let _guard = shared.state.read_upgradable(&shared).expect("the lock");
            say("held");
            hear();
        }
        "write" => {
            let mut guard = shared.state.write(&shared).expect("the lock").or_repair(|_| ());
            guard.value += 1; // and not yet `copy`: a death now leaves it half-changed
            say("held");
            hear();
            guard.copy += 1;
        }
        "hold the other, then write" => {
            let _other = shared.other.lock(&shared).expect("the lock");
            say("held");
            hear();
            say(&format!("{:?}", shared.state.write_timeout(&shared, PATIENCE).map(drop)));
        }
        "use" => {
            for round in 0..arguments[0].parse::<u64>().expect("a number") {
                match round % 4 {
                    0 => {
                        let mut state = write(&shared);
                        state.value += 1;
                        state.copy += 1;
                    }
                    1 => {
                        let guard = shared.state.read_upgradable(&shared).expect("the lock");
                        let seen = guard.value;
                        let mut state = guard.upgrade().expect("no end but that");
                        assert_eq!((state.value, state.copy), (seen, seen), "a writer came between");
                        (state.value, state.copy) = (seen + 1, seen + 1);
                        assert_eq!(state.downgrade().copy, seen + 1, "a writer came between");
                    }
                    _ => {
                        let state = shared.state.read(&shared).expect("the lock");
                        assert_eq!(state.value, state.copy, "a writer is at work");
                    }
                }
            }
            say("used");
        }
        other => panic!("no role {other}"),
    }
}

fn start(dir: &Dir, role: &str) -> Child {
    let mut child = spawn(dir.path(), role, &[]);
    child.expect("held");
    child
}

#[test]
fn readers_are_inside_together_and_a_writer_alone() {
    let dir = Dir::new();
    let (one, two) = (create(&dir.name("m")), open(&dir));
    let mine = one.state.read_timeout(&one, PATIENCE).expect("the lock");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (first, second) = (one.state.try_read(&one), two.state.try_read(&two));
            assert!(first.is_ok() && second.is_ok(), "nobody writes");
            drop((first, second));
            assert!(timed_out(two.state.write_timeout(&two, AT_ONCE)));
        });
    });
    drop(mine);
    let mut state = clean(one.state.try_write(&one));
    (state.value, state.copy) = (7, 7);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(timed_out(two.state.try_read(&two)) && timed_out(one.state.try_read(&one)));
            assert!(timed_out(two.state.try_write(&two)) && timed_out(one.state.try_write(&one)));
            assert!(timed_out(two.state.read_upgradable_timeout(&two, AT_ONCE)));
        });
    });
    drop(state);
    assert_eq!(two.state.try_read(&two).expect("it was given back").copy, 7);
    assert_eq!((word(&dir, WRITER), word(&dir, READER)), (0, 0), "unlocked as it was made");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_timeout_names_who_is_in_the_way() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let reader = start(&dir, "read");
    assert!(shared.state.try_read(&shared).is_ok());
    assert_eq!(holder(shared.state.try_write(&shared)), reader.pid());
    let Err(LockError::TimedOut { held_for, waited, .. }) = shared.state.write_timeout(&shared, SHORT) else {
        panic!("it reads")
    };
    assert!(waited >= SHORT && held_for >= SHORT / 2);
    let guard = shared.state.read_upgradable_timeout(&shared, PATIENCE).expect("readers do not mind");
    let not = guard.upgrade_timeout(SHORT).map(drop).expect_err("it reads");
    assert!(not.error().to_string().contains(&reader.pid().to_string()), "{not}");
    drop((not, reader));
    let upgradable = start(&dir, "read upgradable");
    assert!(shared.state.try_read(&shared).is_ok());
    assert_eq!(holder(shared.state.try_write(&shared)), upgradable.pid());
    assert_eq!(holder(shared.state.read_upgradable_timeout(&shared, SHORT)), upgradable.pid());
    drop(upgradable);
    let writer = start(&dir, "write");
    assert_eq!(holder(shared.state.try_write(&shared)), writer.pid());
    assert_eq!(holder(shared.state.read_timeout(&shared, SHORT)), writer.pid());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_dead_reader_is_in_nobodys_way() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    for role in ["read", "read upgradable"] {
        let mut reader = start(&dir, role);
        std::thread::scope(|scope| {
            let writer =
                scope.spawn(|| shared.state.write_timeout(&shared, PATIENCE).map(|locked| drop(clean(Ok(locked)))));
            wait_for(&dir, if role == "read" { READER + 8 } else { WRITER }, WAITERS);
            reader.kill();
            assert!(writer.join().expect("no panic").is_ok(), "{role}");
        });
        start(&dir, role).kill();
        assert_eq!(clean(shared.state.try_write(&shared)).value, 0);
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn what_a_dead_writer_left_is_read_by_nobody_before_it_is_repaired() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut writer = start(&dir, "write");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| needs_repair(shared.state.read_timeout(&shared, PATIENCE)));
        wait_for(&dir, WRITER, WAITERS);
        writer.kill();
        assert!(reader.join().expect("no panic"));
    });
    let text = shared.state.read_timeout(&shared, PATIENCE).expect_err("half-changed").to_string();
    assert!(text.contains("`state` of 'm': take the write lock and repair"), "{text}");
    assert!(needs_repair(shared.state.read_upgradable_timeout(&shared, PATIENCE)));
    for _ in 0..2 {
        let Ok(Locked::OwnerDied(died)) = shared.state.try_write(&shared) else { panic!("no mark") };
        assert_eq!((died.value, died.copy), (1, 0), "half-changed, as it was left");
        std::thread::scope(|scope| {
            let during = scope.spawn(|| timed_out(shared.state.try_read(&shared)));
            assert!(during.join().expect("no panic"), "somebody is about to repair it");
        });
        drop(died); // not repaired
        assert!(
            needs_repair(shared.state.try_read(&shared))
                && needs_repair(shared.state.read_upgradable_timeout(&shared, PATIENCE))
        );
    }
    drop(shared.state.write_timeout(&shared, PATIENCE).expect("the lock").or_repair(|state| state.copy = state.value));
    assert_eq!(shared.state.try_read(&shared).expect("repaired").copy, 1);
    assert_eq!(write(&shared).copy, 1);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_writer_that_waits_keeps_new_readers_out_and_leaves_nothing_when_it_dies() {
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let first = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
    let mut writer = spawn(dir.path(), "write", &[]);
    wait_for(&dir, WRITER, DRAINING);
    let again = shared.state.read_timeout(&shared, PATIENCE).expect("this thread reads already");
    drop(first);
    assert!(already_locked(other.state.read_timeout(&other, PATIENCE)), "it would wait for a writer that waits for it");
    std::thread::scope(|scope| {
        let reader = scope
            .spawn(|| (holder(shared.state.try_read(&shared)), shared.state.read_timeout(&shared, PATIENCE).map(drop)));
        wait_for(&dir, WRITER, WAITERS);
        writer.kill();
        assert_eq!(reader.join().expect("no panic").0, writer.pid());
    });
    assert!(other.state.try_read(&other).is_ok(), "it has changed nothing");
    drop(again);
    assert_eq!(write(&shared).value, 0);
}

#[test]
fn who_reads_already_passes_a_writer_that_waits() {
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let mut first = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| drop(write(&other)));
        wait_for(&dir, WRITER, DRAINING);
        for _ in 0..5 {
            let second = shared.state.read_timeout(&shared, PATIENCE).expect("this thread reads already");
            drop(std::mem::replace(&mut first, second)); // the later one alone is left
            assert!(!writer.is_finished(), "a writer is inside");
        }
        drop(first);
        writer.join().expect("no panic");
    });
    assert_eq!((word(&dir, WRITER), word(&dir, READER)), (0, 0));
}

#[test]
fn who_would_wait_for_itself_is_told() {
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let guard = write(&shared);
    assert!(
        already_locked(shared.state.read_timeout(&shared, PATIENCE))
            && already_locked(other.state.read_timeout(&other, PATIENCE))
    );
    assert!(
        already_locked(shared.state.write_timeout(&shared, PATIENCE))
            && already_locked(other.state.write_timeout(&other, PATIENCE))
    );
    assert!(already_locked(shared.state.read_upgradable_timeout(&shared, PATIENCE)));
    drop(guard);
    let guard = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
    assert!(
        already_locked(shared.state.write_timeout(&shared, PATIENCE))
            && already_locked(other.state.write_timeout(&other, PATIENCE))
    );
    assert!(already_locked(shared.state.read_upgradable_timeout(&shared, PATIENCE)));
    let again = other.state.read_timeout(&other, PATIENCE).expect("nobody writes");
    drop((guard, again));
    let guard = shared.state.read_upgradable_timeout(&shared, PATIENCE).expect("the lock");
    assert!(
        already_locked(shared.state.read_upgradable_timeout(&shared, PATIENCE))
            && already_locked(other.state.write_timeout(&other, PATIENCE))
    );
    let reads = shared.state.read_timeout(&shared, PATIENCE).expect("readers do not mind");
    let guard = guard.upgrade().expect_err("this thread reads").into_guard();
    assert!(shared.state.read_timeout(&shared, PATIENCE).is_ok(), "it goes on reading");
    drop(reads);
    drop(guard.upgrade().expect("nobody reads"));
    drop(write(&shared));
}

#[test]
fn what_a_closed_attachment_read_is_read_no_more() {
    let dir = Dir::new();
    let (shared, closed) = (create(&dir.name("m")), open(&dir));
    std::mem::forget(closed.state.read_timeout(&closed, PATIENCE).expect("the lock"));
    assert!(already_locked(shared.state.try_write(&shared)));
    drop(closed);
    drop(write(&shared));
}

#[test]
fn there_are_as_many_reading_participants_as_words_for_them() {
    let dir = Dir::new();
    let users = [create(&dir.name("m")), open(&dir), open(&dir)];
    let read = |user: usize| users[user].few.try_read(&users[user]);
    let (one, _two) = (read(0).expect("a word"), read(1).expect("a word"));
    assert!(read(0).is_ok() && read(1).is_ok(), "a participant has one word for all it reads");
    assert!(already_locked(read(2)), "it would wait for this thread");
    std::thread::scope(|scope| {
        let in_vain = scope.spawn(|| matches!(read(2), Err(LockError::TimedOut { holder: Some(_), .. })));
        assert!(in_vain.join().expect("no panic"));
        let third = scope.spawn(|| users[2].few.read_timeout(&users[2], PATIENCE).map(drop));
        wait_for(&dir, FEW, WAITERS);
        drop(one);
        assert!(third.join().expect("no panic").is_ok());
    });
    let dead = open(&dir);
    // A thread of its own, because a thread remembers what it locked.
    let forgets = || std::mem::forget(dead.few.try_read(&dead).expect("a word"));
    std::thread::scope(|scope| scope.spawn(forgets).join()).expect("no panic");
    assert!(timed_out(read(2)));
    drop(dead); // to close is to die, to all others
    assert!(read(2).is_ok(), "its word is free");
}

#[test]
fn threads_of_one_participant_are_counted_in_its_word() {
    const THREADS: usize = 8;
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let (inside, out) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let _guard = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
                inside.wait();
                out.wait();
            });
        }
        inside.wait();
        let counted: u64 = (0..16).map(|index| word(&dir, READER + index * 8) >> 16 & 0x3fff).sum();
        assert_eq!(counted, THREADS as u64);
        assert!(timed_out(other.state.try_write(&other)));
        out.wait();
    });
    assert!(other.state.try_write(&other).is_ok());
}

#[test]
fn one_at_a_time_may_come_to_write_and_no_writer_comes_between() {
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let guard = shared.state.read_upgradable_timeout(&shared, AT_ONCE).expect("the lock");
    std::thread::scope(|scope| {
        let ((says, said), (tells, told)) = (mpsc::channel(), mpsc::channel::<()>());
        let other = &other;
        let reader = scope.spawn(move || {
            assert!(timed_out(other.state.read_upgradable_timeout(other, AT_ONCE)));
            assert!(timed_out(other.state.try_write(other)));
            let read = other.state.try_read(other).expect("readers do not mind");
            says.send(()).expect("the test listens");
            let _ = told.recv();
            drop(read);
        });
        said.recv().expect("it reads");
        let not = guard.upgrade_timeout(SHORT).map(drop).expect_err("somebody reads");
        assert!(matches!(not.error(), LockError::TimedOut { holder: Some(_), .. }), "{not:?}");
        let guard = not.into_guard();
        let another = scope.spawn(|| other.state.try_read(other).is_ok());
        assert!(another.join().expect("no panic"), "it lets readers in again");
        let dir = &dir;
        let release = scope.spawn(move || {
            wait_for(dir, WRITER, DRAINING);
            drop(tells);
        });
        let mut state = guard.upgrade().expect("no end but that");
        state.value += 1;
        assert!(reader.is_finished() || word(dir, WRITER) & DRAINING == 0);
        release.join().expect("no panic");
        state.copy += 1;
        let left = scope.spawn(|| timed_out(other.state.try_read(other)));
        assert!(left.join().expect("no panic"), "it writes");
        drop(state);
    });
    let guard = other.state.read_upgradable_timeout(&other, PATIENCE).expect("the lock");
    let guard = guard.downgrade();
    assert_eq!((guard.value, guard.copy), (1, 1));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| shared.state.read_upgradable_timeout(&shared, AT_ONCE).is_ok());
        assert!(next.join().expect("no panic"), "it is one reader of many");
    });
}

#[test]
fn from_writing_to_reading_there_is_no_gap() {
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    std::thread::scope(|scope| {
        let mut state = write(&shared);
        (state.value, state.copy) = (1, 1);
        let writer = scope.spawn(|| write(&other).value = 2);
        wait_for(&dir, WRITER, WAITERS);
        let state = state.downgrade();
        assert_ne!(word(&dir, READER), 0, "it is counted before the writer's word is free");
        wait_for(&dir, WRITER, DRAINING);
        assert_eq!(state.value, 1);
        drop(state);
        writer.join().expect("no panic");
    });
    let mut state = write(&shared);
    state.copy = 2;
    let state = state.downgrade();
    assert_eq!(other.state.try_read(&other).expect("it reads").copy, state.value);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "writes to the object's file")]
fn who_finds_no_word_to_read_by_keeps_the_writers() {
    let dir = Dir::new();
    let users = [create(&dir.name("m")), open(&dir), open(&dir)];
    let read = |user: usize| users[user].few.try_read(&users[user]);
    let guards = (read(1).expect("a word"), read(2).expect("a word"));
    let words = [word(&dir, FEW), word(&dir, FEW + 8)];
    drop(guards);
    let mut guard = clean(users[0].few.try_write(&users[0]));
    *guard = 5;
    poke(&dir, words); // as two that are about to see that somebody writes
    let guard = guard.downgrade();
    poke(&dir, [0, 0]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(*read(1).expect("it reads"), 5);
            assert!(timed_out(users[1].few.try_write(&users[1])));
        });
    });
    assert_eq!(*guard, 5);
    drop(guard);
    assert!(users[1].few.try_write(&users[1]).is_ok());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "writes to the object's file")]
fn who_gives_up_to_write_leaves_the_mark() {
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let guard = other.few.read_timeout(&other, PATIENCE).expect("the lock");
    let words = [word(&dir, FEW), word(&dir, FEW + 8)];
    drop(guard);
    clean(shared.few.write_timeout(&shared, PATIENCE)).abandon();
    poke(&dir, words); // as one that is about to see that it is to be repaired
    assert!(timed_out(shared.few.try_write(&shared)));
    poke(&dir, [0, 0]);
    assert!(needs_repair(other.few.try_read(&other)));
    assert!(matches!(shared.few.try_write(&shared), Ok(Locked::OwnerDied(_))));
}

#[test]
fn more_holds_than_a_word_counts_take_another_one() {
    const MORE: usize = if cfg!(miri) { 2 } else { 0x3fff + 2 };
    let dir = Dir::new();
    let (shared, other) = (create(&dir.name("m")), open(&dir));
    let guards: Vec<_> = (0..MORE).map(|_| shared.few.read_timeout(&shared, PATIENCE).expect("the lock")).collect();
    assert_eq!(word(&dir, FEW + 8) & 0xffff != 0, MORE > 0x3fff);
    std::thread::scope(|scope| {
        assert!(scope.spawn(|| timed_out(other.few.try_write(&other))).join().expect("no panic"));
    });
    drop(guards);
    assert_eq!((word(&dir, FEW), word(&dir, FEW + 8)), (0, 0));
}

#[test]
fn a_panic_of_a_writer_leaves_the_mark_and_that_of_a_reader_nothing() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let panics = |act: &(dyn Fn() + Sync)| {
        let panicked = std::thread::scope(|scope| scope.spawn(act).join().is_err());
        assert!(panicked);
    };
    panics(&|| {
        let _guard = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
        std::panic::resume_unwind(Box::new(()));
    });
    drop(write(&shared));
    panics(&|| {
        let _guard = write(&shared);
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(needs_repair(shared.state.try_read(&shared)));
    drop(shared.state.write_timeout(&shared, PATIENCE).expect("the lock").or_repair(|_| ()));
    write(&shared).abandon();
    assert!(needs_repair(shared.state.try_read(&shared)));
    assert!(matches!(shared.state.try_write(&shared), Ok(Locked::OwnerDied(_))));
}

#[test]
fn a_lock_that_is_taken_during_a_panic_is_not_marked_by_it() {
    struct WritesWhenDropped<'a>(&'a Segment<Shared>);
    impl Drop for WritesWhenDropped<'_> {
        fn drop(&mut self) {
            write(self.0).value += 1;
        }
    }
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let panicked = std::thread::scope(|scope| {
        let panics = || {
            let _late = WritesWhenDropped(&shared);
            std::panic::resume_unwind(Box::new(()));
        };
        scope.spawn(panics).join().is_err()
    });
    assert!(panicked);
    assert_eq!(shared.state.try_read(&shared).expect("complete").value, 1);
}

#[test]
fn retiring_ends_every_wait() {
    let dir = Dir::new();
    let retired = |result: Result<(), LockError>| matches!(result, Err(LockError::Retired { .. }));
    // What is held, and what is awaited.
    for (writes, awaits) in [(true, "read"), (true, "write"), (false, "write"), (false, "upgrade")] {
        let shared = create(&dir.name("m"));
        let held = if writes {
            Err(write(&shared))
        } else {
            Ok(shared.state.read_timeout(&shared, PATIENCE).expect("the lock"))
        };
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| match awaits {
                "read" => shared.state.read_timeout(&shared, PATIENCE).map(drop),
                "write" => shared.state.write_timeout(&shared, PATIENCE).map(drop),
                _ => {
                    let guard = shared.state.read_upgradable_timeout(&shared, PATIENCE).expect("readers do not mind");
                    guard.upgrade().map(drop).map_err(LockError::from)
                }
            });
            wait_for(&dir, if writes { WRITER } else { READER }, WAITERS);
            memlane::retire(dir.name("m")).expect("it is there");
            assert!(retired(waiter.join().expect("no panic")), "{awaits}");
        });
        drop(held);
        assert!(
            retired(shared.state.read_timeout(&shared, PATIENCE).map(drop))
                && retired(shared.state.try_write(&shared).map(drop))
        );
        assert!(retired(shared.state.read_upgradable_timeout(&shared, PATIENCE).map(drop)));
    }
}

#[test]
fn a_lock_elsewhere_is_refused() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let local = RwLock::<u64>::new(0);
    let refused = |result: Result<(), LockError>| matches!(result, Err(LockError::NotInSegment { .. }));
    assert!(refused(local.read(&shared).map(drop)) && refused(local.write(&shared).map(drop)));
    assert!(refused(local.read_upgradable(&shared).map(drop)));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_deadlock_over_a_reader_is_named() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut other = start(&dir, "hold the other, then write");
    let guard = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
    other.say("now write");
    let start = Instant::now();
    let error = loop {
        match shared.other.lock_timeout(&shared, SHORT) {
            Err(LockError::TimedOut { cycle, .. }) if cycle.is_empty() => {} // the child does not sleep yet
            Err(error) => break error,
            Ok(_) => panic!("the child holds it"),
        }
        assert!(start.elapsed() < PATIENCE, "it is a deadlock");
    };
    assert!(matches!(error, LockError::TimedOut { cycle, .. } if cycle.len() == 1 && cycle[0].pid == other.pid()));
    drop(guard);
    other.expect("Ok(())");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn whoever_holds_it_is_listed() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let held = || {
        let held = held_locks(dir.name("m")).expect("it can be read");
        let mut held: Vec<_> = held.into_iter().map(|it| (it.lock, it.holder.expect("known").pid, it.alive)).collect();
        held.sort();
        held
    };
    let me = std::process::id();
    let _upgradable = shared.state.read_upgradable_timeout(&shared, PATIENCE).expect("the lock");
    let _few = shared.few.read_timeout(&shared, PATIENCE).expect("the lock");
    let mut reader = start(&dir, "read");
    let mut expected = [("few".into(), me, true), ("state".into(), me, true), ("state".into(), reader.pid(), true)];
    expected.sort();
    assert_eq!(held(), expected);
    reader.kill();
    assert!(held().contains(&("state".into(), reader.pid(), false)));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn processes_that_read_and_write_at_once_see_what_is_complete() {
    const ROUNDS: u64 = 4_000;
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut children: Vec<_> = (0..3).map(|_| spawn(dir.path(), "use", &[&ROUNDS.to_string()])).collect();
    children.iter_mut().for_each(|child| child.expect("used"));
    let state = shared.state.read_timeout(&shared, PATIENCE).expect("the lock");
    assert_eq!((state.value, state.copy), (3 * ROUNDS / 2, 3 * ROUNDS / 2));
}

#[test]
fn what_it_guards_may_have_a_flexible_tail() {
    let dir = Dir::new();
    let frame = Segment::<RwLock<[u8], 3>>::create(dir.name("m"), 5, &Options::new(), |frame| {
        frame.get_mut().fill(1);
    });
    let frame = frame.expect("a fresh object");
    frame.write(&frame).expect("the lock").or_repair(|_| ())[4] = 9;
    assert_eq!(&*frame.read(&frame).expect("the lock"), &[1, 1, 1, 1, 9]);
    assert_eq!(format!("{:?}", &*frame), "RwLock { writer: false, readers: 0, dirty: false, .. }");
}
