//! The hand-off under random `kill -9` of its receiver, its sender and whoever else holds its lock: the survivor or
//! its next peer goes on every time, and no image is ever torn.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, times};
use memlane::{Condvar, LockError, Locked, Mutex, MutexGuard, Options, OwnerId, Segment, Shareable, Until, WaitError};
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// Nothing takes as long that does not hang.
const HANG: Duration = Duration::from_secs(10);

#[derive(Shareable)]
#[repr(C)]
struct Handoff {
    offered: Condvar,
    answered: Condvar,
    /// For the parent to look at without the lock: images processed, and those of them that were torn.
    processed: AtomicU64,
    torn: AtomicU64,
    frame: Mutex<Frame>,
}

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    receiver: OwnerId,
    sender: OwnerId,
    /// The number of the image that is complete in `pixels`; 0 while it is written.
    complete: u64,
    /// The number of the last image that was processed.
    done: u64,
    pixels: [u8],
}

impl Frame {
    fn is_offered(&self) -> bool {
        self.complete == self.done + 1
    }
}

/// A death leaves nothing to repair: whole numbers say what is complete.
fn take(locked: Locked<'_, Frame>) -> MutexGuard<'_, Frame> {
    locked.or_repair(|_| ())
}

/// Every eight bytes of an image derive from its number and their place.
fn image(number: u64) -> impl Iterator<Item = [u8; 8]> {
    (0_u64..).map(move |index| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index).to_ne_bytes())
}

fn wait<'a>(condition: &Condvar, frame: MutexGuard<'a, Frame>, peer: OwnerId, until: impl Fn(&Frame) -> bool) {
    let time = Until::timeout(HANG);
    let time = if peer.is_nobody() { time } else { time.or_peer_lost(peer) };
    match condition.wait_while(frame, time, |frame| !until(frame)) {
        Ok(locked) => drop(take(locked)),
        // The second: the peer is lost or the time is over, and somebody else has the lock just now.
        Err(WaitError::PeerLost { .. } | WaitError::Lock(LockError::TimedOut { .. })) => {}
        Err(error) => panic!("{error}"),
    }
}

fn send(shared: &Segment<Handoff>) {
    loop {
        let mut frame = take(shared.frame.lock(shared).expect("the lock"));
        frame.sender = shared.region().owner();
        if !frame.is_offered() {
            frame.complete = 0;
            compiler_fence(Ordering::SeqCst);
            let number = frame.done + 1;
            for (bytes, word) in frame.pixels.chunks_exact_mut(8).zip(image(number)) {
                bytes.copy_from_slice(&word);
            }
            compiler_fence(Ordering::SeqCst);
            frame.complete = number;
        }
        // Also for an image that a killed sender completed: it may have died before it told anybody.
        shared.offered.notify_all();
        // A dead receiver is no peer to wait for; the next one notifies when it comes.
        let receiver = frame.receiver;
        let peer = if shared.region().is_alive(receiver) { receiver } else { OwnerId::NOBODY };
        wait(&shared.answered, frame, peer, |frame| !frame.is_offered() || frame.receiver != receiver);
    }
}

fn receive(shared: &Segment<Handoff>) {
    take(shared.frame.lock(shared).expect("the lock")).receiver = shared.region().owner();
    shared.answered.notify_all();
    loop {
        let mut frame = take(shared.frame.lock(shared).expect("the lock"));
        if frame.is_offered() {
            let whole = frame.pixels.chunks_exact(8).zip(image(frame.complete)).all(|(bytes, word)| bytes == word);
            shared.torn.fetch_add(u64::from(!whole), Ordering::Relaxed);
            frame.done = frame.complete;
            shared.processed.fetch_add(1, Ordering::Relaxed);
            shared.answered.notify_all();
        }
        let peer = frame.sender;
        let peer = if shared.region().is_alive(peer) { peer } else { OwnerId::NOBODY };
        wait(&shared.offered, frame, peer, Frame::is_offered);
    }
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let shared = Segment::<Handoff>::open(arguments[0].as_str()).expect("the parent's object");
    match role.as_str() {
        "send" => send(&shared),
        "receive" => receive(&shared),
        "hold" => {
            let _frame = take(shared.frame.lock(&shared).expect("the lock"));
            say("held");
            hear();
        }
        other => panic!("no role {other}"),
    }
}

/// Waits until one more image was processed than at `moment`; gives the time it took.
fn recover(shared: &Segment<Handoff>, moment: Instant, before: u64) -> Duration {
    while shared.processed.load(Ordering::Relaxed) <= before {
        assert!(moment.elapsed() < HANG, "nothing goes on after image {before}");
        std::thread::sleep(Duration::from_micros(100));
    }
    moment.elapsed()
}

fn soak(size: usize) {
    let kills = times(20, 200);
    let dir = Dir::new();
    let shared =
        Segment::<Handoff>::create(dir.name("handoff"), size, &Options::new(), |_| ()).expect("a fresh object");
    let start = |role: &str| spawn(dir.path(), role, &["handoff"]);
    let mut pair = [start("receive"), start("send")];
    let mut longest = [Duration::ZERO; 3];
    recover(&shared, Instant::now(), 0);
    let kill = |victim: &mut Child| {
        let moment = Instant::now();
        victim.kill();
        (moment, shared.processed.load(Ordering::Relaxed))
    };
    for round in 0..kills {
        for (victim, role) in ["receive", "send", "hold"].into_iter().enumerate() {
            std::thread::sleep(Duration::from_micros((round * 7919 + victim as u64 * 104_729) % 5_000));
            let (moment, before) = if role == "hold" {
                let mut holder = start(role);
                holder.expect("held");
                kill(&mut holder)
            } else {
                let killed = kill(&mut pair[victim]);
                pair[victim] = start(role);
                killed
            };
            longest[victim] = recover(&shared, moment, before).max(longest[victim]);
        }
    }
    let (processed, torn) = (shared.processed.load(Ordering::Relaxed), shared.torn.load(Ordering::Relaxed));
    println!(
        "{} KiB: {kills} receivers, {kills} senders, {kills} holders killed; {processed} images, {torn} torn; \
         longest recovery {:?}, {:?}, {:?}",
        size >> 10,
        longest[0],
        longest[1],
        longest[2]
    );
    assert_eq!(torn, 0);
    drop((pair, shared));
    // A killed process may still be there for a moment: the last to go takes the name only if it can.
    memlane::gc(Some(dir.path()), false).expect("the directory");
    assert!(dir.files().is_empty(), "left behind: {:?}", dir.files());
}

#[test]
fn kills_never_stop_or_tear_images_of_64_kib() {
    soak(64 << 10);
}

#[test]
fn kills_never_stop_or_tear_images_of_1_mib() {
    soak(1 << 20);
}
