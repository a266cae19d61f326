//! The eventcount: nobody who waits sleeps through a change that he was notified of, whoever else waits, notifies or dies.

use crate::prim::{self, AtomicU64, Ordering};
use crate::region::eventcount;
use crate::sync::EventCount;
use crate::{explore, explore_deaths, join};
use loom::thread;
use std::rc::Rc;
use std::time::Duration;

/// What is waited for, and where. Nothing but the eventcount orders the two.
struct Place {
    event: Rc<EventCount>,
    made: AtomicU64,
}

impl Place {
    fn new() -> Rc<Self> {
        Rc::new(Self { event: eventcount(), made: AtomicU64::new(0) })
    }

    /// Adds one to what was made, and says so.
    fn make(&self) {
        let mut made = self.made.load(Ordering::Relaxed);
        while let Err(now) = self.made.compare_exchange(made, made + 1, Ordering::Relaxed, Ordering::Relaxed) {
            made = now;
        }
        self.event.notify();
    }

    fn wait_for(&self, made: u64) {
        let is_made = || self.made.load(Ordering::Relaxed) >= made;
        loop {
            let prepared = self.event.prepare();
            if is_made() {
                return;
            }
            self.event.sleep(prepared, Duration::MAX);
        }
    }
}

/// Each of `waiters` threads waits for each of what `makers` threads make, this one among them, `each` times each.
fn trade(waiters: u64, makers: u64, each: u64) {
    let place = Place::new();
    let spawn = |work: fn(&Place, u64), arguments: std::ops::RangeInclusive<u64>| {
        let place = Rc::clone(&place);
        thread::spawn(move || arguments.for_each(|argument| work(&place, argument)))
    };
    let made = makers * each;
    let mut threads: Vec<_> = (0..waiters).map(|_| spawn(Place::wait_for, 1..=made)).collect();
    threads.extend((1..makers).map(|_| spawn(|place, _| place.make(), 1..=each)));
    (0..each).for_each(|_| place.make());
    join(threads);
}

#[test]
fn one_waits_for_one() {
    explore("1 waits, 1 notifies", (None, None), || trade(1, 1, 1));
    explore("1 waits twice, 1 notifies twice", (Some(4), None), || trade(1, 1, 2));
}

#[test]
fn two_wait_for_one() {
    explore("2 wait, 1 notifies", (Some(3), Some(4)), || trade(2, 1, 1));
    explore("2 wait twice, 1 notifies twice", (Some(2), Some(3)), || trade(2, 1, 2));
}

#[test]
fn one_waits_for_two() {
    explore("1 waits twice, 2 notify", (Some(3), Some(5)), || trade(1, 2, 1));
}

#[test]
fn two_wait_for_two() {
    explore("2 wait twice, 2 notify", (Some(1), Some(2)), || trade(2, 2, 1));
}

/// One of two who wait dies, after any step; no sleep of the other ends by itself.
#[test]
fn a_death_of_one_who_waits() {
    explore_deaths("2 wait twice, 1 dies, 1 notifies twice", (Some(2), Some(3)), |steps| {
        let place = Place::new();
        let victim = thread::spawn({
            let place = Rc::clone(&place);
            move || prim::mortal(steps, || (1..=2).for_each(|made| place.wait_for(made))).is_some()
        });
        let other = thread::spawn({
            let place = Rc::clone(&place);
            move || (1..=2).for_each(|made| place.wait_for(made))
        });
        (0..2).for_each(|_| place.make());
        join([other]);
        join([victim]);
    });
}

/// Who is to notify dies, after any step: a slice ends, and who waits sees what was made, if something was.
#[test]
fn a_death_of_one_who_notifies() {
    explore_deaths("1 waits, 1 dies notifying, 1 notifies", (Some(3), None), |steps| {
        let place = Place::new();
        let waiter = thread::spawn({
            let place = Rc::clone(&place);
            move || place.wait_for(1)
        });
        let lives = prim::mortal(steps, || place.make()).is_some();
        if !lives {
            prim::end_slices();
            place.make();
        }
        join([waiter]);
    });
}
