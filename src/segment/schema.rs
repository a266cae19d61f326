//! What a type looks like, as text that lies in the object: a line per field with its path, type, offset and size.
//!
//! Two programs agree on a type when they make the same text. When they do not, the difference is shown line by line.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Collects the description of a type; `#[derive(Shareable)]` calls it.
#[derive(Debug, Default)]
pub struct Schema {
    text: String,
}

impl Schema {
    /// Adds a line: the thing at `path` (empty for the whole) is a `kind` of `size` bytes at `offset`.
    pub fn line(&mut self, path: &str, kind: &str, offset: usize, size: usize) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{path}\t{kind}\t{offset}\t{size}");
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The path of the field `name` of what is at `path`.
#[must_use]
pub fn field_path(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The fields in which two schemas differ, a line each. `theirs` comes from shared memory and may be any text.
pub(crate) fn difference(theirs: &str, ours: &str) -> String {
    let (their_fields, our_fields) = (fields(theirs), fields(ours));
    let shown = |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let name = |path: &str| if path.is_empty() { "the type".to_owned() } else { format!("field `{}`", shown(path)) };
    let mut lines = Vec::new();
    if theirs.is_empty() {
        lines.push("  the object holds raw bytes".to_owned());
    }
    for (path, field) in &their_fields {
        match our_fields.get(path) {
            Some(ours) if ours == field => {}
            Some(ours) => {
                lines.push(format!("  {}: the object has {}, this program {}", name(path), shown(field), shown(ours)));
            }
            None => lines.push(format!("  {}: only in the object, {}", name(path), shown(field))),
        }
    }
    for (path, field) in our_fields {
        if !their_fields.contains_key(path) {
            lines.push(format!("  {}: only in this program, {field}", name(path)));
        }
    }
    lines.join("\n")
}

/// Path to description; lines that are no schema lines count as fields of their own.
fn fields(schema: &str) -> BTreeMap<&str, String> {
    schema
        .lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [path, kind, offset, size] => (path, format!("{kind} at {offset}, {size} bytes")),
            _ => (line, "not readable".to_owned()),
        })
        .collect()
}
