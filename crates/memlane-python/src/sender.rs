//! The sending end of a channel.

use crate::end::shown;
use crate::errors;
use crate::fill::{Filler, shape_of};
use crate::loan::Loan;
use crate::ticket::Ticket;
use crate::types::{Element, Type, pixel_format};
use crate::{infos, waits};
use memlane::{ChannelOptions, Persistence, Policy, Untyped};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Sends messages; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane", weakref)]
pub(crate) struct Sender {
    /// Gone once it was closed.
    sender: Mutex<Option<Arc<memlane::Sender<Untyped>>>>,
    of: Arc<Type>,
    name: String,
}

/// How a channel is to be, in Python's terms.
struct Asked<'a, 'py> {
    max_message: Option<u64>,
    counts: [u16; 5],
    policy: &'a str,
    message: Option<Bound<'py, PyAny>>,
    keep: bool,
    mode: u32,
}

impl<'py> Asked<'_, 'py> {
    fn options(self, py: Python<'py>) -> PyResult<(ChannelOptions, memlane::Schema)> {
        let schema = Type::asked(self.message.as_ref())?;
        let policy = match self.policy {
            "lossless" => Policy::Lossless,
            "newest" => Policy::Newest,
            "queue" => Policy::Queue,
            other => {
                let message = format!("'{other}' is no policy: use 'lossless', 'newest' or 'queue'");
                return Err(PyValueError::new_err(message));
            }
        };
        let [slots, senders, receivers, claims, loans] = self.counts;
        let options = ChannelOptions::new().slots(slots).senders(senders).receivers(receivers);
        let options = options.claims(claims).loans(loans).policy(policy).mode(self.mode);
        let options = options.persistence(persistence(self.keep));
        let of = Type::of(py, &schema)?;
        let max = self.max_message.map(|bytes| of.with_overhead(bytes));
        Ok((max.map_or(options, |max| options.max_message(max)), schema))
    }
}

pub(crate) fn persistence(keep: bool) -> Persistence {
    if keep { Persistence::Keep } else { Persistence::UntilLastUser }
}

impl Sender {
    fn new(py: Python<'_>, sender: memlane::Sender<Untyped>) -> PyResult<Self> {
        let of = Arc::new(Type::of(py, &sender.schema())?);
        let name = sender.name().to_string();
        Ok(Self { sender: Mutex::new(Some(Arc::new(sender))), of, name })
    }

    fn sender(&self, py: Python<'_>) -> PyResult<Arc<memlane::Sender<Untyped>>> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender
            .clone()
            .ok_or_else(|| errors::released(py, format!("the sender of '{}' was closed: open it again", self.name)))
    }

    fn fill<'py, R>(
        &self,
        py: Python<'py>,
        timeout: Option<Duration>,
        fill: impl FnOnce(Filler<'_, 'py>) -> PyResult<R>,
    ) -> PyResult<R> {
        let sender = self.sender(py)?;
        fill(Filler { py, of: &self.of, lend: &|tail| Some(sender.loan(tail)), timeout })
    }
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (
        name, *, max_message = None, slots = 4, senders = 1, receivers = 4, claims = 2, loans = 2, policy = "lossless",
        message = None, keep = false, mode = 0o600
    ))]
    #[expect(clippy::too_many_arguments, reason = "options, by keyword")]
    fn create(
        py: Python<'_>,
        name: &str,
        max_message: Option<u64>,
        slots: u16,
        senders: u16,
        receivers: u16,
        claims: u16,
        loans: u16,
        policy: &str,
        message: Option<Bound<'_, PyAny>>,
        keep: bool,
        mode: u32,
    ) -> PyResult<Self> {
        let counts = [slots, senders, receivers, claims, loans];
        let (options, schema) = Asked { max_message, counts, policy, message, keep, mode }.options(py)?;
        Self::new(py, waits::waiting(py, || memlane::Sender::create_as(name, &options, &schema))?)
    }

    #[classmethod]
    #[pyo3(name = "open")]
    fn open_class(_class: &Bound<'_, PyType>, py: Python<'_>, name: &str) -> PyResult<Self> {
        Self::new(py, waits::waiting(py, || memlane::Sender::<Untyped>::open(name))?)
    }

    #[classmethod]
    #[pyo3(signature = (
        name, *, max_message = None, slots = 4, senders = 1, receivers = 4, claims = 2, loans = 2, policy = "lossless",
        message = None, keep = false, mode = 0o600
    ))]
    #[expect(clippy::too_many_arguments, reason = "options, by keyword")]
    fn open_or_create(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        name: &str,
        max_message: Option<u64>,
        slots: u16,
        senders: u16,
        receivers: u16,
        claims: u16,
        loans: u16,
        policy: &str,
        message: Option<Bound<'_, PyAny>>,
        keep: bool,
        mode: u32,
    ) -> PyResult<Self> {
        let counts = [slots, senders, receivers, claims, loans];
        let (options, schema) = Asked { max_message, counts, policy, message, keep, mode }.options(py)?;
        let sender = waits::waiting(py, || memlane::Sender::open_or_create_as(name, &options, &schema))?;
        Self::new(py, sender)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<u128> {
        Ok(self.sender(py)?.id())
    }

    #[getter]
    fn max_message(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.of.without_overhead(self.sender(py)?.max_message()))
    }

    #[getter]
    fn message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.of.name(py)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[pyo3(signature = (shape, dtype = None, *, timeout = None))]
    fn loan_array(
        &self,
        py: Python<'_>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Loan> {
        let element = dtype.map_or(Ok(crate::types::BYTE), Element::asked)?;
        self.fill(py, waits::timeout(timeout)?, |filler| filler.tensor(&shape_of(shape)?, element))
    }

    #[pyo3(signature = (width, height, format = "rgb8", *, timeout = None))]
    fn loan_image(
        &self,
        py: Python<'_>,
        width: u32,
        height: u32,
        format: &str,
        timeout: Option<f64>,
    ) -> PyResult<Loan> {
        let format = pixel_format(format)?;
        self.fill(py, waits::timeout(timeout)?, |filler| filler.image(width, height, format))
    }

    #[pyo3(signature = (size = 0, *, timeout = None))]
    fn loan(&self, py: Python<'_>, size: u64, timeout: Option<f64>) -> PyResult<Loan> {
        self.fill(py, waits::timeout(timeout)?, |filler| filler.plain(size))
    }

    #[pyo3(signature = (data, *, timeout = None, metadata = Vec::new(), schema_id = 0, format = None))]
    fn send(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        metadata: Vec<u8>,
        schema_id: u64,
        format: Option<&str>,
    ) -> PyResult<Ticket> {
        let loan = self.fill(py, None, |filler| filler.copy(data, format))?;
        let loan = loan.get();
        loan.set_metadata(py, metadata)?;
        loan.set_schema_id(schema_id);
        loan.send(py, timeout)
    }

    fn receivers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        infos::receivers(py, &self.sender(py)?.receivers())
    }

    fn senders<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        infos::senders(py, &self.sender(py)?.senders())
    }

    #[pyo3(signature = (count = 1, timeout = None))]
    fn wait_for_receivers(&self, py: Python<'_>, count: usize, timeout: Option<f64>) -> PyResult<()> {
        let (sender, timeout) = (self.sender(py)?, waits::timeout(timeout)?);
        waits::waiting(py, || sender.wait_for_receivers(count, timeout))
    }

    fn remove_name(&self, py: Python<'_>) -> PyResult<()> {
        let sender = self.sender(py)?;
        waits::waiting(py, || sender.remove_name())
    }

    fn close(&self, py: Python<'_>) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(sender));
    }

    fn __repr__(&self) -> String {
        shown("Sender", &self.name, self.closed())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "a sender belongs to its process: pass the name '{}', and open it there with Sender.open",
            self.name
        )))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (_kind, _error, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) {
        self.close(py);
    }
}
