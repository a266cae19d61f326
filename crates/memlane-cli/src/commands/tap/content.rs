//! What a message is: as a line, as JSON, as bytes, as a file.

use super::follow::Kind;
use crate::failure::Failure;
use crate::picture::{self, write_png};
use crate::report::{Bytes, Time};
use memlane::{Copied, Dtype, Image, PixelFormat, Tensor, Value};
use serde_json::{Value as Json, json};
use std::fmt::{self, Display, Write};
use std::path::{Path, PathBuf};

/// To ask for the size of an image without pixels.
pub(super) const ANY_FORMAT: PixelFormat = PixelFormat::Gray8;

/// What is shown of a message.
pub(super) struct Line<'a> {
    message: &'a Copied,
    content: Content,
    missed: u64,
    pub(super) file: Option<PathBuf>,
}

/// A message as it is to be understood. What it says of itself is its sender's word.
enum Content {
    Bytes,
    Image(Value<Image>),
    Tensor(Value<Tensor>),
    Typed(String),
    /// It is too short for its type.
    Torn,
}

impl<'a> Line<'a> {
    pub(super) fn new(kind: &Kind, message: &'a Copied, missed: u64) -> Self {
        let content = match kind {
            Kind::Bytes => Content::Bytes,
            Kind::Image => message.value().map_or(Content::Torn, Content::Image),
            Kind::Tensor => message.value().map_or(Content::Torn, Content::Tensor),
            Kind::Typed(name) => Content::Typed(name.clone()),
        };
        Self { message, content, missed, file: None }
    }

    pub(super) fn image(&self) -> Option<&Image> {
        if let Content::Image(image) = &self.content { Some(image) } else { None }
    }

    pub(super) fn to_json(&self, hex: Option<&[u8]>) -> Json {
        let message = self.message;
        let mut line = json!({
            "lane": message.lane, "sequence": message.sequence, "bytes": message.size,
            "age_ns": message.age.map(|age| age.as_nanos() as u64), "missed": self.missed,
            "schema_id": message.schema_id, "metadata_hex": hex_of(&message.metadata),
            "hex": hex.map(hex_of), "file": self.file,
        });
        let more = match &self.content {
            Content::Bytes => json!({ "type": "bytes" }),
            Content::Image(image) => {
                let format = PixelFormat::from_number(image.format).map(picture::name);
                json!({ "type": "image", "width": image.width, "height": image.height, "format": format })
            }
            Content::Tensor(tensor) => {
                let dtype = Dtype::from_number(tensor.dtype).map(dtype_name);
                json!({ "type": "tensor", "dtype": dtype, "shape": shape(tensor) })
            }
            Content::Typed(name) => json!({ "type": name }),
            Content::Torn => json!({ "type": null }),
        };
        if let (Some(line), Json::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        line
    }
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Copied { lane, sequence, size, age, schema_id, metadata, .. } = self.message;
        write!(f, "{lane}:{sequence:06}  {:>9}", Bytes(*size).to_string())?;
        let age = age.map_or("unknown".into(), |age| Time(age).to_string());
        write!(f, "  age {age:>10}  {}", self.content)?;
        if *schema_id != 0 {
            write!(f, "  schema {schema_id:#x}")?;
        }
        if !metadata.is_empty() {
            write!(f, "  metadata {}", text_or_hex(metadata))?;
        }
        if let Some(file) = &self.file {
            write!(f, "  {}", file.display())?;
        }
        if self.missed > 0 {
            write!(f, "  {} missed before", self.missed)?;
        }
        Ok(())
    }
}

impl Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::Image(image) => {
                let Image { width, height, format: number, .. } = &**image;
                match PixelFormat::from_number(*number) {
                    Some(format) => write!(f, "image {width}x{height} {}", picture::name(format)),
                    None => write!(f, "image {width}x{height}, unknown format {number}"),
                }
            }
            Self::Tensor(tensor) => match (Dtype::from_number(tensor.dtype), shape(tensor)) {
                (Some(dtype), Some(shape)) => write!(f, "tensor {} {shape:?}", dtype_name(dtype)),
                _ => write!(f, "tensor, unknown dtype {} or rank {}", tensor.dtype, tensor.rank),
            },
            Self::Typed(name) => f.write_str(name),
            Self::Torn => f.write_str("too short for its type"),
        }
    }
}

fn shape(tensor: &Tensor) -> Option<&[u64]> {
    tensor.shape.get(..tensor.rank as usize)
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::U8 => "u8",
        Dtype::U16 => "u16",
        Dtype::U32 => "u32",
        Dtype::U64 => "u64",
        Dtype::I8 => "i8",
        Dtype::I16 => "i16",
        Dtype::I32 => "i32",
        Dtype::I64 => "i64",
        Dtype::F16 => "f16",
        Dtype::F32 => "f32",
        Dtype::F64 => "f64",
        Dtype::Bool => "bool",
        Dtype::Bf16 => "bf16",
        Dtype::C64 => "c64",
        Dtype::C128 => "c128",
        _ => "unknown",
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// In quotes, with nothing that a terminal would act on.
fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => format!("{text:?}"),
        _ => format!("0x{}", hex_of(bytes)),
    }
}

/// Sixteen bytes a line, with their offset and as letters.
pub(super) fn hex_dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        let halves = line.chunks(8).map(|half| half.iter().map(|byte| format!("{byte:02x} ")).collect::<String>());
        let hex = halves.collect::<Vec<_>>().join(" ");
        let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let letters: String = line.iter().map(letter).collect();
        let _ = writeln!(text, "  {:08x}  {hex:49} |{letters}|", index * 16);
    }
    text
}

/// Writes a message to a file, whole under its name or not at all; says which.
pub(super) fn save(folder: &Path, with_lane: bool, kind: &Kind, message: &Copied) -> Result<PathBuf, Failure> {
    let image = if matches!(kind, Kind::Image) { message.value::<Image>() } else { None };
    let pixels = image.as_deref().and_then(picture::pixels).filter(|(shape, _)| shape.size() > 0);
    let lane = if with_lane { format!("{}-", message.lane) } else { String::new() };
    let extension = if pixels.is_some() { "png" } else { "bin" };
    let name = format!("{lane}{:06}.{extension}", message.sequence);
    let (path, draft) = (folder.join(&name), folder.join(format!(".{name}.part")));
    let refuse = |error: &dyn Display| Failure::failed(format!("cannot write '{}': {error}", path.display()));
    let written = match pixels {
        Some((shape, pixels)) => write_png(&draft, shape, &pixels).map_err(|error| refuse(&error)),
        None => std::fs::write(&draft, &message.bytes).map_err(|error| refuse(&error)),
    };
    let named = written.and_then(|()| std::fs::rename(&draft, &path).map_err(|error| refuse(&error)));
    named.inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::{hex_dump, text_or_hex};

    #[test]
    fn a_dump_shows_offsets_bytes_and_letters() {
        let bytes: Vec<u8> = (0x40..0x52).collect();
        let lines = [
            "  00000000  40 41 42 43 44 45 46 47  48 49 4a 4b 4c 4d 4e 4f  |@ABCDEFGHIJKLMNO|\n",
            "  00000010  50 51                                             |PQ|\n",
        ];
        assert_eq!(hex_dump(&bytes), lines.concat());
        assert_eq!(hex_dump(&[]), "");
    }

    #[test]
    fn metadata_is_shown_as_text_only_if_it_is_some() {
        assert_eq!(text_or_hex(b"left \"eye\""), r#""left \"eye\"""#);
        assert_eq!([text_or_hex(b"\x1b[2J"), text_or_hex(&[0xff, 1])], ["0x1b5b324a", "0xff01"]);
    }
}
