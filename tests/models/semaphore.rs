//! The semaphore: never more inside than there are permits, nobody sleeps for ever, and what was written before a permit was
//! given back is seen by who takes it next.

use crate::prim;
use crate::region::{RegionMut, semaphore, table};
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread;
use std::rc::Rc;

/// Each takes the one permit and adds one to what loom guards.
fn increments(threads: u64) {
    let (table, one, value) = (table(), semaphore::<1>(), Rc::new(UnsafeCell::new(0_u64)));
    let work = |pid: u64| {
        let (region, one, value) = (RegionMut::attach(&table, pid as u32), Rc::clone(&one), Rc::clone(&value));
        move || {
            let _permit = one.acquire(&region).expect("a permit");
            // SAFETY: loom reports it if two threads do so at the same time.
            value.with_mut(|value| unsafe { *value += 1 });
        }
    };
    let mine = work(1);
    let others: Vec<_> = (2..=threads).map(work).collect();
    let others: Vec<_> = others.into_iter().map(thread::spawn).collect();
    mine();
    join(others);
    // SAFETY: as above.
    assert_eq!(value.with(|value| unsafe { *value }), threads);
}

#[test]
fn two_take_one() {
    explore("2 take one permit", (None, None), || increments(2));
}

#[test]
fn three_take_one() {
    explore("3 take one permit", (Some(2), Some(3)), || increments(3));
}

#[test]
fn a_death() {
    explore_deaths("2 take one permit, 1 dies", (Some(3), None), |steps| {
        let (table, one) = (table(), semaphore::<1>());
        let (mine, its) = (RegionMut::attach(&table, 1), RegionMut::attach(&table, 2));
        let victim = thread::spawn({
            let one = Rc::clone(&one);
            move || {
                if prim::mortal(steps, || drop(one.acquire(&its))).is_none() {
                    its.die();
                }
            }
        });
        drop(one.acquire(&mine).expect("a permit"));
        join([victim]);
        drop(one.try_acquire(&mine).expect("a permit"));
    });
}
