//! `memlane demo`: two real processes, moving pictures, every byte verified.

use crate::args::{Demo, DemoReceiver};
use crate::failure::Failure;
use crate::handoff::{Absence, Event, Patience, Receiver, Sender};
use crate::picture::Source;
use crate::report::{Bytes, Summary, called, tell};
use crate::stop::{ignore, stopped};
use indicatif::{ProgressBar, ProgressStyle};
use memlane::{Error, Name, SharedMemory};
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
    let sender = Sender::create(&name, sources.iter().map(Source::size).max().unwrap_or(0), patience())?;
    let mut receiver = OtherProcess::start(&name, &arguments.images)?;
    if !arguments.json && std::io::stdout().is_terminal() {
        tell(format!("pid {} sends to pid {} through shared memory", std::process::id(), receiver.pid()));
    }
    let bar = progress(count, arguments.json);
    let summary = match hand_over_all(&sender, &sources, count, &mut receiver, &bar) {
        Err(_) if stopped() => None,
        result => Some(result?),
    };
    bar.finish_and_clear();
    drop(sender);
    receiver.end();
    let Some(summary) = summary else {
        tell("interrupted before the first frame");
        return Ok(());
    };
    if summary.frames < count {
        tell(format!("interrupted after {} of {count} frames", summary.frames));
    }
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&summary).map_err(Failure::failed)?)?;
    } else {
        writeln!(out, "{summary}")?;
    }
    if summary.verified { Ok(()) } else { Err(Failure::failed("some frames did not arrive as they were sent")) }
}

/// Hands `count` pictures over, or as many as there is time for until Ctrl-C.
fn hand_over_all(
    sender: &Sender,
    sources: &[Source],
    count: u64,
    receiver: &mut OtherProcess,
    bar: &ProgressBar,
) -> Result<Summary, Failure> {
    let (mut latencies, mut bytes, mut verified, mut lost) = (Vec::new(), 0, true, 0);
    let mut absent = |absence: Absence| {
        if matches!(absence, Absence::Killed(_)) {
            receiver.end(); // its locks are gone a moment before its process is
        }
        // It may have been killed before it said that it is there, so it is its process that counts.
        if let Some(death) = receiver.replace_if_dead()? {
            lost += 1;
            bar.suspend(|| tell(death));
        }
        Ok(())
    };
    sender.wait_for_receiver(patience(), &mut absent)?;
    let start = Instant::now();
    for (number, source) in (0..count).zip(sources.iter().cycle()) {
        let delivered = match sender.hand_over(source, number, patience(), &mut absent) {
            Err(_) if stopped() => break,
            delivered => delivered?,
        };
        latencies.push(delivered.latency);
        bytes += source.size() as u64;
        verified &= delivered.good;
        bar.inc(1);
        bar.set_message(format!("{}/s", Bytes((bytes as f64 / start.elapsed().as_secs_f64()) as u64)));
        if stopped() {
            break;
        }
    }
    Ok(Summary::new(&mut latencies, bytes, start.elapsed(), verified, lost))
}

fn patience() -> Patience {
    Patience::new(Some(PATIENCE))
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
struct OtherProcess {
    command: Command,
    child: Child,
}

impl OtherProcess {
    fn start(name: &Name, images: &[PathBuf]) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(cannot_start)?;
        let mut command = Command::new(program);
        command.args(["demo-receiver", "--", name.as_str()]).args(images).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(cannot_start)?;
        Ok(Self { command, child })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// If the process was killed, starts another, and says so. One that failed by itself would fail again.
    fn replace_if_dead(&mut self) -> Result<Option<String>, Failure> {
        let Some(status) = self.child.try_wait().map_err(cannot_start)? else { return Ok(None) };
        let dead = self.pid();
        if let Some(code) = status.code().filter(|code| *code != 0) {
            return Err(Failure::failed(format!("the receiving process, pid {dead}, failed with exit code {code}")));
        }
        self.child = self.command.spawn().map_err(cannot_start)?;
        Ok(Some(format!("the receiving process, pid {dead}, is dead; pid {} gets its frame", self.pid())))
    }

    /// It ends by itself when the sender is done. If it does not, it is stopped, and is killed when this is dropped.
    fn end(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::failed(format!("cannot start the receiving process: {error}"))
}

/// The receiving process: makes each picture itself and compares. What it finds goes back with the frame.
pub(crate) fn receive(arguments: &DemoReceiver) -> Result<(), Failure> {
    ignore(); // Ctrl-C goes to both processes; the sender ends this one in good order
    let sources = sources(&arguments.images)?;
    let name = Name::new(&arguments.name)?;
    // The sender made the object before it started this process: where there is none, the sender is dead.
    let object = match SharedMemory::open(&name) {
        Err(Error::NotFound { .. }) => return Ok(()),
        object => object?,
    };
    let Ok(mut receiver) = Receiver::attach(&name, patience())? else { return Ok(()) };
    drop(object);
    let mut expected = Vec::new();
    loop {
        match receiver.wait(patience())? {
            Event::There => {}
            Event::Lost(who) => {
                let who = called(who, "the sender");
                tell(format!("{who}, which ran the demo, is dead; its receiver ends, and nothing is left behind"));
                return Ok(());
            }
            Event::Done | Event::TimedOut(_) | Event::Retired | Event::Stopped => return Ok(()),
        }
        receiver.receive(patience(), |image| {
            let number = image.sequence.wrapping_sub(1);
            let source = &sources[(number % sources.len() as u64) as usize];
            expected.resize(source.size(), 0);
            source.fill(number, &mut expected)?;
            Ok((image.shape == source.shape() && image.pixels == expected, ()))
        })?;
    }
}
