//! The list of openings that a fork handler walks: whoever enters sees all that was entered before, and nothing twice.

use crate::explore;
use list::Openings;
use loom::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use loom::thread::spawn;
use std::rc::Rc;

#[path = "../../src/sys/openings.rs"]
mod list;

/// Loom's threads, for whom no time passes.
mod thread {
    pub(super) use loom::thread::yield_now;

    pub(super) fn sleep(_: std::time::Duration) {
        yield_now();
    }
}

/// So few that the list needs a second chunk.
const SLOTS: usize = 2;

fn openings() -> Openings {
    Openings::new(AtomicU32::new(0), std::array::from_fn(|_| AtomicI32::new(-1)))
}

/// What process `me` does as a thread of it is inside.
fn inside<T>(openings: &Openings, me: u32, act: impl FnOnce(&Openings) -> T) -> T {
    openings.enter(me);
    let result = act(openings);
    openings.leave();
    result
}

fn drained(openings: &Openings) -> Vec<i32> {
    let mut listed = Vec::new();
    openings.drain(|fd| listed.push(fd));
    listed.sort_unstable();
    listed
}

/// Two threads open and close at the same time.
#[test]
fn what_threads_open_at_the_same_time_is_listed_once() {
    explore("2 list 3 openings and remove 1", (None, None), || {
        let list = Rc::new(openings());
        inside(&list, 1, |list| list.add(10));
        let other = spawn({
            let list = Rc::clone(&list);
            move || inside(&list, 1, |list| [11, 12].map(|fd| list.add(fd)))
        });
        inside(&list, 1, |list| {
            list.remove(10);
            list.add(13);
        });
        other.join().expect("no panic passes a thread of a model");
        assert_eq!(inside(&list, 1, drained), [11, 12, 13]);
    });
}

/// One opens and closes, and the other forks meanwhile.
#[test]
fn a_fork_finds_what_was_open_before_it() {
    explore("1 lists 2 openings, 1 forks", (None, None), || {
        let list = Rc::new(openings());
        let other = spawn({
            let list = Rc::clone(&list);
            move || {
                inside(&list, 1, |list| [10, 11].map(|fd| list.add(fd)));
                inside(&list, 1, |list| list.remove(10));
            }
        });
        let found = inside(&list, 1, drained);
        other.join().expect("no panic passes a thread of a model");
        let left = inside(&list, 1, drained);
        match found[..] {
            [] => assert_eq!(left, [11]),
            [10, 11] | [11] => assert!(left.is_empty()),
            _ => panic!("{found:?} were never all that was open"),
        }
    });
}

/// A thread of its parent was inside as it was born, without the handlers.
#[test]
fn a_child_enters_although_its_parent_was_inside() {
    explore("a child enters, whose parent was inside", (None, None), || {
        let list = openings();
        assert!(list.try_enter(1));
        list.add(10);
        assert!(!list.try_enter(1), "a thread of the parent");
        assert!(list.try_enter(2), "the child");
        assert!(!list.try_enter(2), "another thread of the child");
        assert_eq!(drained(&list), [10]);
        list.leave();
        assert!(list.try_enter(2));
    });
}
