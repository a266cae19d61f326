//! Loans of each kind, and copies into them: the same for senders, requests and answers.

use crate::errors;
use crate::loan::Loan;
use crate::python;
use crate::types::{BFLOAT16, Element, Kind, Type, image_like, pixel_format};
use memlane::{Dtype, Image, PixelFormat, SendError, Tensor, Untyped, UntypedTail};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Whoever lends room for messages; `None` if that is an answer to a request which was released.
pub(crate) type Lend<'a> = &'a dyn Fn(UntypedTail) -> Option<Result<memlane::Loan<Untyped>, SendError>>;

/// The lengths of a shape: a number, or several.
pub(crate) fn shape_of(shape: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let impossible = |_| match python::text(shape) {
        Ok(shape) => PyValueError::new_err(format!("there is no array of shape {shape}")),
        Err(raised) => raised,
    };
    if shape.hasattr("__index__")? {
        return Ok(vec![shape.extract().map_err(impossible)?]);
    }
    let lengths = shape.try_iter()?.map(|len| len?.extract::<usize>());
    lengths.collect::<PyResult<_>>().map_err(impossible)
}

/// A type of messages, and who lends room for them.
#[derive(Clone, Copy)]
pub(crate) struct Filler<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) of: &'a Arc<Type>,
    pub(crate) lend: Lend<'a>,
    pub(crate) timeout: Option<Duration>,
}

impl<'py> Filler<'_, 'py> {
    fn take(&self, elements: u64, fill: impl FnOnce(&mut Untyped) -> bool) -> PyResult<Loan> {
        let lent = (self.lend)(self.of.tail(elements)?);
        let released = || errors::released(self.py, "the request was released: answer it before that");
        let mut loan = lent.ok_or_else(released)?.map_err(|error| {
            let error = match error {
                SendError::TooLarge { channel, max } => {
                    SendError::TooLarge { channel, max: self.of.without_overhead(max) }
                }
                error => error,
            };
            errors::raise(self.py, &error)
        })?;
        if !fill(&mut loan) {
            return Err(PyValueError::new_err("a message of this channel has no room for that"));
        }
        Ok(Loan::new(loan, self.of, elements, self.timeout))
    }

    fn wrong(&self, wanted: &str) -> PyErr {
        let is = match self.of.kind {
            Kind::Bytes => "bytes: use loan(size) or send(data)",
            Kind::Image => "images: use loan_image(width, height, format) or send(array)",
            Kind::Tensor => "arrays: use loan_array(shape, dtype) or send(array)",
            Kind::Record { .. } => "records of a dtype of their own: use loan() or send(record)",
        };
        PyTypeError::new_err(format!("this channel has no messages that are {wanted}; they are {is}"))
    }

    /// Room for so many bytes, or for a record with so many elements in its tail.
    pub(crate) fn plain(&self, size: u64) -> PyResult<Loan> {
        match self.of.kind {
            Kind::Bytes | Kind::Record { .. } => self.take(size, |_| true),
            Kind::Image | Kind::Tensor => Err(self.wrong("so many bytes")),
        }
    }

    pub(crate) fn tensor(&self, shape: &[usize], element: Element) -> PyResult<Loan> {
        match self.of.kind {
            Kind::Tensor => {}
            Kind::Image => {
                let (width, height, format) = image_like(shape, element, None)?;
                return self.image(width, height, format);
            }
            _ => return Err(self.wrong("arrays")),
        }
        if shape.len() > 8 {
            let message = format!("an array of {} dimensions cannot be sent: 8 are the most", shape.len());
            return Err(PyValueError::new_err(message));
        }
        let shape: Vec<u64> = shape.iter().map(|len| *len as u64).collect();
        let dtype: Dtype = element.dtype();
        let too_large =
            || PyValueError::new_err(format!("an array of shape {shape:?} has more bytes than can be counted"));
        let counted = shape.iter().try_fold(u64::from(dtype.size()), |size, len| size.checked_mul(*len));
        Tensor::size(&shape, dtype).ok_or_else(too_large)?;
        self.take(counted.ok_or_else(too_large)?, |message| {
            message.view_mut::<Tensor>().is_some_and(|tensor| tensor.lay_out(&shape, dtype))
        })
    }

    pub(crate) fn image(&self, width: u32, height: u32, format: PixelFormat) -> PyResult<Loan> {
        if !matches!(self.of.kind, Kind::Image) {
            return Err(self.wrong("images"));
        }
        let pixels = u64::from(width) * u64::from(height) * u64::from(format.pixel_size());
        self.take(pixels, |message| {
            message.view_mut::<Image>().is_some_and(|image| image.lay_out(width, height, format))
        })
    }

    /// A loan with a copy of `data`.
    pub(crate) fn copy(&self, data: &Bound<'py, PyAny>, format: Option<&str>) -> PyResult<Bound<'py, Loan>> {
        let py = self.py;
        if let Kind::Bytes = self.of.kind {
            let bytes = python::FLAT.call(py, (data,))?;
            let loan = Bound::new(py, self.plain(bytes.len()? as u64)?)?;
            python::COPY_TO.call(py, (loan.get().copied_into(&loan)?, bytes))?;
            return Ok(loan);
        }
        let (array, loan) = match &self.of.kind {
            Kind::Record { fields } => {
                let record = python::AS_RECORD.call(py, (data, fields))?;
                let (record, tail) = record.extract::<(Bound<'py, PyAny>, u64)>()?;
                (record, self.plain(tail)?)
            }
            _ => {
                let mut array = python::AS_ARRAY.call(py, (data,))?;
                let element = Element::asked(&array.getattr("dtype")?)?;
                if element.numpy == BFLOAT16.numpy {
                    array = array.call_method1("view", ("u2",))?;
                }
                let shape = array.getattr("shape")?.extract::<Vec<usize>>()?;
                let loan = match format {
                    Some(format) if matches!(self.of.kind, Kind::Image) => {
                        pixel_format(format)?;
                        let (width, height, format) = image_like(&shape, element, Some(format))?;
                        self.image(width, height, format)?
                    }
                    Some(_) => return Err(self.wrong("of a pixel format")),
                    None => self.tensor(&shape, element)?,
                };
                (array, loan)
            }
        };
        let loan = Bound::new(py, loan)?;
        python::COPY_TO.call(py, (loan.get().copied_into(&loan)?, array))?;
        Ok(loan)
    }
}
