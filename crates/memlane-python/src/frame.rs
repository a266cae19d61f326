//! Messages that were received, in place.

use crate::errors;
use crate::types::{self, BYTE, Kind, Type};
use crate::views::{self, Array, Memory, Views};
use memlane::{Message, Untyped, UntypedTail};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMemoryView, PyTuple};
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a frame holds, until it is released.
#[derive(Debug)]
pub(crate) enum Held {
    Message(Message<Untyped>),
    Request(memlane::Request<Untyped, Untyped>),
    Nothing,
}

impl Held {
    pub(crate) fn message(&self) -> Option<&Message<Untyped>> {
        match self {
            Self::Message(message) => Some(message),
            Self::Request(request) => Some(request.message()),
            Self::Nothing => None,
        }
    }
}

/// A message that was received; see `__init__.pyi`.
#[derive(Debug)]
#[pyclass(frozen, subclass, weakref, module = "memlane")]
pub(crate) struct Frame {
    held: Mutex<Held>,
    sequence: u64,
    of: Arc<Type>,
    views: Views,
}

impl Frame {
    pub(crate) fn new(held: Held, of: &Arc<Type>) -> Self {
        let sequence = held.message().map_or(0, |message| message.sequence());
        Self { held: Mutex::new(held), sequence, of: Arc::clone(of), views: Views::default() }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing in here panics half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn released(&self, py: Python<'_>) -> PyErr {
        errors::released(py, format!("message {} was released: look at it, or copy it, before that", self.sequence))
    }

    /// What `look` says of the message.
    fn look<R>(&self, py: Python<'_>, look: impl FnOnce(&Message<Untyped>) -> R) -> PyResult<R> {
        let looked = self.held().message().map(look);
        // Not with the lock held: to make an exception runs Python.
        looked.ok_or_else(|| self.released(py))
    }

    /// The array, where it lies, and the elements of the message.
    fn content(&self, py: Python<'_>) -> PyResult<(Memory, Array, UntypedTail)> {
        let content = self.look(py, |message| {
            let memory = Memory { base: message.as_ptr().cast_mut(), readonly: true };
            self.of.array(message).map(|array| (memory, array, message.tail()))
        })?;
        content.ok_or_else(|| types::corrupt(py, self.sequence))
    }

    /// Says that it was processed; it, and views of it, can be looked at all the same.
    pub(crate) fn mark_processed(&self) {
        match &mut *self.held() {
            Held::Message(message) => message.mark_processed(),
            Held::Request(request) => request.mark_processed(),
            Held::Nothing => {}
        }
    }

    /// Says that it was not processed, likewise.
    fn mark_given_back(&self) {
        match &mut *self.held() {
            Held::Message(message) => message.mark_given_back(),
            Held::Request(request) => request.mark_given_back(),
            Held::Nothing => {}
        }
    }

    /// Lets go of it, if nobody looks at it.
    pub(crate) fn let_go(&self) -> bool {
        self.take().is_ok()
    }

    /// Takes what it holds, to let go of it.
    fn take(&self) -> PyResult<Held> {
        let mut held = self.held();
        match self.views.count() {
            0 => Ok(std::mem::replace(&mut *held, Held::Nothing)),
            count => Err(PyBufferError::new_err(format!(
                "message {} is looked at by {count} arrays or other views: delete them first, or the frame, which lets go \
                 when the last of them has gone",
                self.sequence
            ))),
        }
    }
}

#[pymethods]
impl Frame {
    #[getter]
    fn sequence(&self) -> u64 {
        self.sequence
    }

    #[getter]
    fn lane(&self, py: Python<'_>) -> PyResult<usize> {
        self.look(py, |message| message.lane())
    }

    #[getter]
    fn missed(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, |message| message.missed())
    }

    #[getter]
    fn deliveries(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, |message| message.deliveries())
    }

    #[getter]
    fn age(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.look(py, |message| message.age().map(|age| age.as_secs_f64()))
    }

    #[getter]
    fn metadata(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.look(py, |message| message.metadata().to_vec())
    }

    #[getter]
    fn schema_id(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, |message| message.schema_id())
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<isize> {
        Ok(self.content(py)?.1.nbytes())
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self.of.kind {
            Kind::Record { .. } => Ok(PyTuple::empty(py)),
            _ => PyTuple::new(py, self.content(py)?.1.shape),
        }
    }

    #[getter]
    fn format(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        let image = self.look(py, |message| {
            let image = message.view::<memlane::Image>().filter(|_| matches!(self.of.kind, Kind::Image));
            image.and_then(|image| memlane::PixelFormat::from_number(image.format))
        })?;
        Ok(image.and_then(types::pixel_format_name))
    }

    #[getter]
    fn array<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let (_, array, tail) = this.content(slf.py())?;
        this.of.numpy(slf.as_any(), array.element, tail.elements())
    }

    #[getter(released)]
    fn is_released(&self) -> bool {
        self.held().message().is_none()
    }

    fn release(&self) -> PyResult<()> {
        drop(self.take()?);
        Ok(())
    }

    fn give_back(&self) -> PyResult<()> {
        match self.take()? {
            Held::Message(message) => message.give_back(),
            Held::Request(request) => request.give_back(),
            Held::Nothing => {}
        }
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.content(py)?.1.shape.first().copied().unwrap_or(1) as usize)
    }

    fn __repr__(&self) -> String {
        let state = if self.is_released() { ", released" } else { "" };
        format!("<memlane.Frame {}{state}>", self.sequence)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (kind, _error, _trace))]
    fn __exit__(
        &self,
        kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) {
        // What is to be said is said now; if there are views, it goes with the last of them.
        if kind.is_some() {
            self.mark_given_back()
        } else {
            self.mark_processed()
        }
        let _ = self.release();
    }

    #[expect(unsafe_code, reason = "the buffer protocol gives out addresses")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let content = this.content(slf.py());
        let views = this.views.clone();
        let (memory, array, _) = content.inspect_err(|_| {
            // SAFETY: Python passed a buffer to be filled in, and asks for that where it is not.
            unsafe { (*view).obj = std::ptr::null_mut() };
        })?;
        // SAFETY: Python passed a buffer to be filled in. The array lies in the message, which the frame holds, and does not
        // let go of while it counts views, see `take`; only the frame's end does, and a view keeps the frame.
        unsafe { views::export(slf.into_any(), &views, memory, array, view, flags) }
    }

    #[expect(unsafe_code, reason = "the buffer protocol gives out addresses")]
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: Python passes what was filled in above, once.
        unsafe { views::release(view) };
    }

    /// With a memoryview for its data, which keeps the frame and is counted, where an address would not be.
    #[getter]
    fn __array_interface__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let interface = Self::array(slf)?.getattr("__array_interface__")?.cast_into::<PyDict>()?;
        interface.set_item("data", PyMemoryView::from(slf.as_any())?)?;
        Ok(interface)
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
        let (memory, array, _) = this.content(slf.py())?;
        if dl_device.is_some_and(|device| device != views::DEVICE) {
            return Err(PyBufferError::new_err("it is in the memory of the CPU: copy it to another device from there"));
        }
        if matches!(this.of.kind, Kind::Record { .. }) && array.element.code == BYTE.code {
            return Err(PyBufferError::new_err("a record is no tensor: pass a field of its array"));
        }
        if copy == Some(true) {
            let owned = Self::array(slf)?.call_method0("copy")?;
            let options = PyDict::new(slf.py());
            // Which NumPy takes from 2.1 on, where it matters.
            if max_version.is_some() {
                options.set_item("max_version", max_version)?;
            }
            let versioned = owned.call_method("__dlpack__", (), Some(&options));
            return versioned.or_else(|_| owned.call_method0("__dlpack__"));
        }
        // SAFETY: as in `__getbuffer__`.
        unsafe { views::dlpack(slf.as_any(), &this.views, memory, &array, max_version) }
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        views::DEVICE
    }
}
