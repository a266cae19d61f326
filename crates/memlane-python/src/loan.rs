//! Messages that are being filled, in place.

use crate::errors;
use crate::ticket::Ticket;
use crate::types::{self, BYTE, Type};
use crate::views::{self, Array, Memory, Views};
use crate::{python, waits};
use memlane::{Unsent, Untyped};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What has become of a loan.
#[derive(Debug)]
enum State {
    Filling(Box<memlane::Loan<Untyped>>),
    /// Its ticket keeps the mapping: views of it can be read as long as they live.
    Sent(memlane::Ticket),
    /// What was lent stays lent as long as there are views.
    Discarded {
        _loan: Option<Box<memlane::Loan<Untyped>>>,
    },
    /// It is being sent.
    OnItsWay,
}

/// The arrays that were given out. They are not kept, as they keep the loan.
#[derive(Debug, Default)]
struct Lent {
    /// The one to be given out again.
    array: Option<Py<PyWeakrefReference>>,
    /// Of each, the one that it and all its views are views of; and whether they were made read-only.
    wholes: Vec<(Py<PyWeakrefReference>, bool)>,
}

impl Lent {
    /// Whether any is still there, with `writable` one that can be written.
    fn is_looked_at(&mut self, py: Python<'_>, writable: bool) -> bool {
        self.wholes.retain(|(whole, _)| whole.bind(py).upgrade().is_some());
        self.wholes.iter().any(|(_, revoked)| !writable || !revoked)
    }
}

/// What is to be sent along.
#[derive(Debug, Default)]
struct Label {
    metadata: Vec<u8>,
    schema_id: u64,
    /// Something was written in the loan, and is to be written anew if that failed to be sent.
    written: bool,
}

/// A message that is being filled; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane")]
pub(crate) struct Loan {
    state: Mutex<State>,
    of: Arc<Type>,
    /// The elements of its flexible tail.
    elements: u64,
    views: Views,
    lent: Mutex<Lent>,
    label: Mutex<Label>,
    timeout: Option<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loan {
    pub(crate) fn new(loan: memlane::Loan<Untyped>, of: &Arc<Type>, elements: u64, timeout: Option<Duration>) -> Self {
        Self {
            state: Mutex::new(State::Filling(Box::new(loan))),
            of: Arc::clone(of),
            elements,
            views: Views::default(),
            lent: Mutex::default(),
            label: Mutex::default(),
            timeout,
        }
    }

    /// The whole as an array of what NumPy itself knows, for a copy into it: to be dropped before it is sent.
    pub(crate) fn copied_into<'py>(&self, slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let array = python::AS_ARRAY.call(slf.py(), (slf,))?;
        self.of.typed(array, BYTE, self.elements)
    }

    fn gone(py: Python<'_>) -> PyErr {
        errors::released(py, "the loan was sent or discarded: ask for another one")
    }

    /// The array, and where it lies.
    fn content(&self, py: Python<'_>) -> PyResult<(Memory, Array)> {
        let content = match &mut *lock(&self.state) {
            State::Filling(loan) => {
                let base = loan.as_mut_ptr();
                Some(self.of.array(loan).map(|array| (Memory { base, readonly: false }, array)))
            }
            _ => None,
        };
        // Not with the lock held: to make an exception runs Python.
        content.ok_or_else(|| Self::gone(py))?.ok_or_else(|| types::corrupt(py, 0))
    }

    /// The array that was given out, if it is still there.
    fn lent<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        lock(&self.lent).array.as_ref().and_then(|array| array.bind(py).upgrade())
    }

    /// Whether anybody could still write it, but through the array that was given out last.
    fn is_shared(&self, py: Python<'_>) -> PyResult<bool> {
        if self.views.count() > 0 {
            return Ok(true);
        }
        match self.lent(py) {
            Some(lent) => lent.getattr("shared_with_others")?.extract(),
            None => Ok(lock(&self.lent).is_looked_at(py, true)),
        }
    }

    fn shared() -> PyErr {
        PyBufferError::new_err(
            "somebody else could still write it: delete the memoryviews and tensors, and arrays that numpy.asarray has made, \
             before it is sent; nothing was sent",
        )
    }

    /// Makes what was given out read-only, if that can be done with all of it.
    fn revoke(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_shared(py)? {
            return Err(Self::shared());
        }
        if let Some(lent) = self.lent(py) {
            python::REVOKE.call(py, (lent,))?;
        }
        Ok(())
    }

    /// Takes the message, filled, with nobody left who could write it.
    fn finish(&self, py: Python<'_>) -> PyResult<memlane::Loan<Untyped>> {
        self.write_label(py)?;
        self.revoke(py)?;
        // No Python from here on: another thread may have come by a view while it ran.
        let taken = {
            let mut state = lock(&self.state);
            match &*state {
                State::Filling(_) if self.views.count() == 0 => {
                    lock(&self.lent).wholes.iter_mut().for_each(|(_, revoked)| *revoked = true);
                    Ok(std::mem::replace(&mut *state, State::OnItsWay))
                }
                State::Filling(_) => Err(true),
                _ => Err(false),
            }
        };
        match taken {
            Ok(State::Filling(loan)) => Ok(*loan),
            Err(true) => Err(Self::shared()),
            _ => Err(Self::gone(py)),
        }
    }

    fn write_label(&self, py: Python<'_>) -> PyResult<()> {
        let written = match &mut *lock(&self.state) {
            State::Filling(loan) => {
                let mut label = lock(&self.label);
                label.written |= !label.metadata.is_empty() || label.schema_id != 0;
                let write = |loan: &mut memlane::Loan<Untyped>| {
                    loan.set_metadata(&label.metadata)?;
                    loan.set_schema_id(label.schema_id)
                };
                Some(if label.written { write(loan) } else { Ok(()) })
            }
            _ => None,
        };
        written.ok_or_else(|| Self::gone(py))?.map_err(|error| errors::raise(py, &error))
    }

    fn deliver(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Ticket> {
        let loan = self.finish(py)?;
        let sent = py.detach(move || match timeout {
            None => loan.send(),
            Some(timeout) => loan.send_timeout(timeout),
        });
        match sent {
            Ok(ticket) => {
                *lock(&self.state) = State::Sent(ticket.clone());
                Ok(Ticket::new(ticket))
            }
            Err(unsent) => Err(self.take_back(py, unsent)),
        }
    }

    /// It was not sent: it can be sent again.
    fn take_back(&self, py: Python<'_>, unsent: Unsent<Untyped>) -> PyErr {
        let error = waits::raised().unwrap_or_else(|| errors::raise(py, unsent.error()));
        *lock(&self.state) = State::Filling(Box::new(unsent.into_loan()));
        // What was given out can no longer be written: whoever asks again gets what can.
        lock(&self.lent).array = None;
        error
    }
}

#[pymethods]
impl Loan {
    #[getter]
    fn array<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let (memory, array) = this.content(py)?;
        if let Some(lent) = this.lent(py) {
            return Ok(lent);
        }
        let whole = Type::over(slf.as_any(), memory, &array)?;
        let array = python::LEND.call(py, (this.of.typed(whole.clone(), array.element, this.elements)?,))?;
        let (array_reference, whole) = (PyWeakrefReference::new(&array)?, PyWeakrefReference::new(&whole)?);
        // No Python from here on: another thread may have asked for the array, or sent it, while it ran.
        if let Some(theirs) = this.lent(py) {
            return Ok(theirs);
        }
        let filling = {
            let state = lock(&this.state);
            let mut lent = lock(&this.lent);
            lent.array = Some(array_reference.unbind());
            lent.wholes.push((whole.unbind(), false));
            matches!(*state, State::Filling(_))
        };
        if filling {
            return Ok(array);
        }
        python::REVOKE.call(py, (array,))?;
        Err(Self::gone(py))
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<isize> {
        Ok(self.content(py)?.1.nbytes())
    }

    #[getter]
    fn ticket(&self) -> Option<Ticket> {
        match &*lock(&self.state) {
            State::Sent(ticket) => Some(Ticket::new(ticket.clone())),
            _ => None,
        }
    }

    #[getter]
    fn metadata(&self) -> Vec<u8> {
        lock(&self.label).metadata.clone()
    }

    #[setter]
    pub(crate) fn set_metadata(&self, py: Python<'_>, metadata: Vec<u8>) -> PyResult<()> {
        const MOST: usize = 64;
        if metadata.len() > MOST {
            let message = format!("{} bytes of metadata: at most {MOST} can be sent along", metadata.len());
            return Err(errors::new(py, "TooLarge", message, &[]));
        }
        lock(&self.label).metadata = metadata;
        Ok(())
    }

    #[getter]
    fn schema_id(&self) -> u64 {
        lock(&self.label).schema_id
    }

    #[setter]
    pub(crate) fn set_schema_id(&self, schema_id: u64) {
        lock(&self.label).schema_id = schema_id;
    }

    #[pyo3(signature = (timeout = None))]
    pub(crate) fn send(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Ticket> {
        self.deliver(py, waits::timeout(timeout)?)
    }

    fn discard(&self, py: Python<'_>) {
        let mut state = lock(&self.state);
        let is_looked_at = self.views.count() > 0 || lock(&self.lent).is_looked_at(py, false);
        match std::mem::replace(&mut *state, State::Discarded { _loan: None }) {
            State::Filling(loan) => *state = State::Discarded { _loan: is_looked_at.then_some(loan) },
            other => *state = other,
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.content(py)?.1.shape.first().copied().unwrap_or(1) as usize)
    }

    fn __repr__(&self) -> &'static str {
        match &*lock(&self.state) {
            State::Filling(_) => "<memlane.Loan>",
            State::Sent(_) => "<memlane.Loan, sent>",
            State::Discarded { .. } => "<memlane.Loan, discarded>",
            State::OnItsWay => "<memlane.Loan, being sent>",
        }
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::array(slf)
    }

    #[pyo3(signature = (kind, _error, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let filling = matches!(*lock(&self.state), State::Filling(_));
        match kind {
            None if filling => self.deliver(py, self.timeout).map(drop),
            None => Ok(()),
            Some(_) => {
                self.discard(py);
                Ok(())
            }
        }
    }

    #[expect(unsafe_code, reason = "the buffer protocol gives out addresses")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let views = this.views.clone();
        let (memory, array) = this.content(slf.py()).inspect_err(|_| {
            // SAFETY: Python passed a buffer to be filled in, and asks for that where it is not.
            unsafe { (*view).obj = std::ptr::null_mut() };
        })?;
        // SAFETY: Python passed a buffer to be filled in. The array lies in the loan's buffer, which is mapped as long as the
        // loan or, once it was sent, its ticket is there; a view keeps this object, which keeps either, and while it is on
        // its way the call that sends it does.
        unsafe { views::export(slf.into_any(), &views, memory, array, view, flags) }
    }

    #[expect(unsafe_code, reason = "the buffer protocol gives out addresses")]
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: Python passes what was filled in above, once.
        unsafe { views::release(view) };
    }

    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    #[expect(unsafe_code, reason = "DLPack gives out addresses")]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = stream; // of a device that it is not on
        let this = slf.get();
        let (memory, array) = this.content(slf.py())?;
        if dl_device.is_some_and(|device| device != views::DEVICE) || copy == Some(true) {
            return Err(PyBufferError::new_err("it is in the memory of the CPU, to be filled there"));
        }
        // SAFETY: as in `__getbuffer__`.
        unsafe { views::dlpack(slf.as_any(), &this.views, memory, &array, max_version) }
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        views::DEVICE
    }
}
