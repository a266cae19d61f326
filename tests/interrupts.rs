//! `interrupt_waits`: every wait ends when the program says so, and goes on when it does not.
#![allow(missing_docs)]

mod common;

use common::Dir;
use memlane::{
    Barrier, ChannelOptions, Condvar, Error, Event, FileLock, LockError, Memory, Mutex, Options, Receiver, RecvError,
    Segment, Semaphore, SendError, Sender, Shareable, TicketError, Until, WaitError, WaitSet,
};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    lock: Mutex<u32>,
    never: Condvar,
    event: Event,
    permit: Semaphore<1>,
    barrier: Barrier<2>,
}

const PATIENCE: Duration = Duration::from_secs(20);

static ASKED: AtomicU32 = AtomicU32::new(0);
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Runs a wait that nothing else ends, and ends it once it has slept and was asked twice.
fn interrupted<R: Send>(wait: impl FnOnce() -> R + Send) -> R {
    INTERRUPT.store(false, Ordering::SeqCst);
    ASKED.store(0, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waits = scope.spawn(wait);
        until("it asks", || ASKED.load(Ordering::SeqCst) >= 2 || waits.is_finished());
        assert!(!waits.is_finished(), "it went on until it was told to end");
        INTERRUPT.store(true, Ordering::SeqCst);
        until("it ends when it is told to", || waits.is_finished());
        waits.join().expect("it ended")
    })
}

/// A panic would wait for the thread that does not end.
fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > PATIENCE {
            eprintln!("not so: {what}");
            std::process::exit(1);
        }
        std::thread::yield_now();
    }
}

#[test]
fn every_wait_ends_when_it_is_told_to() {
    memlane::interrupt_waits(|| {
        ASKED.fetch_add(1, Ordering::SeqCst);
        INTERRUPT.load(Ordering::SeqCst)
    });
    let dir = Dir::new();
    let sender = Sender::<[u8]>::create(dir.name("cam"), &ChannelOptions::new().slots(1)).expect("a channel");
    let mut receiver = Receiver::<[u8]>::open(dir.name("cam")).expect("it is there");
    let ended = |error: &LockError| matches!(error, LockError::Interrupted { .. });

    let Err(RecvError::Unusable(error)) = interrupted(|| receiver.recv()) else { panic!("it received") };
    assert!(ended(&error));
    let Err(SendError::Unusable(error)) = interrupted(|| sender.wait_for_receivers(2, None)) else {
        panic!("two came")
    };
    assert!(ended(&error));
    let ticket = sender.send_copy(b"kept").expect("there is room");
    let Err(TicketError::Unusable(error)) = interrupted(|| ticket.wait(None)) else { panic!("it was processed") };
    assert!(ended(&error));
    let Err(SendError::Unusable(error)) = interrupted(|| sender.send_copy(b"no room")) else { panic!("it was sent") };
    assert!(ended(&error));
    assert_eq!(&receiver.recv().expect("nothing was lost")[..], b"kept");
    let set = WaitSet::new();
    set.add(&receiver);
    assert_eq!(interrupted(|| set.wait(None)), []);
    let error = interrupted(|| Receiver::<[u8]>::wait_for(dir.name("none"), None)).expect_err("there is none");
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");

    let segment = Segment::<Shared>::create(dir.name("s"), (), &Options::new(), |_| ()).expect("a segment");
    let segment = Arc::new(segment);
    let held = segment.lock.lock(&*segment).expect("nobody has it").or_repair(|_| ());
    let other = Segment::<Shared>::open(dir.name("s")).expect("it is there");
    assert!(interrupted(|| other.lock.lock(&other).is_err_and(|error| ended(&error))));
    drop(held);
    let waits = || {
        let guard = other.lock.lock(&other).expect("nobody has it").or_repair(|_| ());
        matches!(other.never.wait(guard, Until::forever()), Err(WaitError::Lock(error)) if ended(&error))
    };
    assert!(interrupted(waits));
    assert!(other.lock.try_lock(&other).is_ok(), "it is not held after that");
    let waits = || matches!(other.event.wait(&other, Until::forever()), Err(WaitError::Lock(error)) if ended(&error));
    assert!(interrupted(waits));
    let takes = || matches!(other.event.take(&other, Until::forever()), Err(WaitError::Lock(error)) if ended(&error));
    assert!(interrupted(takes));

    let (ours, _theirs) = UnixStream::pair().expect("sockets");
    let error = interrupted(|| Memory::receive_from(&ours)).expect_err("nothing was sent");
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    let memory = Memory::anonymous(1).expect("memory");
    interrupted(|| while memory.send_over(&ours).is_ok() {});
    let _permit = segment.permit.acquire(&*segment).expect("nobody has it");
    assert!(interrupted(|| other.permit.acquire(&other).is_err_and(|error| ended(&error))));
    let waits = || {
        let mut party = other.barrier.join(&other).expect("a seat");
        matches!(party.wait(Until::forever()), Err(WaitError::Lock(error)) if ended(&error))
    };
    assert!(interrupted(waits));
    let open = || FileLock::open(dir.path().join("lock")).expect("a directory of ours");
    let (mut mine, mut others) = (open(), open());
    let _guard = mine.lock().expect("nobody has it");
    assert!(interrupted(|| matches!(others.lock(), Err(Error::Interrupted { .. }))));
}
