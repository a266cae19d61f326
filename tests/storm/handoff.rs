//! Images from a sender to a receiver, and whoever else holds the lock of the frame.

use crate::board::{HANG, Me};
use memlane::{Condvar, Mutex, MutexGuard, OwnerId, Segment, Shareable, Until, WaitError};
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

#[derive(Shareable)]
#[repr(C)]
pub struct Handoff {
    offered: Condvar,
    answered: Condvar,
    pub frame: Mutex<Frame>,
}

#[derive(Shareable)]
#[repr(C)]
pub struct Frame {
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

/// Every eight bytes of an image derive from its number and their place.
fn image(number: u64) -> impl Iterator<Item = [u8; 8]> {
    (0_u64..).map(move |index| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index).to_ne_bytes())
}

fn lock<'a>(me: &Me, shared: &'a Segment<Handoff>) -> MutexGuard<'a, Frame> {
    me.take(shared.frame.lock(shared).expect("the lock"), "owner died: frame")
}

fn wait(
    me: &Me,
    shared: &Segment<Handoff>,
    condition: &Condvar,
    frame: MutexGuard<'_, Frame>,
    peer: OwnerId,
    until: impl Fn(&Frame) -> bool,
) {
    // A dead peer is none to wait for; the next one notifies when it comes.
    let peer = if shared.region().is_alive(peer) { peer } else { OwnerId::NOBODY };
    match condition.wait_while(frame, Until::timeout(HANG).or_peer_lost(peer), |frame| !until(frame)) {
        Ok(locked) => drop(me.take(locked, "owner died: frame")),
        Err(WaitError::PeerLost { .. }) => {
            assert!(!shared.region().is_alive(peer), "{peer:?} is lost, and alive");
            me.count("peer lost");
        }
        Err(error) => panic!("{error}"),
    }
}

pub fn send(mut me: Me, name: &str) {
    let shared = Segment::<Handoff>::open(name).expect("the parent's object");
    loop {
        let mut frame = lock(&me, &shared);
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
            me.turn();
        }
        // Also for an image that a killed sender completed: it may have died before it told anybody.
        shared.offered.notify_all();
        let receiver = frame.receiver;
        let until = |frame: &Frame| !frame.is_offered() || frame.receiver != receiver;
        wait(&me, &shared, &shared.answered, frame, receiver, until);
        me.work(Duration::from_millis(1));
    }
}

pub fn receive(mut me: Me, name: &str) {
    let shared = Segment::<Handoff>::open(name).expect("the parent's object");
    lock(&me, &shared).receiver = shared.region().owner();
    shared.answered.notify_all();
    loop {
        let mut frame = lock(&me, &shared);
        if frame.is_offered() {
            let whole = frame.pixels.chunks_exact(8).zip(image(frame.complete)).all(|(bytes, word)| bytes == word);
            assert!(whole, "image {} is torn", frame.complete);
            frame.done = frame.complete;
            shared.answered.notify_all();
            me.turn();
        }
        let sender = frame.sender;
        wait(&me, &shared, &shared.offered, frame, sender, |frame| frame.is_offered() || frame.sender != sender);
        me.work(Duration::from_millis(1));
    }
}

/// Is in the way.
pub fn hold(mut me: Me, name: &str) {
    let shared = Segment::<Handoff>::open(name).expect("the parent's object");
    loop {
        let frame = lock(&me, &shared);
        me.work(Duration::from_millis(2));
        drop(frame);
        me.turn();
        me.work(Duration::from_millis(10));
    }
}
