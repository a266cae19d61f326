//! The library's errors as the exceptions of memlane/_errors.py, one to one.

use memlane::{Error, LockError, RecvError, SendError, TicketError, WaitError, Who};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::infos;

/// An error of the library, to become an exception.
pub(crate) trait Failure {
    /// The exception's name, and who is to blame.
    fn class(&self) -> (&'static str, Vec<&Who>);
    fn message(&self) -> String;
}

/// The exception of that name.
pub(crate) fn new(py: Python<'_>, class: &str, message: String, who: &[&Who]) -> PyErr {
    let make = || {
        let class = py.import("memlane._errors")?.getattr(class)?;
        let error = class.call1((message,))?;
        let who = who.iter().map(|who| infos::who(py, who)).collect::<PyResult<Vec<_>>>()?;
        error.setattr("who", PyList::new(py, who)?)?;
        Ok(PyErr::from_value(error))
    };
    make().unwrap_or_else(|error: PyErr| error)
}

/// Something was used that was let go of.
pub(crate) fn released(py: Python<'_>, message: impl Into<String>) -> PyErr {
    new(py, "Released", message.into(), &[])
}

pub(crate) fn raise(py: Python<'_>, error: &impl Failure) -> PyErr {
    let (class, who) = error.class();
    new(py, class, error.message(), &who)
}

macro_rules! failure {
    ($type:ty, $error:ident => $class:expr) => {
        impl Failure for $type {
            fn class(&self) -> (&'static str, Vec<&Who>) {
                let $error = self;
                $class
            }

            fn message(&self) -> String {
                self.to_string()
            }
        }
    };
}

failure!(Error, error => match error {
    Error::InvalidName { .. } => ("InvalidName", vec![]),
    Error::Directory { .. } => ("DirectoryError", vec![]),
    Error::NotFound { .. } => ("NotFound", vec![]),
    Error::AlreadyExists { creator, .. } => ("AlreadyExists", creator.iter().collect()),
    Error::Foreign { .. } => ("Foreign", vec![]),
    Error::Corrupt { .. } => ("Corrupt", vec![]),
    Error::Incompatible { .. } => ("Incompatible", vec![]),
    Error::TypeMismatch { .. } => ("TypeMismatch", vec![]),
    Error::NoSpace { .. } => ("NoSpace", vec![]),
    Error::UnsafeMode { .. } => ("UnsafeMode", vec![]),
    Error::Forked { .. } => ("ForkedError", vec![]),
    Error::TooLarge { .. } => ("TooLarge", vec![]),
    Error::TooManyParticipants { .. } => ("TooManyParticipants", vec![]),
    Error::NoRoom { who, .. } => ("NoRoom", who.iter().collect()),
    Error::BadOptions { .. } => ("BadOptions", vec![]),
    Error::Busy { .. } => ("Busy", vec![]),
    Error::TimedOut { .. } => ("TimedOut", vec![]),
    Error::Interrupted { .. } => ("Interrupted", vec![]),
    Error::OutOfBounds { .. } => ("OutOfBounds", vec![]),
    Error::Os { .. } => ("SystemFailure", vec![]),
    _ => ("Error", vec![]),
});

failure!(LockError, error => match error {
    LockError::TimedOut { holder, .. } => ("TimedOut", holder.iter().collect()),
    LockError::AlreadyLocked { .. } => ("AlreadyLocked", vec![]),
    LockError::Retired { .. } => ("Retired", vec![]),
    LockError::Forked { .. } => ("ForkedError", vec![]),
    LockError::Interrupted { .. } => ("Interrupted", vec![]),
    LockError::NotInSegment { .. } => ("NotInSegment", vec![]),
    _ => ("Error", vec![]),
});

failure!(WaitError, error => match error {
    WaitError::TimedOut { peer, .. } => ("TimedOut", peer.iter().collect()),
    WaitError::PeerLost { peer, .. } => ("PeerLost", peer.iter().collect()),
    WaitError::Lock(error) => error.class(),
    _ => ("Error", vec![]),
});

failure!(SendError, error => match error {
    SendError::TooLarge { .. } => ("TooLarge", vec![]),
    SendError::LoansInUse { .. } => ("LoansInUse", vec![]),
    SendError::Full { slowest, .. } => ("Full", slowest.iter().collect()),
    SendError::NoReceiver { last, .. } => ("NoReceiver", last.iter().collect()),
    SendError::TooFew { who, .. } => ("TooFew", who.iter().collect()),
    SendError::Unusable(error) => error.class(),
    _ => ("Error", vec![]),
});

failure!(RecvError, error => match error {
    RecvError::TimedOut { senders, .. } => ("TimedOut", senders.iter().collect()),
    RecvError::Closed { .. } => ("Closed", vec![]),
    RecvError::SenderDied { sender, .. } => ("SenderDied", sender.iter().collect()),
    RecvError::ClaimsInUse { .. } => ("ClaimsInUse", vec![]),
    RecvError::Corrupt { .. } => ("Corrupt", vec![]),
    RecvError::Unusable(error) => error.class(),
    _ => ("Error", vec![]),
});

failure!(TicketError, error => match error {
    TicketError::TimedOut { who, .. } => ("TimedOut", who.iter().collect()),
    TicketError::Unusable(error) => error.class(),
    _ => ("Error", vec![]),
});
