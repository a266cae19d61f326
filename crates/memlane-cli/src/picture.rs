//! Pictures: decoded into place, drawn, compared, written as PNG.

use crate::failure::Failure;
use image::{ColorType, ImageDecoder, ImageError, ImageReader};
use std::fmt;
use std::path::{Path, PathBuf};

/// How the bytes of a picture lie: rows of pixels from the top, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) format: Format,
}

/// The channels of a pixel and their width, in the order of the numbers that stand for them in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format(ColorType);

const FORMATS: [(ColorType, &str); 8] = [
    (ColorType::L8, "gray8"),
    (ColorType::La8, "gray-alpha8"),
    (ColorType::Rgb8, "rgb8"),
    (ColorType::Rgba8, "rgba8"),
    (ColorType::L16, "gray16"),
    (ColorType::La16, "gray-alpha16"),
    (ColorType::Rgb16, "rgb16"),
    (ColorType::Rgba16, "rgba16"),
];

impl Format {
    pub(crate) const RGB8: Self = Self(ColorType::Rgb8);

    /// The number in shared memory, from 1.
    pub(crate) fn number(self) -> u32 {
        FORMATS.iter().position(|(color, _)| *color == self.0).map_or(0, |index| index as u32 + 1)
    }

    /// Back from a number that came from shared memory.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        FORMATS.get((number as usize).checked_sub(1)?).map(|(color, _)| Self(*color))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMATS.iter().find(|(color, _)| *color == self.0).map_or("unknown", |(_, name)| name))
    }
}

impl Shape {
    /// The bytes from one row to the next, or `None` if there are more than can be.
    pub(crate) fn stride(self) -> Option<u32> {
        self.width.checked_mul(u32::from(self.format.0.bytes_per_pixel()))
    }

    /// The bytes of the whole picture.
    pub(crate) fn size(self) -> Option<usize> {
        usize::try_from(self.stride()?).ok()?.checked_mul(self.height as usize)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}", self.width, self.height, self.format)
    }
}

/// A picture that can be put into memory again and again.
#[derive(Debug)]
pub(crate) enum Source {
    /// A PNG or JPEG file, of which the header was read.
    File { path: PathBuf, shape: Shape },
    /// A picture of 1920x1080 that moves.
    Drawn { stripes: Vec<u8> },
}

const DRAWN: Shape = Shape { width: 1920, height: 1080, format: Format::RGB8 };

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
        match (shape.size(), shape.format.number()) {
            (None, _) => Err(refuse(&"it is too large")),
            (_, 0) => Err(refuse(&"its pixel format is not one of 8 or 16 bits per channel")),
            _ => Ok(Self::File { path: path.to_owned(), shape }),
        }
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

    /// The size of its pixels in bytes.
    pub(crate) fn size(&self) -> usize {
        self.shape().size().unwrap_or(0)
    }

    /// Decodes or draws the picture that has `number` into `pixels`, which is exactly as large.
    pub(crate) fn fill(&self, number: u64, pixels: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::File { path, shape } => {
                let refuse = |error: &dyn fmt::Display| {
                    Failure::failed(format!("cannot decode the image '{}': {error}", path.display()))
                };
                let decoder = decoder(path).map_err(|error| refuse(&error))?;
                if shape_of(&decoder) != *shape {
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

fn shape_of(decoder: &impl ImageDecoder) -> Shape {
    let (width, height) = decoder.dimensions();
    Shape { width, height, format: Format(decoder.color_type()) }
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

/// Writes pixels as a PNG file: whole under its name, or not at all.
pub(crate) fn write_png(folder: &Path, name: &str, shape: Shape, pixels: &[u8]) -> Result<(), Failure> {
    let (path, draft) = (folder.join(name), folder.join(format!(".{name}.part")));
    let refuse = |error: &dyn fmt::Display| Failure::failed(format!("cannot write '{}': {error}", path.display()));
    image::save_buffer_with_format(&draft, pixels, shape.width, shape.height, shape.format.0, image::ImageFormat::Png)
        .map_err(|error| refuse(&error))
        .and_then(|()| std::fs::rename(&draft, &path).map_err(|error| refuse(&error)))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&draft);
        })
}
