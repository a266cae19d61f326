//! Waiting with the interpreter's lock given back, and until a signal says otherwise.

use crate::errors::{self, Failure};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    /// What a signal handler has raised in this thread while it waited.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Lets Python's signal handlers run in waits, and end them.
pub(crate) fn listen_to_signals() {
    memlane::interrupt_waits(|| {
        // Not while the interpreter ends: then nobody can be asked.
        let raised = Python::try_attach(|py| py.check_signals().err()).flatten();
        raised.is_some_and(|error| {
            RAISED.set(Some(error));
            true
        })
    });
}

/// What a signal handler has raised in the wait that this thread has just ended.
pub(crate) fn raised() -> Option<PyErr> {
    RAISED.take()
}

/// Does what may wait, with the interpreter's lock given back.
pub(crate) fn waiting<T: Send, E: Failure + Send>(
    py: Python<'_>,
    wait: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    py.detach(wait).map_err(|error| raised().unwrap_or_else(|| errors::raise(py, &error)))
}

/// Seconds, as Python gives them; `None` is for ever, and so is what cannot be counted.
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("a timeout is a number of seconds, or None")),
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
        None => Ok(None),
    }
}
