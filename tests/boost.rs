//! What the tests of Boost.Interprocess assert of names, mutexes, conditions and message queues, asserted of memlane, between
//! processes. docs/BOOST.md has the table, with what differs on purpose.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn};
use memlane::{
    ChannelOptions, Condvar, Error, LockError, Locked, Mutex, Options, Policy, Receiver, Segment, Sender, Shareable,
    SharedMemory, Until, WaitError,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// So long a wait that ends it means a hang.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Shareable)]
#[repr(C)]
struct Place {
    value: Mutex<u32>,
    changed: Condvar,
    /// Who takes part in a round of the bounded queue.
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
    consumed: AtomicU32,
}

#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
struct Queue {
    count: u32,
    waiting: u32,
}

impl Place {
    fn create(dir: &Dir) -> Segment<Self> {
        Segment::create(dir.name("place"), (), &Options::new(), |_| ()).expect("a fresh object")
    }

    fn open() -> Segment<Self> {
        Segment::open("place").expect("it is there")
    }
}

fn until() -> Until {
    Until::timeout(LONG)
}

/// The guard of a lock whose last holder let go of it in order.
fn clean<G>(locked: Locked<G>) -> G {
    match locked {
        Locked::Clean(guard) => guard,
        Locked::OwnerDied(_) => panic!("nobody has died"),
    }
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "lock, add, wait" => {
            let place = Place::open();
            let mut value = clean(place.value.lock(&place).expect("the lock"));
            *value += 1;
            say("locked");
            hear();
        }
        "wait for one" => wait_for(1),
        "wait for all" => wait_for(2),
        "ping" => ping(),
        "consume" => consume(&arguments[0]),
        "lock and die" => {
            let place = Place::open();
            let value = place.value.lock(&place).expect("the lock").or_repair(|_| ());
            say("locked");
            hear();
            drop(value);
        }
        "send" => {
            let (channel, count) = (&arguments[0], arguments[1].parse().expect("a number"));
            let sender = Sender::<[u8; 4]>::open(channel.as_str()).expect("a lane");
            for number in 0..count {
                drop(sender.send_copy(&u32::to_ne_bytes(number)).expect("somebody takes it"));
            }
            say("sent");
        }
        "take" => {
            let mut receiver = Receiver::<[u8; 4]>::open(arguments[0].as_str()).expect("a place");
            let mut taken = 0;
            say("ready");
            while let Ok(message) = receiver.recv_timeout(LONG) {
                drop(message);
                taken += 1;
            }
            say(&taken.to_string());
        }
        other => panic!("no role {other}"),
    }
}

/// Creating, opening, and opening or creating a name, of each kind of object.
#[test]
fn a_name_is_created_once_opened_if_it_is_there_and_opened_or_created_always() {
    fn all<T>(
        dir: &Dir,
        name: &str,
        create: impl Fn(memlane::Name) -> Result<T, Error>,
        open: impl Fn(memlane::Name) -> Result<T, Error>,
        open_or_create: impl Fn(memlane::Name) -> Result<T, Error>,
    ) {
        assert!(matches!(open(dir.name(name)), Err(Error::NotFound { .. })), "{name}");
        let first = create(dir.name(name)).expect("a fresh object");
        assert!(matches!(create(dir.name(name)), Err(Error::AlreadyExists { .. })), "{name}");
        drop((open(dir.name(name)).expect("it is there"), open_or_create(dir.name(name)).expect("it is there")));
        // Differs on purpose: nothing is left by the last user, unless it is asked for.
        drop(first);
        assert!(matches!(open(dir.name(name)), Err(Error::NotFound { .. })), "{name}");
        drop(open_or_create(dir.name(name)).expect("a fresh object"));
    }
    let (dir, options) = (Dir::new(), Options::new());
    all(
        &dir,
        "raw",
        |name| SharedMemory::create(name, 64, &options),
        SharedMemory::open,
        |name| SharedMemory::open_or_create(name, 64, &options),
    );
    all(
        &dir,
        "segment",
        |name| Segment::<Place>::create(name, (), &options, |_| ()),
        Segment::open,
        |name| Segment::open_or_create(name, (), &options, |_| ()),
    );
    let lanes = ChannelOptions::new().senders(3);
    all(
        &dir,
        "channel",
        |name| Sender::<[u8]>::create(name, &lanes),
        Sender::open,
        |name| Sender::open_or_create(name, &lanes),
    );
}

#[test]
fn of_two_who_lock_one_waits_and_each_sees_what_the_other_did() {
    let dir = Dir::new();
    let place = Place::create(&dir);
    let mut other = spawn(dir.path(), "lock, add, wait", &[]);
    other.expect("locked");
    // A try fails at once and leaves the data alone; so does a wait that is too short, which names who has it.
    assert!(matches!(place.value.try_lock(&place), Err(LockError::TimedOut { .. })));
    match place.value.lock_timeout(&place, Duration::from_millis(20)) {
        Err(LockError::TimedOut { holder, waited, .. }) => {
            assert_eq!(holder.map(|who| who.pid), Some(other.pid()));
            assert!(waited >= Duration::from_millis(20), "{waited:?}");
        }
        result => panic!("{result:?}"),
    }
    other.say("go on");
    let mut value = clean(place.value.lock_timeout(&place, LONG).expect("the lock"));
    assert_eq!(*value, 1);
    *value += 1;
    value.unlock();
    assert!(other.finish().success());
    assert_eq!(*clean(place.value.try_lock(&place).expect("it is free")), 2);
}

/// Differs on purpose: Boost's mutex is lost for good ("not recoverable") when its owner dies.
#[test]
fn an_owner_that_dies_is_told_of_and_the_lock_goes_on_over_any_number_of_deaths() {
    let dir = Dir::new();
    let place = Place::create(&dir);
    for _ in 0..3 {
        let mut owner = spawn(dir.path(), "lock and die", &[]);
        owner.expect("locked");
        owner.kill();
        match place.value.lock_timeout(&place, LONG).expect("the lock") {
            Locked::OwnerDied(mut died) => {
                *died += 1;
                died.mark_consistent().unlock();
            }
            Locked::Clean(_) => panic!("its owner died"),
        }
        drop(clean(place.value.lock(&place).expect("the lock")));
    }
    assert_eq!(*clean(place.value.lock(&place).expect("the lock")), 3);
}

/// Waits until the value is as large, and says so.
fn wait_for(least: u32) {
    let place = Place::open();
    let value = clean(place.value.lock(&place).expect("the lock"));
    say("waits");
    let value = clean(place.changed.wait_while(value, until(), |value| *value < least).expect("it is notified"));
    say(&value.to_string());
}

/// Differs on purpose: one that is notified wakes one at least; so a condition is waited for with what it is about.
#[test]
fn one_notification_wakes_at_least_one_and_one_for_all_wakes_all() {
    let dir = Dir::new();
    let place = Place::create(&dir);
    let mut all: Vec<Child> = (0..3).map(|_| spawn(dir.path(), "wait for all", &[])).collect();
    let mut one = spawn(dir.path(), "wait for one", &[]);
    one.expect("waits");
    all.iter_mut().for_each(|child| child.expect("waits"));
    // Whoever holds the lock now, they have let go of it to wait.
    *clean(place.value.lock(&place).expect("the lock")) = 1;
    for _ in 0..4 {
        place.changed.notify_one();
    }
    one.expect("1");
    *clean(place.value.lock(&place).expect("the lock")) = 2;
    place.changed.notify_all();
    all.iter_mut().for_each(|child| child.expect("2"));
    for child in all.into_iter().chain([one]) {
        assert!(child.finish().success());
    }
}

const STEPS: u32 = 13;

/// Answers each odd number with the next one.
fn ping() {
    let place = Place::open();
    for number in (1..STEPS).step_by(2) {
        let value = clean(place.value.lock(&place).expect("the lock"));
        let mut value = clean(place.changed.wait_while(value, until(), |value| *value != number).expect("in time"));
        *value += 1;
        value.unlock();
        place.changed.notify_one();
    }
}

#[test]
fn thirteen_steps_to_and_fro_by_each_form_of_waiting() {
    let dir = Dir::new();
    let place = Place::create(&dir);
    let other = spawn(dir.path(), "ping", &[]);
    for number in (1..STEPS).step_by(2) {
        *clean(place.value.lock(&place).expect("the lock")) = number;
        place.changed.notify_one();
        let mut value = clean(place.value.lock(&place).expect("the lock"));
        // The lock is held after each return, whichever form waits.
        if number % 4 == 1 {
            value = clean(place.changed.wait_while(value, until(), |value| *value != number + 1).expect("in time"));
        } else {
            while *value != number + 1 {
                value = clean(place.changed.wait(value, until()).expect("in time"));
            }
        }
        assert_eq!(*value, number + 1);
    }
    assert!(other.finish().success());
    // A wait that nobody ends is over when its time is, and not before.
    let (value, start) = (clean(place.value.lock(&place).expect("the lock")), Instant::now());
    let result = place.changed.wait(value, Until::timeout(Duration::from_millis(30)));
    assert!(matches!(result, Err(WaitError::TimedOut { .. })), "{result:?}");
    assert!(start.elapsed() >= Duration::from_millis(30));
}

const CONSUMERS: u32 = 30;
const CAPACITY: u32 = 3;

/// Takes one from the bounded queue.
fn consume(notify: &str) {
    let place = Place::open();
    let mut queue = clean(place.queue.lock(&place).expect("the lock"));
    queue.waiting += 1;
    let mut queue = clean(place.filled.wait_while(queue, until(), |queue| queue.count == 0).expect("in time"));
    queue.waiting -= 1;
    queue.count -= 1;
    queue.unlock();
    if notify == "one" {
        place.emptied.notify_one()
    } else {
        place.emptied.notify_all()
    }
    place.consumed.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn thirty_consumers_share_a_queue_of_three_and_nobody_is_left_waiting() {
    for notify in ["one", "all"] {
        let dir = Dir::new();
        let place = Place::create(&dir);
        let consumers: Vec<Child> = (0..CONSUMERS).map(|_| spawn(dir.path(), "consume", &[notify])).collect();
        for _ in 0..CONSUMERS {
            let queue = clean(place.queue.lock(&place).expect("the lock"));
            let full = |queue: &mut Queue| queue.count == CAPACITY;
            let mut queue = clean(place.emptied.wait_while(queue, until(), full).expect("in time"));
            queue.count += 1;
            queue.unlock();
            if notify == "one" { place.filled.notify_one() } else { place.filled.notify_all() }
        }
        for consumer in consumers {
            assert!(consumer.finish().success());
        }
        let queue = *clean(place.queue.lock(&place).expect("the lock"));
        assert_eq!((queue.count, queue.waiting, place.consumed.load(Ordering::Relaxed)), (0, 0, CONSUMERS), "{notify}");
    }
}

/// Differs on purpose: there are no priorities; who needs some has a channel for each.
#[test]
fn a_thousand_messages_go_through_ten_places_in_their_order() {
    let dir = Dir::new();
    let options = ChannelOptions::new().slots(10).senders(2).policy(Policy::Queue);
    let maker = Sender::<[u8; 4]>::create(dir.name("queue"), &options).expect("a fresh channel");
    let mut receiver = Receiver::<[u8; 4]>::open(dir.name("queue")).expect("it is there");
    let sender = spawn(dir.path(), "send", &["queue", "1000"]);
    for number in 0..1000 {
        let message = receiver.recv_timeout(LONG).expect("it comes");
        assert_eq!(u32::from_ne_bytes(*message), number);
    }
    assert!(sender.finish().success());
    assert!(receiver.try_recv().expect("its maker lives").is_none());
    drop(maker);
}

#[test]
fn ten_send_and_ten_take_through_one_place_and_all_end() {
    let dir = Dir::new();
    let count = common::times(300, 10_000);
    let options = ChannelOptions::new().slots(1).senders(11).receivers(10).policy(Policy::Queue);
    let maker = Sender::<[u8; 4]>::create(dir.name("queue"), &options).expect("a fresh channel");
    let mut takers: Vec<Child> = (0..10).map(|_| spawn(dir.path(), "take", &["queue"])).collect();
    takers.iter_mut().for_each(|taker| taker.expect("ready"));
    let mut senders: Vec<Child> = (0..10).map(|_| spawn(dir.path(), "send", &["queue", &count.to_string()])).collect();
    senders.iter_mut().for_each(|sender| sender.expect("sent"));
    for sender in senders {
        assert!(sender.finish().success());
    }
    drop(maker);
    let taken: u64 = takers.iter_mut().map(|taker| taker.hear().expect("a number").parse::<u64>().expect("one")).sum();
    assert_eq!(taken, 10 * count);
    for taker in takers {
        assert!(taker.finish().success());
    }
}

/// docs/BOOST.md names tests that are there, and each row of its first table has its code.
#[test]
fn what_the_guide_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let guide = read("docs/BOOST.md");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (mut rows, mut named) = (0, 0);
    for line in guide.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let (Ok(number), [_, _, ours, _]) = (cells[0].parse::<u32>(), &cells[..]) {
            let code = guide.split(&format!("\n## {number}. ")).nth(1).and_then(|rest| rest.split("\n## ").next());
            for call in quoted(ours) {
                let word = call.rsplit("::").next().expect("a word");
                assert!(code.is_some_and(|code| code.contains(word)), "{number}: no {word} in the code of the row");
            }
            rows += 1;
        } else if let [_, _, tests] = &cells[..] {
            let mut file = String::new();
            for name in quoted(tests) {
                if root.join(format!("tests/{name}.rs")).exists() {
                    file = read(&format!("tests/{name}.rs"));
                } else {
                    assert!(file.contains(&format!("fn {name}()")), "there is no test {name}: {line}");
                    named += 1;
                }
            }
        }
    }
    assert!(rows == 27 && named > 20, "{rows} rows, {named} tests");
}
