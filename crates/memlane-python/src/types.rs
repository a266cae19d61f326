//! What the messages of a channel are, in NumPy's terms.

use crate::views::{Array, Memory};
use crate::{errors, python};
use memlane::{Dtype, Image, Layout, PixelFormat, Schema, Tensor, Untyped, UntypedTail};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::ffi::CStr;

/// The type of the elements of an array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element {
    dtype: Dtype,
    /// As NumPy names it, in the machine's byte order.
    pub(crate) numpy: &'static str,
    /// As the buffer protocol does.
    pub(crate) format: &'static CStr,
    pub(crate) size: isize,
    /// As DLPack does: the code of its kind.
    pub(crate) code: u8,
}

macro_rules! elements {
    ($($dtype:ident: $numpy:literal, $format:literal, $size:literal, $code:literal;)*) => {
        const ELEMENTS: &[Element] = &[$(
            Element { dtype: Dtype::$dtype, numpy: $numpy, format: $format, size: $size, code: $code },
        )*];
    };
}

elements! {
    U8: "u1", c"B", 1, 1;
    U16: "u2", c"H", 2, 1;
    U32: "u4", c"I", 4, 1;
    U64: "u8", c"Q", 8, 1;
    I8: "i1", c"b", 1, 0;
    I16: "i2", c"h", 2, 0;
    I32: "i4", c"i", 4, 0;
    I64: "i8", c"q", 8, 0;
    F16: "f2", c"e", 2, 2;
    F32: "f4", c"f", 4, 2;
    F64: "f8", c"d", 8, 2;
    C64: "c8", c"Zf", 8, 5;
    C128: "c16", c"Zd", 16, 5;
    Bool: "b1", c"?", 1, 6;
    // Neither NumPy nor the buffer protocol knows it: there it is the 16 bits that it is.
    Bf16: "bfloat16", c"H", 2, 4;
}

/// The element that is a byte.
pub(crate) const BYTE: Element = ELEMENTS[0];
const SHORT: Element = ELEMENTS[1];
pub(crate) const BFLOAT16: Element = ELEMENTS[ELEMENTS.len() - 1];

impl Element {
    pub(crate) fn dtype(self) -> Dtype {
        self.dtype
    }

    fn of(dtype: Dtype) -> Option<Self> {
        ELEMENTS.iter().copied().find(|element| element.dtype == dtype)
    }

    /// What a NumPy dtype, or what NumPy takes for one, stands for.
    pub(crate) fn asked(dtype: &Bound<'_, PyAny>) -> PyResult<Self> {
        let known = python::DTYPE.call(dtype.py(), (dtype,)).and_then(|dtype| {
            let code = dtype.getattr("str")?.extract::<String>()?;
            Ok(ELEMENTS.iter().copied().find(|element| code.get(1..) == Some(element.numpy)))
        });
        if let Ok(Some(element)) = known {
            return Ok(element);
        }
        // NumPy knows it by other packages only.
        let name = python::text(dtype)?;
        if name == "bfloat16" || name.ends_with("bfloat16'>") {
            return Ok(BFLOAT16);
        }
        known?;
        Err(PyTypeError::new_err(format!(
            "no array of {name} can be sent: use bool, integers up to 64 bits, float16 to float64, bfloat16, complex64 or \
             complex128; or make a channel with message='bytes', or of records of a structured dtype"
        )))
    }
}

const FORMATS: [(PixelFormat, &str, isize); 10] = [
    (PixelFormat::Gray8, "gray8", 1),
    (PixelFormat::Gray16, "gray16", 1),
    (PixelFormat::GrayAlpha8, "grayalpha8", 2),
    (PixelFormat::GrayAlpha16, "grayalpha16", 2),
    (PixelFormat::Rgb8, "rgb8", 3),
    (PixelFormat::Rgb16, "rgb16", 3),
    (PixelFormat::Rgba8, "rgba8", 4),
    (PixelFormat::Rgba16, "rgba16", 4),
    (PixelFormat::Bgr8, "bgr8", 3),
    (PixelFormat::Bgra8, "bgra8", 4),
];

/// The pixel format of that name.
pub(crate) fn pixel_format(name: &str) -> PyResult<PixelFormat> {
    let known = FORMATS.iter().find(|(_, its, _)| *its == name).map(|(format, ..)| *format);
    known.ok_or_else(|| {
        let names = FORMATS.map(|(_, name, _)| name).join(", ");
        PyValueError::new_err(format!("'{name}' is no pixel format: use one of {names}"))
    })
}

pub(crate) fn pixel_format_name(format: PixelFormat) -> Option<&'static str> {
    FORMATS.iter().find(|(its, ..)| *its == format).map(|(_, name, _)| *name)
}

/// Bytes of a channel of a pixel.
fn sample_size(format: PixelFormat, channels: isize) -> isize {
    format.pixel_size() as isize / channels
}

/// The size and format of an image like an array of that shape and element.
pub(crate) fn image_like(shape: &[usize], element: Element, format: Option<&str>) -> PyResult<(u32, u32, PixelFormat)> {
    let channels = shape.get(2).copied().unwrap_or(1);
    let fits = |(its, _, count): &&(PixelFormat, &str, isize)| {
        *count as usize == channels && sample_size(*its, *count) == element.size && element.code == BYTE.code
    };
    let found = match format {
        Some(name) => FORMATS.iter().filter(fits).find(|(_, its, _)| *its == name),
        None => FORMATS.iter().find(fits),
    };
    let size = |index: usize| shape.get(index).and_then(|len| u32::try_from(*len).ok());
    let found = found.filter(|_| (2..=3).contains(&shape.len()));
    match (found, size(1), size(0)) {
        (Some((format, ..)), Some(width), Some(height)) => Ok((width, height, *format)),
        _ => Err(PyValueError::new_err(format!(
            "an array of shape {shape:?} of {} is no image{}: images are (height, width) or (height, width, channels) of uint8 \
             or uint16",
            element.numpy,
            format.map_or(String::new(), |format| format!(" of {format}"))
        ))),
    }
}

/// What a message is.
#[derive(Debug)]
pub(crate) enum Kind {
    Bytes,
    Image,
    Tensor,
    /// Of a type of somebody's own: its description, for memlane/_schemas.py.
    Record {
        fields: Py<PyTuple>,
    },
}

/// The type of the messages of a channel.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) kind: Kind,
    layout: Option<Layout>,
}

impl Type {
    /// What a description says.
    pub(crate) fn of(py: Python<'_>, schema: &Schema) -> PyResult<Self> {
        let kind = if *schema == Schema::of::<[u8]>() {
            Kind::Bytes
        } else if *schema == Schema::of::<Image>() {
            Kind::Image
        } else if *schema == Schema::of::<Tensor>() {
            Kind::Tensor
        } else {
            Kind::Record { fields: fields(py, schema)?.unbind() }
        };
        Ok(Self { kind, layout: schema.layout() })
    }

    /// The description of what was asked for: a name, or a dtype; of arrays, if nothing was.
    pub(crate) fn asked(asked: Option<&Bound<'_, PyAny>>) -> PyResult<Schema> {
        let Some(asked) = asked else { return Ok(Schema::of::<Tensor>()) };
        if let Ok(name) = asked.cast::<PyString>() {
            match name.to_str()? {
                "tensor" => return Ok(Schema::of::<Tensor>()),
                "image" => return Ok(Schema::of::<Image>()),
                "bytes" => return Ok(Schema::of::<[u8]>()),
                _ => {}
            }
        }
        let fields = python::FIELDS_OF.call(asked.py(), (asked,));
        schema(&fields.map_err(|error| match asked.cast::<PyString>() {
            Ok(name) => PyValueError::new_err(format!(
                "'{}' is no type of messages: use 'tensor', 'image', 'bytes', or a NumPy dtype",
                name.to_string_lossy()
            )),
            Err(_) => error,
        })?)
    }

    /// As [`asked`](Self::asked) takes it.
    pub(crate) fn name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let name = match &self.kind {
            Kind::Bytes => "bytes",
            Kind::Image => "image",
            Kind::Tensor => "tensor",
            Kind::Record { .. } => return self.dtype(py, 0),
        };
        Ok(PyString::new(py, name).into_any())
    }

    /// The dtype of a record with so many elements in its tail.
    fn dtype<'py>(&self, py: Python<'py>, tail: u64) -> PyResult<Bound<'py, PyAny>> {
        match &self.kind {
            Kind::Record { fields } => dtype(py, fields.bind(py), tail),
            _ => python::DTYPE.call(py, (BYTE.numpy,)),
        }
    }

    /// The bytes of an array or image that are counted on top of its elements.
    fn overhead(&self) -> u64 {
        match self.kind {
            Kind::Image | Kind::Tensor => self.layout.map_or(0, |layout| layout.base_size() as u64),
            _ => 0,
        }
    }

    /// The longest message, from the longest array, and back.
    pub(crate) fn with_overhead(&self, elements: u64) -> u64 {
        match self.overhead() {
            0 => elements,
            // The end of a message is padded.
            overhead => {
                elements.checked_next_multiple_of(8).map_or(u64::MAX, |elements| elements.saturating_add(overhead))
            }
        }
    }

    pub(crate) fn without_overhead(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.overhead())
    }

    /// The length of a message with so many elements in its tail.
    pub(crate) fn tail(&self, elements: u64) -> PyResult<UntypedTail> {
        let tail = self.layout.and_then(|layout| UntypedTail::new(layout, elements));
        tail.ok_or_else(|| {
            PyValueError::new_err(format!("there are no messages with {elements} elements in a flexible tail"))
        })
    }

    /// The content of a message as an array; `None` if its fields do not fit together.
    pub(crate) fn array(&self, message: &Untyped) -> Option<Array> {
        // What was read is checked once more: somebody may have written between the looks at the message.
        self.described(message).filter(|array| array.lies_in(message.len()))
    }

    fn described(&self, message: &Untyped) -> Option<Array> {
        let bytes = || Array::dense(0, BYTE, vec![message.len() as isize]);
        match self.kind {
            Kind::Bytes | Kind::Record { .. } => Some(bytes()),
            Kind::Image => {
                let image = message.view::<Image>()?;
                let format = image.rows()?.0;
                let (.., channels) = FORMATS.iter().find(|(its, ..)| *its == format)?;
                let element = if sample_size(format, *channels) == 1 { BYTE } else { SHORT };
                let mut shape = vec![image.height as isize, image.width as isize];
                let mut strides = vec![image.stride as isize, format.pixel_size() as isize];
                if *channels > 1 {
                    shape.push(*channels);
                    strides.push(element.size);
                }
                Some(Array { offset: offset(message, image.pixels.as_ptr()), element, shape, strides })
            }
            Kind::Tensor => {
                let tensor = message.view::<Tensor>()?;
                let view = tensor.view()?;
                let element = Element::of(view.dtype)?;
                let counts = |all: &[u64]| all.iter().map(|count| isize::try_from(*count).ok()).collect::<Option<_>>();
                let (shape, strides): (Vec<isize>, Vec<isize>) = (counts(view.shape)?, counts(view.strides)?);
                // Also where one dimension is empty, the others are multiplied.
                shape.iter().try_fold(element.size, |size, len| size.checked_mul((*len).max(1)))?;
                Some(Array { offset: offset(message, tensor.data.as_ptr()), element, shape, strides })
            }
        }
    }

    /// An array in `memory`, which `owner` keeps. What it is made of gives nobody a buffer, so that it can be made read-only for
    /// good; and it is not counted among the views.
    pub(crate) fn over<'py>(owner: &Bound<'py, PyAny>, memory: Memory, array: &Array) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        let address = memory.base.addr() + array.offset;
        let code = if array.element.numpy == BFLOAT16.numpy { "u2" } else { array.element.numpy };
        let (shape, strides) = (PyTuple::new(py, &array.shape)?, PyTuple::new(py, &array.strides)?);
        python::OVER.call(py, (owner, address, code, shape, strides))
    }

    /// What an array of bytes, or of what NumPy knows, stands for.
    pub(crate) fn typed<'py>(
        &self,
        array: Bound<'py, PyAny>,
        element: Element,
        elements: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = array.py();
        if let Kind::Record { .. } = self.kind {
            return python::RECORD.call(py, (array, self.dtype(py, elements)?));
        }
        if element.numpy == BFLOAT16.numpy
            && let Ok(more) = py.import("ml_dtypes")
        {
            return array.call_method1("view", (more.getattr("bfloat16")?,));
        }
        Ok(array)
    }

    /// The NumPy array of a message, over the memory that `owner` exports.
    pub(crate) fn numpy<'py>(
        &self,
        owner: &Bound<'py, PyAny>,
        element: Element,
        elements: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.typed(python::AS_ARRAY.call(owner.py(), (owner,))?, element, elements)
    }
}

/// Where `part` of a message lies in it.
fn offset(message: &Untyped, part: *const u8) -> usize {
    part.addr() - message.as_ptr().addr()
}

/// The parts of a description, for memlane/_schemas.py.
pub(crate) fn fields<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(
        py,
        schema.fields().map(|field| (field.path, field.kind, field.offset, field.size)).collect::<Vec<_>>(),
    )
}

/// Back from what memlane/_schemas.py makes of a dtype.
pub(crate) fn schema(fields: &Bound<'_, PyAny>) -> PyResult<Schema> {
    let mut schema = Schema::default();
    for field in fields.try_iter()? {
        let (path, kind, offset, size) = field?.extract::<(String, String, usize, usize)>()?;
        schema.line(&path, &kind, offset, size);
    }
    Ok(schema)
}

/// The dtype of what is described, with so many elements in its tail.
pub(crate) fn dtype<'py>(py: Python<'py>, fields: &Bound<'py, PyTuple>, tail: u64) -> PyResult<Bound<'py, PyAny>> {
    python::DTYPE_OF.call(py, (fields, tail))
}

/// Something about a message does not fit together.
pub(crate) fn corrupt(py: Python<'_>, sequence: u64) -> PyErr {
    let message = format!("message {sequence} says of its shape what does not fit together: its sender is at fault");
    errors::new(py, "Corrupt", message, &[])
}
