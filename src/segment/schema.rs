//! What a type looks like, as text that lies in the object: a line per field with its path, type, offset and size.
//!
//! Two programs agree on a type when they make the same text. When they do not, the difference is shown line by line.

use super::{Layout, Shareable};
use crate::error::{Error, shown};
use crate::object::Name;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The description of a type: its parts, with where they lie. A `T` describes itself ([`Schema::of`]), and so does an
/// object ([`SharedMemory::schema`](crate::SharedMemory::schema)); two programs agree on a type if the descriptions are equal.
///
/// ```
/// use memlane::{Schema, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// let schema = Schema::of::<Point>();
/// let y = schema.fields().find(|field| field.path == "y").expect("it has one");
/// assert_eq!((y.kind, y.offset, y.size), ("f64", 8, 8));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    text: String,
}

/// A part of what a [`Schema`] describes, or the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field<'a> {
    /// Where it is, by names that are separated by points; empty for the whole. `[]` stands for each element of an array.
    pub path: &'a str,
    /// What it is: the name of a number's type, of a lock or of a struct, `array of N`, or `flexible tail`.
    pub kind: &'a str,
    /// Where it starts, in bytes from the start of the whole; of an element of an array, the first one.
    pub offset: usize,
    /// Its size in bytes; 0 for a flexible tail, of a struct with one the bytes before it.
    pub size: usize,
}

impl Schema {
    /// What describes a `T`.
    #[must_use]
    pub fn of<T: Shareable + ?Sized>() -> Self {
        let mut schema = Self::default();
        T::describe(&mut schema, "", 0);
        schema
    }

    /// From the text of an object, which may be any.
    pub(crate) fn from_text(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    /// Adds a line: the thing at `path` (empty for the whole) is a `kind` of `size` bytes at `offset`.
    pub fn line(&mut self, path: &str, kind: &str, offset: usize, size: usize) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{path}\t{kind}\t{offset}\t{size}");
    }

    /// Adds the lines of another one, as those of the thing at `path`.
    pub(crate) fn append(&mut self, path: &str, other: &Self) {
        for line in other.text.lines() {
            let point = if line.starts_with('\t') { "" } else { "." };
            self.text.extend([path, point, line, "\n"]);
        }
    }

    /// The parts, each after the one it is in. What cannot be read is left out.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        lines(&self.text).filter_map(|Line { path, kind, offset, size }| {
            Some(Field { path, kind, offset: offset.parse().ok()?, size: size.parse().ok()? })
        })
    }

    /// What it says of the thing at `path`, such as `message` in that of a channel.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        let mut text = String::new();
        for rest in self.text.lines().filter_map(|line| line.strip_prefix(path)) {
            if let Some(line) = rest.strip_prefix('.').or(Some(rest).filter(|rest| rest.starts_with('\t'))) {
                text.extend([line, "\n"]);
            }
        }
        Self { text }
    }

    /// Size, alignment and tail of what it describes; `None` if that cannot be told. Whether there is padding in a struct is
    /// not looked at: there may be.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        let whole = self.fields().next().filter(|field| field.path.is_empty())?;
        let align = self.fields().map(|field| alignment(field.kind)).max()?;
        let Some(tail) = self.fields().find(|field| field.kind == TAIL) else {
            return Layout::described(whole.size, align, None);
        };
        let element = field_path(tail.path, "[]");
        let element = self.fields().find(|field| field.path == element)?;
        Layout::described(tail.offset, align, Some(element.size))
    }

    /// Whether the object `name`, which describes itself as `theirs`, holds this.
    pub(crate) fn check(&self, name: &Name, theirs: &str) -> Result<(), Error> {
        if theirs == self.text {
            return Ok(());
        }
        Err(Error::TypeMismatch { name: name.to_string(), difference: difference(theirs, &self.text) })
    }

    /// It as text: a line for each part, with path, kind, offset and size, separated by tabs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// What a flexible tail is called.
pub(super) const TAIL: &str = "flexible tail";

/// The alignment of what is called `kind`; 1 for what is made of other things.
fn alignment(kind: &str) -> usize {
    match kind.strip_prefix("atomic ").unwrap_or(kind) {
        "u16" | "i16" => 2,
        "u32" | "i32" | "f32" | "condvar" | "event" => 4,
        "u64" | "i64" | "f64" | "owner id" | "mutex" | "once" | "semaphore" | "barrier" | "versioned" | "seqcell" => 8,
        "u128" | "i128" => 16,
        _ => 1,
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
fn difference(theirs: &str, ours: &str) -> String {
    let by_path = |schema| lines(schema).map(|field| (field.path, field)).collect::<BTreeMap<_, _>>();
    let (their_fields, our_fields) = (by_path(theirs), by_path(ours));
    let (mut changed, mut moved) = (Vec::new(), Vec::new());
    if theirs.is_empty() {
        changed.push("  the object holds raw bytes".to_owned());
    }
    for their in lines(theirs) {
        let name = their.name();
        match our_fields.get(their.path) {
            None => changed.push(format!("  {name}: only in the object, {their}")),
            Some(our) if *our == their => {}
            // A struct grows with its fields: the change is theirs.
            Some(our) if our.kind == their.kind && (our.size == their.size || our.path.is_empty()) => {
                let place = |field: &Line<'_>| format!("at {}, {} bytes", shown(field.offset), shown(field.size));
                moved.push(format!("  {name}: {} in the object, {} in this program", place(&their), place(our)));
            }
            Some(our) => changed.push(format!("  {name}: the object has {their}, this program {our}")),
        }
    }
    for our in lines(ours).filter(|our| !their_fields.contains_key(our.path)) {
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

/// A line of a schema, as it is.
#[derive(PartialEq, Eq)]
struct Line<'a> {
    path: &'a str,
    kind: &'a str,
    offset: &'a str,
    size: &'a str,
}

/// The lines of a schema; one that is no schema line counts as a field of its own.
fn lines(schema: &str) -> impl Iterator<Item = Line<'_>> {
    schema.lines().map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [path, kind, offset, size] => Line { path, kind, offset, size },
        _ => Line { path: line, kind: "not readable", offset: "?", size: "?" },
    })
}

impl Line<'_> {
    fn name(&self) -> String {
        if self.path.is_empty() { "the type".to_owned() } else { format!("field `{}`", shown(self.path)) }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, {} bytes", shown(self.kind), shown(self.offset), shown(self.size))
    }
}
