//! Events between real processes.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn};
use memlane::{
    Event, LockError, Mutex, Name, Options, OwnerId, Region, Segment, Shareable, SharedMemory, Until, WaitError, retire,
};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    go: Event,
    done: Event,
    stop: Event,
    count: AtomicU64,
    /// Who sets `go`.
    setter: Mutex<OwnerId>,
}

fn create(name: &Name) -> Segment<Shared> {
    Segment::create(name, (), &Options::new(), |_| ()).expect("a fresh object")
}

fn patiently() -> Until {
    Until::timeout(PATIENCE)
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let shared = Segment::<Shared>::open(arguments[0].as_str()).expect("the parent's object");
    *shared.setter.lock(&shared).expect("the lock").or_repair(|_| ()) = shared.region().owner();
    say("here");
    match role.as_str() {
        "wait" => say(&format!("{:?}", shared.go.wait(&shared, patiently()))),
        "take" => {
            say(&format!("{:?}", shared.go.take(&shared, patiently())));
            hear();
        }
        // Counts what it gets through by, and says so.
        "consume" => loop {
            shared.go.take(&shared, patiently()).expect("it is set again and again");
            if shared.stop.is_set() {
                break;
            }
            shared.count.fetch_add(1, Ordering::Relaxed);
            shared.done.set();
        },
        "set when told" => {
            while hear().is_some() {
                shared.go.set();
                say("set");
            }
        }
        other => panic!("no role {other}"),
    }
}

fn start(dir: &Dir, role: &str) -> Child {
    let mut child = spawn(dir.path(), role, &["e"]);
    child.expect("here");
    child
}

/// The word of `go`.
fn word(dir: &Dir) -> u32 {
    let mut word = [0; 4];
    let bytes = Region::open(dir.name("e")).expect("it is there");
    bytes.read_at(offset_of!(Shared, go), &mut word).expect("inside");
    u32::from_ne_bytes(word)
}

/// Returns when somebody sleeps, or is about to, until `go` is set.
fn wait_for_a_waiter(dir: &Dir) {
    let start = Instant::now();
    while word(dir) & 1 == 0 {
        assert!(start.elapsed() < PATIENCE, "nobody waits");
        std::thread::yield_now();
    }
}

/// Who was started last.
fn setter(shared: &Segment<Shared>) -> OwnerId {
    *shared.setter.lock(shared).expect("the lock").or_repair(|_| ())
}

#[test]
fn it_is_set_until_it_is_reset_or_taken() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let other = Segment::<Shared>::open(dir.name("e")).expect("the same object");
    assert!(!shared.go.is_set() && !shared.go.reset(), "zeroed, it is not set");
    shared.go.set();
    shared.go.set();
    assert!(other.go.is_set() && !other.done.is_set());
    for by in [&shared, &other] {
        assert!(by.go.wait(by, Until::timeout(Duration::ZERO)).is_ok(), "to wait does not reset it");
    }
    assert!(other.go.reset() && !other.go.reset() && !shared.go.is_set(), "set twice, it is set");
    shared.go.set();
    assert!(other.go.take(&other, Until::timeout(Duration::ZERO)).is_ok());
    assert!(!shared.go.is_set(), "to take resets it");
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    for limit in [Duration::ZERO, SHORT] {
        for ended in [shared.go.wait(&shared, Until::timeout(limit)), shared.go.take(&shared, Until::timeout(limit))] {
            assert!(
                matches!(ended, Err(WaitError::TimedOut { waited, peer: None, .. }) if waited >= limit),
                "{ended:?}"
            );
        }
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "reads bytes that others change: a race, if there are no two mappings")]
fn a_wait_ends_when_the_object_is_retired() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let retired = |ended: Result<(), WaitError>| matches!(ended, Err(WaitError::Lock(LockError::Retired { .. })));
    let (done, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| done.send(shared.go.wait(&shared, Until::forever())).expect("the test listens"));
        wait_for_a_waiter(&dir);
        retire(dir.name("e")).expect("it is there");
        let ended = ended.recv_timeout(PATIENCE);
        shared.go.set(); // or a wait that hangs would never end
        assert!(retired(ended.expect("it ends")));
    });
    assert!(retired(shared.go.wait(&shared, patiently())) && retired(shared.go.take(&shared, patiently())));
    assert!(shared.go.is_set(), "nobody has taken it");
}

#[test]
fn an_event_elsewhere_is_refused() {
    let dir = Dir::new();
    let (one, two) = (create(&dir.name("one")), create(&dir.name("two")));
    one.go.set();
    for ended in [one.go.wait(&two, patiently()), one.go.take(&two, patiently())] {
        assert!(matches!(ended, Err(WaitError::Lock(LockError::NotInSegment { .. }))), "{ended:?}");
    }
    assert!(one.go.is_set());
}

#[test]
#[allow(unsafe_code)]
fn an_event_may_lie_in_a_raw_region() {
    let dir = Dir::new();
    let memory = SharedMemory::create(dir.name("raw"), 4096, &Options::new()).expect("a fresh object");
    let mut region = memory.map_mut().expect("raw bytes");
    // SAFETY: nobody else uses these bytes.
    let placed = unsafe { region.place(64, (), |_: &mut Shared| ()) }.expect("room");
    placed.go.set();
    assert!(placed.go.take(&placed, patiently()).is_ok() && !placed.go.is_set());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn all_who_wait_in_other_processes_go_on() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let mut waiters: Vec<_> = (0..3).map(|_| start(&dir, "wait")).collect();
    wait_for_a_waiter(&dir);
    shared.go.set();
    waiters.iter_mut().for_each(|waiter| waiter.expect("Ok(())"));
    assert!(shared.go.is_set());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn who_waits_when_it_is_set_goes_on_though_it_is_reset_before_it_can_look() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let mut waiter = start(&dir, "wait");
    wait_for_a_waiter(&dir);
    waiter.signal("STOP");
    shared.go.set();
    assert!(shared.go.reset());
    waiter.signal("CONT");
    waiter.expect("Ok(())");
    assert!(!shared.go.is_set());
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn each_set_lets_one_of_several_processes_through() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let mut consumers: Vec<_> = (0..3).map(|_| start(&dir, "consume")).collect();
    for round in 1..=common::times(500, 20_000) {
        shared.go.set();
        shared.done.take(&shared, patiently()).expect("somebody gets through");
        assert_eq!(shared.count.load(Ordering::Relaxed), round);
        assert!(!shared.go.is_set(), "whoever has got through has taken it");
    }
    shared.stop.set();
    while consumers.iter_mut().any(|consumer| !consumer.has_ended()) {
        shared.go.set(); // lets one more end
        std::thread::yield_now();
    }
    assert_eq!(shared.count.load(Ordering::Relaxed), common::times(500, 20_000), "nobody else has got through");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_waiter_that_is_killed_leaves_it_to_the_others() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let mut victim = start(&dir, "take");
    wait_for_a_waiter(&dir);
    victim.kill();
    assert_eq!(word(&dir), 1, "nothing but the mark is left");
    let mut other = start(&dir, "take");
    shared.go.set();
    other.expect("Ok(())");
    assert!(!shared.go.is_set());
    other.kill();
    assert!(!shared.go.is_set(), "what was taken stays taken");
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_setter_that_is_killed_is_named_unless_it_has_set_it() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    for takes in [false, true] {
        for sets in [false, true] {
            let mut child = start(&dir, "set when told");
            let (pid, until) = (child.pid(), Until::forever().or_peer_lost(setter(&shared)));
            let wait = || if takes { shared.go.take(&shared, until) } else { shared.go.wait(&shared, until) };
            std::thread::scope(|scope| {
                let waiter = scope.spawn(wait);
                if sets {
                    child.say("set");
                    child.expect("set");
                }
                child.kill();
                match waiter.join().expect("no panic") {
                    Ok(()) => assert!(sets && shared.go.reset() != takes),
                    Err(WaitError::PeerLost { peer: Some(peer), .. }) => assert!(!sets && peer.pid == pid),
                    other => panic!("neither set nor lost: {other:?}"),
                }
            });
            // It is dead now, also for who only begins to wait.
            shared.go.set();
            assert!(wait().is_ok(), "what it has set is set");
            shared.go.reset();
            assert!(matches!(wait(), Err(WaitError::PeerLost { .. })));
        }
    }
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_timeout_names_the_peer_that_lives() {
    let dir = Dir::new();
    let shared = create(&dir.name("e"));
    let child = start(&dir, "set when told");
    let until = Until::timeout(SHORT).or_peer_lost(setter(&shared));
    for ended in [shared.go.wait(&shared, until), shared.go.take(&shared, until)] {
        let named = matches!(&ended, Err(WaitError::TimedOut { peer: Some(peer), .. }) if peer.pid == child.pid());
        assert!(named, "{ended:?}");
    }
}
