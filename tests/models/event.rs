//! The event: nobody sleeps through one that is set, one that is taken is taken once, and what was written before it was
//! set is seen; and a death leaves nothing that makes others wait.

use crate::error::WaitError;
use crate::prim::{self, AtomicU64, Ordering};
use crate::region::{RegionMut, event, table};
use crate::sync::condvar::Until;
use crate::sync::event::Event;
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};
use std::rc::Rc;

/// How somebody waits.
#[derive(Debug, Clone, Copy)]
enum How {
    Wait,
    Take,
}
use How::{Take, Wait};

fn until_set(event: &Event, region: &RegionMut, how: How) {
    match how {
        Wait => event.wait(region, Until::forever()),
        Take => event.take(region, Until::forever()),
    }
    .expect("no end but that");
}

/// As many attachments.
fn attached<const COUNT: usize>() -> [RegionMut; COUNT] {
    let table = table();
    std::array::from_fn(|pid| RegionMut::attach(&table, pid as u32 + 1))
}

fn starts(event: &Rc<Event>, region: RegionMut, how: How) -> JoinHandle<()> {
    let event = Rc::clone(event);
    thread::spawn(move || until_set(&event, &region, how))
}

#[test]
fn one_waits_for_one() {
    for how in [Wait, Take] {
        explore(&format!("1 event, 1 sets, 1 {how:?}s"), (None, None), move || {
            let ([region], event) = (attached(), event());
            let waiter = starts(&event, region, how);
            event.set();
            join([waiter]);
            assert_eq!(event.is_set(), matches!(how, Wait));
        });
    }
}

/// One set is enough for all who wait, also where one of them finds the mark of another.
#[test]
fn two_wait_for_one() {
    explore("1 event, 1 sets, 2 wait", (Some(2), Some(3)), || {
        let ([one, two], event) = (attached(), event());
        let waiters = [one, two].map(|region| starts(&event, region, Wait));
        event.set();
        join(waiters);
    });
}

/// Who waits is not forgotten because another one, who is woken too, has taken it.
#[test]
fn one_waits_and_one_takes() {
    explore("1 event, 1 sets, 1 waits, 1 takes", (Some(2), Some(3)), || {
        let ([one, two, mine], event) = (attached(), event());
        let waiter = starts(&event, one, Wait);
        let taker = starts(&event, two, Take);
        event.set();
        join([taker]);
        // Who began to wait after it was taken waits for the next one.
        event.set();
        join([waiter]);
        assert!(event.is_set());
        until_set(&event, &mine, Take);
    });
}

/// Two take what is set twice: each set lets one through, and no more.
#[test]
fn one_set_lets_one_through() {
    explore("1 event, set twice, 2 take", (Some(1), Some(2)), || {
        let ([one, two, mine], event, done, through) = (attached(), event(), self::event(), Rc::new(AtomicU64::new(0)));
        let takers = [one, two].map(|region| {
            let (event, done, through) = (Rc::clone(&event), Rc::clone(&done), Rc::clone(&through));
            thread::spawn(move || {
                until_set(&event, &region, Take);
                let mut count = through.load(Ordering::Relaxed);
                while let Err(now) = through.compare_exchange(count, count + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    count = now;
                }
                done.set();
            })
        });
        for round in 1..=2 {
            event.set();
            until_set(&done, &mine, Take);
            assert_eq!(through.load(Ordering::Relaxed), round);
            assert!(!event.is_set());
        }
        join(takers);
    });
}

/// Two reset what is set: one of them is told so.
#[test]
fn one_of_two_resets() {
    explore("1 event, 2 reset", (None, None), || {
        let event = event();
        event.set();
        let other = thread::spawn({
            let event = Rc::clone(&event);
            move || event.reset()
        });
        let mine = event.reset();
        assert_ne!(join([other])[0], mine);
        assert!(!event.is_set());
    });
}

/// Whoever is seen to wait goes on when it is set, though it is reset before he looks.
#[test]
fn who_waits_when_it_is_set_goes_on() {
    explore("1 event, 1 waits, set and reset at once", (None, None), || {
        let ([region], event) = (attached(), event());
        let waiter = starts(&event, region, Wait);
        let waits = prim::word_of(&*event) & 1 != 0;
        event.set();
        if waits {
            assert!(event.reset());
        }
        join([waiter]);
    });
}

/// A mark from before is no mark: who is about to sleep on it sees that it was set and reset meanwhile, and another one
/// marked it again.
#[test]
fn a_mark_of_another_time() {
    explore("1 event, 2 wait, set, reset, set", (Some(2), Some(3)), || {
        let ([one, two], event) = (attached(), event());
        let first = starts(&event, one, Wait);
        let waits = prim::word_of(&*event) & 1 != 0;
        event.set();
        if waits {
            event.reset();
        }
        let second = starts(&event, two, Wait);
        join([first]);
        event.set();
        join([second]);
    });
}

/// What was written before it was set is seen by whoever finds it so, however he looks, and whoever exchanged the word
/// since.
#[test]
fn a_set_carries_what_was_written_before() {
    type Look = fn(&Event, &RegionMut) -> bool;
    let looks: [(&str, Look); 4] = [
        ("waits", |event, region| {
            until_set(event, region, Wait);
            true
        }),
        ("takes", |event, region| {
            until_set(event, region, Take);
            true
        }),
        ("looks", |event, _| event.is_set()),
        ("resets", |event, _| event.reset()),
    ];
    for (name, look) in looks {
        explore(&format!("1 event, 1 writes and sets, 1 {name}"), (None, None), move || {
            let ([region], event, written) = (attached(), event(), Rc::new(UnsafeCell::new(0)));
            let setter = thread::spawn({
                let (event, written) = (Rc::clone(&event), Rc::clone(&written));
                move || {
                    // SAFETY: loom reports it if somebody reads at the same time.
                    written.with_mut(|value| unsafe { *value = 1 });
                    event.set();
                }
            });
            if look(&event, &region) {
                // SAFETY: loom reports it if somebody writes at the same time.
                assert_eq!(written.with(|value| unsafe { *value }), 1);
            }
            join([setter]);
        });
    }
}

/// Two make something each and set it: whoever looks each time that he has taken it finds both, though he may have to
/// look but once.
#[test]
fn what_is_set_already_carries_too() {
    explore("1 event, 2 make and set, 1 takes until there are 2", (Some(2), Some(3)), || {
        let ([region], event) = (attached(), event());
        let made: Rc<[AtomicU64; 2]> = Rc::new([const { AtomicU64::new(0) }; 2]);
        let makers = [0, 1].map(|which| {
            let (event, made) = (Rc::clone(&event), Rc::clone(&made));
            thread::spawn(move || {
                made[which].store(1, Ordering::Relaxed);
                event.set();
            })
        });
        while made.iter().any(|made| made.load(Ordering::Relaxed) == 0) {
            until_set(&event, &region, Take);
        }
        join(makers);
    });
}

/// One who takes dies, after any step, beside one who waits: that one goes on, and so does who takes after both.
#[test]
fn a_death_of_one_who_takes() {
    explore_deaths("1 event, 1 dies taking, 1 waits", (Some(1), Some(2)), |steps| {
        let ([victim, other, mine], event) = (attached(), event());
        let victim = thread::spawn({
            let event = Rc::clone(&event);
            move || {
                let lives = prim::mortal(steps, || until_set(&event, &victim, Take)).is_some();
                (!lives).then(|| victim.die());
            }
        });
        let waiter = starts(&event, other, Wait);
        event.set();
        join([victim]);
        event.set();
        join([waiter]);
        until_set(&event, &mine, Take);
        assert!(!event.is_set());
    });
}

/// Who was to make something and set it dies, after any step: who waits for it finds it set, or is told of the death; not
/// both.
#[test]
fn a_death_of_one_who_sets() {
    for how in [Wait, Take] {
        explore_deaths(&format!("1 event, 1 dies setting, 1 {how:?}s"), (Some(3), None), move |steps| {
            let ([setter, mine], event) = (attached(), event());
            let until = Until::forever().or_peer_lost(setter.attachment().me());
            let setter = thread::spawn({
                let (event, made) = (Rc::clone(&event), AtomicU64::new(0));
                move || {
                    let make = || {
                        made.store(1, Ordering::Relaxed);
                        event.set();
                    };
                    let lives = prim::mortal(steps, make).is_some();
                    setter.die();
                    lives
                }
            });
            let ended = match how {
                Wait => event.wait(&mine, until),
                Take => event.take(&mine, until),
            };
            let lives = join([setter])[0];
            match ended {
                Ok(()) => assert_eq!(event.is_set(), matches!(how, Wait)),
                Err(WaitError::PeerLost { .. }) => assert!(!lives && !event.is_set(), "what was set was not seen"),
                Err(error) => panic!("{error}"),
            }
        });
    }
}
