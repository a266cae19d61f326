//! What a review of locks and their like has found: each test failed once.
#![allow(missing_docs, unsafe_code)]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Dir, hear, role, say, spawn, times};
use memlane::{
    Barrier, LockError, Locked, Once, Options, OwnerId, ReentrantMutex, RwLock, Segment, Semaphore, SeqCell, Shareable,
    Until, Versioned, held_locks,
};
use random::Random;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    reentrant: ReentrantMutex<u64>,
    versioned: Versioned<u64>,
    cell: SeqCell<u64>,
    once: Once<u64>,
    state: RwLock<u64>,
}

fn open(dir: &Dir) -> Segment<Shared> {
    Segment::open_or_create(dir.name("s"), (), &Options::new(), |_| ()).expect("it is there")
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let shared = Segment::<Shared>::open("s").expect("the parent's object");
    match role.as_str() {
        "fork with half-changed data" => {
            let Ok(Locked::OwnerDied(died)) = shared.reentrant.lock(&shared) else { panic!("no mark") };
            if fork_and_wait() {
                std::mem::forget(died.mark_consistent());
                end();
            }
            drop(died);
        }
        "fork while it writes" => fork_while_it_writes(&shared),
        "panic in a wait" => panic_in_a_wait(&shared),
        other => panic!("no role {other}"),
    }
    say("done");
    hear();
}

/// Forks; the parent goes on when the child has ended. Whether this is the child.
fn fork_and_wait() -> bool {
    // SAFETY: the child uses only what fork handlers keep usable, memory and this library, and ends with `_exit`; what may
    // be null is null.
    unsafe {
        let child = libc::fork();
        if child > 0 {
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        child == 0
    }
}

fn end() -> ! {
    // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
    unsafe { libc::_exit(0) }
}

fn fork_while_it_writes(shared: &Segment<Shared>) {
    let seen = || (shared.versioned.read(), shared.cell.read(shared).expect("a value"), shared.once.get().copied());
    let before = seen();
    let in_child = AtomicBool::new(false);
    let change = |value: &mut u64| {
        in_child.store(fork_and_wait(), Ordering::Relaxed);
        *value = if in_child.load(Ordering::Relaxed) { 13 } else { 7 };
        if !in_child.load(Ordering::Relaxed) {
            assert_eq!(seen(), before, "the forked child has written");
        }
    };
    let after = |result: Result<(), LockError>| {
        if in_child.load(Ordering::Relaxed) {
            assert!(matches!(result, Err(LockError::Forked { .. })));
            end();
        }
        result.expect("this is who took the lock");
    };
    after(shared.versioned.update(shared, change));
    assert_eq!(shared.versioned.read(), 7);
    let before = seen();
    let change = |value: &mut u64| {
        in_child.store(fork_and_wait(), Ordering::Relaxed);
        *value = 7;
        assert!(in_child.load(Ordering::Relaxed) || seen() == before, "the forked child has written");
    };
    after(shared.cell.update(shared, change));
    let before = seen();
    let init = |value: &mut u64| {
        in_child.store(fork_and_wait(), Ordering::Relaxed);
        *value = 7;
        assert!(in_child.load(Ordering::Relaxed) || seen() == before, "the forked child has declared it complete");
    };
    after(shared.once.get_or_init(shared, init).map(drop));
    assert_eq!(seen(), (7, 7, Some(7)));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_forked_child_declares_nothing_complete() {
    let dir = Dir::new();
    let shared = open(&dir);
    std::thread::scope(|scope| {
        let panics = || {
            let _guard = shared.reentrant.lock(&shared).expect("the lock");
            std::panic::resume_unwind(Box::new(()));
        };
        assert!(scope.spawn(panics).join().is_err());
    });
    let mut parent = spawn(dir.path(), "fork with half-changed data", &[]);
    parent.expect("done");
    assert!(matches!(shared.reentrant.lock(&shared), Ok(Locked::OwnerDied(_))), "nobody has repaired it");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_child_that_is_forked_in_the_middle_of_a_write_writes_nothing() {
    let dir = Dir::new();
    let _shared = open(&dir);
    let mut parent = spawn(dir.path(), "fork while it writes", &[]);
    parent.expect("done");
}

/// What a program is asked with in a wait may panic: the lock it waited for is nobody's.
fn panic_in_a_wait(shared: &Segment<Shared>) {
    memlane::interrupt_waits(|| std::panic::resume_unwind(Box::new(())));
    let panicked = catch_unwind(AssertUnwindSafe(|| shared.state.write(shared).map(drop)));
    assert!(panicked.is_err(), "it waits for a reader, and is asked");
    let guard = shared.state.read_upgradable(shared).expect("it gave up to write");
    let panicked = catch_unwind(AssertUnwindSafe(|| guard.upgrade().map(drop).map_err(LockError::from)));
    assert!(panicked.is_err(), "it waits for a reader, and is asked");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_panic_in_a_wait_to_write_leaves_the_lock_to_others() {
    let dir = Dir::new();
    let shared = open(&dir);
    let guard = shared.state.read(&shared).expect("the lock");
    let mut waits = spawn(dir.path(), "panic in a wait", &[]);
    waits.expect("done");
    drop(guard);
    assert!(shared.state.read_timeout(&shared, PATIENCE).is_ok(), "nobody writes");
    assert!(shared.state.write_timeout(&shared, PATIENCE).is_ok(), "nobody has it");
}

#[derive(Shareable)]
#[repr(C)]
struct All {
    semaphore: Semaphore<3>,
    barrier: Barrier<3>,
    once: Once<u64>,
    cell: SeqCell<[u32; 3]>,
    versioned: Versioned<[u32; 3]>,
    state: RwLock<u64, 3>,
    reentrant: ReentrantMutex<u64>,
}

/// Whatever lies in the words: no panic, no endless wait, and each kind of outcome occurs.
#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "writes to the object's file")]
fn garbage_is_a_value_or_an_error() {
    const WORDS: usize = size_of::<All>() / 8;
    let dir = Dir::new();
    let all = Segment::<All>::create(dir.name("a"), (), &Options::new(), |_| ()).expect("a fresh object");
    let gone = Segment::<All>::open(dir.name("a")).expect("the same object").region().owner();
    let owners = [all.region().owner(), gone, OwnerId::NOBODY].map(|owner| {
        // SAFETY: an `OwnerId` is `repr(transparent)` around its word.
        unsafe { std::mem::transmute::<OwnerId, u64>(owner) }
    });
    let file = std::fs::File::options().write(true).read(true).open(dir.path().join("a")).expect("the object");
    let mut data = [0; 8];
    file.read_exact_at(&mut data, 40).expect("its header"); // which says where the data begins
    let data = u64::from_ne_bytes(data);
    let mut random = Random::new();
    let soon = || Until::timeout(Duration::from_micros(1));
    let (mut values, mut errors) = (0_u64, 0_u64);
    for _ in 0..times(200, 100_000) {
        let words: [u64; WORDS] = std::array::from_fn(|_| {
            let bits = random.next() & [0, 1 << 16, 0xffff << 16, 1 << 31, u64::MAX][random.below(5) as usize];
            match random.below(4) {
                0 => bits,
                owner => owners[owner as usize - 1] ^ bits,
            }
        });
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        file.write_all_at(&bytes, data).expect("its bytes");
        let now = Duration::ZERO;
        let outcomes = [
            all.semaphore.try_acquire(&all).is_ok(),
            all.semaphore.available(&all) > 0,
            all.barrier.join(&all).is_ok_and(|mut party| party.wait(soon()).is_ok()),
            all.barrier.reset(&all).is_ok_and(|reset| reset),
            all.once.get_or_init_timeout(&all, now, |value| *value = 1).is_ok(),
            all.cell.read(&all).is_ok(),
            all.cell.write_timeout(&all, [1; 3], now).is_ok(),
            all.versioned.read() == [0; 3],
            all.versioned.write_timeout(&all, [1; 3], now).is_ok(),
            all.state.try_read(&all).is_ok(),
            all.state.try_write(&all).is_ok(),
            all.state.read_upgradable_timeout(&all, now).is_ok_and(|guard| guard.upgrade_timeout(now).is_ok()),
            all.reentrant.try_lock(&all).is_ok(),
        ];
        let shown = format!("{:?} {:?} {:?} {:?}", all.semaphore, all.barrier, all.cell, all.state);
        assert!(!shown.is_empty() && held_locks(dir.name("a")).is_ok());
        values += outcomes.iter().filter(|outcome| **outcome).count() as u64;
        errors += outcomes.iter().filter(|outcome| !**outcome).count() as u64;
    }
    assert!(values > 1000 && errors > 1000, "{values} values, {errors} errors");
}
