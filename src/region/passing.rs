//! Memory that goes from one process to another by its descriptor.

use super::Memory;
use crate::error::{Error, Who};
use crate::prim;
use crate::sys::{self, Access, AsFd, BorrowedFd, Fd, Kind, OwnedFd, UnixStream};
use std::io;
use std::time::{Duration, Instant};

/// What begins a message that memory comes with.
const MAGIC: [u8; 8] = *b"memlaneM";

/// The magic number and the size.
const LEN: usize = 16;

/// The longest sleep.
const SLICE: Duration = Duration::from_millis(50);

impl Memory {
    /// Takes a descriptor that came to this process in some way: inherited, or from another library. It can be mapped for writing if it was
    /// opened for that. Unless its size [is sealed](Self::is_sealed), others can cut it off, which ends with SIGBUS whoever
    /// has it mapped.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if it is no regular file, or was not opened for reading.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        Self::checked(fd, "given by a descriptor")
    }

    fn checked(fd: OwnedFd, name: &str) -> Result<Self, Error> {
        let file = Fd::from(fd);
        let refuse = |reason: &str| {
            Err(Error::File { path: name.into(), kind: io::ErrorKind::InvalidInput, reason: reason.into() })
        };
        if sys::meta(&file).map_err(Error::os("look at the memory", name))?.kind != Kind::File {
            return refuse("is no regular file: pass one, or anonymous memory");
        }
        match sys::opened_for(&file).map_err(Error::os("look at the memory", name))? {
            Some(access) => Ok(Self::of(file, access, name)),
            None => refuse("was not opened for reading: open it for that, or for reading and writing"),
        }
    }

    /// Gives the descriptor away, to be inherited or passed on in some way. What is mapped stays mapped. It is closed on
    /// `exec` unless that is changed.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }

    /// Whether nobody can change the size any more, as of [`Memory::anonymous`].
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        sys::is_sealed(&self.file)
    }

    /// Sends anonymous memory over a Unix socket to a process that calls [`receive_from`](Self::receive_from): the memory itself, not a
    /// copy of it.
    ///
    /// If the socket is full, waits until the other side has read, as long as the socket's write timeout says, for ever if
    /// it has none; a dead peer is an error at once.
    ///
    /// ```
    /// use memlane::Memory;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// Memory::anonymous(4096)?.send_over(&ours)?;
    /// assert_eq!(Memory::receive_from(&theirs)?.size()?, 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotPassed`] if the memory is a file, or not sealed, if the other side is gone, or did not read in time, with who
    /// it is.
    pub fn send_over(&self, socket: &UnixStream) -> Result<(), Error> {
        let refuse = |why: &str| refused("send", socket, why.into());
        if !self.is_sealed() || self.access == Access::Read {
            return Err(refuse("only anonymous memory that can be written is sent: name a file by its path"));
        }
        let mut message = [0; LEN];
        message[..8].copy_from_slice(&MAGIC);
        message[8..].copy_from_slice(&self.size()?.to_ne_bytes());
        let timeout = socket.write_timeout().map_err(Error::os("look at", "a socket"))?;
        match wait("send", socket, timeout, || sys::pass(socket, &message, &self.file))? {
            LEN => Ok(()),
            _ => Err(refuse("it took a part of the message: use a socket that nothing else is sent over")),
        }
    }

    /// Receives memory that another process sends with [`send_over`](Self::send_over).
    ///
    /// Waits as long as the socket's read timeout says, for ever if it has none, also if it is non-blocking; a peer that dies or closes the socket is an error at
    /// once, and [`interrupt_waits`](crate::interrupt_waits) ends it. What is received cannot change its size.
    ///
    /// # Errors
    ///
    /// [`Error::NotPassed`] if the other side is gone, or sent nothing in time, or what it sent is not sealed memory: with who it is.
    /// Descriptors that came are closed then.
    pub fn receive_from(socket: &UnixStream) -> Result<Self, Error> {
        let refuse = |why: &str| Err(refused("receive", socket, why.into()));
        let mut message = [0; LEN];
        let timeout = socket.read_timeout().map_err(Error::os("look at", "a socket"))?;
        let mut passed = wait("receive", socket, timeout, || sys::receive(socket, &mut message))?;
        if passed.len == 0 && passed.files.is_empty() {
            return refuse("it has closed the socket, or died: start it again");
        }
        if passed.len < LEN || message[..8] != MAGIC {
            return refuse("what it sent is no message of memory: let it call `Memory::send_over`");
        }
        let (Some(fd), true, false) = (passed.files.pop(), passed.files.is_empty(), passed.cut) else {
            return refuse(
                "one descriptor was to come with the message: send each memory by itself, or allow this \
                           process more descriptors with `ulimit -n`",
            );
        };
        let memory = match Self::checked(fd, "received over a socket") {
            Ok(memory) if memory.is_sealed() && memory.access == Access::ReadWrite => memory,
            _ => return refuse("what it sent is no sealed memory: let it call `Memory::anonymous`"),
        };
        let size = memory.size()?;
        match u64::from_ne_bytes(message[8..].try_into().expect("8 bytes")) {
            said if said == size => Ok(memory),
            said => Err(refused("receive", socket, format!("it has {size} bytes, and was said to have {said}"))),
        }
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn refused(action: &'static str, socket: &UnixStream, why: String) -> Error {
    let peer = sys::peer(socket)
        .map(|process| Who::new(process.pid, &process.name, sys::is_stopped(process.pid, process.started)));
    Error::NotPassed { action, peer, why }
}

/// Repeats `attempt` until it does not have to wait, or the time is over.
fn wait<T>(
    action: &'static str,
    socket: &UnixStream,
    timeout: Option<Duration>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map_err(|error| refused(action, socket, format!("{error}: connect again"))),
        }
        let left = timeout.map_or(SLICE, |timeout| timeout.saturating_sub(start.elapsed()));
        if left.is_zero() {
            let why = format!("it lives and has not answered for {:.1?}: look at it, or wait longer", start.elapsed());
            return Err(refused(action, socket, why));
        }
        sys::wait_for_socket(socket, action == "send", left.min(SLICE));
        if prim::is_interrupted() {
            return Err(refused(action, socket, "the wait was interrupted: wait again, or end".into()));
        }
    }
}
