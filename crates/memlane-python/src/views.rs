//! Memory of messages in the hands of others: the buffer protocol, and DLPack. Both give out addresses; who gets one keeps
//! the object that it is of, and is counted, so that the object does not let go of the memory before.
#![allow(unsafe_code)]

use crate::types::Element;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How an array lies in some memory.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// Of its first element, in bytes.
    pub(crate) offset: usize,
    pub(crate) element: Element,
    pub(crate) shape: Vec<isize>,
    /// In bytes.
    pub(crate) strides: Vec<isize>,
}

impl Array {
    /// An array with nothing between its elements, the last dimension innermost.
    pub(crate) fn dense(offset: usize, element: Element, shape: Vec<isize>) -> Self {
        let strides = Self::dense_strides(element, &shape);
        Self { offset, element, shape, strides }
    }

    fn dense_strides(element: Element, shape: &[isize]) -> Vec<isize> {
        let mut strides = vec![element.size; shape.len()];
        for index in (1..shape.len()).rev() {
            strides[index - 1] = strides[index] * shape[index];
        }
        strides
    }

    fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    fn is_dense(&self) -> bool {
        let dense = Self::dense_strides(self.element, &self.shape);
        let matters = |index: &usize| self.shape[*index] > 1;
        self.is_empty() || (0..self.shape.len()).filter(matters).all(|index| self.strides[index] == dense[index])
    }

    /// Whether all its elements lie in the first `len` bytes.
    pub(crate) fn lies_in(&self, len: usize) -> bool {
        let mut end = self.offset.checked_add_signed(self.element.size);
        for (count, stride) in self.shape.iter().zip(&self.strides) {
            let span = (count - 1).max(0).checked_mul(*stride).filter(|span| *span >= 0);
            end = span.and_then(|span| end?.checked_add_signed(span));
        }
        self.is_empty() || end.is_some_and(|end| end <= len)
    }

    /// The bytes of its elements.
    pub(crate) fn nbytes(&self) -> isize {
        self.shape.iter().product::<isize>() * self.element.size
    }
}

/// Memory that others may be given views of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Views(Arc<AtomicUsize>);

impl Views {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        // ORDERING: Acquire pairs with the Release in `drop`: what a view was used for is over.
        self.0.load(Ordering::Acquire)
    }

    fn add(&self) -> View {
        self.0.fetch_add(1, Ordering::Relaxed);
        View(Arc::clone(&self.0))
    }
}

/// A view that is alive.
#[derive(Debug)]
struct View(Arc<AtomicUsize>);

impl Drop for View {
    fn drop(&mut self) {
        // ORDERING: Release pairs with the Acquire in `count`.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// What a `Py_buffer` points to as long as it is used.
struct Exported {
    array: Array,
    _view: View,
}

/// Memory to be looked at: the address, which stays valid as long as any view of it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) base: *mut u8,
    pub(crate) readonly: bool,
}

/// Fills in `view` as `flags` ask.
///
/// # Safety
///
/// `view` is a buffer to be filled in, as Python passes it to `__getbuffer__`. `array` lies in `memory`, which `owner` keeps
/// as long as it counts a view. `release` is called with the same `view` later.
pub(crate) unsafe fn export(
    owner: Bound<'_, PyAny>,
    views: &Views,
    memory: Memory,
    array: Array,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let has = |flag: c_int| flags & flag == flag;
    let refused = if view.is_null() {
        Some("there is no view to be filled in")
    } else if memory.readonly && has(ffi::PyBUF_WRITABLE) {
        Some("it can only be read: it was received, or sent")
    } else if !array.is_dense() && (!has(ffi::PyBUF_STRIDES) || has(ffi::PyBUF_C_CONTIGUOUS)) {
        Some("its elements do not lie one after the other: ask for strides, or copy it")
    } else if has(ffi::PyBUF_F_CONTIGUOUS) && array.shape.len() > 1 && !array.is_empty() {
        Some("it is not in Fortran's order: copy it")
    } else {
        None
    };
    if let Some(why) = refused {
        if !view.is_null() {
            // SAFETY: the caller passed a buffer to be filled in.
            unsafe { (*view).obj = std::ptr::null_mut() };
        }
        return Err(PyBufferError::new_err(why));
    }
    let mut exported = Box::new(Exported { array, _view: views.add() });
    let array = &mut exported.array;
    let (shape, strides) = (array.shape.as_mut_ptr(), array.strides.as_mut_ptr());
    let or_null = |wanted: bool, pointer: *mut isize| if wanted { pointer } else { std::ptr::null_mut() };
    let format = if has(ffi::PyBUF_FORMAT) { array.element.format.as_ptr().cast_mut() } else { std::ptr::null_mut() };
    // SAFETY: the caller passed a buffer to be filled in. What it points to lives in `exported` until it is released; that a
    // vector is moved with its box moves none of its elements.
    unsafe {
        (*view).buf = memory.base.add(array.offset).cast();
        (*view).len = array.nbytes();
        (*view).itemsize = array.element.size;
        (*view).readonly = memory.readonly.into();
        (*view).ndim = array.shape.len() as c_int;
        (*view).format = format;
        (*view).shape = or_null(has(ffi::PyBUF_ND) && (*view).ndim > 0, shape);
        (*view).strides = or_null(has(ffi::PyBUF_STRIDES) && (*view).ndim > 0, strides);
        (*view).suboffsets = std::ptr::null_mut();
        (*view).obj = owner.into_ptr();
        (*view).internal = Box::into_raw(exported).cast();
    }
    Ok(())
}

/// Takes back what [`export`] gave out.
///
/// # Safety
///
/// `view` was filled in by `export`, and is released once, as Python's `__releasebuffer__` sees to.
pub(crate) unsafe fn release(view: *mut ffi::Py_buffer) {
    // SAFETY: `export` put a box there, and nobody else takes it.
    drop(unsafe { Box::from_raw((*view).internal.cast::<Exported>()) });
}

const CPU: i32 = 1;
/// The device that the memory is on, as DLPack names it.
pub(crate) const DEVICE: (i32, i32) = (CPU, 0);
const READ_ONLY: u64 = 1;

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: [i32; 2],
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`, for consumers that know no versions.
#[repr(C)]
struct Unversioned {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: unsafe extern "C" fn(*mut Self),
    kept: Kept,
}

/// `DLManagedTensorVersioned`, from DLPack 1.0 on.
#[repr(C)]
struct Versioned {
    version: [u32; 2],
    context: *mut c_void,
    deleter: unsafe extern "C" fn(*mut Self),
    flags: u64,
    tensor: DlTensor,
    kept: Kept,
}

/// What a consumer's tensor points to, behind what it knows of.
struct Kept {
    _shape: Box<[i64]>,
    _strides: Box<[i64]>,
    _view: View,
    _owner: Py<PyAny>,
}

/// # Safety
///
/// `managed` was made by [`dlpack`], and is deleted once, as DLPack asks of consumers.
unsafe extern "C" fn delete<T>(managed: *mut T) {
    // SAFETY: `dlpack` made it as a box. What it owns of Python's is given back by whoever holds the interpreter's lock.
    drop(unsafe { Box::from_raw(managed) });
}

trait Managed {
    const NAME: &'static CStr;

    /// What a capsule is called that nobody has taken the tensor out of is deleted with it.
    unsafe extern "C" fn forget(capsule: *mut ffi::PyObject);
}

/// # Safety
///
/// `capsule` is one that [`dlpack`] made of a `T`, and is being destroyed.
unsafe fn forget<T>(capsule: *mut ffi::PyObject, name: &CStr) {
    // SAFETY: a capsule, whose pointer is a box of a `T` as long as it has this name: consumers rename it.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, name.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, name.as_ptr()).cast::<T>());
        }
    }
}

impl Managed for Unversioned {
    const NAME: &'static CStr = c"dltensor";

    unsafe extern "C" fn forget(capsule: *mut ffi::PyObject) {
        // SAFETY: Python calls this for the capsule that it was given with.
        unsafe { forget::<Self>(capsule, Self::NAME) };
    }
}

impl Managed for Versioned {
    const NAME: &'static CStr = c"dltensor_versioned";

    unsafe extern "C" fn forget(capsule: *mut ffi::PyObject) {
        // SAFETY: Python calls this for the capsule that it was given with.
        unsafe { forget::<Self>(capsule, Self::NAME) };
    }
}

fn capsule<T: Managed>(py: Python<'_>, managed: T) -> PyResult<Bound<'_, PyAny>> {
    let managed = Box::into_raw(Box::new(managed));
    // SAFETY: the name is constant, and the destructor fits what the pointer points to.
    let capsule = unsafe { ffi::PyCapsule_New(managed.cast(), T::NAME.as_ptr(), Some(T::forget)) };
    // SAFETY: a new reference, or null with an exception set.
    let capsule = unsafe { Bound::from_owned_ptr_or_err(py, capsule) };
    capsule.inspect_err(|_| {
        // SAFETY: nobody else has it.
        drop(unsafe { Box::from_raw(managed) });
    })
}

/// A capsule with the array, for `from_dlpack`; `version` is the highest that the consumer knows.
///
/// # Safety
///
/// `array` lies in `memory`, which `owner` keeps as long as it counts a view.
pub(crate) unsafe fn dlpack<'py>(
    owner: &Bound<'py, PyAny>,
    views: &Views,
    memory: Memory,
    array: &Array,
    version: Option<(u32, u32)>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let versioned = version.is_some_and(|(major, _)| major >= 1);
    if memory.readonly && !versioned {
        return Err(PyBufferError::new_err(
            "it can only be read, which this consumer cannot be told: use one that knows DLPack 1.0, or pass copy=True, or \
             copy its array",
        ));
    }
    if array.strides.iter().any(|stride| stride % array.element.size != 0) {
        return Err(PyBufferError::new_err("its strides are no multiples of its elements: copy it"));
    }
    let mut shape: Box<[i64]> = array.shape.iter().map(|len| *len as i64).collect();
    let mut strides: Box<[i64]> = array.strides.iter().map(|stride| (stride / array.element.size) as i64).collect();
    let tensor = DlTensor {
        // SAFETY: the array lies in the memory, as the caller vouches.
        data: unsafe { memory.base.add(array.offset).cast() },
        device: [DEVICE.0, DEVICE.1],
        ndim: shape.len() as i32,
        code: array.element.code,
        bits: 8 * array.element.size as u8,
        lanes: 1,
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    let kept = Kept { _shape: shape, _strides: strides, _view: views.add(), _owner: owner.clone().unbind() };
    let context = std::ptr::null_mut();
    if versioned {
        let flags = if memory.readonly { READ_ONLY } else { 0 };
        capsule(py, Versioned { version: [1, 0], context, deleter: delete::<Versioned>, flags, tensor, kept })
    } else {
        capsule(py, Unversioned { tensor, context, deleter: delete::<Unversioned>, kept })
    }
}
