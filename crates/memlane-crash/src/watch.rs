//! The watched files: their bytes, what changed in them, and copies of them.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The files whose bytes count: what other processes, or the next start of the program, would find.
#[derive(Debug, Clone)]
pub enum Files {
    /// Whatever files are in this directory (not below it), as they come and go.
    In(PathBuf),
    /// These, which lie in one directory, as they come and go.
    These(Vec<PathBuf>),
}

impl Files {
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        match self {
            Self::In(directory) => {
                let mut paths = Vec::new();
                for entry in fs::read_dir(directory)? {
                    let entry = entry?;
                    if entry.file_type()?.is_file() {
                        paths.push(entry.path());
                    }
                }
                paths.sort();
                Ok(paths)
            }
            Self::These(paths) => Ok(paths.iter().filter(|path| path.is_file()).cloned().collect()),
        }
    }

    /// The directory they lie in.
    fn directory(&self) -> &Path {
        match self {
            Self::In(directory) => directory,
            Self::These(paths) => paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/")),
        }
    }

    /// Copies them, as they are, to a new directory beside theirs.
    pub(crate) fn copy(&self) -> io::Result<Copied> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("crash-copy-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let beside = self.directory().parent().unwrap_or(Path::new("/"));
        let copied = Copied(beside.join(name));
        std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&copied.0)?;
        for path in self.paths()? {
            if let Some(name) = path.file_name() {
                copy_as_it_is(&path, &copied.0.join(name))?;
            }
        }
        Ok(copied)
    }
}

/// Copies a file; again, if the scenario's own threads changed it meanwhile: half of one moment and half of another is
/// what no death leaves.
fn copy_as_it_is(from: &Path, to: &Path) -> io::Result<()> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        fs::copy(from, to)?;
        if fs::read(from)? == fs::read(to)? {
            break;
        }
    }
    Ok(())
}

/// A directory with copies of the files, gone with it.
#[derive(Debug)]
pub(crate) struct Copied(pub(crate) PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One thing that is not what it was at the point before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Bytes of a file.
    Bytes {
        /// The file's name.
        file: String,
        /// Where in the file.
        offset: usize,
        /// What was there.
        old: Vec<u8>,
        /// What is there now.
        new: Vec<u8>,
    },
    /// A file came, went, or changed its length; `None` where there is no file.
    Length {
        /// The file's name.
        file: String,
        /// Its length before.
        old: Option<usize>,
        /// Its length now.
        new: Option<usize>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { file, offset, old, new } => {
                write!(f, "{file} +{offset:#x}: {} -> {}", hex(old), hex(new))
            }
            Self::Length { file, old: None, new: Some(new) } => write!(f, "{file} is there now, of {new} bytes"),
            Self::Length { file, old: Some(_), new: None } => write!(f, "{file} is gone"),
            Self::Length { file, old, new } => {
                write!(f, "{file} has {} bytes, and had {}", new.unwrap_or(0), old.unwrap_or(0))
            }
        }
    }
}

/// At most 16 of the bytes.
fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let rest = if bytes.len() > 16 { format!(" ... ({} bytes)", bytes.len()) } else { String::new() };
    shown.join(" ") + &rest
}

/// What the files looked like last.
#[derive(Debug)]
pub(crate) struct Watch {
    files: Files,
    watched: BTreeMap<PathBuf, Watched>,
}

#[derive(Debug)]
struct Watched {
    /// Device, inode and length: another of them is another file, or one to be mapped anew.
    identity: (u64, u64, u64),
    map: Option<Map>,
    seen: Vec<u8>,
}

impl Watch {
    pub(crate) fn new(files: &Files) -> io::Result<Self> {
        let mut watch = Self { files: files.clone(), watched: BTreeMap::new() };
        watch.refresh()?;
        Ok(watch)
    }

    /// Looks which files there are now, and how long they are; says what is new about that.
    pub(crate) fn refresh(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let paths = self.files.paths()?;
        self.watched.retain(|path, watched| {
            let stays = paths.contains(path);
            if !stays {
                changes.push(Change::Length { file: name(path), old: Some(watched.seen.len()), new: None });
            }
            stays
        });
        for path in paths {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let meta = file.metadata()?;
            let identity = (meta.dev(), meta.ino(), meta.len());
            let before = self.watched.get(&path);
            if before.is_some_and(|watched| watched.identity == identity) {
                continue;
            }
            let map = Map::of(&file, meta.len())?;
            let seen = map.as_ref().map_or_else(Vec::new, Map::bytes);
            let old = before.map(|watched| watched.seen.as_slice());
            if old.map(<[u8]>::len) != Some(seen.len()) {
                changes.push(Change::Length { file: name(&path), old: old.map(<[u8]>::len), new: Some(seen.len()) });
            }
            differences(&path, old.unwrap_or_default(), &seen, &mut changes);
            self.watched.insert(path, Watched { identity, map, seen });
        }
        Ok(changes)
    }

    /// Which bytes are not what they were at the last look.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, watched) in &mut self.watched {
            if let Some(map) = watched.map.as_ref().filter(|map| map.differs(&watched.seen)) {
                let now = map.bytes();
                differences(path, &watched.seen, &now, &mut changes);
                watched.seen = now;
            }
        }
        changes
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Adds every run of bytes that differ.
fn differences(path: &Path, old: &[u8], new: &[u8], changes: &mut Vec<Change>) {
    let both = old.len().min(new.len());
    let mut offset = 0;
    while offset < both {
        let differing = |at: &usize| old[*at] != new[*at];
        let Some(start) = (offset..both).find(differing) else { break };
        let end = (start..both).find(|at| !differing(at)).unwrap_or(both);
        let (old, new) = (old[start..end].to_vec(), new[start..end].to_vec());
        changes.push(Change::Bytes { file: name(path), offset: start, old, new });
        offset = end;
    }
}

/// A file, mapped for reading.
#[derive(Debug)]
struct Map {
    base: *mut libc::c_void,
    len: usize,
}

impl Map {
    /// `None` if the file is empty: then there is nothing to see.
    fn of(file: &File, len: u64) -> io::Result<Option<Self>> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(None);
        }
        // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Some(Self { base, len }))
    }

    fn differs(&self, seen: &[u8]) -> bool {
        let len = self.len.min(seen.len());
        // SAFETY: both are `len` readable bytes; no reference to the mapped ones exists, so they may change any time.
        unsafe { libc::memcmp(self.base, seen.as_ptr().cast(), len) != 0 }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        // SAFETY: as above, and `bytes` are `len` bytes of our own to write.
        unsafe { libc::memcpy(bytes.as_mut_ptr().cast(), self.base, self.len) };
        bytes
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `of` mapped.
        unsafe { libc::munmap(self.base, self.len) };
    }
}
