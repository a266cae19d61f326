//! The classic hand-off, two processes: one puts an image into shared memory in place and waits until the other has
//! processed it. Either may be killed at any instant; the other says so and goes on.
//!
//! Run `cargo run --release --example handoff`: it starts its own receiver.

use memlane::{Condvar, Locked, Mutex, MutexGuard, Name, Options, OwnerId, Segment, Shareable, Until};
use std::error::Error;
use std::process::Command;
use std::time::Duration;

const FRAMES: u64 = 100;
const SIZE: usize = 640 * 480 * 3;
const PATIENCE: Duration = Duration::from_secs(5);

/// Who waits for what. All-zero is a valid start: nothing to process, nobody there.
#[derive(Shareable)]
#[repr(C)]
struct Handoff {
    ready: Condvar,
    processed: Condvar,
    frame: Mutex<Frame>,
}

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    /// Goes up with every image; `done` follows it when the image was processed.
    sequence: u64,
    done: u64,
    receiver: OwnerId,
    width: u32,
    height: u32,
    pixels: [u8],
}

/// A frame whose writer or reader died: forget the unfinished image, the sequence numbers are whole words.
fn repair(frame: &mut Frame) {
    frame.sequence = frame.done;
}

fn take<'a>(locked: Locked<'a, Frame>) -> MutexGuard<'a, Frame> {
    locked.or_repair(repair)
}

fn send(name: &Name) -> Result<(), Box<dyn Error>> {
    let shared = Segment::<Handoff>::create(name, SIZE, &Options::new(), |_| ())?;
    let mut child = Command::new(std::env::current_exe()?).arg(name.as_str()).spawn()?;

    for number in 1..=FRAMES {
        let mut frame = take(shared.frame.lock(&shared)?);
        (frame.width, frame.height) = (640, 480);
        frame.pixels.fill(number as u8); // the image, written where the receiver reads it
        frame.sequence += 1;
        frame.unlock();
        shared.ready.notify_one();
        let frame = take(shared.frame.lock(&shared)?);
        let until = Until::timeout(PATIENCE);
        let until = if frame.receiver.is_nobody() { until } else { until.or_peer_lost(frame.receiver) };
        take(shared.processed.wait_while(frame, until, |frame| frame.done < frame.sequence)?).unlock();
    }
    child.wait()?;
    println!("{FRAMES} frames of {SIZE} bytes handed over and processed");
    Ok(())
}

fn receive(name: &Name) -> Result<(), Box<dyn Error>> {
    let shared = Segment::<Handoff>::wait_for(name, Some(PATIENCE))?;
    let mut frame = take(shared.frame.lock(&shared)?);
    frame.receiver = shared.region().owner();
    loop {
        frame = take(shared.ready.wait_while(frame, Until::timeout(PATIENCE), |frame| frame.done == frame.sequence)?);
        let expected = (frame.done + 1) as u8;
        assert!(frame.pixels.iter().all(|byte| *byte == expected), "a torn frame"); // the processing, in place
        frame.done = frame.sequence;
        let last = frame.done == FRAMES;
        frame.unlock();
        shared.processed.notify_one();
        if last {
            return Ok(());
        }
        frame = take(shared.frame.lock(&shared)?);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(name) => receive(&Name::new(&name)?),
        None => send(&Name::unique("handoff")?),
    }
}
