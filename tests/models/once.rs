//! What is initialised once: by one, or by the next if that one dies; and who gets it sees what was made.

use crate::prim;
use crate::region::{RegionMut, table, zeroed};
use crate::sync::once::Once;
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread;
use std::rc::Rc;

/// What is initialised: nothing, beside what loom watches.
type Nothing = [u64; 0];

struct Made {
    once: Rc<Once<Nothing>>,
    value: UnsafeCell<u64>,
}

impl Made {
    fn new() -> Rc<Self> {
        Rc::new(Self { once: zeroed(), value: UnsafeCell::new(0) })
    }

    /// Counts how often it was begun and ended.
    fn get(&self, region: &RegionMut) -> u64 {
        let init = |_: &mut Nothing| {
            // SAFETY: loom reports it if somebody reads or writes at the same time.
            self.value.with_mut(|value| unsafe { *value += 1 });
            prim::step();
            // SAFETY: as above.
            self.value.with_mut(|value| unsafe { *value += 10 });
        };
        self.once.get_or_init(region, init).expect("no end but that");
        self.look()
    }

    fn look(&self) -> u64 {
        // SAFETY: loom reports it if somebody writes at the same time.
        self.value.with(|value| unsafe { *value })
    }
}

#[test]
fn one_of_two_initialises() {
    explore("2 initialise once, 1 looks", (Some(4), None), || {
        let (table, made) = (table(), Made::new());
        let [one, two] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
        let other = thread::spawn({
            let made = Rc::clone(&made);
            move || made.get(&one)
        });
        if made.once.get().is_some() {
            assert_eq!(made.look(), 11);
        }
        assert_eq!(made.get(&two), 11, "it was initialised once");
        assert_eq!(join([other]), [11]);
    });
}

#[test]
fn a_death_of_one_who_initialises() {
    explore_deaths("1 dies initialising, 1 waits", (Some(3), Some(4)), |steps| {
        let (table, made) = (table(), Made::new());
        let [victim, mine] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
        let victim = thread::spawn({
            let made = Rc::clone(&made);
            move || {
                let lives = prim::mortal(steps, || made.get(&victim)).is_some();
                (!lives).then(|| victim.die());
            }
        });
        let value = made.get(&mine);
        assert!([11, 12, 22].contains(&value), "begun by one or two, and ended by the last: {value}");
        join([victim]);
    });
}
