//! What is initialised once, by threads and real processes.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn};
use memlane::{LockError, Name, Once, Options, Segment, Shareable, held_locks, retire};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    begun: AtomicU64,
    table: Once<Table>,
    tail: Once<[u8]>,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Table {
    first: u64,
    second: u64,
}

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, 5, &Options::new(), |_| ()).expect("a fresh object")
}

/// Initialises it in two steps, between which `between` is done.
fn initialise(shared: &Segment<Shared>, between: impl FnOnce()) -> Result<&Table, LockError> {
    shared.table.get_or_init_timeout(shared, PATIENCE, |table| {
        shared.begun.fetch_add(1, Ordering::Relaxed);
        table.first = 1;
        between();
        table.second = 2;
    })
}

fn is_whole(table: &Table) -> bool {
    (table.first, table.second) == (1, 2)
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let shared = Segment::<Shared>::open("o").expect("the parent's object");
    match role.as_str() {
        "initialise" => {
            let between = || {
                say("begun");
                hear();
            };
            let table = initialise(&shared, between).expect("its turn");
            assert!(is_whole(table));
            say("complete");
        }
        "race" => {
            say("here");
            hear();
            assert!(is_whole(initialise(&shared, || ()).expect("its turn, or another's")));
            say("complete");
        }
        other => panic!("no role {other}"),
    }
}

fn start(dir: &Dir, role: &str, says: &str) -> Child {
    let mut child = spawn(dir.path(), role, &[]);
    child.expect(says);
    child
}

#[test]
fn it_is_initialised_once() {
    let dir = Dir::new();
    let shared = create(&dir.name("o"));
    let other = Segment::<Shared>::open(dir.name("o")).expect("the same object");
    assert!(!other.table.is_complete() && other.table.get().is_none(), "zeroed, it is not");
    std::thread::scope(|scope| {
        for by in [&shared, &other, &shared, &other] {
            scope.spawn(|| assert!(is_whole(initialise(by, std::thread::yield_now).expect("its turn, or another's"))));
        }
    });
    assert!(shared.table.get().is_some_and(is_whole) && other.table.is_complete());
    assert_eq!(shared.begun.load(Ordering::Relaxed), 1);
    let tail = shared.tail.get_or_init(&shared, |tail| tail.fill(7)).expect("its turn");
    assert_eq!((tail, other.tail.get()), (&[7; 5][..], Some(&[7; 5][..])));
}

#[test]
fn who_panics_hands_on_what_it_left() {
    let dir = Dir::new();
    let shared = create(&dir.name("o"));
    let panics = || drop(initialise(&shared, || panic!("on purpose")));
    assert!(std::thread::scope(|scope| scope.spawn(panics).join()).is_err());
    assert!(!shared.table.is_complete());
    let next = shared.table.get_or_init(&shared, |table| {
        assert_eq!((table.first, table.second), (1, 0), "as it was left");
        table.second = 2;
    });
    assert!(next.is_ok_and(is_whole));
}

#[test]
fn to_initialise_it_within_itself_is_an_error() {
    let dir = Dir::new();
    let shared = create(&dir.name("o"));
    let table = initialise(&shared, || {
        let again = initialise(&shared, || ());
        assert!(matches!(again, Err(LockError::AlreadyLocked { .. })), "{again:?}");
        assert!(shared.table.get().is_none());
    });
    assert!(table.is_ok_and(is_whole));
}

#[test]
fn of_a_retired_object_what_is_complete_stays() {
    let dir = Dir::new();
    let (shared, elsewhere) = (create(&dir.name("o")), create(&dir.name("p")));
    assert!(matches!(shared.table.get_or_init(&elsewhere, |_| ()), Err(LockError::NotInSegment { .. })));
    initialise(&shared, || ()).expect("its turn");
    retire(dir.name("o")).expect("it is there");
    assert!(shared.table.get_or_init(&shared, |_| panic!("it is complete")).is_ok_and(is_whole));
    assert!(matches!(shared.tail.get_or_init(&shared, |_| ()), Err(LockError::Retired { .. })));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_killed_initialiser_is_named_and_succeeded() {
    let dir = Dir::new();
    let shared = create(&dir.name("o"));
    let mut child = start(&dir, "initialise", "begun");
    let waited = shared.table.get_or_init_timeout(&shared, SHORT, |_| panic!("somebody is at it"));
    let named = matches!(&waited, Err(LockError::TimedOut { holder: Some(who), .. }) if who.pid == child.pid());
    assert!(named, "{waited:?}");
    let held = held_locks(dir.name("o")).expect("it can be read");
    assert!(held.len() == 1 && held[0].lock == "table.value" && held[0].alive, "{held:?}");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            shared.table.get_or_init(&shared, |table| {
                assert_eq!((table.first, table.second), (1, 0), "as it was left");
                table.second = 2;
            })
        });
        child.kill();
        assert!(next.join().expect("no panic").is_ok_and(is_whole));
    });
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn who_waits_goes_on_when_it_is_complete() {
    let dir = Dir::new();
    let shared = create(&dir.name("o"));
    let mut child = start(&dir, "initialise", "begun");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| initialise(&shared, || panic!("somebody else is at it")));
        child.say("go on");
        child.expect("complete");
        assert!(waiter.join().expect("no panic").is_ok_and(is_whole));
    });
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn one_of_several_processes_initialises_it() {
    let dir = Dir::new();
    let shared = create(&dir.name("o"));
    let mut children: Vec<Child> = (0..4).map(|_| start(&dir, "race", "here")).collect();
    children.iter_mut().for_each(|child| child.say("go"));
    children.iter_mut().for_each(|child| child.expect("complete"));
    assert_eq!(shared.begun.load(Ordering::Relaxed), 1);
}
