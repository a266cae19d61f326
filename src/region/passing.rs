//! Memory that goes from one process to another by its descriptor.

use super::Memory;
use crate::error::Error;
use crate::object::handover::{self, Message, Turns, What};
use crate::sys::{self, Access, Descriptor, Fd, Kind, Meta, Socket};
use std::io::ErrorKind;

/// What it is called in errors and messages.
const LABEL: &str = "memory";

impl Memory {
    /// Takes a descriptor that came to this process in some way: inherited, or from another library. It can be mapped for writing if it was
    /// opened for that. Unless its size [is sealed](Self::is_sealed), others can cut it off, which ends with SIGBUS whoever
    /// has it mapped.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if it is no regular file, or was not opened for reading.
    pub fn from_fd(fd: Descriptor) -> Result<Self, Error> {
        let file = sys::adopt(fd).map_err(Error::os("take over", LABEL))?;
        Self::checked(file, "given by a descriptor")
    }

    fn checked(file: Fd, name: &str) -> Result<Self, Error> {
        let refuse =
            |reason: &str| Err(Error::File { path: name.into(), kind: ErrorKind::InvalidInput, reason: reason.into() });
        if sys::meta(&file).map_err(Error::os("look at the memory", name))?.kind != Kind::File {
            return refuse("is no regular file: pass one, or anonymous memory");
        }
        match sys::opened_for(&file).map_err(Error::os("look at the memory", name))? {
            Some(access) => Ok(Self::of(file, access, name)),
            None => refuse("was not opened for reading: open it for that, or for reading and writing"),
        }
    }

    /// Whether nobody can change the size any more, as of [`Memory::anonymous`].
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        sys::is_sealed(&self.file).unwrap_or(false)
    }

    /// Sends anonymous memory over a Unix socket to a process that calls [`receive_from`](Self::receive_from): the memory itself, not a
    /// copy of it.
    ///
    /// If the socket is full, waits until the other side has read, as long as the socket's write timeout says, for ever if
    /// it has none, and not at all if the socket does not block; a dead peer is an error at once.
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
    /// [`Error::HandOver`] if the memory is a file, or not sealed, if the other side is gone, or did not read in time, with who
    /// it is.
    pub fn send_over(&self, socket: &Socket) -> Result<(), Error> {
        if !self.is_sealed() || self.access == Access::Read {
            let reason = "only anonymous memory that can be written is sent: name a file by its path";
            return Err(Turns::new(LABEL, socket, false)?.refused(ErrorKind::Unsupported, reason));
        }
        let message = Message { what: What::Memory, label: LABEL.into(), number: self.size()?.into() };
        handover::send(&message, &self.file, socket)
    }

    /// Receives memory that another process sends with [`send_over`](Self::send_over).
    ///
    /// Waits as long as the socket's read timeout says, for ever if it has none, and not at all if the socket does not block; a
    /// peer that dies or closes the socket is an error at once, and [`interrupt_waits`](crate::interrupt_waits) ends it. What is
    /// received cannot change its size. After an error, what else is to come cannot be told apart: close the socket.
    ///
    /// # Errors
    ///
    /// [`Error::HandOver`] if the other side is gone, or sent nothing in time, or what it sent is not sealed memory, with all of it
    /// reserved: with who it is.
    /// Descriptors that came are closed then.
    pub fn receive_from(socket: &Socket) -> Result<Self, Error> {
        let (Message { number, .. }, file) = handover::receive(What::Memory, socket)?;
        let refuse = |reason: String| Err(Turns::new(LABEL, socket, true)?.refused(ErrorKind::InvalidData, reason));
        // First: who serves a file that is not in memory could keep every other question waiting. What has seals is a file.
        let sealed = sys::is_sealed(&file).unwrap_or(false);
        let memory = match sealed.then(|| Self::checked(file, "received over a socket")) {
            Some(Ok(memory)) if memory.access == Access::ReadWrite => memory,
            _ => return refuse("what it sent is no sealed memory: let it call `Memory::anonymous`".into()),
        };
        match memory.meta()? {
            Meta { len, .. } if u128::from(len) != number => {
                refuse(format!("it has {len} bytes, and was said to have {number}"))
            }
            // To map it would take what its sender never had.
            Meta { len, taken, .. } if taken < len => {
                let fix = "let the other side reserve it, or call `Memory::anonymous`";
                refuse(format!("it is not reserved: of its {len} bytes {taken} are there: {fix}"))
            }
            _ => Ok(memory),
        }
    }
}

// Only a system has these whose files are descriptors.
#[cfg(all(unix, not(any(memlane_heap, miri))))]
impl Memory {
    /// Gives the descriptor away, to be inherited or passed on in some way. What is mapped stays mapped. It is closed on
    /// `exec` unless that is changed.
    #[must_use]
    pub fn into_fd(self) -> Descriptor {
        self.file.into()
    }
}

#[cfg(all(unix, not(any(memlane_heap, miri))))]
impl sys::AsFd for Memory {
    fn as_fd(&self) -> sys::BorrowedFd<'_> {
        self.file.as_fd()
    }
}
