//! The participant table: a slot that has a new holder never speaks of the old one in his name, or the other way
//! round, and never lets the old one seem alive.

use crate::owner::{OwnerId, Table};
use crate::prim::{self, AtomicU64, Ordering};
use crate::region::{RegionMut, table};
use crate::sys::{self, LockFd};
use crate::{explore, explore_deaths, join};
use loom::thread;
use std::rc::Rc;

/// Says to others who `region` is, and that it is process `pid`, which bits tell that an owner leaves free.
fn publish(place: &AtomicU64, region: &RegionMut, pid: u32) {
    place.store(region.attachment().me().word() | u64::from(pid) << 16, Ordering::Release);
}

/// What the table says of `owner` is nothing, or all of it of process `pid`.
fn look(table: &Table, owner: OwnerId, pid: u32) {
    if let Some(who) = table.who(owner) {
        assert_eq!((who.pid, who.stopped), (pid, false));
        assert_eq!(who.name.as_bytes(), [b'a' + pid as u8; 16]);
    }
}

/// Processes 1, 2 and 3 hold one slot after each other; another looks at it meanwhile. `succeed` brings 2 and 3.
fn a_slot_changes_hands(succeed: impl FnOnce(&Rc<Table>, &AtomicU64)) {
    let (table, newest) = (table(), Rc::new(AtomicU64::new(0)));
    let first = RegionMut::attach(&table, 1);
    let old = first.attachment().me();
    first.die();
    let reader = thread::spawn({
        let (table, newest) = (Rc::clone(&table), Rc::clone(&newest));
        move || {
            look(&table, old, 1);
            // Whoever finds a name in a lock word through the object's file has nothing but that name.
            let newest = newest.load(Ordering::Relaxed);
            if newest != 0 {
                look(&table, OwnerId::in_word(newest), (newest >> 16) as u32 & 0x7fff);
                prim::fence(Ordering::Acquire);
                assert!(table.is_dead(&LockFd::default(), OwnerId::NOBODY, old), "another holds its slot");
            }
        }
    });
    succeed(&table, &newest);
    join([reader]);
    let last = OwnerId::in_word(newest.load(Ordering::Relaxed));
    assert_eq!(table.who(last).map(|who| who.pid), Some(3));
    assert!(!table.is_dead(&LockFd::default(), OwnerId::NOBODY, last));
}

#[test]
fn a_slot_speaks_of_one_holder() {
    explore("a slot has 3 holders, 1 looks", (Some(1), Some(2)), || {
        a_slot_changes_hands(|table, newest| {
            let second = RegionMut::attach(table, 2);
            publish(newest, &second, 2);
            second.die();
            publish(newest, &RegionMut::attach(table, 3), 3);
        });
    });
}

/// The second one dies while it attaches, after any step.
#[test]
fn a_slot_is_not_spoilt_by_a_death() {
    explore_deaths("a slot has 3 holders, 1 dies as it attaches, 1 looks", (Some(1), Some(3)), |steps| {
        a_slot_changes_hands(|table, newest| {
            let locks = LockFd::default();
            sys::be(2);
            prim::mortal(steps, || table.attach(&locks));
            locks.die();
            publish(newest, &RegionMut::attach(table, 3), 3);
        });
    });
}
