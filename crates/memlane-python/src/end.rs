//! An end of a channel or service, which one thread uses at a time.

use crate::errors::{self, Failure};
use crate::waits;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// An end of the library's, until it is closed. Who waits has it locked without the interpreter's lock: to wait for it with that
/// would never end, so a second thread is told.
#[derive(Debug)]
pub(crate) struct End<T> {
    end: Mutex<Option<T>>,
    /// What it is called, for errors.
    what: &'static str,
    pub(crate) name: String,
}

impl<T: Send> End<T> {
    pub(crate) fn new(end: T, what: &'static str, name: String) -> Self {
        Self { end: Mutex::new(Some(end)), what, name }
    }

    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Option<T>>> {
        match self.end.try_lock() {
            Ok(end) => Ok(end),
            Err(TryLockError::Poisoned(poisoned)) => Ok(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => {
                let message =
                    format!("another thread uses this {} of '{}': open one for each thread", self.what, self.name);
                Err(errors::new(py, "Busy", message, &[]))
            }
        }
    }

    pub(crate) fn with<R>(&self, py: Python<'_>, act: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        let mut end = self.lock(py)?;
        let closed = || errors::released(py, format!("the {} of '{}' was closed: open it again", self.what, self.name));
        act(end.as_mut().ok_or_else(closed)?)
    }

    /// Does what may wait.
    pub(crate) fn waiting<R: Send, E: Failure + Send>(
        &self,
        py: Python<'_>,
        wait: impl FnOnce(&mut T) -> Result<R, E> + Send,
    ) -> PyResult<R> {
        self.with(py, |end| waits::waiting(py, || wait(end)))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.end.try_lock().is_ok_and(|end| end.is_none())
    }

    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        let end = self.lock(py)?.take();
        py.detach(|| drop(end));
        Ok(())
    }

    /// As a class shows itself.
    pub(crate) fn shown(&self, class: &str) -> String {
        shown(class, &self.name, self.is_closed())
    }
}

/// As a class shows an object that may be closed.
pub(crate) fn shown(class: &str, name: &str, closed: bool) -> String {
    format!("<memlane.{class} '{name}'{}>", if closed { ", closed" } else { "" })
}
