//! The lock for readers and writers: readers together or a writer alone, nobody sleeps for ever, and a death is told to
//! who writes next, if there was something to lose.

use crate::error::LockError;
use crate::owner::OwnerId;
use crate::prim;
use crate::region::{RegionMut, table};
use crate::sync::guard::Locked;
use crate::sync::rwlock::{RwLock, RwLockWriteGuard};
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};
use std::rc::Rc;

/// Two numbers that are equal when no one is at work on them.
struct Pair([UnsafeCell<u64>; 2]);

// SAFETY: loom reports it if two threads of a model use it as they may not; all run on one thread of the machine.
unsafe impl Sync for Pair {}

type Lock = RwLock<Pair, 2>;

/// As docs/DESIGN.md draws the writer's word.
const WRITING: u64 = 1 << 29;

impl Pair {
    fn new() -> Rc<Lock> {
        Rc::new(RwLock::new(Self([UnsafeCell::new(0), UnsafeCell::new(0)])))
    }

    /// What both are; loom reports it if somebody writes at the same time.
    fn get(&self) -> u64 {
        // SAFETY: as above.
        let [one, other] = self.0.each_ref().map(|half| half.with(|value| unsafe { *value }));
        assert_eq!(one, other, "what is half-done is read");
        one
    }

    /// Adds one, with a step in the middle to die at.
    fn increment(&self) {
        let value = self.get();
        for half in &self.0 {
            // SAFETY: as above.
            half.with_mut(|place| unsafe { *place = value + 1 });
            prim::step();
        }
    }

    /// Makes the second equal to the first.
    fn repair(&self) {
        // SAFETY: as above.
        let first = self.0[0].with(|value| unsafe { *value });
        // SAFETY: as above.
        self.0[1].with_mut(|place| unsafe { *place = first });
    }
}

fn attached<const COUNT: usize>() -> [RegionMut; COUNT] {
    let table = table();
    std::array::from_fn(|pid| RegionMut::attach(&table, pid as u32 + 1))
}

fn write<'a>(lock: &'a Lock, region: &'a RegionMut) -> RwLockWriteGuard<'a, Pair> {
    match lock.write(region).expect("the lock") {
        Locked::Clean(guard) => guard,
        Locked::OwnerDied(_) => panic!("nobody has died"),
    }
}

/// What one thread does.
type Act = fn(&Lock, &RegionMut);

const READ: Act = |lock, region| {
    lock.read(region).expect("the lock").get();
};
const READ_AGAIN: Act = |lock, region| {
    let first = lock.read(region).expect("the lock");
    let second = lock.read(region).expect("this thread reads already");
    let seen = first.get();
    drop(first);
    assert_eq!(second.get(), seen, "a writer came in");
};
const WRITE: Act = |lock, region| write(lock, region).increment();
const UPGRADE: Act = |lock, region| {
    let guard = lock.read_upgradable(region).expect("the lock");
    let seen = guard.get();
    let guard = guard.upgrade().expect("no end but that");
    assert_eq!(guard.get(), seen, "a writer came between");
    guard.increment();
};
const DOWNGRADE: Act = |lock, region| {
    let guard = write(lock, region);
    guard.increment();
    let seen = guard.get();
    assert_eq!(guard.downgrade().get(), seen, "a writer came between");
};
const TRY: Act = |lock, region| {
    if let Ok(guard) = lock.try_read(region) {
        guard.get();
    }
    if let Ok(Locked::Clean(guard)) = lock.try_write(region) {
        guard.get();
    }
};

fn start(lock: &Rc<Lock>, region: RegionMut, act: Act) -> JoinHandle<()> {
    let lock = Rc::clone(lock);
    thread::spawn(move || act(&lock, &region))
}

/// Each act is done by a participant; `writes` of them write.
fn meet<const COUNT: usize>(acts: [Act; COUNT], writes: u64) {
    let (mut regions, lock) = (attached::<COUNT>().into_iter(), Pair::new());
    let mine = regions.next().expect("one at least");
    let others: Vec<_> = regions.zip(&acts[1..]).map(|(region, act)| start(&lock, region, *act)).collect();
    acts[0](&lock, &mine);
    join(others);
    assert_eq!(write(&lock, &mine).get(), writes);
}

#[test]
fn a_reader_and_a_writer() {
    explore("1 reads, 1 writes", (Some(3), None), || meet([READ, WRITE], 1));
}

#[test]
fn two_readers_and_a_writer() {
    explore("2 read, 1 writes", (Some(1), Some(2)), || meet([READ, READ, WRITE], 1));
}

#[test]
fn a_reader_and_two_writers() {
    explore("1 reads, 2 write", (Some(0), Some(1)), || meet([READ, WRITE, WRITE], 2));
}

#[test]
fn who_reads_again_and_a_writer() {
    explore("1 reads twice, 1 writes", (Some(2), Some(3)), || meet([READ_AGAIN, WRITE], 1));
}

#[test]
fn who_upgrades_and_others() {
    explore("1 upgrades, 1 reads", (Some(2), Some(3)), || meet([UPGRADE, READ], 1));
    explore("1 upgrades, 1 writes", (Some(2), Some(3)), || meet([UPGRADE, WRITE], 2));
    explore("2 upgrade", (Some(2), Some(3)), || meet([UPGRADE, UPGRADE], 2));
}

#[test]
fn who_downgrades_and_others() {
    explore("1 downgrades, 1 writes", (Some(2), Some(3)), || meet([DOWNGRADE, WRITE], 2));
    explore("1 downgrades, 1 reads", (Some(2), Some(3)), || meet([DOWNGRADE, READ], 1));
}

#[test]
fn who_only_tries() {
    explore("1 tries, 1 writes", (Some(2), Some(3)), || meet([TRY, WRITE], 1));
    explore("1 tries, 1 downgrades", (Some(2), Some(3)), || meet([TRY, DOWNGRADE], 1));
}

/// Threads of one participant are counted in one word, and none is missed.
#[test]
fn two_threads_of_a_reader_and_a_writer() {
    explore("2 threads of 1 read, 1 writes", (Some(0), Some(1)), || {
        let ([mine, other], lock) = (attached(), Pair::new());
        let other = Rc::new(other);
        let reads = [0, 1].map(|_| {
            let (lock, region) = (Rc::clone(&lock), Rc::clone(&other));
            thread::spawn(move || READ(&lock, &region))
        });
        WRITE(&lock, &mine);
        join(reads);
    });
}

/// Whoever attaches and comes in at once is not taken for dead by those who find it in a word.
#[test]
fn a_newcomer_is_not_taken_for_dead() {
    for (name, act, writes) in [("reads", READ, 1), ("writes", WRITE, 2)] {
        explore(&format!("1 attaches and {name}, 1 writes"), (Some(2), Some(3)), move || {
            let (table, lock) = (table(), Pair::new());
            let mine = RegionMut::attach(&table, 1);
            let newcomer = thread::spawn({
                let (table, lock) = (Rc::clone(&table), Rc::clone(&lock));
                move || act(&lock, &RegionMut::attach(&table, 2))
            });
            WRITE(&lock, &mine);
            join([newcomer]);
            assert_eq!(write(&lock, &mine).get(), writes);
        });
    }
}

/// Comes in to write, and adds one, or repairs if it is told to; says whether it was.
fn visit(lock: &Lock, region: &RegionMut) -> bool {
    match lock.write(region).expect("the lock") {
        Locked::Clean(guard) => {
            guard.increment();
            false
        }
        Locked::OwnerDied(died) => {
            died.repair();
            drop(died.mark_consistent());
            true
        }
    }
}

/// One dies after `steps` steps of `act`, while another reads or writes, and then a third writes: one writer is told of
/// it if and only if it died writing, nobody reads what it left, and nobody hangs.
fn a_death(steps: u64, act: Act, other_writes: bool) {
    let ([victim, other, last], lock) = (attached(), Pair::new());
    let other = thread::spawn({
        let lock = Rc::clone(&lock);
        move || {
            if other_writes {
                return visit(&lock, &other);
            }
            match lock.read(&other).map(|guard| guard.get()) {
                Err(LockError::NeedsRepair { .. }) => true,
                read => read.is_err_and(|error| panic!("{error}")),
            }
        }
    });
    let mut held = false;
    if prim::mortal(steps, || act(&lock, &victim)).is_none() {
        let word = prim::word_of(&*lock);
        held = OwnerId::in_word(word) == victim.attachment().me() && word & WRITING != 0;
        victim.die();
    }
    let [told] = join([other])[..] else { unreachable!("one thread") };
    let last_told = visit(&lock, &last);
    assert!(held || !told, "nothing is to be repaired");
    assert_eq!(last_told, held && !(told && other_writes), "one who writes is told of a death that matters");
    lock.read(&last).expect("the dead keep nothing").get();
}

fn deaths(doing: &str, act: Act) {
    for (others, other_writes) in [("reads", false), ("writes", true)] {
        let name = format!("1 dies {doing}, 1 {others}");
        explore_deaths(&name, (Some(1), Some(3)), move |steps| a_death(steps, act, other_writes));
    }
}

#[test]
fn a_death_of_who_reads() {
    deaths("reading", READ_AGAIN);
}

#[test]
fn a_death_of_who_writes() {
    deaths("writing", WRITE);
}

#[test]
fn a_death_of_who_upgrades() {
    deaths("upgrading", UPGRADE);
}

#[test]
fn a_death_of_who_downgrades() {
    deaths("downgrading", DOWNGRADE);
}
