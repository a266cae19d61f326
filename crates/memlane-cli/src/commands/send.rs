//! `memlane send`.

use crate::args::Send;
use crate::failure::Failure;
use crate::outbox::{Item, Outbox};
use crate::picture::Source;
use crate::stream::Input;
use memlane::Image;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The longest message from standard input, if nothing else is said.
const STREAMED: u64 = 16 << 20;

pub(crate) fn run(arguments: &Send) -> Result<(), Failure> {
    if arguments.raw { send_bytes(arguments) } else { send_images(arguments) }
}

fn send_images(arguments: &Send) -> Result<(), Failure> {
    if arguments.files.iter().any(|file| is_stream(file)) {
        return Err(Failure::usage("standard input is for raw messages: add --raw"));
    }
    let sources = arguments.files.iter().map(|path| Source::file(path)).collect::<Result<Vec<_>, _>>()?;
    let longest = sources.iter().map(|source| source.shape().message_size()).max().unwrap_or(0);
    let mut outbox = Outbox::<Image>::open(arguments, longest)?;
    for (source, path) in sources.iter().zip(&arguments.files) {
        let shape = source.shape();
        let mut image = outbox.sender().loan_image(shape.width, shape.height, shape.format)?;
        source.fill(0, &mut image.pixels)?;
        outbox.send(image, Item { file: path.display().to_string(), shape: Some(shape), bytes: shape.size() })?;
    }
    outbox.finish()
}

fn send_bytes(arguments: &Send) -> Result<(), Failure> {
    let lens = arguments.files.iter().map(|path| file_len(path)).collect::<Result<Vec<_>, _>>()?;
    let streamed = arguments.max_message.unwrap_or(STREAMED);
    let longest = lens.iter().map(|len| len.unwrap_or(streamed)).max().unwrap_or(0);
    let mut outbox = Outbox::<[u8]>::open(arguments, longest)?;
    for (path, len) in arguments.files.iter().zip(lens) {
        let Some(len) = len else {
            send_stream(&mut outbox)?;
            continue;
        };
        let mut bytes = outbox.sender().loan(len as usize)?;
        read_whole(path, &mut bytes)?;
        outbox.send(bytes, Item { file: path.display().to_string(), shape: None, bytes: len })?;
    }
    outbox.finish()
}

fn send_stream(outbox: &mut Outbox<'_, [u8]>) -> Result<(), Failure> {
    let mut input = Input::new()?;
    loop {
        // What becomes of earlier messages is said while there is nothing to read.
        while !input.is_ready()? {
            outbox.settle_ready()?;
        }
        let Some(len) = input.next_len()? else { return Ok(()) };
        let most = outbox.sender().max_message();
        if len > most {
            return Err(Failure::failed(format!(
                "{} has {len} bytes, and there is room for {most}: send with `--max-message {len}`",
                input.label()
            )));
        }
        let mut bytes = outbox.sender().loan(len as usize)?;
        input.fill(&mut bytes)?;
        outbox.send(bytes, Item { file: input.label(), shape: None, bytes: len })?;
    }
}

fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The length of a file; `None` for standard input.
fn file_len(path: &Path) -> Result<Option<u64>, Failure> {
    if is_stream(path) {
        return Ok(None);
    }
    let meta = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !meta.is_file() {
        return Err(unreadable(path, &"it is no regular file; other things can be sent by standard input, `-`"));
    }
    Ok(Some(meta.len()))
}

/// Reads a file into `bytes`, which is as long as it was when it was looked at.
fn read_whole(path: &Path, bytes: &mut [u8]) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    file.read_exact(bytes).map_err(|error| unreadable(path, &error))?;
    match file.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(unreadable(path, &"it has grown since it was looked at")),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot read '{}': {error}", path.display()))
}
