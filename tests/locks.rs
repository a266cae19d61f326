//! Mutex and Condvar between real processes.
#![allow(missing_docs)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{
    Condvar, LockError, Locked, Mutex, MutexGuard, Name, Options, OwnerId, Region, Segment, Shareable, Until,
    WaitError, lock_both,
};
use std::cell::RefCell;
use std::mem::offset_of;
use std::sync::{Barrier, mpsc};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    changed: Condvar,
    state: Mutex<State>,
    other: Mutex<u64>,
}

#[derive(Shareable)]
#[repr(C)]
struct State {
    value: u64,
    copy: u64,
    child: OwnerId,
}

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, (), &Options::new(), |_| ()).expect("a fresh object")
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let shared = Segment::<Shared>::open(arguments[0].as_str()).expect("the parent's object");
    match role.as_str() {
        "hold" => {
            let mut state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            state.value = 1; // and not yet `copy`: a death now leaves it half-changed
            say("held");
            hear();
            state.copy = 1;
        }
        "hold other, then state" => {
            let _other = shared.other.lock(&shared).expect("the lock").or_repair(|_| ());
            say("held");
            hear();
            let error = shared.state.lock_timeout(&shared, PATIENCE).map(drop);
            say(&format!("{error:?}"));
        }
        "add" => {
            let count: u64 = arguments[1].parse().expect("a number");
            for _ in 0..count {
                let mut state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
                state.value += 1;
                state.copy += 1;
            }
            say("added");
        }
        "answer" => {
            let mut state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            state.child = shared.region().owner();
            drop(state);
            say("here");
            while hear().is_some_and(|word| word == "go") {
                shared.state.lock(&shared).expect("the lock").or_repair(|_| ()).value += 1;
                shared.changed.notify_all();
            }
        }
        other => panic!("no role {other}"),
    }
}

fn holder_of(error: LockError) -> u32 {
    match error {
        LockError::TimedOut { holder: Some(who), .. } => who.pid,
        other => panic!("expected a timeout that names the holder, got {other:?}"),
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_timeout_names_the_holder() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut holder = spawn(dir.path(), "hold", &["m"]);
    holder.expect("held");
    assert_eq!(holder_of(shared.state.try_lock(&shared).expect_err("it is held")), holder.pid());
    assert_eq!(holder_of(shared.state.lock_timeout(&shared, SHORT).expect_err("it is held")), holder.pid());
    holder.say("go on");
    assert!(holder.finish().success());
    assert!(matches!(shared.state.lock(&shared), Ok(Locked::Clean(state)) if state.copy == 1));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_holder_that_is_stopped_lives_and_is_called_stopped() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut holder = spawn(dir.path(), "hold", &["m"]);
    holder.expect("held");
    holder.signal("STOP");
    // The signal is on its way: until it has come the holder just holds.
    let error = loop {
        match shared.state.lock_timeout(&shared, Duration::from_millis(1)) {
            Err(LockError::TimedOut { holder: Some(who), .. }) if !who.stopped => {}
            Err(error) => break error,
            Ok(_) => panic!("a stopped holder is no dead one"),
        }
    };
    assert!(error.to_string().contains("stopped: `kill -CONT`"), "{error}");
    assert_eq!(holder_of(error), holder.pid());
    holder.signal("CONT");
    holder.say("go on");
    assert!(holder.finish().success());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_dead_holder_gives_the_lock_with_a_mark_that_stays_until_repaired() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut holder = spawn(dir.path(), "hold", &["m"]);
    holder.expect("held");
    holder.kill();
    let Ok(Locked::OwnerDied(died)) = shared.state.lock_timeout(&shared, PATIENCE) else { panic!("no mark") };
    assert_eq!((died.value, died.copy), (1, 0), "half-changed, as it was left");
    assert!(matches!(shared.state.try_lock(&shared), Err(LockError::AlreadyLocked { .. })), "we hold it now");
    drop(died); // not repaired
    let Ok(Locked::OwnerDied(mut died)) = shared.state.try_lock(&shared) else { panic!("the mark is gone") };
    died.copy = died.value;
    drop(died.mark_consistent());
    assert!(matches!(shared.state.try_lock(&shared), Ok(Locked::Clean(_))));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_waiter_takes_over_from_a_holder_that_dies_while_it_waits() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut holder = spawn(dir.path(), "hold", &["m"]);
    holder.expect("held");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| matches!(shared.state.lock_timeout(&shared, PATIENCE), Ok(Locked::OwnerDied(_))));
        holder.kill();
        assert!(waiter.join().expect("no panic"));
    });
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn two_processes_never_are_inside_together() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut children: Vec<_> = (0..3).map(|_| spawn(dir.path(), "add", &["m", "20000"])).collect();
    children.iter_mut().for_each(|child| child.expect("added"));
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| panic!("nobody died"));
    assert_eq!((state.value, state.copy), (60_000, 60_000));
}

#[test]
fn locking_twice_in_one_thread_is_an_error_also_through_a_second_mapping() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let again = Segment::<Shared>::open(dir.name("m")).expect("the same object");
    let _guard = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    assert!(matches!(shared.state.lock_timeout(&shared, PATIENCE), Err(LockError::AlreadyLocked { .. })));
    assert!(matches!(again.state.lock_timeout(&again, PATIENCE), Err(LockError::AlreadyLocked { .. })));
    assert!(shared.other.lock(&shared).is_ok(), "another lock is another lock");
    std::thread::scope(|scope| {
        let in_thread = || matches!(shared.state.try_lock(&shared), Err(LockError::TimedOut { .. }));
        assert!(scope.spawn(in_thread).join().expect("no panic"), "another thread waits as anybody else");
    });
    memlane::retire(shared.region().name()).expect("it is there");
    assert!(matches!(shared.state.try_lock(&shared), Err(LockError::Retired { .. })), "no matter who holds it");
}

#[test]
fn a_lock_elsewhere_is_refused() {
    let dir = Dir::new();
    let (one, two) = (create(&dir.name("one")), create(&dir.name("two")));
    assert!(matches!(one.state.lock(&two), Err(LockError::NotInSegment { .. })));
    let local = Mutex::new(0_u64);
    assert!(matches!(local.lock(&one), Err(LockError::NotInSegment { .. })));
    let state = one.state.lock(&one).expect("the lock").or_repair(|_| ());
    let waited = two.changed.wait(state, Until::timeout(SHORT)).map(drop);
    assert!(matches!(waited, Err(WaitError::Lock(LockError::NotInSegment { .. }))), "{waited:?}");
    assert!(one.state.try_lock(&one).is_ok(), "the lock is not held after an error");
}

#[test]
fn what_is_abandoned_is_to_be_repaired() {
    let dir = Dir::new();
    let shared = create(&dir.name("s"));
    shared.other.lock(&shared).expect("the lock").or_repair(|_| ()).abandon();
    let Locked::OwnerDied(died) = shared.other.try_lock(&shared).expect("it was given back") else {
        panic!("complete")
    };
    drop(died.mark_consistent());
    assert!(matches!(shared.other.try_lock(&shared), Ok(Locked::Clean(_))));
}

#[test]
fn a_panic_under_the_lock_leaves_the_mark() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let panicked = std::thread::scope(|scope| {
        let panics = || {
            let _guard = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            std::panic::resume_unwind(Box::new(()));
        };
        scope.spawn(panics).join().is_err()
    });
    assert!(panicked);
    assert!(matches!(shared.state.try_lock(&shared), Ok(Locked::OwnerDied(_))));
}

#[test]
fn a_lock_that_is_taken_during_a_panic_is_not_marked_by_it() {
    struct LocksWhenDropped<'a>(&'a Segment<Shared>);
    impl Drop for LocksWhenDropped<'_> {
        fn drop(&mut self) {
            self.0.state.lock(self.0).expect("the lock").or_repair(|_| ()).value += 1;
        }
    }
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let panicked = std::thread::scope(|scope| {
        let panics = || {
            let _late = LocksWhenDropped(&shared);
            std::panic::resume_unwind(Box::new(()));
        };
        scope.spawn(panics).join().is_err()
    });
    assert!(panicked);
    assert!(matches!(shared.state.try_lock(&shared), Ok(Locked::Clean(state)) if state.value == 1));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_deadlock_is_named() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut other = spawn(dir.path(), "hold other, then state", &["m"]);
    other.expect("held");
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    other.say("now lock the state");
    let cycle = loop {
        match shared.other.lock_timeout(&shared, SHORT) {
            Err(LockError::TimedOut { cycle, .. }) if cycle.is_empty() => {} // the child does not sleep yet
            Err(error) => break error,
            Ok(_) => panic!("the child holds it"),
        }
    };
    assert!(cycle.to_string().contains("deadlock"), "{cycle}");
    assert!(matches!(cycle, LockError::TimedOut { cycle, .. } if cycle.len() == 1 && cycle[0].pid == other.pid()));
    drop(state);
    other.expect("Ok(())");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn what_a_dead_sleeper_waited_for_is_nothing_to_the_next_one() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    let mut sleeper = spawn(dir.path(), "hold other, then state", &["m"]);
    sleeper.expect("held");
    sleeper.say("now lock the state");
    let cycle = |shared: &Segment<Shared>| match shared.other.lock_timeout(shared, SHORT) {
        Err(LockError::TimedOut { cycle, .. }) => cycle,
        other => panic!("a child holds it: {other:?}"),
    };
    while cycle(&shared).is_empty() {} // the child does not sleep yet
    sleeper.kill();
    let mut next = spawn(dir.path(), "hold other, then state", &["m"]);
    next.expect("held");
    assert_eq!(cycle(&shared), [], "it sleeps on nothing");
    drop(state);
}

#[test]
fn two_locks_are_taken_in_one_order() {
    const ROUNDS: u64 = if cfg!(miri) { 10 } else { 2_000 };
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    std::thread::scope(|scope| {
        for turn in 0..2 {
            let shared = &shared;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if turn == 0 {
                        let (_a, mut b) = lock_both(&shared.state, &shared.other, shared, Some(PATIENCE))
                            .map(both)
                            .expect("no deadlock");
                        *b += 1;
                    } else {
                        let (mut a, _b) = lock_both(&shared.other, &shared.state, shared, Some(PATIENCE))
                            .map(both)
                            .expect("no deadlock");
                        *a += 1;
                    }
                }
            });
        }
    });
    assert_eq!(*shared.other.lock(&shared).expect("the lock").or_repair(|_| ()), 2 * ROUNDS);
    assert!(matches!(
        lock_both(&shared.other, &shared.other, &shared, Some(PATIENCE)),
        Err(LockError::AlreadyLocked { .. })
    ));
    assert!(shared.other.try_lock(&shared).is_ok(), "neither is held after an error");
}

#[test]
fn of_two_locks_the_second_is_not_taken_before_the_first() {
    const { assert!(offset_of!(Shared, state) < offset_of!(Shared, other)) };
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock_both(&shared.other, &shared.state, &shared, Some(PATIENCE)).map(both).is_ok());
        wait_for_a_waiter(&dir);
        assert!(matches!(shared.other.try_lock(&shared), Ok(Locked::Clean(_))), "nobody holds it while he waits");
        drop(state);
        assert!(waiter.join().expect("no panic"));
    });
}

fn both<'a, A: ?Sized, B: ?Sized>(
    (a, b): (Locked<MutexGuard<'a, A>>, Locked<MutexGuard<'a, B>>),
) -> (MutexGuard<'a, A>, MutexGuard<'a, B>) {
    (a.or_repair(|_| ()), b.or_repair(|_| ()))
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_notification_wakes_across_processes() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut child = spawn(dir.path(), "answer", &["m"]);
    child.expect("here");
    for round in 1..=50 {
        let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
        let until = Until::timeout(PATIENCE).or_peer_lost(state.child);
        child.say("go");
        let state = shared.changed.wait_while(state, until, |state| state.value < round).expect("an answer");
        assert_eq!(state.or_repair(|_| ()).value, round);
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_wait_ends_when_its_time_is_over_and_names_the_peer() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let mut child = spawn(dir.path(), "answer", &["m"]);
    child.expect("here");
    let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    let until = Until::timeout(SHORT).or_peer_lost(state.child);
    match shared.changed.wait_while(state, until, |_| true) {
        Err(WaitError::TimedOut { peer: Some(peer), waited, .. }) => {
            assert_eq!(peer.pid, child.pid());
            assert!(waited >= SHORT);
        }
        other => panic!("expected a timeout, got {other:?}"),
    }
    assert!(shared.state.try_lock(&shared).is_ok(), "the lock is not held after an error");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_wait_ends_when_the_peer_dies_and_names_it() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    for with_predicate in [true, false] {
        let mut child = spawn(dir.path(), "answer", &["m"]);
        child.expect("here");
        let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
        let until = Until::forever().or_peer_lost(state.child);
        let pid = child.pid();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
                let result = if with_predicate {
                    shared.changed.wait_while(state, until, |_| true)
                } else {
                    shared.changed.wait(state, until)
                };
                result.map(drop)
            });
            drop(state);
            child.kill();
            match waiter.join().expect("no panic") {
                Err(WaitError::PeerLost { peer: Some(peer), .. }) => assert_eq!(peer.pid, pid),
                other => panic!("expected a lost peer, got {other:?}"),
            }
        });
    }
}

#[test]
fn retiring_ends_every_wait() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
            state.value = 1;
            let waited = shared.changed.wait_while(state, Until::forever(), |_| true).map(drop);
            done.send(waited).expect("the test listens");
        });
        // Once the lock is free and the value is there, the waiter waits.
        while shared.state.lock(&shared).expect("the lock").or_repair(|_| ()).value == 0 {
            std::thread::yield_now();
        }
        memlane::retire(dir.name("m")).expect("it is there");
        let waited = ended.recv_timeout(PATIENCE);
        shared.changed.notify_all(); // or a wait that hangs would never end
        assert!(matches!(waited, Ok(Err(WaitError::Lock(LockError::Retired { .. })))), "{waited:?}");
    });
    assert!(matches!(shared.state.lock(&shared), Err(LockError::Retired { .. })));
}

/// Returns when somebody sleeps, or is about to, for the lock of `state`.
fn wait_for_a_waiter(dir: &Dir) {
    let bytes = Region::open(dir.name("m")).expect("it is there");
    let mut word = [0; 4];
    while u32::from_ne_bytes(word) & 1 << 31 == 0 {
        std::thread::yield_now();
        bytes.read_at(offset_of!(Shared, state), &mut word).expect("inside");
    }
}

#[test]
fn retiring_ends_the_wait_for_a_lock() {
    let dir = Dir::new();
    let shared = create(&dir.name("m"));
    let held = shared.state.lock(&shared).expect("the lock").or_repair(|_| ());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| shared.state.lock_timeout(&shared, PATIENCE).map(drop));
        wait_for_a_waiter(&dir);
        memlane::retire(dir.name("m")).expect("it is there");
        let waited = waiter.join().expect("no panic");
        assert!(matches!(waited, Err(LockError::Retired { .. })), "{waited:?}");
    });
    drop(held);
}

#[derive(Shareable)]
#[repr(C)]
struct Many {
    locks: [Mutex<u64>; 12],
}

/// Locks all of them, in order.
fn lock_all(many: &Segment<Many>) -> Vec<MutexGuard<'_, u64>> {
    many.locks.iter().map(|lock| lock.lock(many).expect("the lock").or_repair(|_| ())).collect()
}

#[test]
fn a_thread_knows_every_lock_it_holds_in_whatever_order_it_gives_them_back() {
    let dir = Dir::new();
    let many = Segment::<Many>::create(dir.name("m"), (), &Options::new(), |_| ()).expect("a fresh object");
    let again = Segment::<Many>::open(dir.name("m")).expect("the same object");
    let mut held: Vec<_> = lock_all(&many).into_iter().enumerate().collect();
    while !held.is_empty() {
        for (index, lock) in again.locks.iter().enumerate() {
            let holds = held.iter().any(|(other, _)| *other == index);
            match lock.try_lock(&again) {
                Ok(_) => assert!(!holds, "lock {index} was taken twice"),
                Err(LockError::AlreadyLocked { .. }) => assert!(holds, "lock {index} was given back"),
                Err(error) => panic!("lock {index}: {error}"),
            }
        }
        drop(held.remove(held.len() * 2 / 3)); // now one from the middle, in the end the first
    }
    let turn = Barrier::new(2);
    let answers: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _held = lock_all(&many);
            turn.wait();
            turn.wait();
        });
        turn.wait();
        let answers = again.locks.iter().map(|lock| lock.try_lock(&again).map(drop)).collect();
        turn.wait();
        answers
    });
    let others = answers.iter().all(|answer| matches!(answer, Err(LockError::TimedOut { .. })));
    assert!(others, "what was given back is not held by this thread: {answers:?}");
}

#[test]
fn a_destructor_that_runs_while_its_thread_ends_may_lock() {
    struct LocksWhenDropped(Option<Segment<Many>>);
    impl Drop for LocksWhenDropped {
        fn drop(&mut self) {
            let Some(many) = &self.0 else { return };
            lock_all(many).iter_mut().for_each(|value| **value += 1);
        }
    }
    thread_local! {
        static KEPT: RefCell<LocksWhenDropped> = const { RefCell::new(LocksWhenDropped(None)) };
    }
    let dir = Dir::new();
    let many = Segment::<Many>::create(dir.name("m"), (), &Options::new(), |_| ()).expect("a fresh object");
    let again = Segment::<Many>::open(dir.name("m")).expect("the same object");
    let ends = || {
        KEPT.with_borrow_mut(|kept| kept.0 = Some(again));
        drop(lock_all(&many));
    };
    std::thread::scope(|scope| scope.spawn(ends).join().expect("no panic"));
    assert!(lock_all(&many).iter().all(|value| **value == 1));
}
