//! The receiving end of a channel.

use crate::end::End;
use crate::errors;
use crate::frame::{Frame, Held};
use crate::types::Type;
use crate::{infos, waits};
use memlane::{Message, RecvError, Untyped};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefMethods, PyWeakrefReference};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Ours = memlane::Receiver<Untyped>;

/// Receives messages; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, subclass, module = "memlane")]
pub(crate) struct Receiver {
    end: End<Ours>,
    of: Arc<Type>,
    id: u128,
    /// The frame that an iterator gave out last, if that is still there.
    last: Mutex<Option<Py<PyWeakrefReference>>>,
}

impl Receiver {
    pub(crate) fn with<R>(&self, py: Python<'_>, act: impl FnOnce(&mut Ours) -> PyResult<R>) -> PyResult<R> {
        self.end.with(py, act)
    }

    fn last(&self) -> MutexGuard<'_, Option<Py<PyWeakrefReference>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn frame(&self, message: Message<Untyped>) -> Frame {
        Frame::new(Held::Message(message), &self.of)
    }
}

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (name, *, timeout = Some(0.0)))]
    fn open(py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<Self> {
        let wait = waits::timeout(timeout)?;
        let receiver = waits::waiting(py, || match timeout {
            Some(0.0) => Ours::open(name),
            _ => Ours::wait_for(name, wait),
        })?;
        let of = Arc::new(Type::of(py, &receiver.schema())?);
        let (name, id) = (receiver.name().to_string(), receiver.id());
        Ok(Self { end: End::new(receiver, "receiver", name), of, id, last: Mutex::default() })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.end.name
    }

    #[getter]
    fn id(&self) -> u128 {
        self.id
    }

    #[getter]
    fn message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.of.name(py)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.end.is_closed()
    }

    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Frame> {
        let timeout = waits::timeout(timeout)?;
        let message = self.end.waiting(py, |receiver| match timeout {
            None => receiver.recv(),
            Some(timeout) => receiver.recv_timeout(timeout),
        })?;
        Ok(self.frame(message))
    }

    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        Ok(self.end.waiting(py, Ours::try_recv)?.map(|message| self.frame(message)))
    }

    fn latest(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        Ok(self.end.waiting(py, Ours::latest)?.map(|message| self.frame(message)))
    }

    fn recv_many(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Frame>> {
        let messages = self.end.waiting(py, |receiver| receiver.recv_many(most))?;
        Ok(messages.into_iter().map(|message| self.frame(message)).collect())
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let timeout = waits::timeout(timeout)?;
        self.end.waiting(py, |receiver| receiver.wait(timeout))
    }

    #[pyo3(signature = (timeout = None))]
    fn wait_for_sender(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let timeout = waits::timeout(timeout)?;
        self.end.waiting(py, |receiver| receiver.wait_for_sender(timeout))
    }

    fn rewind(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |receiver| {
            receiver.rewind();
            Ok(())
        })
    }

    fn receivers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.with(py, |receiver| infos::receivers(py, &receiver.receivers()))
    }

    fn senders<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.with(py, |receiver| infos::senders(py, &receiver.senders()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.end.close(py)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Whoever asks for the next one is done with the last one, though a loop still has it in its hands, and looks at it.
    fn _done_with_last(&self, py: Python<'_>) -> Option<Py<Frame>> {
        let last = self.last().take();
        let frame = last.and_then(|last| last.bind(py).upgrade_as::<Frame>().ok().flatten())?;
        frame.get().mark_processed();
        Some(frame.unbind())
    }

    /// Remembers what an iterator gives out.
    fn _given_out<'py>(&self, frame: Bound<'py, Frame>) -> PyResult<Bound<'py, Frame>> {
        *self.last() = Some(PyWeakrefReference::new(&frame)?.unbind());
        Ok(frame)
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let last = self._done_with_last(py);
        let next = || {
            self.end.waiting(py, |receiver| match receiver.recv() {
                Err(RecvError::Closed { .. }) => Ok(None),
                Err(error @ RecvError::ClaimsInUse { .. }) => Ok(Some(Err(error))),
                received => received.map(|message| Some(Ok(message))),
            })
        };
        let mut received = next()?;
        // The loop has the last one still: if nobody looks at it, it goes.
        if let (Some(Err(_)), Some(last)) = (&received, last)
            && last.get().let_go()
        {
            received = next()?;
        }
        match received {
            Some(Ok(message)) => self._given_out(Bound::new(py, self.frame(message))?).map(Some),
            Some(Err(error)) => Err(errors::raise(py, &error)),
            None => Ok(None),
        }
    }

    fn __repr__(&self) -> String {
        self.end.shown("Receiver")
    }

    /// Another process becomes another receiver.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        Ok((slf.get_type().into_any(), PyTuple::new(slf.py(), [&slf.get().end.name])?))
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
