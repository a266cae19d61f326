//! Deaths of those who read, write, upgrade or downgrade, or lock more than once; and two of them on one lock.

use crate::aftermath::Expected::Object;
use crate::common::Dir;
use crate::meet::Outcome::{self, Done};
use crate::peek::{reader_is_awaited, writer_is_awaited};
use crate::scenarios::{Operation, Run, UNTIL_LAST_USER, after, beside_us, in_time, object, operation, quietly};
use crate::victim::{Halves, PATIENCE, Shared};
use memlane::{LockError, Locked, RwLockUpgradableGuard, RwLockWriteGuard, Segment};
use memlane_crash::{Event, operate};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const OPERATIONS: &[Operation] = &[
    operation("read", UNTIL_LAST_USER, Object, |dir, run| beside_us(dir, run, "rw read")),
    operation("read, while another writes", UNTIL_LAST_USER, Object, |dir, run| in_the_way(dir, run, true, "rw read")),
    operation("write", UNTIL_LAST_USER, Object, |dir, run| beside_us(dir, run, "rw write")),
    operation("write, while another reads", UNTIL_LAST_USER, Object, |dir, run| {
        in_the_way(dir, run, false, "rw write")
    }),
    operation("write, while another writes", UNTIL_LAST_USER, Object, |dir, run| {
        in_the_way(dir, run, true, "rw write")
    }),
    operation("write until the time is over", UNTIL_LAST_USER, Object, |dir, run| {
        in_vain(dir, run, "rw write in vain")
    }),
    operation("write after a dead writer", UNTIL_LAST_USER, Object, after_a_dead_writer),
    operation("upgrade", UNTIL_LAST_USER, Object, |dir, run| beside_us(dir, run, "rw upgrade")),
    operation("upgrade until the time is over", UNTIL_LAST_USER, Object, |dir, run| {
        in_vain(dir, run, "rw upgrade in vain")
    }),
    operation("downgrade", UNTIL_LAST_USER, Object, |dir, run| beside_us(dir, run, "rw downgrade")),
    operation("give back what another waits to write", UNTIL_LAST_USER, Object, |dir, run| {
        awaited(dir, run, "rw read")
    }),
    operation("give back what another waits to read", UNTIL_LAST_USER, Object, |dir, run| {
        awaited(dir, run, "rw write")
    }),
    operation("lock twice", UNTIL_LAST_USER, Object, |dir, run| beside_us(dir, run, "lock twice")),
];

/// What the victim does.
pub fn act(operation: &str, shared: &Segment<Shared>) {
    let moment = Duration::from_millis(3);
    let timed_out = |error: &LockError| matches!(error, LockError::TimedOut { .. });
    match operation {
        "rw read" | "rw write" | "rw upgrade" | "rw downgrade" => {
            assert_eq!(operate(|| attempt(shared, operation)), Done)
        }
        "rw write in vain" => {
            operate(|| assert!(shared.rw.write_timeout(shared, moment).is_err_and(|error| timed_out(&error))));
        }
        "rw upgrade in vain" => operate(|| {
            let guard = upgradable(shared);
            let Err(not) = guard.upgrade_timeout(moment) else { panic!("somebody reads") };
            assert!(timed_out(not.error()));
            drop(not.into_guard().downgrade());
        }),
        "lock twice" => operate(|| {
            let lock = || shared.again.lock_timeout(shared, PATIENCE).expect("the lock").or_repair(|_| ());
            let (outer, inner) = (lock(), lock());
            inner.fetch_add(1, Ordering::Relaxed);
            drop(outer);
            inner.fetch_add(1, Ordering::Relaxed);
        }),
        other => panic!("no operation {other}"),
    }
}

fn write(shared: &Segment<Shared>) -> RwLockWriteGuard<'_, Halves> {
    let locked = in_time(|limit| shared.rw.write_timeout(shared, limit)).expect("the lock");
    locked.or_repair(|halves| halves.b = halves.a)
}

fn upgradable(shared: &Segment<Shared>) -> RwLockUpgradableGuard<'_, Halves> {
    in_time(|limit| shared.rw.read_upgradable_timeout(shared, limit)).expect("the lock")
}

fn change(shared: &Segment<Shared>, halves: &mut Halves) {
    assert_eq!(halves.a, halves.b, "somebody else is at it");
    halves.a += 1;
    shared.between.notify_one();
    halves.b += 1;
}

/// One operation on the lock, as both sides do it: all but to read add one.
pub fn attempt(shared: &Segment<Shared>, act: &str) -> Outcome {
    match act {
        "rw read" => {
            let halves = in_time(|limit| shared.rw.read_timeout(shared, limit)).expect("the lock");
            assert_eq!(halves.a, halves.b, "half-changed data without a mark");
        }
        "rw write" => change(shared, &mut write(shared)),
        "rw upgrade" => {
            let guard = upgradable(shared);
            let seen = guard.a;
            let mut guard = in_time(|limit| guard.upgrade_timeout(limit)).expect("no end but that");
            assert_eq!(guard.a, seen, "a writer came between");
            change(shared, &mut guard);
        }
        "rw downgrade" => {
            let mut guard = write(shared);
            change(shared, &mut guard);
            let seen = guard.a;
            assert_eq!(guard.downgrade().b, seen, "a writer came between");
        }
        other => panic!("no operation {other}"),
    }
    Done
}

/// However it was left, it can be read if it is complete, and repaired if it is not; the dead keep nothing.
pub fn work(shared: &Segment<Shared>) {
    let read = shared.rw.read_timeout(shared, PATIENCE).map(|halves| (halves.a, halves.b));
    let marked = match shared.rw.write_timeout(shared, PATIENCE).expect("the dead keep no lock") {
        Locked::Clean(_) => false,
        Locked::OwnerDied(mut died) => {
            died.b = died.a;
            drop(died.mark_consistent());
            true
        }
    };
    match read {
        Ok((a, b)) => assert!(a == b && !marked, "half-changed data without a mark"),
        Err(LockError::NeedsRepair { .. }) => assert!(marked, "nobody is told to repair it"),
        Err(error) => panic!("{error}"),
    }
    assert!(matches!(shared.rw.try_write(shared), Ok(Locked::Clean(_))), "the mark outlives the repair");
    let guard = upgradable(shared);
    let halves = guard.upgrade_timeout(Duration::ZERO).expect("nobody reads").downgrade();
    assert_eq!(halves.a, halves.b);
    drop(halves);
    let again = || shared.again.lock_timeout(shared, PATIENCE).expect("the dead keep no lock").or_repair(|_| ());
    drop((again(), again()));
}

/// We have the lock until the victim waits for it.
fn in_the_way(dir: &Dir, run: &mut Run, writes: bool, act: &str) {
    let ours = object(dir, run);
    let mut held = Some(if writes { Err(write(&ours)) } else { Ok(ours.rw.read(&ours).expect("the lock")) });
    run.die(dir, act, &mut |_| {
        if if writes { writer_is_awaited(dir) } else { reader_is_awaited(dir) } {
            drop(held.take());
        }
    });
    drop(held);
    after(dir, run, &ours);
}

/// We read all the time.
fn in_vain(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    let held = ours.rw.read(&ours).expect("the lock");
    run.die(dir, act, &mut quietly);
    drop(held);
    assert!(ours.rw.try_read(&ours).is_ok(), "who did not write has left something");
    after(dir, run, &ours);
}

/// Detaching is a death to all others.
fn after_a_dead_writer(dir: &Dir, run: &mut Run) {
    let ours = object(dir, run);
    let holder = Segment::<Shared>::open(dir.name(crate::victim::OBJECT)).expect("the object");
    // A thread of its own, because a thread remembers what it locked.
    let locked = std::thread::spawn(move || {
        let mut halves = write(&holder);
        halves.a += 1;
        std::mem::forget(halves);
    });
    locked.join().expect("no panic");
    run.die(dir, "rw write", &mut quietly);
    after(dir, run, &ours);
}

/// We wait for what the victim has, as soon as it has it.
fn awaited(dir: &Dir, run: &mut Run, act: &str) {
    let ours = object(dir, run);
    std::thread::scope(|scope| {
        let mut waiter = None;
        run.die(dir, act, &mut |event| {
            if event == Event::Moved && waiter.is_none() {
                waiter = Some(scope.spawn(|| match act {
                    "rw read" => drop(write(&ours)),
                    _ => match in_time(|limit| ours.rw.read_timeout(&ours, limit)) {
                        Ok(halves) => assert_eq!(halves.a, halves.b, "half-changed data without a mark"),
                        Err(error) => assert!(matches!(error, LockError::NeedsRepair { .. }), "{error}"),
                    },
                }));
            }
        });
        if let Some(waiter) = waiter {
            waiter.join().expect("the lock, or a mark");
        }
    });
    after(dir, run, &ours);
}
