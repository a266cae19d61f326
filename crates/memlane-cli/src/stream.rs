//! Messages on standard input and output: the length of each, eight bytes, the lowest first, and then its bytes.

use crate::failure::Failure;
use crate::stop::{GLANCE, stopped};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// As much as a pipe that has room takes at once without blocking (PIPE_BUF).
const CHUNK: usize = 4096;

/// No channel takes longer messages.
const LONGEST: u64 = 1 << 40;
const FORMAT: &str = "each message follows its length, which is eight bytes, the lowest first";

/// A file that is waited for in pieces, so that Ctrl-C ends it.
struct Interruptible(File);

impl Interruptible {
    fn new(file: &impl AsFd) -> io::Result<Self> {
        Ok(Self(file.as_fd().try_clone_to_owned()?.into()))
    }

    /// Waits a piece; whether there is something to read, or room to write.
    fn is_ready(&self, flags: PollFlags, piece: Duration) -> io::Result<bool> {
        let piece = Timespec::try_from(piece).ok();
        match poll(&mut [PollFd::new(&self.0, flags)], piece.as_ref()) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        while !self.is_ready(flags, GLANCE)? {
            if stopped() {
                return Err(io::Error::other("interrupted"));
            }
        }
        Ok(())
    }
}

impl Read for Interruptible {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        self.0.read(buffer)
    }
}

impl Write for Interruptible {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        self.0.write(&bytes[..bytes.len().min(CHUNK)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard input.
pub(crate) struct Input {
    from: BufReader<Interruptible>,
    messages: u64,
}

impl Input {
    pub(crate) fn new() -> Result<Self, Failure> {
        let from = Interruptible::new(&io::stdin()).map_err(unreadable)?;
        Ok(Self { from: BufReader::with_capacity(1 << 16, from), messages: 0 })
    }

    /// Waits a piece; whether there is something to read, or the end.
    pub(crate) fn is_ready(&self) -> Result<bool, Failure> {
        if !self.from.buffer().is_empty() {
            return Ok(true);
        }
        self.from.get_ref().is_ready(PollFlags::IN, GLANCE).map_err(unreadable)
    }

    /// The length of the next message; `None` at the end.
    pub(crate) fn next_len(&mut self) -> Result<Option<u64>, Failure> {
        if self.from.fill_buf().map_err(unreadable)?.is_empty() {
            return Ok(None);
        }
        self.messages += 1;
        let mut len = [0; 8];
        self.fill(&mut len)?;
        let len = u64::from_le_bytes(len);
        if len > LONGEST {
            return Err(Failure::failed(format!("{} cannot have {len} bytes: {FORMAT}", self.label())));
        }
        Ok(Some(len))
    }

    /// The bytes of the message.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                Failure::failed(format!("standard input ended in the midst of message {}: {FORMAT}", self.messages))
            }
            _ => unreadable(error),
        })
    }

    /// What the message is called.
    pub(crate) fn label(&self) -> String {
        format!("message {} of standard input", self.messages)
    }
}

fn unreadable(error: io::Error) -> Failure {
    if stopped() {
        return Failure::failed("interrupted in the midst of a message of standard input");
    }
    Failure::failed(format!("cannot read standard input: {error}"))
}

/// Standard output.
pub(crate) struct Output(BufWriter<Interruptible>);

impl Output {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(BufWriter::with_capacity(CHUNK, Interruptible::new(&io::stdout())?)))
    }

    pub(crate) fn write(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.write_all(&(message.len() as u64).to_le_bytes())?;
        self.0.write_all(message)?;
        self.0.flush()
    }
}
