//! Pictures: decoded or drawn into place, and written as PNG.

use crate::failure::Failure;
use image::{ColorType, ImageDecoder, ImageError, ImageReader};
use memlane::{Image, PixelFormat};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a picture is like, but for its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) format: PixelFormat,
}

/// The formats that a file can have, with their names; the others are converted.
const FORMATS: [(PixelFormat, ColorType, &str); 8] = [
    (PixelFormat::Gray8, ColorType::L8, "gray8"),
    (PixelFormat::GrayAlpha8, ColorType::La8, "gray-alpha8"),
    (PixelFormat::Rgb8, ColorType::Rgb8, "rgb8"),
    (PixelFormat::Rgba8, ColorType::Rgba8, "rgba8"),
    (PixelFormat::Gray16, ColorType::L16, "gray16"),
    (PixelFormat::GrayAlpha16, ColorType::La16, "gray-alpha16"),
    (PixelFormat::Rgb16, ColorType::Rgb16, "rgb16"),
    (PixelFormat::Rgba16, ColorType::Rgba16, "rgba16"),
];

/// The name of a format.
pub(crate) fn name(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Bgr8 => "bgr8",
        PixelFormat::Bgra8 => "bgra8",
        format => FORMATS.iter().find(|(its, ..)| *its == format).map_or("unknown", |(.., name)| name),
    }
}

impl Shape {
    /// The bytes of its pixels.
    pub(crate) fn size(self) -> u64 {
        (u64::from(self.width) * u64::from(self.height)).saturating_mul(self.format.pixel_size().into())
    }

    /// The bytes of a message with it.
    pub(crate) fn message_size(self) -> u64 {
        Image::size(self.width, self.height, self.format)
    }

    /// What it adds to the JSON of a message.
    pub(crate) fn fields(self) -> Map<String, Value> {
        let fields = json!({ "width": self.width, "height": self.height, "format": name(self.format) });
        fields.as_object().cloned().unwrap_or_default()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}", self.width, self.height, name(self.format))
    }
}

/// The pixels of a message as a file has them: no gaps between rows, red first. `None` if the message is no picture.
pub(crate) fn pixels(image: &Image) -> Option<(Shape, Cow<'_, [u8]>)> {
    let (format, rows) = image.rows()?;
    let (format, blue_first) = match format {
        PixelFormat::Bgr8 => (PixelFormat::Rgb8, true),
        PixelFormat::Bgra8 => (PixelFormat::Rgba8, true),
        format => (format, false),
    };
    let shape = Shape { width: image.width, height: image.height, format };
    let dense = u64::from(image.stride) * u64::from(image.height) == shape.size();
    if dense && !blue_first {
        return Some((shape, image.pixels.get(..shape.size() as usize)?.into()));
    }
    let mut pixels = rows.collect::<Vec<_>>().concat();
    if blue_first {
        pixels.chunks_exact_mut(format.pixel_size() as usize).for_each(|pixel| pixel.swap(0, 2));
    }
    Some((shape, pixels.into()))
}

/// A picture that can be put into memory again and again.
#[derive(Debug)]
pub(crate) enum Source {
    /// A PNG or JPEG file, of which the header was read.
    File { path: PathBuf, shape: Shape },
    /// A picture of 1920x1080 that moves.
    Drawn { stripes: Vec<u8> },
}

const DRAWN: Shape = Shape { width: 1920, height: 1080, format: PixelFormat::Rgb8 };

impl Source {
    /// Looks at the header of a file.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let refuse =
            |error: &dyn fmt::Display| Failure::failed(format!("cannot read the image '{}': {error}", path.display()));
        let decoder = decoder(path).map_err(|error| match error {
            ImageError::IoError(error) => refuse(&error),
            error => refuse(&format_args!("{error}; PNG and JPEG can be read")),
        })?;
        let shape = shape_of(&decoder);
        let shape = shape.ok_or_else(|| refuse(&"its pixel format is not one of 8 or 16 bits per channel"))?;
        Ok(Self::File { path: path.to_owned(), shape })
    }

    /// A picture that is drawn.
    pub(crate) fn drawn() -> Self {
        let stripes =
            (0..DRAWN.width + 256).flat_map(|x| [(x % 256) as u8, (x / 8 % 256) as u8, (255 - x % 256) as u8]);
        Self::Drawn { stripes: stripes.collect() }
    }

    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::File { shape, .. } => *shape,
            Self::Drawn { .. } => DRAWN,
        }
    }

    /// Decodes or draws the picture that has `number` into `pixels`, which is exactly as large.
    pub(crate) fn fill(&self, number: u64, pixels: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::File { path, shape } => {
                let refuse = |error: &dyn fmt::Display| {
                    Failure::failed(format!("cannot decode the image '{}': {error}", path.display()))
                };
                let decoder = decoder(path).map_err(|error| refuse(&error))?;
                if shape_of(&decoder) != Some(*shape) {
                    return Err(refuse(&"it has changed since it was looked at"));
                }
                decoder.read_image(pixels).map_err(|error| refuse(&error))
            }
            Self::Drawn { stripes } => {
                draw(stripes, number, pixels);
                Ok(())
            }
        }
    }
}

fn shape_of(decoder: &impl ImageDecoder) -> Option<Shape> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let (format, ..) = FORMATS.iter().find(|(_, its, _)| *its == color)?;
    Some(Shape { width, height, format: *format })
}

fn decoder(path: &Path) -> image::ImageResult<impl ImageDecoder> {
    let mut reader = ImageReader::open(path)?.with_guessed_format()?;
    reader.no_limits(); // the memory was asked for and paid for in shared memory
    reader.into_decoder()
}

/// Slanting stripes that move, and a white square on its way.
fn draw(stripes: &[u8], number: u64, pixels: &mut [u8]) {
    let row_bytes = DRAWN.width as usize * 3;
    let (square_x, square_y, side) = (number as usize * 8 % (1920 - 200), number as usize * 5 % (1080 - 200), 200);
    for (y, row) in pixels.chunks_exact_mut(row_bytes).enumerate() {
        let shift = (number as usize * 4 + y) % 256 * 3;
        row.copy_from_slice(&stripes[shift..shift + row_bytes]);
        if (square_y..square_y + side).contains(&y) {
            row[square_x * 3..(square_x + side) * 3].fill(255);
        }
    }
}

/// Writes pixels as a PNG file.
pub(crate) fn write_png(path: &Path, shape: Shape, pixels: &[u8]) -> image::ImageResult<()> {
    let color = FORMATS.iter().find(|(its, ..)| *its == shape.format).map_or(ColorType::L8, |(_, color, _)| *color);
    image::save_buffer_with_format(path, pixels, shape.width, shape.height, color, image::ImageFormat::Png)
}
