//! `memlane demo`: two real processes, moving pictures, every byte verified.

use crate::args::{Demo, DemoReceiver};
use crate::failure::Failure;
use crate::handoff::{Event, Patience, Receiver, Sender};
use crate::picture::Source;
use crate::report::{Bytes, Summary};
use crate::stop::{ignore, stopped};
use indicatif::{ProgressBar, ProgressStyle};
use memlane::Name;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DRAWN_FRAMES: u64 = 300;

/// How long the other process of the demo may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The sending process.
pub(crate) fn run(arguments: &Demo) -> Result<(), Failure> {
    let sources = sources(&arguments.images)?;
    let count = arguments.count.unwrap_or(match arguments.images.len() {
        0 => DRAWN_FRAMES,
        images => images as u64,
    });
    let name = Name::unique("demo")?;
    let sender = Sender::create(&name, sources.iter().map(Source::size).max().unwrap_or(0))?;
    let mut receiver = OtherProcess::start(&name, &arguments.images)?;
    if !arguments.json && std::io::stdout().is_terminal() {
        println!("pid {} sends to pid {} through shared memory", std::process::id(), receiver.pid());
    }
    sender.wait_for_receiver(Patience::new(Some(PATIENCE)))?;
    let bar = progress(count, arguments.json);
    let (mut latencies, mut bytes, mut verified, mut lost) = (Vec::new(), 0, true, 0);
    let start = Instant::now();
    for (number, source) in (0..count).zip(sources.iter().cycle()) {
        if stopped() {
            break;
        }
        let delivered = sender.hand_over(source, number, Patience::new(Some(PATIENCE)), |who| {
            lost += 1;
            let who = who.map_or("the receiver".into(), |who| who.to_string());
            receiver = OtherProcess::start(&name, &arguments.images)?;
            bar.suspend(|| eprintln!("memlane: {who} is dead; pid {} gets its frame", receiver.pid()));
            Ok(())
        });
        let delivered = match delivered {
            Err(_) if stopped() => break,
            delivered => delivered?,
        };
        latencies.push(delivered.latency);
        bytes += source.size() as u64;
        verified &= delivered.good;
        bar.inc(1);
        bar.set_message(format!("{}/s", Bytes((bytes as f64 / start.elapsed().as_secs_f64()) as u64)));
    }
    let summary = Summary::new(&mut latencies, bytes, start.elapsed(), verified, lost);
    bar.finish_and_clear();
    drop(sender);
    receiver.end();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&summary).map_err(Failure::failed)?)?;
    } else {
        writeln!(out, "{summary}")?;
    }
    if verified { Ok(()) } else { Err(Failure::failed("some frames did not arrive as they were sent")) }
}

fn sources(images: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if images.is_empty() { Ok(vec![Source::drawn()]) } else { images.iter().map(|path| Source::file(path)).collect() }
}

fn progress(count: u64, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} frames  {msg}");
    ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The receiving process, as its parent sees it.
struct OtherProcess(Child);

impl OtherProcess {
    fn start(name: &Name, images: &[PathBuf]) -> Result<Self, Failure> {
        let start = |error| Failure::failed(format!("cannot start the receiving process: {error}"));
        let program = std::env::current_exe().map_err(start)?;
        let child = Command::new(program)
            .args(["demo-receiver", "--"])
            .arg(name.as_str())
            .args(images)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(start)?;
        Ok(Self(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// It ends by itself when the sender is done.
    fn end(&mut self) {
        let _ = self.0.wait();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The receiving process: makes each picture itself and compares. What it finds goes back with the frame.
pub(crate) fn receive(arguments: &DemoReceiver) -> Result<(), Failure> {
    ignore(); // Ctrl-C goes to both processes; the sender ends this one in good order
    let sources = sources(&arguments.images)?;
    let name = Name::new(&arguments.name)?;
    let Ok(mut receiver) = Receiver::attach(&name, Patience::new(Some(PATIENCE)))? else { return Ok(()) };
    let mut expected = Vec::new();
    loop {
        match receiver.wait(Patience::new(Some(PATIENCE)))? {
            Event::There => {}
            Event::Lost(who) => {
                let who = who.map_or("the sender".into(), |who| who.to_string());
                eprintln!("memlane: {who} is dead; its receiver ends, and nothing is left behind");
                return Ok(());
            }
            Event::TimedOut(_) | Event::Retired | Event::Stopped => return Ok(()),
        }
        let received = receiver.receive(|image| {
            let number = image.sequence - 1;
            let source = &sources[(number % sources.len() as u64) as usize];
            expected.resize(source.size(), 0);
            source.fill(number, &mut expected)?;
            Ok((image.shape == source.shape() && image.pixels == expected, ()))
        })?;
        if received.is_none() {
            return Ok(());
        }
    }
}
