//! The mutex: one at a time, nobody sleeps for ever, and a death is seen once.

use crate::error::LockError;
use crate::owner::OwnerId;
use crate::prim;
use crate::region::{RegionMut, table};
use crate::sync::guard::{Locked, MutexGuard};
use crate::sync::mutex::Mutex;
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread;
use std::cell::Cell;
use std::rc::Rc;

/// Two numbers that are equal when no one is at work on them.
struct Pair([UnsafeCell<u64>; 2]);

impl Pair {
    fn new() -> Rc<Mutex<Self>> {
        Rc::new(Mutex::new(Self([UnsafeCell::new(0), UnsafeCell::new(0)])))
    }

    fn get(&self) -> [u64; 2] {
        // SAFETY: loom reports it if somebody writes at the same time.
        self.0.each_ref().map(|half| half.with(|value| unsafe { *value }))
    }

    fn set(&self, half: usize, value: u64) {
        // SAFETY: loom reports it if somebody reads or writes at the same time.
        self.0[half].with_mut(|place| unsafe { *place = value });
    }

    /// Adds one, with a step in the middle to die at.
    fn increment(&self) {
        let [value, _] = self.get();
        self.set(0, value + 1);
        prim::step();
        self.set(1, value + 1);
    }
}

fn clean(locked: Result<Locked<MutexGuard<'_, Pair>>, LockError>) -> MutexGuard<'_, Pair> {
    match locked.expect("the lock") {
        Locked::Clean(guard) => guard,
        Locked::OwnerDied(_) => panic!("nobody has died"),
    }
}

/// `threads` threads take the lock `rounds` times each: every increment is there, and nobody sleeps for ever.
fn increments(threads: u64, rounds: u64) {
    let (table, mutex) = (table(), Pair::new());
    let work = |pid: u64| {
        let (region, mutex) = (RegionMut::attach(&table, pid as u32), Rc::clone(&mutex));
        move || (0..rounds).for_each(|_| clean(mutex.lock(&region)).increment())
    };
    let mine = work(1);
    let others: Vec<_> = (2..=threads).map(work).collect();
    let others: Vec<_> = others.into_iter().map(thread::spawn).collect();
    mine();
    join(others);
    let region = RegionMut::attach(&table, 9);
    assert_eq!(clean(mutex.lock(&region)).get(), [threads * rounds; 2]);
}

#[test]
fn two_threads_lock_once_each() {
    explore("2 threads lock once each", (None, None), || increments(2, 1));
}

#[test]
fn two_threads_lock_thrice_each() {
    explore("2 threads lock 3 times each", (Some(4), Some(5)), || increments(2, 3));
}

#[test]
fn three_threads_lock_once_each() {
    explore("3 threads lock once each", (Some(3), Some(4)), || increments(3, 1));
}

#[test]
fn three_threads_lock_twice_each() {
    explore("3 threads lock twice each", (Some(2), Some(3)), || increments(3, 2));
}

#[test]
fn four_threads_lock_once_each() {
    explore("4 threads lock once each", (Some(2), Some(3)), || increments(4, 1));
}

/// Who only tries takes the lock or does not, and a lock that is free is taken.
#[test]
fn trying_is_locking_or_nothing() {
    explore("2 threads try, 1 locks", (Some(3), Some(4)), || {
        let (table, mutex) = (table(), Pair::new());
        let regions = [1, 2, 3].map(|pid| RegionMut::attach(&table, pid));
        let [mine, others @ ..] = regions.map(|region| (region, Rc::clone(&mutex)));
        let others = others.map(|(region, mutex)| {
            thread::spawn(move || match mutex.try_lock(&region) {
                Ok(Locked::Clean(guard)) => {
                    guard.increment();
                    1
                }
                Ok(Locked::OwnerDied(_)) => panic!("nobody has died"),
                Err(LockError::TimedOut { .. }) => 0,
                Err(error) => panic!("{error}"),
            })
        });
        clean(mutex.lock(&mine.0)).increment();
        let taken: u64 = join(others).iter().sum();
        assert_eq!(clean(mutex.try_lock(&mine.0)).get(), [1 + taken; 2]);
    });
}

/// Whoever attaches and locks at once is not taken for dead by those who find it in the word: they see it in the
/// table too.
#[test]
fn a_newcomer_is_not_taken_for_dead() {
    explore("2 attach and lock, 1 locks", (Some(3), Some(4)), || {
        let (table, mutex) = (table(), Pair::new());
        let region = RegionMut::attach(&table, 1);
        let newcomers = [2, 3].map(|pid| {
            let (table, mutex) = (Rc::clone(&table), Rc::clone(&mutex));
            thread::spawn(move || clean(mutex.lock(&RegionMut::attach(&table, pid))).increment())
        });
        clean(mutex.lock(&region)).increment();
        join(newcomers);
        assert_eq!(clean(mutex.lock(&region)).get(), [3; 2]);
    });
}

/// The same where another thread than the one that attached is the one that locks.
#[test]
fn a_newcomer_may_have_threads() {
    explore("1 attaches and its thread locks, 2 lock", (Some(2), Some(3)), || {
        let (table, mutex) = (table(), Pair::new());
        let [mine, other] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
        let lock = |mutex: &Rc<_>, region| {
            let mutex: Rc<Mutex<Pair>> = Rc::clone(mutex);
            thread::spawn(move || clean(mutex.lock(&region)).increment())
        };
        let newcomer = thread::spawn({
            let (table, mutex) = (Rc::clone(&table), Rc::clone(&mutex));
            move || lock(&mutex, RegionMut::attach(&table, 3))
        });
        let other = lock(&mutex, other);
        clean(mutex.lock(&mine)).increment();
        join(join([newcomer]));
        join([other]);
        assert_eq!(clean(mutex.lock(&mine)).get(), [3; 2]);
    });
}

/// A lock with what is known of it, for those who come after a death.
struct Estate {
    mutex: Mutex<Pair>,
    /// Changed under the lock: somebody has been told of a death, and nobody has repaired since.
    told: Cell<bool>,
    /// How often somebody was told.
    reports: Cell<u64>,
}

impl Estate {
    fn new() -> Rc<Self> {
        let mutex = Mutex::new(Pair([UnsafeCell::new(0), UnsafeCell::new(0)]));
        Rc::new(Self { mutex, told: Cell::new(false), reports: Cell::new(0) })
    }

    /// Locks and increments; if somebody has died, also repairs, or leaves it as it is.
    fn visit(&self, region: &RegionMut, repair: bool) {
        let guard = match self.mutex.lock(region).expect("the lock") {
            Locked::Clean(guard) => {
                assert!(!self.told.get(), "a lock is marked until somebody repairs");
                guard
            }
            Locked::OwnerDied(died) => {
                self.told.set(true);
                self.reports.set(self.reports.get() + 1);
                if !repair {
                    return;
                }
                let [value, _] = died.get();
                died.set(1, value);
                self.told.set(false);
                died.mark_consistent()
            }
        };
        let [one, other] = guard.get();
        assert_eq!(one, other, "what is half-done is marked");
        guard.increment();
    }

    /// Visits and repairs `rounds` times as a process that dies after `steps` steps; says whether it held the lock.
    fn visit_mortal(&self, region: &RegionMut, steps: u64, rounds: u64) -> bool {
        if prim::mortal(steps, || (0..rounds).for_each(|_| self.visit(region, true))).is_some() {
            return false;
        }
        let held = OwnerId::in_word(prim::word_of(&self.mutex)) == region.attachment().me();
        region.die();
        held
    }
}

/// One dies after `steps` steps of locking, incrementing and unlocking twice; `others` lock meanwhile. They all get
/// it, and are told of the death if and only if it died holding the lock: once, or until somebody repairs.
fn a_death(steps: u64, others: u32, repair: bool) {
    let (table, estate) = (table(), Estate::new());
    let [victim, last] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
    let others: Vec<_> = (0..others).map(|other| (RegionMut::attach(&table, 3 + other), Rc::clone(&estate))).collect();
    let visit = |(region, estate): (_, Rc<Estate>)| thread::spawn(move || estate.visit(&region, repair));
    let others: Vec<_> = others.into_iter().map(visit).collect();
    let held = estate.visit_mortal(&victim, steps, 2);
    join(others);
    estate.visit(&last, repair);
    let reports = estate.reports.get();
    assert_eq!(reports > 0, held, "they are told of a death that matters");
    assert!(reports <= 1 || !repair, "one is told");
}

#[test]
fn a_death_is_reported_to_one_who_repairs() {
    explore_deaths("1 dies, 1 locks and repairs", (Some(4), None), |steps| a_death(steps, 1, true));
}

#[test]
fn a_death_is_reported_until_somebody_repairs() {
    explore_deaths("1 dies, 2 lock and do not repair", (Some(2), Some(2)), |steps| a_death(steps, 2, false));
}

#[test]
fn a_death_lets_nobody_hang() {
    explore_deaths("1 dies, 2 lock and repair", (Some(2), Some(2)), |steps| a_death(steps, 2, true));
}

/// One has died holding the lock, one who takes it over dies as well: another takes over from that one.
#[test]
fn a_death_of_whoever_repairs() {
    explore_deaths("1 is dead, 1 dies, 2 lock and repair", (Some(2), Some(3)), |steps| {
        let (table, estate) = (table(), Estate::new());
        let [dead, victim, other, last] = [1, 2, 3, 4].map(|pid| RegionMut::attach(&table, pid));
        prim::mortal(u64::MAX, || {
            let _guard = clean(estate.mutex.lock(&dead));
            prim::die()
        });
        dead.die();
        let heir = Rc::clone(&estate);
        let other = thread::spawn(move || heir.visit(&other, true));
        let held = estate.visit_mortal(&victim, steps, 1);
        join([other]);
        estate.visit(&last, true);
        let reports = estate.reports.get();
        assert!(reports == 1 || reports == 2 && held, "each death is reported once");
    });
}

/// One dies holding the lock, and another attaches in its place meanwhile: whoever sees that by the new generation of
/// the slot also sees all that the dead one did.
#[test]
fn a_death_seen_by_who_came_after() {
    explore("1 dies, 1 attaches in its place, 1 locks and repairs", (Some(3), Some(4)), || {
        let (table, estate) = (table(), Estate::new());
        let [dead, mine] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
        let holder = Rc::clone(&estate);
        let dying = thread::spawn(move || {
            prim::mortal(u64::MAX, || {
                let guard = clean(holder.mutex.lock(&dead));
                guard.increment();
                prim::die()
            });
            dead.die();
        });
        let coming = thread::spawn(move || {
            RegionMut::attach(&table, 3);
            prim::end_slices();
        });
        estate.visit(&mine, true);
        join([dying]);
        join([coming]);
        estate.visit(&mine, true);
        assert_eq!(estate.reports.get(), 1, "one is told");
    });
}
