//! A type of your own, with a lock and a condition in it: `cargo run --example locks -- send`, and the same with `receive`.

use memlane::{Bool, Condvar, Mutex, Options, Segment, Shareable, Until};
use std::time::Duration;

#[derive(Shareable)]
#[repr(C)]
struct Camera {
    changed: Condvar,
    frame: Mutex<Frame>,
}

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    number: u64,
    taken: Bool,
    pixels: [u8], // as many as the creator says
}

/// One process. It stays until the frame was taken: an object goes with its last user, unless it is to be kept.
fn send(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let camera = Segment::<Camera>::create(name, 1920 * 1080 * 3, &Options::new(), |_| ())?;
    let mut frame = camera.frame.lock(&camera)?.or_repair(|frame| frame.number = 0);
    frame.pixels.fill(128); // in place: these bytes are in shared memory
    frame.number += 1;
    camera.changed.notify_all();
    let until = Until::timeout(Duration::from_secs(5));
    let _taken = camera.changed.wait_while(frame, until, |frame| !frame.taken.is_true())?;
    Ok(())
}

/// Another. Either may start first.
fn receive(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let camera = Segment::<Camera>::wait_for(name, Some(Duration::from_secs(5)))?;
    let frame = camera.frame.lock(&camera)?.or_repair(|frame| frame.number = 0);
    let until = Until::timeout(Duration::from_secs(5));
    let frame = camera.changed.wait_while(frame, until, |frame| frame.number == 0)?;
    let mut frame = frame.or_repair(|frame| frame.number = 0);
    println!("frame {} of {} bytes", frame.number, frame.pixels.len());
    frame.taken = Bool::TRUE;
    camera.changed.notify_all();
    Ok(())
}

fn main() {
    let result = match std::env::args().nth(1).as_deref() {
        Some("send") => send("cam0"),
        _ => receive("cam0"),
    };
    if let Err(error) = result {
        eprintln!("camera: {error}");
    }
}
