//! What a review of locks and their like has found: each test failed once.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{LockError, Locked, Once, Options, ReentrantMutex, RwLock, Segment, SeqCell, Shareable, Versioned};
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
