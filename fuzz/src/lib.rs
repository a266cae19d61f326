//! What the fuzz targets do with their input, and what must hold whatever it is.
//!
//! Each target reads the input as choices: it starts from a sound object, damages it as the input says, and compares
//! what the library answers with a model that is written from docs/DESIGN.md alone. The same code runs under libFuzzer
//! and, on the inputs in `fuzz/corpus`, as the ordinary test `tests/corpus.rs`.
#![allow(dead_code, missing_docs, missing_debug_implementations, unreachable_pub, reason = "no library for others")]

pub mod list;
#[path = "../../tests/common/object.rs"]
pub mod object;
pub mod open;
pub mod schema;
pub mod words;

use memlane::{Listed, Name};
use object::{CONDITION, CREATOR, DATA, OTHER, SCHEMA, STATE, TABLE, WORD, put};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// The input, read from its front; zeroes follow its end.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of those.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    pub fn number(&mut self, bytes: u32) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// A number that something is overwritten with: mostly one that could be meant.
    pub fn value(&mut self, known: &[u64]) -> u64 {
        match self.byte() % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (self.byte() % 64),
            3 => self.number(1),
            4 => self.number(2),
            5 => self.number(8),
            6 => self.pick(known),
            _ => self.pick(known) ^ 1 << (self.byte() % 64),
        }
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// A directory for the objects of one input, gone with it; what killed runs left is cleared first.
pub struct Place(PathBuf);

const HOME: &str = "/dev/shm";
const PREFIX: &str = "memlane-fuzz-";

impl Place {
    pub fn new() -> Self {
        static CLEAR: Once = Once::new();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        CLEAR.call_once(clear_dead);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(HOME).join(format!("{PREFIX}{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).expect("a directory of its own");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn name(&self, name: &str) -> Name {
        Name::new(name).expect("a valid name").in_directory(&self.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the directories of processes that are no more.
fn clear_dead() {
    for entry in std::fs::read_dir(HOME).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')).map(|(pid, _)| pid);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a file that memlane trusts, whatever the umask is.
pub fn plant(path: &Path, bytes: &[u8]) {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("a file of ours");
}

/// Overwrites 1 to 8 bytes of a file: mostly of what the library reads. `known` are words that could be meant.
pub fn edit(input: &mut Input<'_>, file: &File, known: &[u64]) {
    let offset = match input.byte() % 8 {
        0 | 1 => input.pick(&[0, 8, 12, 16, 20, 24, 40, 48, 56, 64, 68, 72, 76, 120]),
        2 => input.pick(&[STATE, CREATOR]),
        3 => TABLE + 64 * input.pick(&[0, 1, 2, 127]) + input.pick(&[0, 4, 8, 16, 24, 32]),
        4 => SCHEMA + input.number(1),
        5 => input.pick(&[WORD, OTHER, CONDITION]),
        6 => DATA + input.number(1),
        _ => input.number(2),
    };
    let value = input.value(known).to_ne_bytes();
    let left = file.metadata().expect("its length").len().saturating_sub(offset);
    let size = input.pick(&[8, 4, 1]).min(left) as usize;
    put(file, offset, &value[..size]);
}

/// What a header says, if all of it is as docs/DESIGN.md draws it. The library has its own code for that.
#[derive(Debug)]
pub struct Sound {
    pub kept: bool,
    pub data: u64,
    pub len: u64,
    pub tail: u64,
    pub id: u128,
    pub schema: String,
}

pub fn sound(file: &File) -> Option<Sound> {
    let len = file.metadata().ok()?.len();
    let read = |offset: u64, count: u64| {
        let mut bytes = vec![0; count as usize];
        file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    };
    let header = read(0, SCHEMA)?;
    let u32_at = |offset: usize| u32::from_ne_bytes(header[offset..offset + 4].try_into().expect("4 bytes"));
    let u64_at = |offset: usize| u64::from_ne_bytes(header[offset..offset + 8].try_into().expect("8 bytes"));
    let fixed = [(8, 1), (12, 0x0102_0304), (16, 64), (68, 128)];
    let schema_len = u64::from(u32_at(64));
    let good = header.starts_with(b"memlane\0")
        && fixed.iter().all(|(offset, value)| u32_at(*offset) == *value)
        && matches!(u32_at(20), 1 | 2)
        && schema_len <= 1 << 20
        && matches!(u32_at(72), 0 | 1)
        && header[76..128].iter().all(|byte| *byte == 0);
    let data = (SCHEMA + schema_len).next_multiple_of(4096);
    if !good || u64_at(40) != data || data.checked_add(u64_at(48)) != Some(len) {
        return None;
    }
    let schema = String::from_utf8(read(SCHEMA, schema_len)?).ok()?;
    let padding = read(SCHEMA + schema_len, data - SCHEMA - schema_len)?;
    let whole = !schema.contains('\0') && padding.iter().all(|byte| *byte == 0);
    let id = u128::from_ne_bytes(header[24..40].try_into().expect("16 bytes"));
    whole.then(|| Sound { kept: u32_at(20) == 1, data, len: u64_at(48), tail: u64_at(56), id, schema })
}

/// The number at an offset of a file that may be shorter.
pub fn u64_if_there(file: &File, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset).map_or(0, |()| u64::from_ne_bytes(bytes))
}

/// Overwrites the number at an offset of a file, if that is not shorter.
pub fn put_if_there(file: &File, offset: u64, number: u64) {
    if file.metadata().expect("its length").len() >= offset + 8 {
        put(file, offset, &number.to_ne_bytes());
    }
}

/// The state in the header.
pub fn state(file: &File) -> u32 {
    u64_if_there(file, STATE) as u32
}

/// A text that is shown says something, and nothing that a terminal would act on, in lines that a person can read.
pub fn tidy(text: &str) {
    assert!(!text.is_empty());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.lines().count() <= 110, "{text:?}");
}

/// Shows an error in every way.
pub fn show(error: &(dyn std::error::Error + 'static)) {
    tidy(&error.to_string());
    tidy(&format!("{error:?}"));
    error.source().into_iter().for_each(show);
}

/// Lists the objects of a directory: whatever is there, that is no error, and every text in it can be shown.
pub fn listed(place: &Place) -> Vec<Listed> {
    let listed = memlane::list(Some(place.path())).expect("one bad file is no reason");
    for object in &listed {
        tidy(&format!("{object:?}"));
        object.type_name.iter().chain(&object.problem).for_each(|text| tidy(text));
        object.users.iter().chain(&object.creator).for_each(|who| tidy(&who.to_string()));
    }
    listed
}
