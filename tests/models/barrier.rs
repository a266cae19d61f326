//! The barrier: all pass or none does, who passes sees what the others wrote before they arrived, and nobody sleeps on
//! when all have arrived, or one has died.

use crate::error::{LockError, WaitError};
use crate::prim;
use crate::region::{RegionMut, table, zeroed};
use crate::sync::barrier::{Barrier, Party, Passed};
use crate::sync::condvar::Until;
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread;
use std::rc::Rc;
use std::time::Duration;

/// As many attachments.
fn attached<const COUNT: usize>() -> [RegionMut; COUNT] {
    let table = table();
    std::array::from_fn(|pid| RegionMut::attach(&table, pid as u32 + 1))
}

fn wait<const PARTIES: usize>(party: &mut Party<'_, PARTIES>) -> Result<Passed, WaitError> {
    party.wait(Until::forever())
}

fn is_broken(ended: &Result<Passed, WaitError>) -> bool {
    matches!(ended, Err(WaitError::Broken { .. }))
}

/// What each writes before it arrives is read by both when they have passed; and again, when both have read.
#[test]
fn two_meet() {
    explore("2 parties, 3 phases", (Some(1), Some(2)), || {
        let (regions, barrier) = (attached::<2>(), zeroed::<Barrier<2>>());
        let written: Rc<[UnsafeCell<u64>; 2]> = Rc::new(std::array::from_fn(|_| UnsafeCell::new(0)));
        let mut which = 0;
        let [mine, other] = regions.map(|region| {
            let (barrier, written, own) = (Rc::clone(&barrier), Rc::clone(&written), which);
            which += 1;
            move || {
                let mut party = barrier.join(&region).expect("a seat");
                let mut last = 0;
                for phase in [1, 3] {
                    // SAFETY: loom reports it if somebody reads or writes at the same time.
                    written[own].with_mut(|value| unsafe { *value = phase });
                    let passed = wait(&mut party).expect("both come");
                    last += u64::from(passed.last);
                    // SAFETY: loom reports it if somebody writes at the same time.
                    let seen = written.each_ref().map(|value| value.with(|value| unsafe { *value }));
                    assert_eq!((passed.phase, seen), (phase, [phase; 2]));
                    if phase == 1 {
                        last += u64::from(wait(&mut party).expect("both come").last);
                    }
                }
                last
            }
        });
        let other = thread::spawn(other);
        assert_eq!(mine() + join([other])[0], 3, "one is the last of each phase");
    });
}

/// One dies after any step of joining and arriving: the other passes if it had arrived, and is told if not; and is told
/// at the next phase.
#[test]
fn a_death_of_one_of_two() {
    explore_deaths("2 parties, 1 dies arriving", (Some(1), Some(2)), |steps| {
        let ([victim, mine], barrier) = (attached(), zeroed::<Barrier<2>>());
        let mut party = barrier.join(&mine).expect("a seat");
        let victim = thread::spawn({
            let barrier = Rc::clone(&barrier);
            move || {
                let mut theirs = std::mem::ManuallyDrop::new(barrier.join(&victim).expect("a seat"));
                let passed = prim::mortal(steps, || wait(&mut theirs).expect("the other has come, or will"));
                victim.die();
                passed.is_some()
            }
        });
        let ended = wait(&mut party);
        let passed = join([victim])[0];
        assert!(ended.is_ok() || !passed && is_broken(&ended), "{ended:?}");
        assert!(is_broken(&wait(&mut party)), "the next phase, or the same");
    });
}

/// Who leaves while another waits is named to that one, or has left before; whoever dies leaving is as good as that.
#[test]
fn one_leaves_while_another_waits() {
    explore_deaths("2 parties, 1 leaves, or dies leaving", (Some(1), Some(2)), |steps| {
        let ([victim, third, mine], barrier) = (attached(), zeroed::<Barrier<2>>());
        let mut party = barrier.join(&mine).expect("a seat");
        let victim = thread::spawn({
            let barrier = Rc::clone(&barrier);
            move || {
                let theirs = barrier.join(&victim).expect("a seat");
                if prim::mortal(steps, || drop(theirs)).is_none() {
                    victim.die();
                }
                // Who finds the seat free passes with the other; who does not leaves it to be told.
                match barrier.join(&third) {
                    Ok(mut next) => wait(&mut next).is_ok(),
                    Err(_) => false,
                }
            }
        });
        let ended = wait(&mut party);
        assert!(ended.is_ok() || is_broken(&ended), "{ended:?}");
        assert_eq!(join([victim])[0], ended.is_ok());
    });
}

/// A barrier that is reset by two at the same time is reset once, and all seats of those who live are there.
#[test]
fn two_reset() {
    explore("2 reset a broken barrier", (Some(2), Some(3)), || {
        let ([victim, other, mine], barrier) = (attached(), zeroed::<Barrier<2>>());
        std::mem::forget(barrier.join(&victim).expect("a seat"));
        victim.die();
        let reset = |region: RegionMut| {
            let barrier = Rc::clone(&barrier);
            // Who does not wait for the other one is told that it is at it.
            move || match barrier.reset(&region) {
                Ok(reset) => (reset, region),
                Err(LockError::TimedOut { .. }) => (false, region),
                Err(error) => panic!("{error}"),
            }
        };
        let (mine, other) = (reset(mine), thread::spawn(reset(other)));
        let (mine, region) = mine();
        let other = join([other]).remove(0).0;
        assert_ne!(mine, other, "of two, one has reset it");
        assert!(!barrier.is_broken());
        let _parties = [(); 2].map(|()| barrier.join(&region).expect("a seat"));
    });
}

type Two = Barrier<2>;

/// A barrier and attachments, for good: parties borrow both, and go to threads.
fn setting<const COUNT: usize>() -> (&'static Two, [&'static RegionMut; COUNT]) {
    let leaked = attached::<COUNT>().map(|region| &*Box::leak(Box::new(region)));
    (Box::leak(Box::new(zeroed::<Two>())), leaked)
}

/// One has died with its seat, and nobody has noticed.
fn one_dies(barrier: &'static Two, region: &'static RegionMut) {
    std::mem::forget(barrier.join(region).expect("a seat"));
    region.die();
}

/// How many seats are free.
fn free(barrier: &'static Two, region: &'static RegionMut) -> usize {
    let parties: Vec<Party<'_, 2>> = std::iter::from_fn(|| barrier.join(region).ok()).collect();
    parties.len()
}

#[test]
fn who_leaves_between_phases_breaks_nothing_though_somebody_mends() {
    explore("1 leaves, 1 resets", (None, None), || {
        let (barrier, regions) = setting::<2>();
        let party = barrier.join(regions[1]).expect("a seat");
        let leaves = thread::spawn(move || drop(party));
        assert!(!barrier.reset(regions[0]).expect("it lives"), "there is nothing to mend");
        join([leaves]);
        assert_eq!(free(barrier, regions[0]), 2);
    });
}

#[test]
fn who_comes_back_while_it_is_mended_keeps_its_seat() {
    explore("1 leaves and comes back, 1 resets after a death", (Some(3), None), || {
        let (barrier, regions) = setting::<3>();
        let party = barrier.join(regions[1]).expect("a seat");
        one_dies(barrier, regions[2]);
        let back = thread::spawn(move || {
            drop(party);
            barrier.join(regions[1]).ok()
        });
        barrier.reset(regions[0]).expect("it lives");
        let back = join([back]);
        assert_eq!(free(barrier, regions[0]), 2 - back.iter().flatten().count());
    });
}

#[test]
fn who_comes_and_goes_while_it_is_mended_keeps_no_seat() {
    explore("1 comes and goes, 1 resets after a death", (Some(3), None), || {
        let (barrier, regions) = setting::<3>();
        one_dies(barrier, regions[2]);
        let guest = thread::spawn(move || drop(barrier.join(regions[1])));
        barrier.reset(regions[0]).expect("it lives");
        join([guest]);
        assert_eq!(free(barrier, regions[0]), 2);
    });
}

/// One dies while it mends, after any step: it can be mended by the next, and nobody who lives is said to have broken it.
#[test]
fn a_death_of_one_who_mends() {
    explore_deaths("1 dies mending, 1 comes and waits, and mends", (Some(2), None), |steps| {
        let (barrier, regions) = setting::<3>();
        one_dies(barrier, regions[2]);
        let mends = thread::spawn(move || {
            if prim::mortal(steps, || drop(barrier.reset(regions[1]))).is_none() {
                regions[1].die();
            }
        });
        if let Ok(mut party) = barrier.join(regions[0])
            && let Err(WaitError::Broken { who: Some(who), .. }) = party.wait(Until::timeout(Duration::ZERO))
        {
            assert_eq!(who.pid, 3);
        }
        join([mends]);
        barrier.reset(regions[0]).expect("it lives");
        assert_eq!(free(barrier, regions[0]), 2);
    });
}
