//! The barrier: whoever mends it takes no seat of one that lives, and breaks nothing that nobody left in the middle.

use crate::error::WaitError;
use crate::prim;
use crate::region::{RegionMut, barrier, table};
use crate::sync::barrier::{Barrier, Party};
use crate::sync::condvar::Until;
use crate::{explore, explore_deaths, join};
use loom::thread;
use std::time::Duration;

type Two = Barrier<2>;

/// A barrier and processes, for good: parties borrow both, and go to threads.
fn setting<const COUNT: usize>() -> (&'static Two, [&'static RegionMut; COUNT]) {
    let table = table();
    let regions = std::array::from_fn(|pid| &*Box::leak(Box::new(RegionMut::attach(&table, pid as u32 + 1))));
    (Box::leak(Box::new(barrier::<2>())), regions)
}

fn at_once() -> Until {
    Until::timeout(Duration::ZERO)
}

/// One has died with its seat, and nobody has noticed.
fn one_dies(two: &'static Two, region: &'static RegionMut) {
    std::mem::forget(two.join(region).expect("a seat"));
    region.die();
}

/// How many seats are free.
fn free(two: &'static Two, region: &'static RegionMut) -> usize {
    let parties: Vec<Party<'_, 2>> = std::iter::from_fn(|| two.join(region).ok()).collect();
    parties.len()
}

#[test]
fn all_pass_together() {
    explore("2 pass 2 phases", (Some(1), Some(2)), || {
        let (two, regions) = setting::<2>();
        let pass = |region: &'static RegionMut| {
            move || {
                let mut party = two.join(region).expect("a seat");
                [1, 2].map(|phase| {
                    let passed = party.wait(Until::forever()).expect("both come");
                    assert_eq!(passed.phase, phase);
                    passed.last
                })
            }
        };
        let other = thread::spawn(pass(regions[1]));
        let mine = pass(regions[0])();
        let others = join([other])[0];
        assert!(mine[0] != others[0] && mine[1] != others[1], "one is the last of each phase");
    });
}

#[test]
fn who_leaves_between_phases_breaks_nothing_though_somebody_mends() {
    explore("1 leaves, 1 resets", (None, None), || {
        let (two, regions) = setting::<2>();
        let party = two.join(regions[1]).expect("a seat");
        let leaves = thread::spawn(move || drop(party));
        assert!(!two.reset(regions[0]).expect("it lives"), "there is nothing to mend");
        join([leaves]);
        assert_eq!(free(two, regions[0]), 2);
    });
}

#[test]
fn who_comes_back_while_it_is_mended_keeps_its_seat() {
    explore("1 leaves and comes back, 1 resets after a death", (Some(3), None), || {
        let (two, regions) = setting::<3>();
        let party = two.join(regions[1]).expect("a seat");
        one_dies(two, regions[2]);
        let back = thread::spawn(move || {
            drop(party);
            two.join(regions[1]).ok()
        });
        two.reset(regions[0]).expect("it lives");
        let back = join([back]);
        assert_eq!(free(two, regions[0]), 2 - back.iter().flatten().count());
    });
}

#[test]
fn who_comes_and_goes_while_it_is_mended_keeps_no_seat() {
    explore("1 comes and goes, 1 resets after a death", (Some(3), None), || {
        let (two, regions) = setting::<3>();
        one_dies(two, regions[2]);
        let guest = thread::spawn(move || drop(two.join(regions[1])));
        two.reset(regions[0]).expect("it lives");
        join([guest]);
        assert_eq!(free(two, regions[0]), 2);
    });
}

/// One dies while it mends, after any step: it can be mended by the next, and nobody who lives is said to have broken it.
#[test]
fn a_death_of_one_who_mends() {
    explore_deaths("1 dies mending, 1 comes and waits, and mends", (Some(2), None), |steps| {
        let (two, regions) = setting::<3>();
        one_dies(two, regions[2]);
        let mends = thread::spawn(move || {
            if prim::mortal(steps, || drop(two.reset(regions[1]))).is_none() {
                regions[1].die();
            }
        });
        if let Ok(mut party) = two.join(regions[0])
            && let Err(WaitError::Broken { who: Some(who), .. }) = party.wait(at_once())
        {
            assert_eq!(who.pid, 3);
        }
        join([mends]);
        two.reset(regions[0]).expect("it lives");
        assert_eq!(free(two, regions[0]), 2);
    });
}
