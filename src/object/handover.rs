//! Objects that pass from process to process as descriptors. docs/DESIGN.md draws the message, and says what is checked.

use super::name::Place;
use super::{Found, Header, Name, Object};
use crate::error::{Error, Who};
use crate::prim;
use crate::sys::{self, Access, Descriptor, Fd, LockFd, Meta, Socket};
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest single sleep.
const SLICE: Duration = Duration::from_millis(50);

/// What a name stands for that is a descriptor: an opening of this process alone, and the id of what it led to.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) file: Arc<Fd>,
    pub(super) id: u128,
}

impl PartialEq for Opening {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Opening {}

impl Hash for Opening {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// Whether this user made it, and no stranger can write into it.
fn is_own(meta: &Meta) -> bool {
    meta.user == sys::user() && meta.mode & 0o002 == 0
}

fn refused(name: &str, kind: ErrorKind, reason: impl Into<String>) -> Error {
    Error::HandOver { name: name.to_owned(), peer: None, kind, reason: reason.into() }
}

/// Checks what a descriptor leads to, opens it once more, and reads its header.
fn examine(name: &str, received: &Fd, access: Access) -> Result<(Fd, Header), Error> {
    let distrusted = |what: String| Err(refused(name, ErrorKind::PermissionDenied, what));
    // First: who serves a file that is not in memory could keep every other question waiting. What has seals is a file.
    let sealed = sys::is_sealed(received).map_err(|_| {
        let reason = "the descriptor leads to no memory: send that of an object";
        refused(name, ErrorKind::Unsupported, reason)
    })?;
    let meta = sys::meta(received).map_err(Error::os("look at", name))?;
    if !is_own(&meta) {
        return distrusted(format!(
            "it belongs to user {} and has mode {:04o}, and this process trusts what only user {} can write: run both as one \
             user, or share a directory with a group",
            meta.user,
            meta.mode,
            sys::user()
        ));
    }
    if meta.links > 1 {
        return distrusted("it has further names: create it with memlane".into());
    }
    if meta.links == 0 && !sealed {
        return distrusted(
            "it has no name any more, and is not sealed against shrinking, which would end its users: send it before its name \
             is taken away, or create it with `Name::anonymous`"
                .into(),
        );
    }
    let file = sys::reopen(received, access).map_err(Error::os("open", name))?;
    let header = Header::of(name, &file, meta.len)?;
    Ok((file, header))
}

impl Name {
    /// Stands for the object that a descriptor leads to, however it came here: inherited, or from a service manager. `label` is
    /// what it is called in errors. The descriptor is closed; the name has one of its own.
    ///
    /// # Errors
    ///
    /// [`Error::HandOver`] if it leads to nothing that can be trusted: an object is in memory, belongs to this user, is not
    /// writable by strangers, and has one name, or none and is sealed against shrinking. [`Error::InvalidName`],
    /// [`Error::Foreign`], [`Error::Corrupt`] or [`Error::Incompatible`] if it is no sound object of this format.
    pub fn from_fd(label: &str, descriptor: Descriptor) -> Result<Self, Error> {
        let name = Self::anonymous(label)?;
        let received = sys::adopt(descriptor).map_err(Error::os("take over", label))?;
        name.of_received(&received)
    }

    /// The name, if it stands for what that descriptor leads to.
    fn of_received(self, received: &Fd) -> Result<Self, Error> {
        let (file, header) = examine(&self.text, received, Access::Read)?;
        Self::at(&self.text, Place::Opening(Opening { file: Arc::new(file), id: header.id }))
    }

    /// Takes what `send_over` of a handle has sent over the other end of this socket, and stands for that object from then on:
    /// each `open` with it opens that one, or none: never another that has its name by then. One that lies in a directory cannot
    /// be opened any more when its name was taken away.
    ///
    /// It waits until the message is there, at most for the socket's [read timeout](std::os::unix::net::UnixStream::read_timeout),
    /// and not at all if the socket does not block. It ends when the other end is closed, so also when its process
    /// dies and nobody has inherited it, and when [`interrupt_waits`](crate::interrupt_waits) says so. It takes no byte that
    /// follows the message. After an error, what else is to come cannot be told apart: close the socket.
    ///
    /// # Errors
    ///
    /// [`Error::HandOver`] says by its kind what was wrong; no descriptor is left open. Otherwise as
    /// [`from_fd`](Self::from_fd).
    pub fn receive_from(socket: &Socket) -> Result<Self, Error> {
        let (Message { label, number, .. }, received) = receive(What::Object, socket)?;
        let turns = Turns { name: &label, ..Turns::new("", socket, true)? };
        let name = Self::anonymous(&label)?.of_received(&received).map_err(|error| match error {
            Error::HandOver { kind, reason, .. } => turns.refused(kind, reason),
            error => error,
        })?;
        match &name.place {
            Place::Opening(opening) if opening.id == number => Ok(name),
            _ => Err(turns.refused(ErrorKind::InvalidData, ANOTHER)),
        }
    }
}

impl Found {
    /// Opens and checks what a name stands for that is a descriptor.
    pub(super) fn received(name: &Name, access: Access) -> Result<Self, Error> {
        let Place::Opening(opening) = &name.place else {
            let fix = "create it, and open it by the name of its handle, or where it was received";
            return Err(Error::Unnamed { name: name.to_string(), action: "open", fix });
        };
        let (file, header) = examine(&name.text, &opening.file, access)?;
        if header.id != opening.id {
            return Err(Error::Corrupt { name: name.to_string(), field: "id" });
        }
        let locks = LockFd::reopen(&file, access).map_err(Error::os("open the locks of", name))?;
        Ok(Self { name: name.clone(), header, locks, file: Arc::new(file) })
    }
}

impl Object {
    /// Sends a descriptor of the object, and what it is.
    pub(crate) fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        if self.locks.is_forked() {
            return Err(Error::Forked { name: self.name.to_string() });
        }
        let name = self.name.as_str();
        if sys::is_sealed(&self.file).is_err() {
            let reason = "it does not lie in memory: create it in a directory that does, or with `Name::anonymous`";
            return Err(refused(name, ErrorKind::Unsupported, reason));
        }
        // Whoever gets an opening can change its flags.
        let file = sys::reopen(&self.file, Access::Read).map_err(Error::os("open", name))?;
        send(&Message { what: What::Object, label: name.to_owned(), number: self.header.id }, &file, socket)
    }
}

/// What is said if what came is not what was to come.
const ANOTHER: &str = "another object came than was said: let the other side call `send_over`";

/// Sends a message and a descriptor.
pub(crate) fn send(message: &Message, file: &Fd, socket: &Socket) -> Result<(), Error> {
    let bytes = message.to_bytes();
    let turns = Turns::new(&message.label, socket, false)?;
    let mut sent = 0;
    while sent < bytes.len() {
        let first = (sent == 0).then_some(file);
        sent += turns.take(|| sys::send(socket, &bytes[sent..], first))?;
        prim::step();
    }
    Ok(())
}

/// Receives a message, and the one descriptor that is to come with it; of others none is left open.
pub(crate) fn receive(what: What, socket: &Socket) -> Result<(Message, Fd), Error> {
    let turns = Turns::new("(not known yet)", socket, true)?;
    let (mut bytes, mut got, mut files, mut cut) = ([0; Message::SIZE], 0, Vec::new(), false);
    while got < bytes.len() {
        let (more, with, some_cut) = turns.take(|| sys::receive(socket, &mut bytes[got..]))?;
        files.extend(with);
        (got, cut) = (got + more, cut || some_cut);
        if files.len() + usize::from(cut) > 1 {
            let reason = "it came with several descriptors: let the other side call `send_over`";
            return Err(turns.refused(ErrorKind::InvalidData, reason));
        }
        if more == 0 {
            let reason = "the other side closed the socket before it had sent all: see why it ended";
            return Err(turns.refused(ErrorKind::UnexpectedEof, reason));
        }
        prim::step();
    }
    let message = Message::parse(&bytes).filter(|message| message.what == what);
    let Some(message) = message else {
        let reason = format!(
            "what came is no {}: let the other side call `send_over`, and nothing else, for each `receive_from`, with the \
             same memlane",
            what.name()
        );
        return Err(turns.refused(ErrorKind::InvalidData, reason));
    };
    match files.pop() {
        Some(file) => Ok((message, file)),
        None => {
            let reason = match cut {
                true => "no descriptor is left for it in this process: raise the limit with `ulimit -n`",
                false => "it came without a descriptor: let the other side call `send_over`",
            };
            Err(Turns { name: &message.label, ..turns }.refused(ErrorKind::InvalidData, reason))
        }
    }
}

/// Tries again and again what does not wait, as long as the socket allows.
pub(crate) struct Turns<'a> {
    name: &'a str,
    socket: &'a Socket,
    reads: bool,
    patience: Option<Duration>,
    start: Instant,
}

impl<'a> Turns<'a> {
    pub(crate) fn new(name: &'a str, socket: &'a Socket, reads: bool) -> Result<Self, Error> {
        let mut turns = Self { name, socket, reads, patience: None, start: Instant::now() };
        turns.patience = sys::patience(socket, reads).map_err(|error| turns.failed(&error))?;
        Ok(turns)
    }

    /// Names who is at the other end.
    pub(crate) fn refused(&self, kind: ErrorKind, reason: impl Into<String>) -> Error {
        let peer = sys::peer(self.socket)
            .map(|process| Who::new(process.pid, &process.name, sys::is_stopped(process.pid, process.started)));
        Error::HandOver { name: self.name.to_owned(), peer, kind, reason: reason.into() }
    }

    fn failed(&self, error: &io::Error) -> Error {
        let fix = match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => "the other side has closed it: see why it ended",
            _ => "use a connected stream socket, with few descriptors under way",
        };
        self.refused(error.kind(), format!("the socket fails ({error}): {fix}"))
    }

    fn take<T>(&self, mut call: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
        loop {
            match call() {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                result => return result.map_err(|error| self.failed(&error)),
            }
            let left = self.patience.map_or(SLICE, |patience| patience.saturating_sub(self.start.elapsed()));
            if left.is_zero() {
                let waited = self.start.elapsed();
                let reason = format!(
                    "the socket's time is over after {waited:.1?}: see what the other side does, or set a longer one"
                );
                return Err(self.refused(ErrorKind::TimedOut, reason));
            }
            // Rounded up: a sleep shorter than the system's unit would be none.
            let slice = left.clamp(Duration::from_millis(1), SLICE);
            sys::wait_for(self.socket, self.reads, slice).map_err(|error| self.failed(&error))?;
            if prim::is_interrupted() {
                return Err(Error::Interrupted { name: self.name.to_owned() });
            }
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Object,
    /// Memory without a header.
    Memory,
}

impl What {
    fn magic(self) -> [u8; 8] {
        match self {
            Self::Object => *b"memlane>",
            Self::Memory => *b"memlane)",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Memory => "memory",
        }
    }
}

/// What is said of what is sent.
pub(crate) struct Message {
    pub(crate) what: What,
    pub(crate) label: String,
    /// Of an object its id, of memory its size.
    pub(crate) number: u128,
}

impl Message {
    const FORMAT: u32 = 1;
    const LABEL: usize = 32;
    /// With the longest label.
    const SIZE: usize = Self::LABEL + 200;

    fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        put(0, &self.what.magic());
        put(8, &Self::FORMAT.to_ne_bytes());
        put(12, &(self.label.len() as u32).to_ne_bytes());
        put(16, &self.number.to_ne_bytes());
        put(Self::LABEL, self.label.as_bytes());
        bytes
    }

    /// What the bytes say, if they are exactly as `to_bytes` makes them.
    fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let what = [What::Object, What::Memory].into_iter().find(|what| bytes.starts_with(&what.magic()))?;
        let len = u32::from_ne_bytes(bytes[12..16].try_into().ok()?) as usize;
        let label = std::str::from_utf8(bytes[Self::LABEL..].get(..len)?).ok()?;
        let number = u128::from_ne_bytes(bytes[16..32].try_into().ok()?);
        let message = Self { what, label: Name::anonymous(label).ok()?.text, number };
        (message.to_bytes() == *bytes).then_some(message)
    }
}
