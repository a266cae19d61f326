//! Why a command failed: one line for people, one number for scripts.

use crate::report::tell;
use memlane::{Error, RecvError, SendError, TicketError};
use std::fmt;
use std::io;
use std::process::ExitCode;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(1, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(2, message)
    }

    pub(crate) fn timed_out(message: impl fmt::Display) -> Self {
        Self::new(3, message)
    }

    /// Says why on standard error, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            tell(self.message);
        }
        self.code.into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::InvalidName { .. } => 2,
            Error::TimedOut { .. } => 3,
            Error::NotFound { .. } => 4,
            _ => 1,
        };
        Self::new(code, error)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let code = if matches!(error, SendError::Full { .. } | SendError::TooFew { .. }) { 3 } else { 1 };
        Self::new(code, error)
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        Self::new(if matches!(error, RecvError::TimedOut { .. }) { 3 } else { 1 }, error)
    }
}

impl From<TicketError> for Failure {
    fn from(error: TicketError) -> Self {
        Self::new(if matches!(error, TicketError::TimedOut { .. }) { 3 } else { 1 }, error)
    }
}

impl From<io::Error> for Failure {
    /// Somebody who reads the output and has had enough is no failure.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { code: 0, message: String::new() }
        } else {
            Self::failed(format!("cannot write the output: {error}"))
        }
    }
}
