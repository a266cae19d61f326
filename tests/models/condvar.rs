//! The condition: nobody who waits sleeps through what he waits for, and a death leaves nothing that makes others.

use crate::error::WaitError;
use crate::owner::OwnerId;
use crate::prim;
use crate::region::{RegionMut, condvar, table};
use crate::sync::condvar::{Condvar, Until};
use crate::sync::guard::{Locked, MutexGuard};
use crate::sync::mutex::Mutex;
use crate::{explore, explore_deaths, join};
use loom::cell::UnsafeCell;
use loom::thread;
use std::rc::Rc;

/// Things that some make and others take.
struct Shop {
    things: Mutex<UnsafeCell<u64>>,
    changed: Rc<Condvar>,
}

#[derive(Clone, Copy)]
enum Notify {
    One,
    All,
}

type Guard<'a> = MutexGuard<'a, UnsafeCell<u64>>;

fn things(guard: &UnsafeCell<u64>) -> u64 {
    // SAFETY: loom reports it if somebody writes at the same time.
    guard.with(|value| unsafe { *value })
}

fn set(guard: &UnsafeCell<u64>, things: u64) {
    // SAFETY: loom reports it if somebody reads or writes at the same time.
    guard.with_mut(|value| unsafe { *value = things });
}

impl Shop {
    fn new() -> Rc<Self> {
        Rc::new(Self { things: Mutex::new(UnsafeCell::new(0)), changed: condvar() })
    }

    fn lock<'a>(&'a self, region: &'a RegionMut) -> Guard<'a> {
        // One step changes all that the lock guards, so a death leaves it complete.
        self.things.lock(region).expect("the lock").or_repair(|_| ())
    }

    fn make(&self, region: &RegionMut, how: Notify) {
        let guard = self.lock(region);
        set(&guard, things(&guard) + 1);
        guard.unlock();
        match how {
            Notify::One => self.changed.notify_one(),
            Notify::All => self.changed.notify_all(),
        }
    }

    fn take(&self, region: &RegionMut) {
        self.take_from(region, OwnerId::NOBODY).expect("no end but a thing");
    }

    /// Waits for a thing that `maker` makes, and takes it; says whether there was one.
    fn take_from(&self, region: &RegionMut, maker: OwnerId) -> Result<bool, WaitError> {
        let until = Until::forever().or_peer_lost(maker);
        let mut guard = self.lock(region);
        loop {
            guard = match self.changed.wait_while(guard, until, |value| things(value) == 0)? {
                Locked::Clean(guard) => {
                    assert!(things(&guard) > 0, "it waits for that");
                    guard
                }
                Locked::OwnerDied(died) => died.mark_consistent(),
            };
            if things(&guard) > 0 {
                set(&guard, things(&guard) - 1);
                return Ok(true);
            } else if !maker.is_nobody() {
                return Ok(false);
            }
        }
    }
}

/// `takers` take `each` things each, which this thread makes one by one.
fn trade(takers: u32, each: u64, how: Notify) {
    let (table, shop) = (table(), Shop::new());
    let mine = RegionMut::attach(&table, 1);
    let takers: Vec<_> = (0..takers).map(|taker| (RegionMut::attach(&table, 2 + taker), Rc::clone(&shop))).collect();
    let made = takers.len() as u64 * each;
    let take =
        |(region, shop): (RegionMut, Rc<Shop>)| thread::spawn(move || (0..each).for_each(|_| shop.take(&region)));
    let takers: Vec<_> = takers.into_iter().map(take).collect();
    (0..made).for_each(|_| shop.make(&mine, how));
    join(takers);
    assert_eq!(things(&shop.lock(&mine)), 0);
}

#[test]
fn one_waits_for_one() {
    explore("1 waits, notify_one", (None, None), || trade(1, 1, Notify::One));
    explore("1 waits, notify_all", (None, None), || trade(1, 1, Notify::All));
}

/// Also where the first notification finds nobody asleep and takes the mark back while the next wait finds it set.
#[test]
fn one_waits_twice() {
    explore("1 waits twice, notify_one", (Some(3), Some(4)), || trade(1, 2, Notify::One));
    explore("1 waits twice, notify_all", (Some(3), Some(4)), || trade(1, 2, Notify::All));
}

#[test]
fn two_wait() {
    explore("2 wait, notify_one twice", (Some(2), Some(3)), || trade(2, 1, Notify::One));
    explore("2 wait, notify_all twice", (Some(2), Some(3)), || trade(2, 1, Notify::All));
}

/// Two make a thing each, at the same time, for two who wait.
#[test]
fn two_wait_for_two() {
    explore("2 wait, 2 notify_one", (Some(2), Some(3)), || {
        let (table, shop) = (table(), Shop::new());
        let regions = [1, 2, 3, 4].map(|pid| (RegionMut::attach(&table, pid), Rc::clone(&shop)));
        let [one, two, three, mine] = regions;
        let take = |(region, shop): (RegionMut, Rc<Shop>)| thread::spawn(move || shop.take(&region));
        let takers = [take(one), take(two)];
        let maker = thread::spawn(move || three.1.make(&three.0, Notify::One));
        shop.make(&mine.0, Notify::One);
        join(takers);
        join([maker]);
    });
}

/// All who wait are woken by one `notify_all`.
#[test]
fn all_are_woken() {
    explore("2 wait, notify_all once", (Some(2), Some(4)), || {
        let (table, shop) = (table(), Shop::new());
        let regions = [1, 2, 3].map(|pid| (RegionMut::attach(&table, pid), Rc::clone(&shop)));
        let [one, two, mine] = regions;
        let look = |(region, shop): (RegionMut, Rc<Shop>)| {
            thread::spawn(move || {
                let guard = shop.lock(&region);
                let _ =
                    shop.changed.wait_while(guard, Until::forever(), |value| things(value) == 0).expect("one thing");
            })
        };
        let lookers = [look(one), look(two)];
        shop.make(&mine.0, Notify::All);
        join(lookers);
        assert_eq!(things(&shop.lock(&mine.0)), 1);
    });
}

/// What was written before a notification is seen by whoever it wakes, though the writer never has the lock after.
#[test]
fn a_notification_carries_what_was_written_before() {
    for how in [Notify::One, Notify::All] {
        explore("1 waits for what is written without the lock", (None, None), move || {
            let (table, shop, written) = (table(), Shop::new(), Rc::new(UnsafeCell::new(0)));
            let [mine, other] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
            let guard = shop.lock(&mine);
            let notifier = thread::spawn({
                let (shop, written) = (Rc::clone(&shop), Rc::clone(&written));
                move || {
                    shop.lock(&other).unlock();
                    set(&written, 1);
                    match how {
                        Notify::One => shop.changed.notify_one(),
                        Notify::All => shop.changed.notify_all(),
                    }
                }
            });
            let _guard = shop.changed.wait(guard, Until::forever()).expect("it is notified");
            assert_eq!(things(&written), 1);
            join([notifier]);
        });
    }
}

/// One of two who wait dies, after any step: the other gets a thing, and no thing is lost or taken twice.
fn a_taker_dies(steps: u64, how: Notify) {
    let (table, shop) = (table(), Shop::new());
    let regions = [1, 2, 3].map(|pid| (RegionMut::attach(&table, pid), Rc::clone(&shop)));
    let [(victim, _), (other, others), (mine, _)] = regions;
    let victims = Rc::clone(&shop);
    let victim = thread::spawn(move || {
        let lives = prim::mortal(steps, || victims.take(&victim)).is_some();
        (!lives).then(|| victim.die());
    });
    let other = thread::spawn(move || others.take(&other));
    (0..2).for_each(|_| shop.make(&mine, how));
    join([victim]);
    join([other]);
    assert!(things(&shop.lock(&mine)) <= 1);
}

/// One has died between marking and sleeping. The first notification finds nobody asleep and takes the mark back, while
/// two who come find it set and sleep: they are woken to set it again.
#[test]
fn a_mark_of_the_dead() {
    explore("1 has died marking, 2 wait, notify_one 3 times", (Some(2), Some(2)), || {
        const MARKED: u64 = 3; // locked, unlocked, marked
        let (table, shop) = (table(), Shop::new());
        let regions = [1, 2, 3, 4].map(|pid| (RegionMut::attach(&table, pid), Rc::clone(&shop)));
        let [(dead, _), (mine, _), takers @ ..] = regions;
        assert!(prim::mortal(MARKED, || shop.take(&dead)).is_none());
        assert_eq!(prim::word_of(&*shop.changed), 1);
        let takers = takers.map(|(region, shop)| thread::spawn(move || shop.take(&region)));
        shop.changed.notify_one();
        (0..2).for_each(|_| shop.make(&mine, Notify::One));
        join(takers);
    });
}

#[test]
fn a_death_of_one_who_waits() {
    explore_deaths("2 wait, 1 dies, notify_one twice", (Some(1), Some(2)), |steps| a_taker_dies(steps, Notify::One));
    explore_deaths("2 wait, 1 dies, notify_all twice", (Some(1), Some(2)), |steps| a_taker_dies(steps, Notify::All));
}

/// Whoever was to notify dies, after any step: who waits for it gets what it made, or is told that it is dead.
fn a_maker_dies(steps: u64, how: Notify) {
    let (table, shop) = (table(), Shop::new());
    let [maker, mine] = [1, 2].map(|pid| RegionMut::attach(&table, pid));
    let (id, makers) = (maker.attachment().me(), Rc::clone(&shop));
    let maker = thread::spawn(move || {
        let lives = prim::mortal(steps, || makers.make(&maker, how)).is_some();
        maker.die();
        lives
    });
    let taken = shop.take_from(&mine, id);
    let left = things(&shop.lock(&mine));
    let lives = join([maker])[0];
    match taken {
        Ok(true) => assert_eq!(left, 0),
        Ok(false) | Err(WaitError::PeerLost { .. }) => assert!(!lives && left == 0, "what was made is taken"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_death_of_one_who_notifies() {
    explore_deaths("1 waits, its peer dies, notify_one", (Some(3), None), |steps| a_maker_dies(steps, Notify::One));
    explore_deaths("1 waits, its peer dies, notify_all", (Some(3), None), |steps| a_maker_dies(steps, Notify::All));
}
