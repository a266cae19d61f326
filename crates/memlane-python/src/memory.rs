//! Objects of raw bytes, and of records.

use crate::sender::persistence;
use crate::types::{self, BYTE};
use crate::views::{self, Array, Memory as Bytes, Views};
use crate::{errors, python, waits};
use memlane::{Name, Options, Origin, RegionMut, SharedMemory};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of an object in this process: what `SharedMemory` and `Segment` of Python stand on.
#[derive(Debug)]
#[pyclass(frozen, subclass, weakref, module = "memlane._memlane")]
pub(crate) struct Memory {
    /// Gone once it was closed.
    region: Mutex<Option<Arc<RegionMut>>>,
    pub(crate) name: String,
    len: usize,
    origin: &'static str,
    views: Views,
}

/// Keeps the mapping for arrays that outlive the object's being open.
#[derive(Debug)]
#[pyclass(frozen, module = "memlane._memlane")]
struct Mapping {
    _region: Arc<RegionMut>,
}

impl Memory {
    fn new(region: RegionMut) -> Self {
        let (name, len) = (region.name().to_string(), region.len());
        let origin = match region.origin() {
            Origin::Created => "created",
            Origin::TakenOver => "taken over",
            Origin::Opened => "opened",
        };
        Self { region: Mutex::new(Some(Arc::new(region))), name, len, origin, views: Views::default() }
    }

    /// That of a `SharedMemory`, or of a `Segment`.
    pub(crate) fn of(holder: &Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let held = || holder.getattr("_memory");
        let memory = holder.cast::<Self>().cloned().or_else(|_| Ok::<_, PyErr>(held()?.cast_into::<Self>()?));
        memory.map(Bound::unbind).map_err(|_| PyTypeError::new_err("a lock lies in a SharedMemory or a Segment"))
    }

    /// The region; locks in it keep it.
    pub(crate) fn region(&self, py: Python<'_>) -> PyResult<Arc<RegionMut>> {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        region.clone().ok_or_else(|| errors::released(py, format!("'{}' was closed: open it again", self.name)))
    }
}

#[pymethods]
impl Memory {
    /// Raw bytes, as `multiprocessing.shared_memory.SharedMemory` takes its arguments.
    #[new]
    #[pyo3(signature = (name = None, create = false, size = 0, *, keep = false, mode = 0o600))]
    fn raw(py: Python<'_>, name: Option<&str>, create: bool, size: i64, keep: bool, mode: u32) -> PyResult<Self> {
        let size = u64::try_from(size).map_err(|_| PyValueError::new_err("'size' must be a positive integer"))?;
        let unique = Name::unique("psm").map_err(|error| errors::raise(py, &error))?;
        let options = Options::new().persistence(persistence(keep)).mode(mode);
        let region = match (create, name) {
            (true, _) if size == 0 => {
                return Err(PyValueError::new_err("'size' must be a positive number different from zero"));
            }
            (true, name) => {
                waits::waiting(py, || SharedMemory::create(name.unwrap_or(unique.as_str()), size, &options)?.map_mut())?
            }
            (false, None) => return Err(PyValueError::new_err("'name' can only be None if create=True")),
            (false, Some(name)) => waits::waiting(py, || SharedMemory::open(name)?.map_mut())?,
        };
        Ok(Self::new(region))
    }

    /// Creates an object of what is described, filled with what `value` starts with.
    #[classmethod]
    #[expect(clippy::too_many_arguments, reason = "what is called from one place")]
    #[expect(unsafe_code, reason = "what is in it is known when the program runs")]
    fn create_as(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        name: &str,
        fields: &Bound<'_, PyAny>,
        tail: u64,
        value: Vec<u8>,
        keep: bool,
        mode: u32,
    ) -> PyResult<Self> {
        let (schema, options) = (types::schema(fields)?, Options::new().persistence(persistence(keep)).mode(mode));
        let fill = |bytes: &mut [u8]| bytes.iter_mut().zip(&value).for_each(|(byte, value)| *byte = *value);
        // SAFETY: `Segment` of Python gives out its bytes read-only, but for what a lock guards while that is held.
        waits::waiting(py, || unsafe { RegionMut::create_as(name, &schema, tail, &options, fill) }).map(Self::new)
    }

    /// Opens an object of what is described.
    #[classmethod]
    #[expect(unsafe_code, reason = "what is in it is known when the program runs")]
    fn open_as(_class: &Bound<'_, PyType>, py: Python<'_>, name: &str, fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        let schema = types::schema(fields)?;
        // SAFETY: as in `create_as`.
        waits::waiting(py, || unsafe { RegionMut::open_as(name, &schema) }).map(Self::new)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn size(&self) -> usize {
        self.len
    }

    #[getter]
    fn origin(&self) -> &str {
        self.origin
    }

    #[getter]
    fn closed(&self) -> bool {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Its bytes, writable, in an array that can be made read-only for good.
    fn array<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, region) = (slf.py(), slf.get().region(slf.py())?);
        let (shape, strides) = (PyTuple::new(py, [region.len()])?, PyTuple::new(py, [1])?);
        let address = region.as_ptr().addr();
        python::OVER.call(py, (Bound::new(py, Mapping { _region: region })?, address, BYTE.numpy, shape, strides))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let count = self.views.count();
        if count > 0 {
            return Err(PyBufferError::new_err(format!(
                "'{}' is looked at by {count} arrays or other views: delete them first",
                self.name
            )));
        }
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(region));
        Ok(())
    }

    #[expect(unsafe_code, reason = "the buffer protocol gives out addresses")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let region = this.region(slf.py()).inspect_err(|_| {
            // SAFETY: Python passed a buffer to be filled in, and asks for that where it is not.
            unsafe { (*view).obj = std::ptr::null_mut() };
        })?;
        let memory = Bytes { base: region.as_ptr().cast_mut(), readonly: false };
        let array = Array::dense(0, BYTE, vec![region.len() as isize]);
        let views = this.views.clone();
        // SAFETY: Python passed a buffer to be filled in. The array is the region, which this object keeps while it counts
        // views, see `close`, and a view keeps this object. It is mapped for writing; nothing here has references into it but
        // to locks, which are atomic.
        unsafe { views::export(slf.into_any(), &views, memory, array, view, flags) }
    }

    #[expect(unsafe_code, reason = "the buffer protocol gives out addresses")]
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: Python passes what was filled in above, once.
        unsafe { views::release(view) };
    }
}

/// What an object says of what is in it: its parts, those of what is at `path`, and the elements of its tail, or its bytes
/// if it says nothing.
#[pyfunction]
pub(crate) fn described<'py>(py: Python<'py>, name: &str, path: &str) -> PyResult<(Bound<'py, PyTuple>, u64)> {
    let object = waits::waiting(py, || SharedMemory::open(name))?;
    let whole = object.schema();
    let schema = if path.is_empty() { whole.clone() } else { whole.at(path) };
    if !path.is_empty() && schema.fields().next().is_none() {
        return Err(PyValueError::new_err(format!("'{name}' has nothing at '{path}'")));
    }
    let tail = if whole.fields().next().is_none() { object.size() } else { object.tail_len() };
    Ok((types::fields(py, &schema)?, tail))
}

/// Takes a name away.
#[pyfunction]
pub(crate) fn remove(py: Python<'_>, name: &str) -> PyResult<()> {
    waits::waiting(py, || memlane::remove(name))
}

/// Takes a name away, and tells all who use the object.
#[pyfunction]
pub(crate) fn retire(py: Python<'_>, name: &str) -> PyResult<()> {
    waits::waiting(py, || memlane::retire(name))
}

/// Removes what crashes left.
#[pyfunction]
#[pyo3(signature = (dry_run = false))]
pub(crate) fn gc(py: Python<'_>, dry_run: bool) -> PyResult<Vec<String>> {
    let reclaimed = waits::waiting(py, || memlane::gc(None, dry_run))?;
    Ok(reclaimed.into_iter().map(|object| object.name).collect())
}

/// What there is.
#[pyfunction]
pub(crate) fn objects(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let objects = waits::waiting(py, || memlane::list(None))?;
    objects.iter().map(|object| crate::infos::listed(py, object)).collect()
}
