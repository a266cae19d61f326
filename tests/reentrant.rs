//! ReentrantMutex, and locks and events that are objects by themselves.
#![allow(missing_docs)]

mod common;

use common::{Dir, hear, role, say, spawn};
use memlane::{
    Barrier, Event, LockError, Locked, Mutex, Once, Options, ReentrantMutex, ReentrantMutexGuard, RwLock, Segment,
    Semaphore, SeqCell, Shareable, Until, Versioned, held_locks,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Two numbers that are equal unless somebody is at work on them.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Pair {
    value: AtomicU64,
    copy: AtomicU64,
}

type Lock = ReentrantMutex<Pair>;

impl Pair {
    fn add(&self) {
        self.value.store(self.value.load(Relaxed) + 1, Relaxed);
        self.copy.store(self.copy.load(Relaxed) + 1, Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.value.load(Relaxed), self.copy.load(Relaxed))
    }
}

fn clean<G>(locked: Result<Locked<G>, LockError>) -> G {
    match locked.expect("the lock") {
        Locked::Clean(guard) => guard,
        Locked::OwnerDied(_) => panic!("nobody has died"),
    }
}

fn lock(lock: &Segment<Lock>) -> ReentrantMutexGuard<'_, Pair> {
    clean(lock.lock_timeout(lock, PATIENCE))
}

/// Whether another thread can have it.
fn is_free(lock: &Segment<Lock>) -> bool {
    let tries = || match lock.try_lock(lock) {
        Err(LockError::TimedOut { holder: Some(_), .. }) => false,
        other => other.is_ok(),
    };
    std::thread::scope(|scope| scope.spawn(tries).join().expect("no panic"))
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let shared = Lock::named("m").expect("the parent's object");
    match role.as_str() {
        "hold twice" => {
            let (outer, inner) = (lock(&shared), lock(&shared));
            outer.value.store(1, Relaxed); // and not yet `copy`: a death now leaves it half-changed
            drop(inner);
            say("held");
            hear();
        }
        "add" => {
            for _ in 0..5_000 {
                let (outer, inner) = (lock(&shared), lock(&shared));
                inner.add();
                drop(outer);
                inner.add();
            }
            say("added");
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn the_last_guard_to_go_unlocks() {
    let dir = Dir::new();
    let shared = Lock::named(dir.name("m")).expect("a fresh object");
    let guards: Vec<_> = (0..9).map(|_| lock(&shared)).collect(); // more than a thread has room for at hand
    for guard in guards {
        assert!(!is_free(&shared), "guards are left");
        drop(guard);
    }
    assert!(is_free(&shared));
    let (outer, inner) = (lock(&shared), lock(&shared));
    drop(outer);
    assert!(!is_free(&shared), "the inner one is left");
    inner.add();
    assert_eq!(lock(&shared).get(), (1, 1));
    drop(inner);
    assert!(is_free(&shared));
}

#[test]
fn by_another_attachment_it_is_another_lock() {
    let dir = Dir::new();
    let [one, two] = [0, 1].map(|_| Lock::named(dir.name("m")).expect("one object"));
    let guard = lock(&one);
    assert!(matches!(two.lock(&two), Err(LockError::AlreadyLocked { .. })));
    drop(guard);
    drop(lock(&two));
    let elsewhere = Lock::named(dir.name("n")).expect("a fresh object");
    assert!(matches!(one.lock(&elsewhere), Err(LockError::NotInSegment { .. })));
    memlane::retire(dir.name("m")).expect("it is there");
    assert!(matches!(one.lock(&one), Err(LockError::Retired { .. })));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_dead_holder_gives_the_lock_with_a_mark_that_stays_until_repaired() {
    let dir = Dir::new();
    let shared = Lock::named(dir.name("m")).expect("a fresh object");
    let mut holder = spawn(dir.path(), "hold twice", &[]);
    holder.expect("held");
    assert!(!is_free(&shared), "one of its guards is left");
    let held = held_locks(dir.name("m")).expect("it can be read");
    assert_eq!((held.len(), held[0].holder.as_ref().map(|who| who.pid)), (1, Some(holder.pid())));
    holder.kill();
    let Ok(Locked::OwnerDied(died)) = shared.lock_timeout(&shared, PATIENCE) else { panic!("no mark") };
    assert_eq!(died.get(), (1, 0), "half-changed, as it was left");
    assert!(matches!(shared.lock(&shared), Ok(Locked::OwnerDied(_))), "the mark is gone before it was repaired");
    drop(died); // not repaired
    let outer = shared.lock(&shared).expect("the lock");
    assert!(matches!(outer, Locked::OwnerDied(_)));
    let inner =
        shared.lock(&shared).expect("the lock").or_repair(|pair| pair.copy.store(pair.value.load(Relaxed), Relaxed));
    assert_eq!(lock(&shared).get(), (1, 1), "it is repaired for all guards");
    drop((inner, outer));
    drop(lock(&shared));
}

#[test]
fn a_panic_over_any_guard_leaves_the_mark() {
    let dir = Dir::new();
    let shared = Lock::named(dir.name("m")).expect("a fresh object");
    for inner in [false, true] {
        std::thread::scope(|scope| {
            let panics = || {
                let _outer = inner.then(|| lock(&shared));
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let _guard = lock(&shared);
                    std::panic::resume_unwind(Box::new(()));
                }));
                assert!(panicked.is_err());
            };
            scope.spawn(panics).join().expect("it was caught");
        });
        let Ok(Locked::OwnerDied(died)) = shared.try_lock(&shared) else { panic!("no mark") };
        drop(died.mark_consistent());
        drop(lock(&shared));
    }
}

#[test]
fn what_is_taken_during_a_panic_is_not_marked_by_it() {
    struct LocksWhenDropped<'a>(&'a Segment<Lock>);
    impl Drop for LocksWhenDropped<'_> {
        fn drop(&mut self) {
            lock(self.0).add();
        }
    }
    let dir = Dir::new();
    let shared = Lock::named(dir.name("m")).expect("a fresh object");
    let panics = || {
        let _late = LocksWhenDropped(&shared);
        std::panic::resume_unwind(Box::new(()));
    };
    let panicked = std::thread::scope(|scope| scope.spawn(panics).join().is_err());
    assert!(panicked);
    assert_eq!(lock(&shared).get(), (1, 1));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn processes_never_are_inside_together() {
    let dir = Dir::new();
    let shared = Lock::named(dir.name("m")).expect("a fresh object");
    let mut children: Vec<_> = (0..3).map(|_| spawn(dir.path(), "add", &[])).collect();
    children.iter_mut().for_each(|child| child.expect("added"));
    assert_eq!(lock(&shared).get(), (30_000, 30_000));
}

#[test]
fn what_is_named_is_there_for_all_until_the_last_user_goes() {
    let dir = Dir::new();
    let (mutex, again) = (Mutex::<u64>::named(dir.name("mutex")), Mutex::<u64>::named(dir.name("mutex")));
    let (mutex, again) = (mutex.expect("fresh"), again.expect("it is there"));
    *clean(mutex.lock(&mutex)) = 5;
    assert_eq!(*clean(again.lock(&again)), 5);
    let rwlock = RwLock::<[u64; 2], 4>::named(dir.name("rwlock")).expect("fresh");
    assert_eq!(*rwlock.read(&rwlock).expect("the lock"), [0, 0]);
    let event = Event::named(dir.name("event")).expect("fresh");
    Event::named(dir.name("event")).expect("it is there").set();
    event.take(&event, Until::timeout(Duration::ZERO)).expect("it is set");
    let other = RwLock::<[u64; 2], 5>::named(dir.name("rwlock"));
    assert!(matches!(other, Err(memlane::Error::TypeMismatch { .. })), "{other:?}");
    let permits = Semaphore::<2>::named(dir.name("permits")).expect("fresh");
    let permit = permits.acquire(&permits).expect("one is free");
    assert_eq!(permits.available(&permits), 1);
    let meeting = Barrier::<1>::named(dir.name("meeting")).expect("fresh");
    assert_eq!(meeting.join(&meeting).expect("a seat").wait(Until::forever()).expect("all are there").phase, 1);
    let once = Once::<u32>::named(dir.name("once")).expect("fresh");
    assert_eq!(once.get_or_init(&once, |value| *value = 3).ok(), Some(&3));
    let (versioned, cell) = (Versioned::<u32>::named(dir.name("versioned")), SeqCell::<u32>::named(dir.name("cell")));
    let (versioned, cell) = (versioned.expect("fresh"), cell.expect("fresh"));
    assert_eq!((versioned.read(), cell.read(&cell).ok()), (0, Some(0)));
    drop(permit);
    drop((mutex, again, rwlock, event, permits, meeting, once, versioned, cell));
    assert_eq!(dir.files(), [""; 0]);
    let mutex = Mutex::<u64>::named(dir.name("mutex")).expect("fresh");
    assert_eq!(*clean(mutex.try_lock(&mutex)), 0);
}

#[test]
fn what_is_built_is_unlocked() {
    let dir = Dir::new();
    let built = Segment::<Lock>::create(dir.name("m"), (), &Options::new(), |lock| *lock.get_mut().value.get_mut() = 3);
    let built = built.expect("a fresh object");
    assert_eq!(lock(&built).get(), (3, 0));
    assert_eq!(format!("{:?}", &*built), "ReentrantMutex { locked: false, dirty: false, .. }");
    assert_eq!(format!("{:?}", ReentrantMutex::new(1_u8)), "ReentrantMutex { locked: false, dirty: false, .. }");
}
