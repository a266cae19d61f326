//! What a type looks like, as text that lies in the object: a line per field with its path, type, offset and size.
//!
//! Two programs agree on a type when they make the same text. When they do not, the difference is shown line by line.

use crate::error::shown;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

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

/// How many differences are shown.
const SHOWN: usize = 100;

/// The fields in which two schemas differ, a line each: first those that were changed, in the order in which they are
/// declared, then those that only lie elsewhere because of that. `theirs` comes from shared memory and may be any text.
pub(crate) fn difference(theirs: &str, ours: &str) -> String {
    let by_path = |schema| fields(schema).map(|field| (field.path, field)).collect::<BTreeMap<_, _>>();
    let (their_fields, our_fields) = (by_path(theirs), by_path(ours));
    let (mut changed, mut moved) = (Vec::new(), Vec::new());
    if theirs.is_empty() {
        changed.push("  the object holds raw bytes".to_owned());
    }
    for their in fields(theirs) {
        let name = their.name();
        match our_fields.get(their.path) {
            None => changed.push(format!("  {name}: only in the object, {their}")),
            Some(our) if *our == their => {}
            // A struct grows with its fields: the change is theirs.
            Some(our) if our.kind == their.kind && (our.size == their.size || our.path.is_empty()) => {
                let place = |field: &Field<'_>| format!("at {}, {} bytes", shown(field.offset), shown(field.size));
                moved.push(format!("  {name}: {} in the object, {} in this program", place(&their), place(our)));
            }
            Some(our) => changed.push(format!("  {name}: the object has {their}, this program {our}")),
        }
    }
    for our in fields(ours).filter(|our| !their_fields.contains_key(our.path)) {
        changed.push(format!("  {}: only in this program, {our}", our.name()));
    }
    changed.extend(moved);
    if changed.is_empty() {
        changed.push("  the object has the same fields in another order, or some of them twice".to_owned());
    }
    let more = changed.len().saturating_sub(SHOWN);
    changed.truncate(SHOWN);
    if more > 0 {
        changed.push(format!("  and {more} more"));
    }
    changed.join("\n")
}

/// A line of a schema.
#[derive(PartialEq, Eq)]
struct Field<'a> {
    path: &'a str,
    kind: &'a str,
    offset: &'a str,
    size: &'a str,
}

/// The lines of a schema; one that is no schema line counts as a field of its own.
fn fields(schema: &str) -> impl Iterator<Item = Field<'_>> {
    schema.lines().map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [path, kind, offset, size] => Field { path, kind, offset, size },
        _ => Field { path: line, kind: "not readable", offset: "?", size: "?" },
    })
}

impl Field<'_> {
    fn name(&self) -> String {
        if self.path.is_empty() { "the type".to_owned() } else { format!("field `{}`", shown(self.path)) }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, {} bytes", shown(self.kind), shown(self.offset), shown(self.size))
    }
}
