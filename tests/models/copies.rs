//! Values that are read without a lock: never a mixture, never older than what was seen, and whole, or known not to be,
//! wherever a writer died.

use crate::error::LockError;
use crate::prim;
use crate::region::{RegionMut, table, zeroed};
use crate::sync::seqcell::SeqCell;
use crate::sync::versioned::Versioned;
use crate::{explore, explore_deaths, join};
use loom::thread;
use std::rc::Rc;

type Value = [u64; 2];

/// As many attachments.
fn attached<const COUNT: usize>() -> [RegionMut; COUNT] {
    let table = table();
    std::array::from_fn(|pid| RegionMut::attach(&table, pid as u32 + 1))
}

fn number(value: Value) -> u64 {
    assert_eq!(value[0], value[1], "torn");
    value[0]
}

/// One writes `writes` times, one reads `reads` times.
fn write_and_read(writes: u64, reads: u64) {
    let ([writer, _mine], versioned) = (attached(), zeroed::<Versioned<Value>>());
    let writer = thread::spawn({
        let versioned = Rc::clone(&versioned);
        move || (1..=writes).for_each(|value| versioned.write(&writer, [value; 2]).expect("its turn"))
    });
    let mut last = 0;
    for _ in 0..reads {
        let now = number(versioned.read());
        assert!((last..=writes).contains(&now));
        last = now;
    }
    join([writer]);
    assert_eq!(number(versioned.read()), writes);
}

#[test]
fn one_writes_and_one_reads() {
    explore("versioned, 1 writes once, 1 reads twice", (Some(4), None), || write_and_read(1, 2));
    explore("versioned, 1 writes twice, 1 reads", (Some(4), None), || write_and_read(2, 1));
    explore("versioned, 1 writes 3 times, 1 reads", (Some(3), Some(4)), || write_and_read(3, 1));
}

/// Two count: no count is lost, also for one who reads meanwhile.
#[test]
fn two_update() {
    explore("versioned, 2 update, 1 reads", (Some(3), Some(4)), || {
        let ([one, two, _mine], versioned) = (attached(), zeroed::<Versioned<Value>>());
        let count = |region: RegionMut| {
            let versioned = Rc::clone(&versioned);
            thread::spawn(move || {
                versioned.update(&region, |value| *value = [number(*value) + 1; 2]).expect("its turn");
            })
        };
        let others = [one, two].map(count);
        number(versioned.read());
        join(others);
        assert_eq!(number(versioned.read()), 2);
    });
}

/// A writer dies after any step, another one writes after it, one reads all the time.
#[test]
fn a_death_of_a_writer() {
    explore_deaths("versioned, 1 dies writing, 1 writes, 1 reads", (Some(1), Some(2)), |steps| {
        let ([victim, next, _mine], versioned) = (attached(), zeroed::<Versioned<Value>>());
        let victim = thread::spawn({
            let versioned = Rc::clone(&versioned);
            move || {
                let lives = prim::mortal(steps, || versioned.write(&victim, [1; 2]).expect("its turn")).is_some();
                (!lives).then(|| victim.die());
                versioned.write(&next, [2; 2]).expect("the dead are succeeded");
            }
        });
        let first = number(versioned.read());
        assert!(number(versioned.read()) >= first);
        join([victim]);
        assert_eq!(number(versioned.read()), 2);
    });
}

/// Of a cell what is read is whole too, or somebody is at it.
#[test]
fn one_writes_a_cell_and_one_reads_it() {
    explore("cell, 1 writes twice, 1 reads", (Some(2), Some(3)), || {
        let ([writer, mine], cell) = (attached(), zeroed::<SeqCell<Value>>());
        let writer = thread::spawn({
            let cell = Rc::clone(&cell);
            move || (1..3).for_each(|value| cell.write(&writer, [value; 2]).expect("its turn"))
        });
        match cell.read(&mine) {
            Ok(value) => assert!(number(value) <= 2),
            Err(LockError::TimedOut { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        join([writer]);
        assert_eq!(cell.read(&mine).map(number).expect("nobody writes"), 2);
    });
}

/// A writer dies after any step: who reads gets a whole value, or is told; after the next write it is whole.
#[test]
fn a_death_of_a_writer_of_a_cell() {
    explore_deaths("cell, 1 dies writing, 1 reads and mends", (Some(2), Some(3)), |steps| {
        let ([victim, mine], cell) = (attached(), zeroed::<SeqCell<Value>>());
        let victim = thread::spawn({
            let cell = Rc::clone(&cell);
            move || {
                let lives = prim::mortal(steps, || cell.write(&victim, [1; 2]).expect("its turn")).is_some();
                (!lives).then(|| victim.die());
            }
        });
        match cell.read(&mine) {
            Ok(value) => assert!(number(value) <= 1),
            Err(LockError::TimedOut { .. } | LockError::NeedsRepair { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        join([victim]);
        cell.write(&mine, [2; 2]).expect("the dead are succeeded");
        assert_eq!(cell.read(&mine).map(number).expect("it is mended"), 2);
    });
}
