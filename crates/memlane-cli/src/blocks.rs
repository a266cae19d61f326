//! Small pictures of half blocks in 24-bit colour, for terminals.

use memlane::{Image, PixelFormat};
use ratatui::crossterm::terminal;
use std::fmt::Write;
use std::io::{IsTerminal, stdout};

/// Whether standard output shows pictures: it is a terminal, and colours are wanted, without which a picture is none.
pub(crate) fn are_shown() -> bool {
    stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// The room for a picture, in pixels: a cell is one wide and two high.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Canvas {
    width: u32,
    height: u32,
}

impl Canvas {
    /// A third of the terminal's rows, so that two pictures can be compared.
    pub(crate) fn of_terminal() -> Self {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        Self { width: u32::from(columns).min(64), height: (u32::from(rows) * 2 / 3).max(2) }
    }
}

/// The image, scaled down to the canvas. `None` if its fields do not fit together, or there are no pixels.
pub(crate) fn of_image(image: &Image, canvas: Canvas) -> Option<String> {
    let (format, rows) = image.rows()?;
    let rows: Vec<&[u8]> = rows.collect();
    (image.width > 0 && image.height > 0).then(|| of_rows(image.width, format, &rows, canvas))
}

/// Some rows of pixels, scaled down to the canvas.
pub(crate) fn of_rows(width: u32, format: PixelFormat, rows: &[&[u8]], canvas: Canvas) -> String {
    let height = rows.len() as u32;
    let scale =
        f64::max(f64::from(width) / f64::from(canvas.width), f64::from(height) / f64::from(canvas.height)).max(1.0);
    let size = |length: u32| ((f64::from(length) / scale) as u32).max(1);
    let at = |x: u32, y: u32| {
        let source = |index: u32, length: u32| ((f64::from(index) + 0.5) * scale).min(f64::from(length - 1)) as usize;
        let step = format.pixel_size() as usize;
        let pixel = rows.get(source(y, height)).and_then(|row| row.get(source(x, width) * step..)?.get(..step));
        pixel.map_or([0; 3], |pixel| color(format, pixel))
    };
    let mut text = String::new();
    for y in (0..size(height)).step_by(2) {
        for x in 0..size(width) {
            let [red, green, blue] = at(x, y);
            let _ = write!(text, "\x1b[38;2;{red};{green};{blue}");
            if y + 1 < size(height) {
                let [red, green, blue] = at(x, y + 1);
                let _ = write!(text, ";48;2;{red};{green};{blue}");
            }
            text.push_str("m▀");
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// A pixel as red, green and blue of 8 bits; what is transparent is black.
fn color(format: PixelFormat, pixel: &[u8]) -> [u8; 3] {
    let deep =
        matches!(format, PixelFormat::Gray16 | PixelFormat::GrayAlpha16 | PixelFormat::Rgb16 | PixelFormat::Rgba16);
    let part = |index: usize| match deep {
        true => (u16::from_ne_bytes([pixel[index * 2], pixel[index * 2 + 1]]) >> 8) as u8,
        false => pixel[index],
    };
    let (colors, alpha) = match format {
        PixelFormat::GrayAlpha8 | PixelFormat::GrayAlpha16 => ([part(0); 3], part(1)),
        PixelFormat::Rgb8 | PixelFormat::Rgb16 => ([part(0), part(1), part(2)], 255),
        PixelFormat::Rgba8 | PixelFormat::Rgba16 => ([part(0), part(1), part(2)], part(3)),
        PixelFormat::Bgr8 => ([part(2), part(1), part(0)], 255),
        PixelFormat::Bgra8 => ([part(2), part(1), part(0)], part(3)),
        _ => ([part(0); 3], 255),
    };
    colors.map(|color| (u16::from(color) * u16::from(alpha) / 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::color;
    use memlane::PixelFormat;

    #[test]
    fn every_format_gives_its_colour() {
        let deep = |parts: &[u16]| parts.iter().flat_map(|part| (part << 8).to_ne_bytes()).collect::<Vec<_>>();
        let cases: [(PixelFormat, Vec<u8>, [u8; 3]); 10] = [
            (PixelFormat::Gray8, vec![9], [9, 9, 9]),
            (PixelFormat::Gray16, deep(&[9]), [9, 9, 9]),
            (PixelFormat::GrayAlpha8, vec![200, 51], [40, 40, 40]),
            (PixelFormat::GrayAlpha16, deep(&[200, 51]), [40, 40, 40]),
            (PixelFormat::Rgb8, vec![1, 2, 3], [1, 2, 3]),
            (PixelFormat::Rgb16, deep(&[1, 2, 3]), [1, 2, 3]),
            (PixelFormat::Rgba8, vec![1, 2, 3, 255], [1, 2, 3]),
            (PixelFormat::Rgba16, deep(&[1, 2, 3, 255]), [1, 2, 3]),
            (PixelFormat::Bgr8, vec![3, 2, 1], [1, 2, 3]),
            (PixelFormat::Bgra8, vec![3, 2, 1, 0], [0, 0, 0]),
        ];
        for (format, pixel, expected) in cases {
            assert_eq!(color(format, &pixel), expected, "{format:?}");
        }
    }
}
