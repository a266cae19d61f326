//! `memlane recv`.

use crate::args::Recv;
use crate::failure::Failure;
use crate::inbox::Inbox;
use crate::numbers::number_of;
use crate::picture::{Shape, pixels, write_png};
use crate::report::{Bytes, Counted, called, tell};
use crate::stop::stopped;
use crate::stream::Output;
use memlane::{Image, Message, Shareable, Who};
use serde_json::json;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn run(arguments: &Recv) -> Result<(), Failure> {
    if arguments.raw { receive::<[u8]>(arguments) } else { receive::<Image>(arguments) }
}

fn receive<T: Content + ?Sized>(arguments: &Recv) -> Result<(), Failure> {
    let mut place = Place::of(arguments)?;
    let mut inbox = Inbox::<T>::new(arguments)?;
    while let Some(message) = inbox.next()? {
        let latency = message.age();
        let kept = match place.keep(&message) {
            Ok(kept) => kept,
            Err(failure) => {
                message.give_back();
                return interrupted_or(failure, inbox.received() - 1);
            }
        };
        let line = (!matches!(place, Place::Stream(_))).then(|| {
            let sender = inbox.sender_in(message.lane());
            if arguments.json { as_json(&message, &kept, latency, sender) } else { as_text(&message, &kept, sender) }
        });
        drop(message);
        if let Some(line) = line {
            writeln!(std::io::stdout(), "{line}")?;
        }
        if Some(inbox.received()) == arguments.count {
            break;
        }
    }
    Ok(())
}

/// Who was interrupted in the midst of writing was not kept from it by anything else.
fn interrupted_or(failure: Failure, received: u64) -> Result<(), Failure> {
    if !stopped() {
        return Err(failure);
    }
    tell(format!("interrupted, {} received", Counted(received, "message")));
    Ok(())
}

/// What can be written to a file.
trait Content: Shareable {
    /// Its bytes, and what picture they are; `None` if they are not what they should be.
    fn bytes(&self) -> Option<(Option<Shape>, Cow<'_, [u8]>)>;
}

impl Content for [u8] {
    fn bytes(&self) -> Option<(Option<Shape>, Cow<'_, [u8]>)> {
        Some((None, self.into()))
    }
}

impl Content for Image {
    fn bytes(&self) -> Option<(Option<Shape>, Cow<'_, [u8]>)> {
        let (shape, pixels) = pixels(self)?;
        Some((Some(shape), pixels))
    }
}

/// Where messages go.
enum Place {
    Nowhere,
    Folder(PathBuf),
    Stream(Output),
}

/// What became of a message.
struct Kept {
    file: Option<PathBuf>,
    shape: Option<Shape>,
    bytes: u64,
}

impl Place {
    fn of(arguments: &Recv) -> Result<Self, Failure> {
        let to_stream = arguments.stdout.is_some() || arguments.out.as_deref() == Some(Path::new("-"));
        match &arguments.out {
            _ if to_stream && !arguments.raw => Err(Failure::usage("standard output is for raw messages: add --raw")),
            _ if to_stream && arguments.json => Err(Failure::usage(
                "standard output cannot have both messages and --json: leave one out, or write files with --out DIR",
            )),
            _ if to_stream => Ok(Self::Stream(Output::new()?)),
            None => Ok(Self::Nowhere),
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(|error| {
                    Failure::failed(format!("cannot make the folder '{}': {error}", folder.display()))
                })?;
                Ok(Self::Folder(folder.clone()))
            }
        }
    }

    fn keep<T: Content + ?Sized>(&mut self, message: &Message<T>) -> Result<Kept, Failure> {
        let number = number_of(message);
        let (shape, bytes) = message.bytes().ok_or_else(|| {
            Failure::failed(format!("message {number} is no image, whatever it says: look at the program that sent it"))
        })?;
        let mut file = None;
        match self {
            Self::Nowhere => {}
            Self::Stream(out) => out.write(&bytes)?,
            Self::Folder(folder) => {
                let extension = if shape.is_some() { "png" } else { "bin" };
                file = Some(write_file(folder, &format!("{number:06}.{extension}"), shape, &bytes)?);
            }
        }
        Ok(Kept { file, shape, bytes: bytes.len() as u64 })
    }
}

/// Writes a file: whole under its name, or not at all.
fn write_file(folder: &Path, name: &str, shape: Option<Shape>, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let (path, draft) = (folder.join(name), folder.join(format!(".{name}.part")));
    let refuse = |error: &dyn Display| Failure::failed(format!("cannot write '{}': {error}", path.display()));
    let written = match shape {
        Some(shape) => write_png(&draft, shape, bytes).map_err(|error| refuse(&error)),
        None => std::fs::write(&draft, bytes).map_err(|error| refuse(&error)),
    };
    let named = written.and_then(|()| std::fs::rename(&draft, &path).map_err(|error| refuse(&error)));
    named.inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })?;
    Ok(path)
}

fn as_json<T: Shareable + ?Sized>(
    message: &Message<T>,
    kept: &Kept,
    latency: Option<Duration>,
    sender: Option<Who>,
) -> String {
    let mut line = json!({
        "sequence": number_of(message), "file": kept.file, "bytes": kept.bytes,
        "latency_ns": latency.map(|latency| latency.as_nanos() as u64), "missed": message.missed(),
        "deliveries": message.deliveries(), "sender": sender.map(|who| who.pid),
    });
    if let (Some(shape), Some(line)) = (kept.shape, line.as_object_mut()) {
        line.extend(shape.fields());
    }
    line.to_string()
}

fn as_text<T: Shareable + ?Sized>(message: &Message<T>, kept: &Kept, sender: Option<Who>) -> String {
    let file = kept.file.as_ref().map_or("not kept".into(), |file| file.display().to_string());
    let shape = kept.shape.map_or(String::new(), |shape| format!("  {shape}"));
    let missed = match message.missed() {
        0 => String::new(),
        missed => format!("  {missed} before it missed"),
    };
    let again = match message.deliveries() {
        0 | 1 => String::new(),
        deliveries => format!("  delivery {deliveries}: who had it before died or gave it back"),
    };
    let (number, size) = (number_of(message), Bytes(kept.bytes));
    let sender = called(sender, "a sender that is gone");
    format!("{number:06}  {file}{shape}  {size}  from {sender}{missed}{again}")
}
