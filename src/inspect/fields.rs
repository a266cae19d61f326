//! What lies in an object, part by part, read by the description that the object has of itself.

use crate::error::{Who, shown};
use crate::object::Found;
use crate::owner::{self, OwnerId, PARTICIPANTS};
use crate::segment::{Field, Schema, field_path};
use crate::sync::{Looked, look};
use std::ops::Range;

/// The most parts that are shown, and how far they may lie in each other: a description may say anything.
const MOST_PARTS: usize = 4096;
const MOST_DEEP: usize = 64;
/// The bytes of paths and kinds that are shown, but for one more: each may be as long as the description.
const MOST_TEXT: usize = 4 << 20;
/// The bytes that are shown of bytes, and that are looked at of a lock.
const MOST_BYTES: u64 = 256;
const MOST_WORDS: u64 = 1 << 16;

/// A part of an object, and what was in it when it was looked at.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspected {
    /// Where it is, by names that are separated by points, elements of arrays by their number; empty for the whole.
    pub path: String,
    /// What it is, as in [`Field::kind`](crate::Field::kind).
    pub kind: String,
    /// Where it starts, in bytes from the start of the whole.
    pub offset: u64,
    /// Its size in bytes, as in [`Field::size`](crate::Field::size).
    pub size: u64,
    /// What is in it.
    pub value: FieldValue,
}

/// What is in a part of an object.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldValue {
    /// What is in the parts that follow.
    Parts,
    /// So many elements, of which the first follow.
    Elements(u64),
    /// So many bytes, and the first of them.
    Bytes {
        /// How many there are.
        len: u64,
        /// At most the first 256.
        first: Vec<u8>,
    },
    /// A number without a sign.
    Unsigned(u128),
    /// A number with a sign.
    Signed(i128),
    /// A floating-point number.
    Float(f64),
    /// Yes or no; `None` if it is neither 0 nor 1.
    Bool(Option<bool>),
    /// A participant; `None` if it names nobody.
    Owner(Option<Holder>),
    /// A lock, or another thing that processes wait for.
    Lock(LockState),
    /// It cannot be read, or what is there has no meaning.
    Unreadable,
}

/// How a lock, or another thing that processes wait for, stood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockState {
    /// In a word or two: `free`, `held`, `set`, ...
    pub state: String,
    /// Who holds it, or takes part.
    pub holders: Vec<Holder>,
    /// Who sleeps on it, as they say; of several threads of one attachment, the last one.
    pub waiters: Vec<Who>,
    /// Whether a holder died or panicked, and nobody has declared the data complete since.
    pub needs_repair: bool,
}

/// A participant that is named in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The name that is there: the same only for the same attachment.
    pub owner: OwnerId,
    /// Who that is, dead or alive, if it is known.
    pub who: Option<Who>,
    /// Whether it lives, and has not closed the object.
    pub alive: bool,
    /// What it does with it: `holds it`, ...; empty for an owner id.
    pub role: &'static str,
}

/// A part before it is read: where it lies, and how many elements it has, if it is made of such.
struct Part {
    path: String,
    kind: String,
    offset: u64,
    size: u64,
    elements: Option<(u64, bool)>,
}

/// Finds the parts that a description names, with the first `most` elements of each array.
struct Walk<'a> {
    fields: &'a [Field<'a>],
    tail: u64,
    most: u64,
    parts: Vec<Part>,
    /// The length of their paths and kinds.
    text: usize,
}

impl Walk<'_> {
    /// The parts of field `index`, which follow it.
    fn inner(&self, index: usize, end: usize) -> Range<usize> {
        let outer = self.fields[index].path;
        let is_inside = |field: &Field<'_>| {
            outer.is_empty() || field.path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
        };
        let count = self.fields[index + 1..end].iter().take_while(|field| is_inside(field)).count();
        index + 1..index + 1 + count
    }

    fn goes_on(&self, depth: usize) -> bool {
        self.parts.len() < MOST_PARTS && depth < MOST_DEEP && self.text < MOST_TEXT
    }

    /// Adds the fields in `range`, moved by `shift`, each with `prefix` for the first `cut` bytes of its path.
    fn visit(&mut self, range: Range<usize>, shift: u64, cut: usize, prefix: &str, depth: usize) {
        let mut index = range.start;
        while index < range.end && self.goes_on(depth) {
            let field = self.fields[index];
            let inner = self.inner(index, range.end);
            index = inner.end;
            let path = format!("{prefix}{}", field.path.get(cut..).unwrap_or_default());
            let count = match field.kind.strip_prefix("array of ") {
                Some(count) => count.parse().ok(),
                None => (field.kind == Schema::TAIL).then_some(self.tail),
            };
            let element = self.fields.get(inner.start).filter(|element| element.path == field_path(field.path, "[]"));
            let elements = count.zip(element);
            self.text += path.len() + field.kind.len();
            self.parts.push(Part {
                path: path.clone(),
                kind: field.kind.to_owned(),
                offset: (field.offset as u64).saturating_add(shift),
                size: field.size as u64,
                elements: elements.map(|(count, element)| (count, element.kind == "u8")),
            });
            match elements {
                None => self.visit(inner, shift, cut, prefix, depth + 1),
                Some((_, Field { kind: "u8", .. })) => {}
                Some((count, element)) => {
                    let (cut, size) = (element.path.len(), Schema::extent(&self.fields[inner.clone()]) as u64);
                    for number in 0..count.min(self.most) {
                        if !self.goes_on(depth + 1) {
                            break;
                        }
                        let shift = shift.saturating_add(number.saturating_mul(size));
                        self.visit(inner.clone(), shift, cut, &format!("{path}[{number}]"), depth + 1);
                    }
                }
            }
        }
    }
}

/// An object that is looked at, with a copy of its participant table.
pub(super) struct Reading<'a> {
    pub(super) found: &'a Found,
    pub(super) table: &'a [u8],
}

impl Reading<'_> {
    /// All parts that the description names, with the first `most` elements of each array.
    pub(super) fn fields(&self, most: usize) -> Vec<Inspected> {
        let schema = Schema::from_text(&self.found.header.schema);
        let fields: Vec<Field<'_>> = schema.fields().collect();
        let (tail, most) = (self.found.header.tail, most as u64);
        let mut walk = Walk { fields: &fields, tail, most, parts: Vec::new(), text: 0 };
        walk.visit(0..fields.len(), 0, 0, "", 0);
        walk.parts.into_iter().map(|part| self.read(part)).collect()
    }

    fn read(&self, part: Part) -> Inspected {
        let value = match part.elements {
            Some((len, true)) => {
                self.bytes(part.offset, len.min(MOST_BYTES)).map(|first| FieldValue::Bytes { len, first })
            }
            Some((count, false)) => Some(FieldValue::Elements(count)),
            None => self.value(&part),
        };
        let Part { path, kind, offset, size, .. } = part;
        let value = value.unwrap_or(FieldValue::Unreadable);
        Inspected { path: shown(&path), kind: shown(&kind), offset, size, value }
    }

    fn bytes(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        self.found.read(offset, &mut bytes).ok().map(|()| bytes)
    }

    fn word<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        self.bytes(offset, N as u64)?.try_into().ok()
    }

    fn value(&self, part: &Part) -> Option<FieldValue> {
        let at = part.offset;
        Some(match part.kind.strip_prefix("atomic ").unwrap_or(&part.kind) {
            "u8" => FieldValue::Unsigned(u8::from_ne_bytes(self.word(at)?).into()),
            "u16" => FieldValue::Unsigned(u16::from_ne_bytes(self.word(at)?).into()),
            "u32" => FieldValue::Unsigned(u32::from_ne_bytes(self.word(at)?).into()),
            "u64" => FieldValue::Unsigned(u64::from_ne_bytes(self.word(at)?).into()),
            "u128" => FieldValue::Unsigned(u128::from_ne_bytes(self.word(at)?)),
            "i8" => FieldValue::Signed(i8::from_ne_bytes(self.word(at)?).into()),
            "i16" => FieldValue::Signed(i16::from_ne_bytes(self.word(at)?).into()),
            "i32" => FieldValue::Signed(i32::from_ne_bytes(self.word(at)?).into()),
            "i64" => FieldValue::Signed(i64::from_ne_bytes(self.word(at)?).into()),
            "i128" => FieldValue::Signed(i128::from_ne_bytes(self.word(at)?)),
            "f32" => FieldValue::Float(f32::from_ne_bytes(self.word(at)?).into()),
            "f64" => FieldValue::Float(f64::from_ne_bytes(self.word(at)?)),
            "bool" => FieldValue::Bool(match self.word::<1>(at)? {
                [byte @ 0..=1] => Some(byte == 1),
                _ => None,
            }),
            "owner id" => {
                let owner = OwnerId::in_word(u64::from_ne_bytes(self.word(at)?));
                FieldValue::Owner((!owner.is_nobody()).then(|| self.holder(owner, "")))
            }
            kind => match look(kind, &self.bytes(at, part.size.min(MOST_WORDS)).unwrap_or_default()) {
                Some(looked) => FieldValue::Lock(self.sync(part, looked)),
                None => FieldValue::Parts,
            },
        })
    }

    fn sync(&self, part: &Part, looked: Looked) -> LockState {
        let Looked { state, holders, needs_repair } = looked;
        let words = part.offset..part.offset.saturating_add(part.size);
        let sleeps = |index: &usize| owner::sleep_in(self.table, *index).is_some_and(|on| words.contains(&on.offset()));
        let waiters = (0..PARTICIPANTS).filter(sleeps).filter_map(|index| self.attached(index));
        LockState {
            state,
            holders: holders.into_iter().map(|(owner, role)| self.holder(owner, role)).collect(),
            waiters: waiters.collect(),
            needs_repair,
        }
    }

    fn holder(&self, owner: OwnerId, role: &'static str) -> Holder {
        let alive = owner::living_in(self.table, &self.found.locks, owner).is_some();
        Holder { owner, who: owner::who_in(self.table, owner), alive, role }
    }

    /// Who has a slot of the table, if it lives.
    pub(super) fn attached(&self, index: usize) -> Option<Who> {
        let held = owner::is_held(&self.found.locks, index).unwrap_or(false);
        held.then(|| owner::holder_in(self.table, index)).flatten()
    }
}

/// The path of what lies at an offset of the user's bytes and can be slept on.
pub(super) fn awaited(fields: &[Inspected], offset: u64) -> String {
    let is_there = |field: &&Inspected| {
        matches!(field.value, FieldValue::Lock(_))
            && (field.offset..field.offset.saturating_add(field.size)).contains(&offset)
    };
    fields.iter().find(is_there).map_or_else(|| format!("offset {offset}"), |field| field.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths, offsets and numbers of elements that a description leads to.
    fn walked(text: &str, tail: u64, most: u64) -> Vec<(String, u64, Option<u64>)> {
        let schema = Schema::from_text(text);
        let fields: Vec<Field<'_>> = schema.fields().collect();
        let mut walk = Walk { fields: &fields, tail, most, parts: Vec::new(), text: 0 };
        walk.visit(0..fields.len(), 0, 0, "", 0);
        walk.parts.into_iter().map(|part| (part.path, part.offset, part.elements.map(|(count, _)| count))).collect()
    }

    fn at(path: &str, offset: u64) -> (String, u64, Option<u64>) {
        (path.into(), offset, None)
    }

    #[test]
    fn elements_are_numbered_and_lie_where_they_are() {
        let text = "\tS\t0\t64\nm\tarray of 2\t0\t48\nm.[]\tarray of 3\t0\t24\nm.[].[]\tP\t0\t8\nm.[].[].a\tu32\t4\t4\n\
                    end\tflexible tail\t64\t0\nend.[]\tmutex\t64\t8\nend.[].data\tu8\t72\t1\n";
        let expected = [
            at("", 0),
            ("m".into(), 0, Some(2)),
            ("m[0]".into(), 0, Some(3)),
            at("m[0][0]", 0),
            at("m[0][0].a", 4),
            at("m[0][1]", 8),
            at("m[0][1].a", 12),
            ("m[1]".into(), 24, Some(3)),
            at("m[1][0]", 24),
            at("m[1][0].a", 28),
            at("m[1][1]", 32),
            at("m[1][1].a", 36),
            ("end".into(), 64, Some(9)),
            at("end[0]", 64),
            at("end[0].data", 72),
            at("end[1]", 80),
            at("end[1].data", 88),
        ];
        assert_eq!(walked(text, 9, 2), expected);
        assert_eq!(walked("\tflexible tail\t0\t0\n[]\tu8\t0\t1\n", 9, 2), [(String::new(), 0, Some(9))]);
    }

    #[test]
    fn whatever_a_description_says_there_is_an_end_of_it() {
        let many = "\tarray of 18446744073709551615\t18446744073709551615\t18446744073709551615\n\
                    []\tS\t18446744073709551615\t18446744073709551615\n[].x\tu64\t18446744073709551615\t8\n";
        assert_eq!(walked(many, u64::MAX, u64::MAX).len(), MOST_PARTS);
        let nested: String = (0..100).map(|depth| format!("{}a\tS\t0\t8\n", "a.".repeat(depth))).collect();
        assert_eq!(walked(&nested, 0, 9).len(), MOST_DEEP);
        let arrays: String = (0..100).map(|depth| format!("a{}\tarray of 9\t0\t9\n", ".[]".repeat(depth))).collect();
        assert!(walked(&arrays, 0, 9).len() <= MOST_PARTS);
        for torn in
            ["", "x", "\t\t\t", "é\tarray of 1\t0\t1\né.[]\tu16\t0\t2\né[]\tu16\t0\t2\n", "\tarray of x\t0\t9\n"]
        {
            let _ = walked(torn, 1, 9);
        }
    }
}
