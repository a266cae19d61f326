//! Values that are read while they are written: what is read was written whole, none is older than one that was read before,
//! whoever writes, or dies writing.

use crate::error::LockError;
use crate::prim;
use crate::region::{RegionMut, table};
use crate::sync::seqcell::SeqCell;
use crate::sync::versioned::Versioned;
use crate::{explore, explore_deaths, join};
use loom::thread;
use std::rc::Rc;

/// Two numbers that are equal when it was written whole.
type Pair = [u64; 2];

fn whole(pair: Pair) -> u64 {
    assert_eq!(pair[0], pair[1], "a mixture of two");
    pair[0]
}

fn attached<const COUNT: usize>() -> [RegionMut; COUNT] {
    let table = table();
    std::array::from_fn(|pid| RegionMut::attach(&table, pid as u32 + 1))
}

/// One writes so many values, another reads as often.
fn versions(writes: u64, reads: u64) {
    let ([writer, _], cell) = (attached::<2>(), Rc::new(Versioned::<Pair>::new([0; 2])));
    let writes = thread::spawn({
        let cell = Rc::clone(&cell);
        move || (1..=writes).for_each(|value| cell.write(&writer, [value; 2]).expect("the lock"))
    });
    let seen: Vec<u64> = (0..reads).map(|_| whole(cell.read())).collect();
    assert!(seen.is_sorted(), "{seen:?}");
    join([writes]);
}

#[test]
fn a_version_is_read_whole() {
    explore("1 writes 2 versions, 1 reads", (Some(3), Some(4)), || versions(2, 1));
    explore("1 writes 3 versions, 1 reads twice", (Some(2), Some(3)), || versions(3, 2));
}

#[test]
fn no_version_is_lost() {
    explore("2 write versions, 1 reads", (Some(2), Some(3)), || {
        let ([one, other], cell) = (attached::<2>(), Rc::new(Versioned::<Pair>::new([0; 2])));
        let adds = thread::spawn({
            let cell = Rc::clone(&cell);
            move || cell.update(&other, |pair| *pair = pair.map(|half| half + 1)).expect("the lock")
        });
        let reads = thread::spawn({
            let cell = Rc::clone(&cell);
            move || whole(cell.read())
        });
        cell.update(&one, |pair| *pair = pair.map(|half| half + 1)).expect("the lock");
        join([adds]);
        join([reads]);
        assert_eq!(whole(cell.read()), 2);
    });
}

#[test]
fn a_death_of_one_who_writes_a_version() {
    explore_deaths("1 dies writing versions, 1 writes, 1 reads", (Some(1), Some(2)), |steps| {
        let ([mortal, next], cell) = (attached::<2>(), Rc::new(Versioned::<Pair>::new([0; 2])));
        let dies = thread::spawn({
            let cell = Rc::clone(&cell);
            move || {
                let writes = || (1..=2).for_each(|value| cell.write(&mortal, [value; 2]).expect("the lock"));
                if prim::mortal(steps, writes).is_none() {
                    mortal.die();
                }
            }
        });
        let reads = thread::spawn({
            let cell = Rc::clone(&cell);
            move || whole(cell.read())
        });
        cell.write(&next, [9; 2]).expect("the lock");
        join([reads]);
        join([dies]);
        whole(cell.read());
    });
}

#[test]
fn a_cell_is_read_whole_or_not() {
    explore("1 writes a cell, 1 reads", (Some(1), Some(2)), || {
        let ([writer, reader], cell) = (attached::<2>(), Rc::new(SeqCell::<Pair>::new([0; 2])));
        let writes = thread::spawn({
            let cell = Rc::clone(&cell);
            move || cell.write(&writer, [1; 2]).expect("the lock")
        });
        match cell.read(&reader) {
            Ok(pair) => {
                whole(pair);
            }
            Err(LockError::TimedOut { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        join([writes]);
        assert_eq!(whole(cell.read(&reader).expect("it is complete")), 1);
    });
}
