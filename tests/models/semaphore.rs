//! The semaphore: as many inside as there are permits, nobody sleeps while one is free, and those of the dead come
//! back.

use crate::prim;
use crate::region::{RegionMut, table, zeroed};
use crate::sync::semaphore::Semaphore;
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};
use std::rc::Rc;

/// As many attachments.
fn attached<const COUNT: usize>() -> [RegionMut; COUNT] {
    let table = table();
    std::array::from_fn(|pid| RegionMut::attach(&table, pid as u32 + 1))
}

/// What one who has the only permit has to himself.
fn increments(semaphore: &Semaphore<1>, inside: &UnsafeCell<u64>, region: &RegionMut) {
    let permit = semaphore.acquire(region).expect("no end but that");
    // SAFETY: loom reports it if somebody reads or writes at the same time.
    inside.with_mut(|value| unsafe { *value += 1 });
    drop(permit);
}

/// Of one permit, a semaphore is a lock: each of `threads` goes in `rounds` times, alone.
fn alone(threads: u64, rounds: u64) {
    let (table, semaphore, inside) = (table(), zeroed::<Semaphore<1>>(), Rc::new(UnsafeCell::new(0)));
    let work = |pid: u64| {
        let (region, semaphore) = (RegionMut::attach(&table, pid as u32), Rc::clone(&semaphore));
        let inside = Rc::clone(&inside);
        move || (0..rounds).for_each(|_| increments(&semaphore, &inside, &region))
    };
    let mine = work(1);
    let others: Vec<_> = (2..=threads).map(work).collect();
    let others: Vec<_> = others.into_iter().map(thread::spawn).collect();
    mine();
    join(others);
    // SAFETY: loom reports it if somebody writes at the same time.
    assert_eq!(inside.with(|value| unsafe { *value }), threads * rounds);
}

#[test]
fn one_at_a_time() {
    explore("1 permit, 2 threads once each", (None, None), || alone(2, 1));
    explore("1 permit, 2 threads twice each", (Some(3), Some(4)), || alone(2, 2));
}

/// Of two permits, two are had at the same time, and a third waits for either.
#[test]
fn a_third_waits_for_either() {
    explore("2 permits, 3 threads", (Some(2), Some(3)), || {
        let ([one, two, mine], semaphore) = (attached(), zeroed::<Semaphore<2>>());
        let starts = |region: RegionMut| -> JoinHandle<()> {
            let semaphore = Rc::clone(&semaphore);
            thread::spawn(move || drop(semaphore.acquire(&region).expect("no end but that")))
        };
        let held = semaphore.try_acquire(&mine).expect("it is free");
        let others = [one, two].map(starts);
        drop(held);
        join(others);
        drop([semaphore.try_acquire(&mine), semaphore.try_acquire(&mine)].map(|permit| permit.expect("it is free")));
    });
}

/// One dies after any step of taking a permit and giving it back: who waits for the permit gets it.
#[test]
fn a_death_of_a_holder() {
    explore_deaths("1 permit, 1 dies, 1 waits", (Some(3), Some(4)), |steps| {
        let ([victim, mine], semaphore) = (attached(), zeroed::<Semaphore<1>>());
        let victim = thread::spawn({
            let semaphore = Rc::clone(&semaphore);
            move || {
                let life = || drop(semaphore.acquire(&victim).expect("no end but that"));
                let lives = prim::mortal(steps, life).is_some();
                (!lives).then(|| victim.die());
            }
        });
        drop(semaphore.acquire(&mine).expect("no end but that"));
        join([victim]);
        assert_eq!(semaphore.available(&mine), 1);
    });
}

/// Two wait for what a dead one had: each gets it, one after the other.
#[test]
fn two_wait_for_the_permit_of_the_dead() {
    explore("1 permit of a dead one, 2 take it", (Some(2), Some(3)), || {
        let ([victim, other, mine], semaphore) = (attached(), zeroed::<Semaphore<1>>());
        let inside = Rc::new(UnsafeCell::new(0));
        std::mem::forget(semaphore.try_acquire(&victim).expect("it is free"));
        victim.die();
        let other = thread::spawn({
            let (semaphore, inside) = (Rc::clone(&semaphore), Rc::clone(&inside));
            move || increments(&semaphore, &inside, &other)
        });
        increments(&semaphore, &inside, &mine);
        join([other]);
    });
}
