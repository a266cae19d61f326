//! Requests and answers.

use crate::end::End;
use crate::fill::{Filler, Lend, shape_of};
use crate::frame::{Frame, Held};
use crate::loan::Loan;
use crate::sender::persistence;
use crate::ticket::Ticket;
use crate::types::{BYTE, Element, Type};
use crate::waits;
use memlane::{Call, RecvError, ServiceOptions, Untyped};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type OurServer = memlane::Server<Untyped, Untyped>;
type OurClient = memlane::Client<Untyped, Untyped>;

/// The types of requests and answers.
fn types(py: Python<'_>, schemas: &[memlane::Schema; 2]) -> PyResult<[Arc<Type>; 2]> {
    let [request, answer] = schemas;
    Ok([Arc::new(Type::of(py, request)?), Arc::new(Type::of(py, answer)?)])
}

/// Answers requests; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane")]
pub(crate) struct Server {
    end: End<OurServer>,
    request: Arc<Type>,
    answer: Arc<Type>,
}

impl Server {
    fn new(py: Python<'_>, server: OurServer) -> PyResult<Self> {
        let [request, answer] = types(py, &server.schemas())?;
        let name = server.name().to_string();
        Ok(Self { end: End::new(server, "server", name), request, answer })
    }

    fn request<'py>(
        &self,
        py: Python<'py>,
        request: memlane::Request<Untyped, Untyped>,
    ) -> PyResult<Bound<'py, Request>> {
        let frame = Frame::new(Held::Request(request), &self.request);
        let request = Request { answer: Arc::clone(&self.answer) };
        Bound::new(py, PyClassInitializer::from(frame).add_subclass(request))
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (
        name, *, max_request = None, max_answer = None, slots = 4, clients = 8, claims = 2, loans = 2, request = None,
        answer = None, keep = false, mode = 0o600
    ))]
    #[expect(clippy::too_many_arguments, reason = "options, by keyword")]
    fn create(
        py: Python<'_>,
        name: &str,
        max_request: Option<u64>,
        max_answer: Option<u64>,
        slots: u16,
        clients: u16,
        claims: u16,
        loans: u16,
        request: Option<Bound<'_, PyAny>>,
        answer: Option<Bound<'_, PyAny>>,
        keep: bool,
        mode: u32,
    ) -> PyResult<Self> {
        let (request, answer) = (Type::asked(request.as_ref())?, Type::asked(answer.as_ref())?);
        let options = ServiceOptions::new().slots(slots).clients(clients).claims(claims).loans(loans).mode(mode);
        let mut options = options.persistence(persistence(keep));
        if let Some(bytes) = max_request {
            options = options.max_request(Type::of(py, &request)?.with_overhead(bytes));
        }
        if let Some(bytes) = max_answer {
            options = options.max_answer(Type::of(py, &answer)?.with_overhead(bytes));
        }
        Self::new(py, waits::waiting(py, || OurServer::create_as(name, &options, [&request, &answer]))?)
    }

    #[classmethod]
    #[pyo3(name = "open")]
    fn open_class(_class: &Bound<'_, PyType>, py: Python<'_>, name: &str) -> PyResult<Self> {
        Self::new(py, waits::waiting(py, || OurServer::open(name))?)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.end.name
    }

    #[getter]
    fn closed(&self) -> bool {
        self.end.is_closed()
    }

    #[pyo3(signature = (timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, Request>> {
        let timeout = waits::timeout(timeout)?;
        let request = self.end.waiting(py, |server| match timeout {
            None => server.recv(),
            Some(timeout) => server.recv_timeout(timeout),
        })?;
        self.request(py, request)
    }

    fn try_recv<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Request>>> {
        let request = self.end.waiting(py, OurServer::try_recv)?;
        request.map(|request| self.request(py, request)).transpose()
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.end.close(py)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Request>>> {
        let request = self.end.waiting(py, |server| match server.recv() {
            Err(RecvError::Closed { .. }) => Ok(None),
            received => received.map(Some),
        })?;
        request.map(|request| self.request(py, request)).transpose()
    }

    fn __repr__(&self) -> String {
        self.end.shown("Server")
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
    ) -> PyResult<()> {
        self.close(py)
    }
}

/// A request that a server has received; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, extends = Frame, module = "memlane")]
pub(crate) struct Request {
    answer: Arc<Type>,
}

impl Request {
    fn fill<'py, R>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
        fill: impl FnOnce(Filler<'_, 'py>) -> PyResult<R>,
    ) -> PyResult<R> {
        let (py, frame) = (slf.py(), slf.as_super().get());
        let timeout = waits::timeout(timeout)?;
        let lend: Lend<'_> = &|tail| match &*frame.held() {
            Held::Request(request) => Some(request.loan(tail)),
            _ => None,
        };
        fill(Filler { py, of: &slf.get().answer, lend, timeout })
    }
}

#[pymethods]
impl Request {
    #[pyo3(signature = (shape, dtype = None, *, timeout = None))]
    fn loan_array(
        slf: &Bound<'_, Self>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Loan> {
        let element = dtype.map_or(Ok(BYTE), Element::asked)?;
        Self::fill(slf, timeout, |filler| filler.tensor(&shape_of(shape)?, element))
    }

    #[pyo3(signature = (size = 0, *, timeout = None))]
    fn loan(slf: &Bound<'_, Self>, size: u64, timeout: Option<f64>) -> PyResult<Loan> {
        Self::fill(slf, timeout, |filler| filler.plain(size))
    }

    #[pyo3(signature = (data, *, timeout = None, metadata = Vec::new()))]
    fn answer(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        metadata: Vec<u8>,
    ) -> PyResult<Ticket> {
        let loan = Self::fill(slf, None, |filler| filler.copy(data, None))?;
        loan.get().set_metadata(slf.py(), metadata)?;
        loan.get().send(slf.py(), timeout)
    }
}

/// Sends requests, and gets answers; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane")]
pub(crate) struct Client {
    end: End<OurClient>,
    request: Arc<Type>,
    answer: Arc<Type>,
    /// Those that were not answered.
    calls: Mutex<HashMap<u64, Call>>,
}

impl Client {
    fn fill<'py, R>(&self, py: Python<'py>, fill: impl FnOnce(Filler<'_, 'py>) -> PyResult<R>) -> PyResult<R> {
        self.end.with(py, |client| {
            fill(Filler { py, of: &self.request, lend: &|tail| Some(client.loan(tail)), timeout: None })
        })
    }

    fn answered(&self, call: Call, message: memlane::Message<Untyped>) -> Frame {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&call.number());
        Frame::new(Held::Message(message), &self.answer)
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (name, *, timeout = Some(0.0)))]
    fn open(py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<Self> {
        let wait = waits::timeout(timeout)?;
        let client = waits::waiting(py, || match timeout {
            Some(0.0) => OurClient::open(name),
            _ => OurClient::wait_for(name, wait),
        })?;
        let [request, answer] = types(py, &client.schemas())?;
        let name = client.name().to_string();
        Ok(Self { end: End::new(client, "client", name), request, answer, calls: Mutex::default() })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.end.name
    }

    #[getter]
    fn closed(&self) -> bool {
        self.end.is_closed()
    }

    #[pyo3(signature = (shape, dtype = None))]
    fn loan_array(&self, py: Python<'_>, shape: &Bound<'_, PyAny>, dtype: Option<&Bound<'_, PyAny>>) -> PyResult<Loan> {
        let element = dtype.map_or(Ok(BYTE), Element::asked)?;
        self.fill(py, |filler| filler.tensor(&shape_of(shape)?, element))
    }

    #[pyo3(signature = (size = 0))]
    fn loan(&self, py: Python<'_>, size: u64) -> PyResult<Loan> {
        self.fill(py, |filler| filler.plain(size))
    }

    fn call(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<u64> {
        let loan = match request.cast::<Loan>() {
            Ok(loan) => loan.clone(),
            Err(_) => self.fill(py, |filler| filler.copy(request, None))?,
        };
        let call = Call::of(loan.get().send(py, None)?.of());
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(call.number(), call);
        Ok(call.number())
    }

    #[pyo3(signature = (call, timeout = None))]
    fn answer(&self, py: Python<'_>, call: u64, timeout: Option<f64>) -> PyResult<Frame> {
        let timeout = waits::timeout(timeout)?;
        let known = self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&call).copied();
        let call = known.ok_or_else(|| {
            PyValueError::new_err(format!("call {call} of '{}' was not made, or was answered", self.end.name))
        })?;
        let message = self.end.waiting(py, |client| client.answer(call, timeout))?;
        Ok(self.answered(call, message))
    }

    #[pyo3(signature = (timeout = None))]
    fn any_answer(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<(u64, Frame)> {
        let timeout = waits::timeout(timeout)?;
        let (call, message) = self.end.waiting(py, |client| client.any_answer(timeout))?;
        Ok((call.number(), self.answered(call, message)))
    }

    #[pyo3(signature = (request, timeout = None))]
    fn ask(&self, py: Python<'_>, request: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Frame> {
        let call = self.call(py, request)?;
        self.answer(py, call, timeout).inspect_err(|_| {
            // Nobody else knows of it: its answer is not to be kept.
            let _ = self.forget(py, call);
        })
    }

    fn forget(&self, py: Python<'_>, call: u64) -> PyResult<()> {
        let known = self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&call);
        let Some(call) = known else { return Ok(()) };
        self.end.with(py, |client| {
            client.forget(call);
            Ok(())
        })
    }

    #[pyo3(signature = (timeout = None))]
    fn wait_for_server(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let timeout = waits::timeout(timeout)?;
        self.end.waiting(py, |client| client.wait_for_server(timeout))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.end.close(py)
    }

    fn __repr__(&self) -> String {
        self.end.shown("Client")
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
    ) -> PyResult<()> {
        self.close(py)
    }
}
