//! The first bytes of every named object: written once before the object has a name, checked before anything else
//! is believed. docs/DESIGN.md draws them.

use crate::error::{Error, shown};
use crate::owner::{PARTICIPANTS, Table, is_lock};

/// The format of everything in a named object. A program of another format refuses the object.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"memlane\0";
const ENDIANNESS: u32 = 0x0102_0304;
const POINTER_WIDTH: u32 = usize::BITS;

/// Where the words lie that change while the object lives.
pub(crate) const STATE_OFFSET: usize = 128;
pub(crate) const CREATOR_OFFSET: usize = 136;
/// Where the participant table lies.
pub(crate) const TABLE_OFFSET: usize = 256;
/// Where the schema's text starts.
pub(crate) const SCHEMA_OFFSET: usize = TABLE_OFFSET + size_of::<Table>();
/// The longest schema.
pub(crate) const SCHEMA_MAX: usize = 1 << 20;
/// The user's bytes start at a multiple of this.
pub(crate) const DATA_ALIGN: usize = 4096;

/// The object is in use.
pub(crate) const LIVE: u32 = 0;
/// The object was removed by force; every user is to let go of it.
pub(crate) const RETIRED: u32 = 1;

/// How long an object stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persistence {
    /// Until its last user has closed it or died. What a crash leaves behind is reclaimed by the next create or open
    /// of the name, by other creates in passing, and by `gc`; until then it can no longer be opened.
    #[default]
    UntilLastUser,
    /// Until it is removed by name, as in Boost.Interprocess and POSIX, even if nobody uses it.
    Keep,
}

/// What the header says that never changes: checked, and copied out of shared memory once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u128,
    pub(crate) persistence: Persistence,
    pub(crate) sparse: bool,
    /// The user's bytes.
    pub(crate) data_len: u64,
    /// The length of the flexible tail, in elements.
    pub(crate) tail: u64,
    /// The type in the user's bytes; empty for raw ones.
    pub(crate) schema: String,
}

impl Header {
    /// Where the user's bytes start.
    pub(crate) fn data_offset(&self) -> u64 {
        (SCHEMA_OFFSET + self.schema.len()).next_multiple_of(DATA_ALIGN) as u64
    }

    /// The size of the whole object, or `None` if that is more than there can be.
    pub(crate) fn total(&self) -> Option<u64> {
        self.data_offset().checked_add(self.data_len).filter(|total| *total <= isize::MAX as u64)
    }

    /// The same as the length of a mapping, if there can be one.
    pub(crate) fn map_len(&self) -> Option<usize> {
        usize::try_from(self.total()?).ok()
    }

    /// The name of the type that the schema describes, to be shown; `None` for raw bytes.
    pub(crate) fn type_name(&self) -> Option<String> {
        let first = self.schema.lines().next()?;
        let name = first.strip_prefix('\t').and_then(|rest| rest.split('\t').next()).filter(|name| !name.is_empty());
        Some(shown(name.unwrap_or("value of an unknown type")))
    }

    /// The path of the lock at an offset of the user's bytes, if the schema names one.
    pub(crate) fn lock_at(&self, offset: usize) -> Option<&str> {
        self.schema.lines().find_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [path, kind, its, _] if is_lock(kind) && its.parse() == Ok(offset) => Some(path),
            _ => None,
        })
    }

    /// The bytes from 0 to the end of the schema.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SCHEMA_OFFSET];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        let persistence: u32 = match self.persistence {
            Persistence::Keep => 1,
            Persistence::UntilLastUser => 2,
        };
        put(0, &MAGIC);
        put(8, &FORMAT.to_ne_bytes());
        put(12, &ENDIANNESS.to_ne_bytes());
        put(16, &POINTER_WIDTH.to_ne_bytes());
        put(20, &persistence.to_ne_bytes());
        put(24, &self.id.to_ne_bytes());
        put(40, &self.data_offset().to_ne_bytes());
        put(48, &self.data_len.to_ne_bytes());
        put(56, &self.tail.to_ne_bytes());
        put(64, &(self.schema.len() as u32).to_ne_bytes());
        put(68, &(PARTICIPANTS as u32).to_ne_bytes());
        put(72, &u32::from(self.sparse).to_ne_bytes());
        bytes.extend_from_slice(self.schema.as_bytes());
        bytes
    }

    /// Checks the first bytes of an object of `len` bytes. `read` gives `count` bytes at an offset, or `None`.
    /// Every field is read once, and none is believed that does not agree with all the others.
    pub(crate) fn validate(name: &str, len: u64, read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Result<Self, Error> {
        let corrupt = |field| Error::Corrupt { name: name.to_owned(), field };
        let foreign = || Error::Foreign { name: name.to_owned(), what: "another file".into() };
        let bytes = read(0, STATE_OFFSET).filter(|bytes| bytes.starts_with(&MAGIC)).ok_or_else(foreign)?;
        let u32_at = |offset: usize| bytes[offset..offset + 4].try_into().map_or(0, u32::from_ne_bytes);
        let u64_at = |offset: usize| bytes[offset..offset + 8].try_into().map_or(0, u64::from_ne_bytes);

        let fixed = [("endianness", 12, ENDIANNESS), ("format", 8, FORMAT), ("pointer width", 16, POINTER_WIDTH)];
        for (field, offset, expected) in fixed {
            let found = u32_at(offset);
            if found != expected {
                return Err(Error::Incompatible { name: name.to_owned(), field, found, expected });
            }
        }
        let persistence = match u32_at(20) {
            1 => Persistence::Keep,
            2 => Persistence::UntilLastUser,
            _ => return Err(corrupt("persistence")),
        };
        let schema_len = u32_at(64) as usize;
        if schema_len > SCHEMA_MAX {
            return Err(corrupt("schema length"));
        }
        if u32_at(68) != PARTICIPANTS as u32 {
            return Err(corrupt("participant count"));
        }
        let sparse = match u32_at(72) {
            0 => false,
            1 => true,
            _ => return Err(corrupt("sparse flag")),
        };
        if bytes[76..].iter().any(|byte| *byte != 0) {
            return Err(corrupt("reserved range"));
        }
        // The schema fills its range to the last byte, and zeroes follow it up to the user's bytes.
        let range = (SCHEMA_OFFSET + schema_len).next_multiple_of(DATA_ALIGN) - SCHEMA_OFFSET;
        let mut schema = read(SCHEMA_OFFSET as u64, range).ok_or_else(|| corrupt("size"))?;
        if schema[schema_len..].iter().any(|byte| *byte != 0) || schema[..schema_len].contains(&0) {
            return Err(corrupt("schema length"));
        }
        schema.truncate(schema_len);
        let header = Self {
            id: bytes[24..40].try_into().map_or(0, u128::from_ne_bytes),
            persistence,
            sparse,
            data_len: u64_at(48),
            tail: u64_at(56),
            schema: String::from_utf8(schema).map_err(|_| corrupt("schema"))?,
        };
        if u64_at(40) != header.data_offset() {
            return Err(corrupt("data offset"));
        }
        if header.total() != Some(len) {
            return Err(corrupt("size"));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
            persistence: Persistence::UntilLastUser,
            sparse: false,
            data_len: 100,
            tail: 7,
            schema: "\tFrame\t0\t93\n".into(),
        }
    }

    fn validate(bytes: &[u8], len: u64) -> Result<Header, Error> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().max(usize::try_from(len.min(12388)).unwrap_or(0)), 0);
        let read = |offset: u64, count: usize| {
            let start = usize::try_from(offset).ok()?;
            bytes.get(start..start.checked_add(count)?).map(<[u8]>::to_vec)
        };
        Header::validate("x", len, read)
    }

    #[cfg(all(target_endian = "little", target_pointer_width = "64"))]
    #[test]
    fn the_bytes_are_those_of_format_1() {
        let mut expected = vec![0_u8; 8448];
        expected[..8].copy_from_slice(b"memlane\0");
        expected[8] = 1; // format
        expected[12..16].copy_from_slice(&[4, 3, 2, 1]);
        expected[16] = 64;
        expected[20] = 2; // until the last user
        (0..16).for_each(|byte| expected[24 + byte] = byte as u8);
        expected[41] = 0x30; // 12288
        expected[48] = 100;
        expected[56] = 7;
        expected[64] = 12;
        expected[68] = 128;
        expected.extend_from_slice(b"\tFrame\t0\t93\n");
        assert_eq!(header().to_bytes(), expected);
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(validate(&header().to_bytes(), 12388).ok(), Some(header()));
    }

    #[test]
    fn every_single_changed_byte_but_those_of_the_id_and_the_tail_is_refused() {
        let good = header().to_bytes();
        for index in (0..STATE_OFFSET).filter(|index| !(24..40).contains(index) && !(56..64).contains(index)) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[index] ^= 1 << bit;
                let other = validate(&bad, 12388);
                // Another persistence and sparseness are as good a header; everything else hangs together.
                let legal = matches!(index, 20 | 72) && other.as_ref().is_ok_and(|other| *other != header());
                assert!(legal || other.is_err(), "byte {index}, bit {bit}: {other:?}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "looks at millions of bytes")]
    fn a_schema_is_as_long_as_it_may_be_and_not_longer() {
        for (len, sound) in [(SCHEMA_MAX, true), (SCHEMA_MAX + 1, false)] {
            let header = Header { schema: "x".repeat(len), data_len: 0, ..header() };
            let mut bytes = header.to_bytes();
            bytes.resize(header.data_offset() as usize, 0);
            match validate(&bytes, header.data_offset()) {
                Ok(read) => assert!(sound && read == header),
                Err(error) => assert!(!sound && matches!(error, Error::Corrupt { field: "schema length", .. })),
            }
        }
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        for len in [0, 12387, 12389, u64::MAX] {
            assert!(matches!(validate(&header().to_bytes(), len), Err(Error::Corrupt { field: "size", .. })));
        }
        assert!(matches!(validate(&[], 0), Err(Error::Foreign { .. })));
    }
}
