//! The two programs of README.md: `cargo run --example camera -- send`, and the same with `receive`, once or twice.

use memlane::{ChannelOptions, Image, PixelFormat, Receiver, Sender};
use std::time::Duration;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// One process. It fills each frame in place, and waits until everybody has processed it.
fn send(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (width, height, format) = (1920, 1080, PixelFormat::Rgb8);
    let options = ChannelOptions::new().max_message(Image::size(width, height, format));
    let camera = Sender::<Image>::create(name, &options)?;
    camera.wait_for_receivers(1, PATIENCE)?;
    for brightness in [64, 128, 255] {
        let mut frame = camera.loan_image(width, height, format)?; // never waits, and copies nothing
        frame.pixels.fill(brightness);
        for receiver in frame.send()?.wait(PATIENCE)? {
            println!("{:?}", receiver.outcome); // Processed, or Died, with its pid and name
        }
    }
    Ok(())
}

/// Any number of others. Either side may start first.
fn receive(name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut camera = Receiver::<Image>::wait_for(name, PATIENCE)?;
    for frame in &mut camera {
        let frame = frame?; // in place; it stays as it is while it is held
        println!("frame {}: {} bytes of {}", frame.sequence(), frame.pixels.len(), frame.pixels[0]);
    } // dropping it says that it was processed
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
