//! Messages that every program understands: images and tensors.

use super::{Loan, Sender};
use crate::error::SendError;
use crate::segment::Shareable;
use memlane_derive::Shareable;

/// The bytes of a message with so many in its tail; as many as can be counted, if it would be more.
fn message_size<T: Shareable + ?Sized>(tail: u64) -> u64 {
    T::LAYOUT.size(tail).map_or(u64::MAX, |size| size as u64)
}

/// How the bytes of an [`Image`] are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PixelFormat {
    /// One byte of grey.
    Gray8,
    /// Two bytes of grey, in the machine's order.
    Gray16,
    /// Grey and alpha, a byte each.
    GrayAlpha8,
    /// Grey and alpha, two bytes each.
    GrayAlpha16,
    /// Red, green and blue, a byte each.
    Rgb8,
    /// Red, green and blue, two bytes each.
    Rgb16,
    /// Red, green, blue and alpha, a byte each.
    Rgba8,
    /// Red, green, blue and alpha, two bytes each.
    Rgba16,
    /// Blue, green and red, a byte each.
    Bgr8,
    /// Blue, green, red and alpha, a byte each.
    Bgra8,
}

impl PixelFormat {
    /// With the number that stands for each, and its bytes per pixel.
    const ALL: [(Self, u32, u32); 10] = [
        (Self::Gray8, 1, 1),
        (Self::Gray16, 2, 2),
        (Self::GrayAlpha8, 3, 2),
        (Self::GrayAlpha16, 4, 4),
        (Self::Rgb8, 5, 3),
        (Self::Rgb16, 6, 6),
        (Self::Rgba8, 7, 4),
        (Self::Rgba16, 8, 8),
        (Self::Bgr8, 9, 3),
        (Self::Bgra8, 10, 4),
    ];

    fn entry(self) -> (Self, u32, u32) {
        Self::ALL.into_iter().find(|(format, ..)| *format == self).unwrap_or(Self::ALL[0])
    }

    /// The number that stands for it in [`Image::format`].
    #[must_use]
    pub fn number(self) -> u32 {
        self.entry().1
    }

    /// Back from a number, if it stands for one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, its, _)| *its == number).map(|(format, ..)| format)
    }

    /// The bytes of a pixel.
    #[must_use]
    pub fn pixel_size(self) -> u32 {
        self.entry().2
    }
}

/// An image, row after row from the top.
///
/// Its fields come from its sender: [`rows`](Image::rows) checks them.
#[derive(Debug, Shareable)]
#[repr(C)]
pub struct Image {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next, at least those of its pixels.
    pub stride: u32,
    /// How the bytes are to be read: [`PixelFormat::from_number`].
    pub format: u32,
    /// Nothing so far: the pixels start at a multiple of 64 bytes.
    pub reserved: [u64; 6],
    /// The rows.
    pub pixels: [u8],
}

impl Image {
    /// The bytes of the largest image of that size, for
    /// [`ChannelOptions::max_message`](crate::ChannelOptions::max_message).
    #[must_use]
    pub fn size(width: u32, height: u32, format: PixelFormat) -> u64 {
        let pixels = u64::from(height) * u64::from(width);
        message_size::<Self>(pixels.saturating_mul(format.pixel_size().into()))
    }

    /// Says that it is an image of that size, without bytes between its rows; false, and nothing is changed, if it has fewer
    /// pixels.
    pub fn lay_out(&mut self, width: u32, height: u32, format: PixelFormat) -> bool {
        let Some(stride) = width.checked_mul(format.pixel_size()) else { return false };
        let fits = u64::from(stride).checked_mul(height.into()).is_some_and(|len| len <= self.pixels.len() as u64);
        if fits {
            (self.width, self.height, self.stride, self.format) = (width, height, stride, format.number());
            self.reserved = [0; 6];
        }
        fits
    }

    /// How the bytes are to be read, and those of each row; `None` if the fields do not fit together.
    #[must_use]
    pub fn rows(&self) -> Option<(PixelFormat, impl ExactSizeIterator<Item = &[u8]>)> {
        let format = PixelFormat::from_number(self.format)?;
        let row = usize::try_from(self.width.checked_mul(format.pixel_size())?).ok()?;
        let stride = self.stride as usize;
        let rows = self.height as usize;
        let needed = if rows == 0 { 0 } else { stride.checked_mul(rows - 1)?.checked_add(row)? };
        let fits = row <= stride && needed <= self.pixels.len();
        fits.then(|| (format, (0..rows).map(move |index| &self.pixels[index * stride..][..row])))
    }
}

impl Sender<Image> {
    /// Room for an image without bytes between its rows. Its pixels are what an earlier message left there.
    ///
    /// # Errors
    ///
    /// As [`loan`](Self::loan).
    pub fn loan_image(&self, width: u32, height: u32, format: PixelFormat) -> Result<Loan<Image>, SendError> {
        let row = u64::from(width) * u64::from(format.pixel_size());
        let len = row.checked_mul(height.into()).and_then(|len| usize::try_from(len).ok());
        let stride = u32::try_from(row).unwrap_or(u32::MAX);
        let mut image = self.loan(len.filter(|_| u64::from(stride) == row).unwrap_or(usize::MAX))?;
        image.lay_out(width, height, format);
        Ok(image)
    }
}

/// The type of the elements of a [`Tensor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Floating point, 16 bits (IEEE 754 binary16).
    F16,
    /// Floating point, 32 bits.
    F32,
    /// Floating point, 64 bits.
    F64,
    /// A byte that is 0 or 1.
    Bool,
    /// Floating point, 16 bits: the upper half of an `F32`.
    Bf16,
    /// Complex, two `F32`: the real part and the imaginary one.
    C64,
    /// Complex, two `F64`.
    C128,
}

impl Dtype {
    /// With the number that stands for each, and its size in bytes.
    const ALL: [(Self, u32, u32); 15] = [
        (Self::U8, 1, 1),
        (Self::U16, 2, 2),
        (Self::U32, 3, 4),
        (Self::U64, 4, 8),
        (Self::I8, 5, 1),
        (Self::I16, 6, 2),
        (Self::I32, 7, 4),
        (Self::I64, 8, 8),
        (Self::F16, 9, 2),
        (Self::F32, 10, 4),
        (Self::F64, 11, 8),
        (Self::Bool, 12, 1),
        (Self::Bf16, 13, 2),
        (Self::C64, 14, 8),
        (Self::C128, 15, 16),
    ];

    fn entry(self) -> (Self, u32, u32) {
        Self::ALL.into_iter().find(|(dtype, ..)| *dtype == self).unwrap_or(Self::ALL[0])
    }

    /// The number that stands for it in [`Tensor::dtype`].
    #[must_use]
    pub fn number(self) -> u32 {
        self.entry().1
    }

    /// Back from a number, if it stands for one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, its, _)| *its == number).map(|(dtype, ..)| dtype)
    }

    /// The bytes of an element.
    #[must_use]
    pub fn size(self) -> u32 {
        self.entry().2
    }
}

/// An array of numbers in up to eight dimensions.
///
/// Its fields come from its sender: [`view`](Tensor::view) checks them.
#[derive(Debug, Shareable)]
#[repr(C)]
pub struct Tensor {
    /// The type of its elements: [`Dtype::from_number`].
    pub dtype: u32,
    /// The number of its dimensions, up to 8.
    pub rank: u32,
    /// The elements of each dimension, the outermost first.
    pub shape: [u64; 8],
    /// Bytes from one element to the next, in each dimension.
    pub strides: [u64; 8],
    /// Nothing so far: the elements start at a multiple of 64 bytes.
    pub reserved: [u64; 7],
    /// The elements.
    pub data: [u8],
}

/// What the fields of a [`Tensor`] say, checked: every element lies in its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// The type of its elements.
    pub dtype: Dtype,
    /// The elements of each dimension, the outermost first.
    pub shape: &'a [u64],
    /// Bytes from one element to the next, in each dimension.
    pub strides: &'a [u64],
    /// The elements.
    pub data: &'a [u8],
}

impl Tensor {
    /// The bytes of a dense tensor of that shape, for
    /// [`ChannelOptions::max_message`](crate::ChannelOptions::max_message); `None` if that is more than can be counted.
    #[must_use]
    pub fn size(shape: &[u64], dtype: Dtype) -> Option<u64> {
        Self::data_size(shape, dtype).map(message_size::<Self>)
    }

    fn data_size(shape: &[u64], dtype: Dtype) -> Option<u64> {
        // As if no dimension was empty, so that all its strides can be counted, too.
        let full = shape.iter().try_fold(u64::from(dtype.size()), |product, len| product.checked_mul((*len).max(1)))?;
        Some(if shape.contains(&0) { 0 } else { full })
    }

    /// Says that it is a dense tensor of that shape, the last dimension innermost; false, and nothing is changed, if it has
    /// fewer elements, or `shape` more than eight dimensions.
    pub fn lay_out(&mut self, shape: &[u64], dtype: Dtype) -> bool {
        let fits = Self::data_size(shape, dtype).is_some_and(|size| size <= self.data.len() as u64);
        if !fits || shape.len() > 8 {
            return false;
        }
        (self.dtype, self.rank, self.reserved) = (dtype.number(), shape.len() as u32, [0; 7]);
        (self.shape, self.strides) = ([0; 8], [0; 8]);
        let mut stride = u64::from(dtype.size());
        for (index, len) in shape.iter().enumerate().rev() {
            (self.shape[index], self.strides[index]) = (*len, stride);
            stride *= *len;
        }
        true
    }

    /// What its fields say, or `None` if they do not fit together.
    #[must_use]
    pub fn view(&self) -> Option<TensorView<'_>> {
        let dtype = Dtype::from_number(self.dtype)?;
        let rank = usize::try_from(self.rank).ok()?;
        let (shape, strides) = (self.shape.get(..rank)?, self.strides.get(..rank)?);
        let mut end = u64::from(dtype.size());
        for (len, stride) in shape.iter().zip(strides) {
            end = end.checked_add(len.saturating_sub(1).checked_mul(*stride)?)?;
        }
        let empty = shape.contains(&0);
        (empty || end <= self.data.len() as u64).then_some(TensorView { dtype, shape, strides, data: &self.data })
    }
}

impl Sender<Tensor> {
    /// Room for a dense tensor, the last dimension innermost. Its elements are what an earlier message left there.
    ///
    /// # Errors
    ///
    /// As [`loan`](Self::loan); [`SendError::TooLarge`] also if it has more than eight dimensions.
    pub fn loan_tensor(&self, shape: &[u64], dtype: Dtype) -> Result<Loan<Tensor>, SendError> {
        let len = Tensor::data_size(shape, dtype).filter(|_| shape.len() <= 8);
        let len = len.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX);
        let mut tensor = self.loan(len)?;
        tensor.lay_out(shape, dtype);
        Ok(tensor)
    }
}
