//! The classic hand-off between two processes: one builds an image in shared memory, in place, wakes the other and
//! waits until that one says that it processed it. Kill either of them: the other says who died.
//!
//! `cargo run --release --example handoff` starts both; `-- send NAME` and `-- receive NAME` start one.

use memlane::{Bool, Condvar, Locked, Mutex, MutexGuard, Name, Options, OwnerId, Segment, Shareable, Until};
use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

const FRAMES: u64 = 100;
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const RGB8: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// The whole of what two programs share. Zeroed bytes are its beginning: nothing ready, nobody there.
#[derive(Shareable)]
#[repr(C)]
struct Handoff {
    image_ready: Condvar,
    image_processed: Condvar,
    image: Mutex<Image>,
}

#[derive(Shareable)]
#[repr(C)]
struct Image {
    sender: OwnerId,
    receiver: OwnerId,
    sequence: u64,
    size: u64,
    width: u32,
    height: u32,
    stride: u32,
    pixel_format: u32,
    ready: Bool,
    processed: Bool,
    pixels: [u8],
}

/// Who holds the lock may have died: `ready` is written last, so an image that says so is whole, and any other is
/// built anew.
fn whole(locked: Locked<'_, Image>) -> MutexGuard<'_, Image> {
    locked.or_repair(|image| image.processed = Bool::new(image.ready.is_true() && image.processed.is_true()))
}

fn send(name: &Name) -> Result<(), Box<dyn Error>> {
    let size = (WIDTH * HEIGHT * 3) as usize;
    let shared = Segment::<Handoff>::create(name, size, &Options::new(), |_| ())?;
    for number in 1..=FRAMES {
        let mut image = whole(shared.image.lock(&shared)?);
        image.ready = Bool::FALSE;
        compiler_fence(Ordering::SeqCst); // a death from here to the other fence is seen as "not ready"
        image.sender = shared.region().owner();
        (image.width, image.height, image.stride, image.pixel_format) = (WIDTH, HEIGHT, WIDTH * 3, RGB8);
        (image.sequence, image.size, image.processed) = (number, size as u64, Bool::FALSE);
        image.pixels.fill(number as u8); // the picture, written where the receiver reads it
        compiler_fence(Ordering::SeqCst);
        image.ready = Bool::TRUE;
        image.unlock();
        shared.image_ready.notify_one();

        let mut image = whole(shared.image.lock(&shared)?);
        while !image.processed.is_true() {
            let until = Until::timeout(PATIENCE).or_peer_lost(image.receiver); // who may be nobody yet
            image = whole(shared.image_processed.wait_while(image, until, |image| !image.processed.is_true())?);
        }
    }
    Ok(shared.region().remove_name()?)
}

fn receive(name: &Name) -> Result<(), Box<dyn Error>> {
    let shared = Segment::<Handoff>::wait_for(name, Some(PATIENCE))?;
    let mut received = 0;
    while received < FRAMES {
        let mut image = whole(shared.image.lock(&shared)?);
        image.receiver = shared.region().owner();
        let until = Until::timeout(PATIENCE).or_peer_lost(image.sender);
        let waits = |image: &mut Image| !image.ready.is_true() || image.processed.is_true();
        let mut image = whole(shared.image_ready.wait_while(image, until, waits)?);
        let expected = image.sequence as u8;
        if !image.pixels.iter().all(|byte| *byte == expected) {
            return Err("a torn image".into()); // the processing: every byte, in place
        }
        (received, image.processed) = (image.sequence, Bool::TRUE);
        image.unlock();
        shared.image_processed.notify_one();
    }
    println!("{received} images of {WIDTH}x{HEIGHT} handed over in place, every byte as it was sent");
    Ok(())
}

fn run(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    match arguments {
        ["send", name] => send(&Name::new(name)?),
        ["receive", name] => receive(&Name::new(name)?),
        _ => {
            let name = Name::unique("handoff")?;
            let mut receiver = Command::new(std::env::current_exe()?).args(["receive", name.as_str()]).spawn()?;
            send(&name)?;
            if receiver.wait()?.success() { Ok(()) } else { Err("the receiver failed".into()) }
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handoff: {error}"); // the message for people; returned from main, Rust would show `Debug`
            ExitCode::FAILURE
        }
    }
}
