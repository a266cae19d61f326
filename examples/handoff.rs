//! The classic hand-off between two processes: one builds an image in shared memory, in place, and waits until the other
//! says that it processed it. Kill either of them: the other says who died. A receiver that is started instead gets the
//! image that the dead one had.
//!
//! `cargo run --release --example handoff` starts both; `-- send NAME` and `-- receive NAME` start one.

use memlane::{ChannelOptions, Image, Name, Outcome, PixelFormat::Rgb8, Receiver, RecvError, Sender};
use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Duration;

const FRAMES: u64 = 100;
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

fn send(name: &Name) -> Result<(), Box<dyn Error>> {
    let options = ChannelOptions::new().max_message(Image::size(WIDTH, HEIGHT, Rgb8)).slots(1).receivers(1);
    let sender = Sender::<Image>::create(name, &options)?;
    for number in 1..=FRAMES {
        let mut image = sender.loan_image(WIDTH, HEIGHT, Rgb8)?;
        image.pixels.fill(number as u8); // the picture, written where the receiver reads it
        sender.wait_for_receivers(1, PATIENCE)?;
        let ticket = image.send()?;
        for handled in ticket.wait(PATIENCE)? {
            if handled.outcome == Outcome::Died {
                let who = handled.who.map_or("the receiver".into(), |who| who.to_string());
                eprintln!("{who} died before it had processed image {number}; the next receiver gets it");
            }
        }
        ticket.wait_processed(PATIENCE)?;
    }
    Ok(())
}

fn receive(name: &Name) -> Result<(), Box<dyn Error>> {
    let mut received = 0;
    for image in &mut Receiver::<Image>::wait_for(name, PATIENCE)? {
        let image = match image {
            Err(RecvError::SenderDied { sender, .. }) => {
                let who = sender.map_or("the sender".into(), |who| who.to_string());
                return Err(format!("{who} died after image {received}").into());
            }
            image => image?,
        };
        let expected = image.sequence() as u8;
        let (_, mut rows) = image.rows().ok_or("no image")?;
        if !rows.all(|row| row.iter().all(|byte| *byte == expected)) {
            return Err("a torn image".into()); // the processing: every byte, in place
        }
        received += 1;
    } // dropping the image says that it was processed
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
    let result = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    result.map_or_else(
        |error| {
            eprintln!("handoff: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
