//! Pictures through a filter in Python and back, in place all the way: this program sends to `NAME-in`, the filter sends
//! on to `NAME-out`, and every byte that comes back is checked. If the filter dies, this program says so.
//!
//! `cargo run --release --example filter -- crates/memlane-python/examples/filter.py` starts both. The interpreter is
//! what the variable PYTHON names, or else python3; it needs the package memlane.

use memlane::{ChannelOptions, Image, Name, PixelFormat::Rgb8, Receiver, RecvError, Sender};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

const PICTURES: u32 = 100;
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a picture has at one of its bytes.
fn drawn(number: u32, index: usize) -> u8 {
    (index ^ (index >> 9) ^ (number as usize * 37)) as u8
}

/// Waits until the filter has opened its channel.
fn find(name: &Name, filter: &mut Child) -> Result<Receiver<Image>, Box<dyn std::error::Error>> {
    let start = Instant::now();
    loop {
        match Receiver::wait_for(name, Some(Duration::from_millis(100))) {
            Err(memlane::Error::TimedOut { .. }) if start.elapsed() < PATIENCE => {}
            found => return Ok(found?),
        }
        if let Some(status) = filter.try_wait()? {
            return Err(format!("the filter has ended with {status} and never opened '{name}'").into());
        }
    }
}

fn run(script: &str) -> Result<(), Box<dyn std::error::Error>> {
    let name = Name::unique("filter")?;
    let [there, back] = ["in", "out"].map(|end| format!("{}-{end}", name.as_str()));
    let options = ChannelOptions::new().max_message(Image::size(WIDTH, HEIGHT, Rgb8));
    let sender = Sender::<Image>::create(there.as_str(), &options)?;
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let filter = Command::new(&python).args([script, &there, &back, "--filter", "invert"]).spawn();
    let mut filter = filter.map_err(|error| format!("cannot start {python}: {error}"))?;
    let mut receiver = find(&Name::new(&back)?, &mut filter)?;

    let mut times = Vec::new();
    for number in 1..=PICTURES {
        let mut picture = sender.loan_image(WIDTH, HEIGHT, Rgb8)?;
        picture.pixels.iter_mut().enumerate().for_each(|(index, byte)| *byte = drawn(number, index));
        let start = Instant::now();
        picture.send()?;
        let inverted = receiver.recv_timeout(PATIENCE).map_err(|error| format!("picture {number}: {error}"))?;
        times.push(start.elapsed());
        let (format, rows) = inverted.rows().ok_or("no image")?;
        let as_sent = (inverted.width, inverted.height, format) == (WIDTH, HEIGHT, Rgb8);
        if !as_sent || !rows.flatten().enumerate().all(|(index, byte)| *byte == 255 - drawn(number, index)) {
            return Err(format!("picture {number} came back, but not inverted").into());
        }
    }
    drop(sender); // the filter is told that there is no more, and ends, too
    match receiver.recv_timeout(PATIENCE) {
        Err(RecvError::Closed { .. }) if filter.wait()?.success() => {}
        other => return Err(format!("the filter was to end in good order: {other:?}").into()),
    }
    let (_, median, _) = times.select_nth_unstable(PICTURES as usize / 2);
    println!("{PICTURES} pictures of {WIDTH}x{HEIGHT} inverted in Python, every byte checked; median {median:.0?}");
    Ok(())
}

fn main() -> ExitCode {
    let script = std::env::args().nth(1).ok_or("say which filter: -- crates/memlane-python/examples/filter.py");
    let result = script.map_err(Into::into).and_then(|script| run(&script));
    if let Err(error) = &result {
        eprintln!("filter: {error}");
    }
    ExitCode::from(u8::from(result.is_err()))
}
