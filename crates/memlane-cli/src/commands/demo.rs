//! `memlane demo`: two real processes, moving pictures, every byte verified.

use crate::args::{Demo, DemoReceiver};
use crate::blocks::{self, Canvas};
use crate::failure::Failure;
use crate::picture::{Source, pixels};
use crate::report::{Bytes, Summary, called, tell};
use crate::stop::{Patience, ignore, stopped};
use indicatif::{ProgressBar, ProgressStyle};
use memlane::{ChannelOptions, Error, Image, Message, Name, Receiver, RecvError, SendError, Sender, Shareable};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DRAWN_FRAMES: u64 = 300;

/// How long the other process of the demo may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the receiving process says of each picture, by a channel of its own.
#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
struct Verdict {
    sequence: u64,
    /// From sending it to having it.
    latency_ns: u64,
    /// 1 if every byte was as it should be.
    good: u64,
}

/// The name of the channel of the verdicts on what comes by `name`.
fn verdicts_of(name: &Name) -> Result<Name, Error> {
    Name::new(&format!("{name}-verdicts"))
}

/// The sending process.
pub(crate) fn run(arguments: &Demo) -> Result<(), Failure> {
    let sources = sources(&arguments.images)?;
    let count = arguments.count.unwrap_or(match arguments.images.len() {
        0 => DRAWN_FRAMES,
        images => images as u64,
    });
    let name = Name::unique("demo")?;
    let mut ends = Ends::create(&name, &sources)?;
    let mut receiver = OtherProcess::start(&name, &arguments.images)?;
    if !arguments.json && std::io::stdout().is_terminal() {
        tell(format!("pid {} sends to pid {} through shared memory", std::process::id(), receiver.pid()));
    }
    let bar = progress(count, arguments.json);
    let summary = match send_all(&mut ends, &sources, count, &mut receiver, &bar) {
        Err(_) if stopped() => None,
        result => Some(result?),
    };
    bar.finish_and_clear();
    drop(ends);
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
        if blocks::are_shown() && summary.frames > 0 {
            write!(out, "{}", drawn(&sources, summary.frames - 1)?)?;
        }
        writeln!(out, "{summary}")?;
    }
    if summary.verified { Ok(()) } else { Err(Failure::failed("some frames did not arrive as they were sent")) }
}

/// What the sending process has of the two channels.
struct Ends {
    pictures: Sender<Image>,
    verdicts: Receiver<Verdict>,
    /// Channels are made by senders; this one sends nothing.
    maker: Sender<Verdict>,
}

impl Ends {
    fn create(name: &Name, sources: &[Source]) -> Result<Self, Failure> {
        let longest = sources.iter().map(|source| source.shape().message_size()).max().unwrap_or(0);
        // Two slots: the next picture does not wait until this one was let go, after the verdict. Two places: a successor
        // does not wait for that of a dead one.
        let options = ChannelOptions::new().max_message(longest).slots(2).receivers(2).claims(1).loans(1);
        let pictures = Sender::create(name, &options)?;
        let verdicts = verdicts_of(name)?;
        let maker = Sender::create(&verdicts, &ChannelOptions::new().senders(2).receivers(1))?;
        Ok(Self { pictures, verdicts: Receiver::open(&verdicts)?, maker })
    }
}

impl Drop for Ends {
    /// Nothing is left behind, whatever the other process does.
    fn drop(&mut self) {
        let _ = self.pictures.remove_name();
        let _ = self.maker.remove_name();
    }
}

/// Sends `count` pictures, each when the one before was found good or bad, or as many as there is time for until Ctrl-C.
fn send_all(
    ends: &mut Ends,
    sources: &[Source],
    count: u64,
    receiver: &mut OtherProcess,
    bar: &ProgressBar,
) -> Result<Summary, Failure> {
    let (mut latencies, mut bytes, mut verified, mut lost) = (Vec::new(), 0, true, 0);
    let mut start = Instant::now();
    for (number, source) in (0..count).zip(sources.iter().cycle()) {
        let shape = source.shape();
        let mut picture = ends.pictures.loan_image(shape.width, shape.height, shape.format)?;
        source.fill(number, &mut picture.pixels)?;
        if number == 0 {
            receiver.until(&mut lost, bar, |piece| match ends.pictures.wait_for_receivers(1, Some(piece)) {
                Ok(()) => Ok(Some(())),
                Err(SendError::TooFew { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            })?;
            start = Instant::now();
        }
        let sequence = picture.send().map_err(SendError::from)?.sequence();
        let verdict = receiver.until(&mut lost, bar, |piece| match ends.verdicts.recv_timeout(piece) {
            // After a death the next process may say again what was said already.
            Ok(verdict) => Ok(Some(*verdict).filter(|verdict| verdict.sequence == sequence)),
            Err(RecvError::TimedOut { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        });
        let verdict = match verdict {
            Err(_) if stopped() => break,
            verdict => verdict?,
        };
        latencies.push(Duration::from_nanos(verdict.latency_ns));
        bytes += shape.size();
        verified &= verdict.good == 1;
        bar.inc(1);
        bar.set_message(format!("{}/s", Bytes((bytes as f64 / start.elapsed().as_secs_f64()) as u64)));
        if stopped() {
            break;
        }
    }
    Ok(Summary::new(&mut latencies, bytes, start.elapsed(), verified, lost))
}

/// A small picture of the one that has `number`.
fn drawn(sources: &[Source], number: u64) -> Result<String, Failure> {
    let source = &sources[(number % sources.len() as u64) as usize];
    let shape = source.shape();
    let mut pixels = vec![0; shape.size() as usize];
    source.fill(number, &mut pixels)?;
    let row = shape.width as usize * shape.format.pixel_size() as usize;
    let rows: Vec<&[u8]> = pixels.chunks_exact(row.max(1)).collect();
    Ok(blocks::of_rows(shape.width, shape.format, &rows, Canvas::of_terminal()))
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

    /// Waits for an answer of the process, as long as it has not been silent for too long; if it was killed, for that of
    /// another one.
    fn until<R>(
        &mut self,
        lost: &mut u64,
        bar: &ProgressBar,
        mut answer: impl FnMut(Duration) -> Result<Option<R>, Failure>,
    ) -> Result<R, Failure> {
        let mut patience = Patience::new(Some(PATIENCE));
        loop {
            if let Some(answer) = answer(patience.piece())? {
                return Ok(answer);
            }
            if let Some(death) = self.replace_if_dead()? {
                *lost += 1;
                bar.suspend(|| tell(death));
                patience = Patience::new(Some(PATIENCE));
            }
            if stopped() {
                return Err(Failure::failed("interrupted"));
            }
            if patience.is_over() {
                let pid = self.pid();
                return Err(Failure::timed_out(format!(
                    "the receiving process, pid {pid}, has said nothing for {PATIENCE:?}: look at it, or try again"
                )));
            }
        }
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

/// The receiving process: makes each picture itself and compares.
pub(crate) fn receive(arguments: &DemoReceiver) -> Result<(), Failure> {
    ignore(); // Ctrl-C goes to both processes; the sender ends this one in good order
    let sources = sources(&arguments.images)?;
    let name = Name::new(&arguments.name)?;
    // The sender made both before it started this process: where there is none, the sender is dead. Both are looked for,
    // so that what a dead one left goes.
    let (verdicts, pictures) = (Sender::<Verdict>::open(verdicts_of(&name)?), Receiver::<Image>::open(&name));
    let (verdicts, mut pictures) = match (verdicts, pictures) {
        (Err(Error::NotFound { .. }), _) | (_, Err(Error::NotFound { .. })) => return Ok(()),
        (verdicts, pictures) => (verdicts?, pictures?),
    };
    let mut expected = Vec::new();
    for picture in &mut pictures {
        let picture = match picture {
            Ok(picture) => picture,
            Err(RecvError::SenderDied { sender, .. }) => {
                let who = called(sender, "the sender");
                tell(format!("{who}, which ran the demo, is dead; its receiver ends, and nothing is left behind"));
                return Ok(());
            }
            Err(RecvError::Unusable(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let latency_ns = picture.age().map_or(0, |age| age.as_nanos() as u64);
        let good = is_as_made(&picture, &sources, &mut expected)?;
        let verdict = Verdict { sequence: picture.sequence(), latency_ns, good: good.into() };
        // If nobody is there to hear it, that is said in the next round.
        let _ = verdicts.send_copy(&verdict);
    }
    Ok(())
}

/// Whether a picture is, byte for byte, what its number says.
fn is_as_made(picture: &Message<Image>, sources: &[Source], expected: &mut Vec<u8>) -> Result<bool, Failure> {
    let number = picture.sequence().wrapping_sub(1);
    let source = &sources[(number % sources.len() as u64) as usize];
    let shape = source.shape();
    expected.resize(shape.size() as usize, 0);
    source.fill(number, expected)?;
    Ok(pixels(picture).is_some_and(|(its, bytes)| its == shape && *bytes == **expected))
}
