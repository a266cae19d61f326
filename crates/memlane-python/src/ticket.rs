//! What has become of messages that were sent.

use crate::{infos, waits};
use pyo3::prelude::*;

/// Stands for a message that was sent; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane")]
pub(crate) struct Ticket(memlane::Ticket);

impl Ticket {
    pub(crate) fn new(ticket: memlane::Ticket) -> Self {
        Self(ticket)
    }

    pub(crate) fn of(&self) -> &memlane::Ticket {
        &self.0
    }
}

#[pymethods]
impl Ticket {
    #[getter]
    fn sequence(&self) -> u64 {
        self.0.sequence()
    }

    #[getter]
    fn is_processed(&self) -> bool {
        self.0.is_processed()
    }

    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let timeout = waits::timeout(timeout)?;
        let handled = waits::waiting(py, || self.0.wait(timeout))?;
        infos::handled(py, &handled)
    }

    #[pyo3(signature = (timeout = None))]
    fn wait_processed(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let timeout = waits::timeout(timeout)?;
        waits::waiting(py, || self.0.wait_processed(timeout))
    }

    fn __repr__(&self) -> String {
        format!("<memlane.Ticket {}>", self.0.sequence())
    }
}
