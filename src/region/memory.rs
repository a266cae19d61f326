//! Bytes without a header: files by their paths, and memory without a name.

use super::mapping::{Mapping, range_in};
use super::{Region, RegionCopy};
use crate::error::Error;
use crate::object::{Directory, check_space, out_of_space};
use crate::prim;
use crate::sys::{self, Access, Fd, FileSystem, Kind, Map, Meta};
use std::io;
use std::ops::{Range, RangeBounds};
use std::path::{Path, PathBuf};

/// A file, or memory without a name, to be mapped in parts or as a whole; nothing lies in it but the user's bytes.
///
/// Nobody takes part in it: there are no locks in it, and nothing says who uses it. For those there are
/// [`SharedMemory`](crate::SharedMemory) and all that is built on objects.
///
/// ```
/// # let path = std::env::temp_dir().join(memlane::Name::unique("doc")?.as_str());
/// use memlane::Memory;
///
/// let file = Memory::create(&path, 1000)?;
/// file.map_mut(500..)?.write_at(0, b"hello")?;
/// assert_eq!(&std::fs::read(&path)?[500..505], b"hello");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Memory {
    pub(super) file: Fd,
    pub(super) access: Access,
    /// Its path, or what it is called without one.
    pub(super) name: PathBuf,
    /// Of a file: its directory.
    directory: Option<Directory>,
}

impl Memory {
    /// Makes a file of `size` bytes, all zero and reserved on its file system; it appears whole or not at all. Its mode is 0600.
    ///
    /// # Errors
    ///
    /// [`Error::File`] of kind `AlreadyExists` if something has the path, or another if the directory cannot be used,
    /// [`Error::NoSpace`] if the bytes cannot be had, and [`Error::Directory`] if the file system has no unnamed files.
    pub fn create(path: impl AsRef<Path>, size: u64) -> Result<Self, Error> {
        let (path, name) = (path.as_ref(), file_name(path.as_ref())?);
        let directory = directory_of(path)?;
        check_space(&path.display(), Some(&directory), size, size, false)?;
        let no_space = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => refused(path, &error),
            _ => out_of_space(error, &path.display(), Some(&directory), size),
        };
        let file = sys::create_unnamed(directory.fd(), 0o600).map_err(no_space)?;
        sys::reserve(&file, size).map_err(no_space)?;
        prim::step();
        sys::publish(&file, directory.fd(), name).map_err(|error| refused(path, &error))?;
        prim::step();
        Ok(Self { file, access: Access::ReadWrite, name: path.to_owned(), directory: Some(directory) })
    }

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Error::File`] of kind `NotFound` if there is none, or another if the path leads to a link, a directory or something
    /// else that is no file, or the file may not be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_for(path.as_ref(), Access::ReadWrite)
    }

    /// Opens a file for reading only; [`map_copy`](Self::map_copy) can be written all the same.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_for(path.as_ref(), Access::Read)
    }

    fn open_for(path: &Path, access: Access) -> Result<Self, Error> {
        let name = file_name(path)?;
        let directory = directory_of(path)?;
        let file = sys::open_at(directory.fd(), name, access).map_err(|error| refused(path, &error))?;
        let kind = sys::meta(&file).map_err(Error::os("look at", path.display()))?.kind;
        if kind != Kind::File {
            return Err(of_kind(path, kind));
        }
        Ok(Self { file, access, name: path.to_owned(), directory: Some(directory) })
    }

    /// Makes memory of `size` bytes without a name, all zero and reserved; its size is the same for ever, whoever gets hold of it,
    /// so that no process can make another end by SIGBUS. It is gone with its last descriptor and mapping, however their processes end.
    ///
    /// A child made by `fork` shares what was mapped before: Boost's `anonymous_shared_memory` is `Memory::anonymous(size)?.map_mut(..)?`.
    /// To another process it goes over a Unix socket.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] if neither the machine nor a container's limit has the memory, and [`Error::Os`].
    pub fn anonymous(size: u64) -> Result<Self, Error> {
        const NAME: &str = "anonymous memory";
        check_space(&NAME, None, size, size, false)?;
        let no_space = |error| out_of_space(error, &NAME, None, size);
        let file = sys::create_anonymous("memlane", 0o600).map_err(no_space)?;
        sys::reserve(&file, size).map_err(no_space)?;
        sys::seal(&file).map_err(Error::os("seal", NAME))?;
        Ok(Self { file, access: Access::ReadWrite, name: NAME.into(), directory: None })
    }

    /// What is mapped by a descriptor of unknown origin.
    pub(super) fn of(file: Fd, access: Access, name: &str) -> Self {
        Self { file, access, name: name.into(), directory: None }
    }

    /// How many bytes there are now.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the system does not say.
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.meta()?.len)
    }

    pub(super) fn meta(&self) -> Result<Meta, Error> {
        sys::meta(&self.file).map_err(Error::os("look at", self.name.display()))
    }

    /// Makes a file longer, up to `size` bytes: new ones are zero, and reserved. What is mapped stays as it is. A file that is as long
    /// already stays so, also if another process makes it longer meanwhile; one that is killed in this call leaves the old size or
    /// the new one.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] if the bytes cannot be had, [`Error::ReadOnly`], and [`Error::File`] if its size is sealed, as
    /// that of anonymous memory is, or its file system cannot reserve.
    pub fn grow(&self, size: u64) -> Result<(), Error> {
        let old = self.size()?;
        if size <= old {
            return Ok(());
        }
        self.check_writable()?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let reason = "cannot grow, its size is sealed: make another".into();
                Error::File { path: self.name.clone(), kind: error.kind(), reason }
            }
            io::ErrorKind::Unsupported => {
                let reason = "cannot grow, its file system reserves nothing: use another one, such as tmpfs".into();
                Error::File { path: self.name.clone(), kind: error.kind(), reason }
            }
            _ => self.out_of_space(error, size - old),
        };
        // What is left in a place that is not known cannot be looked at.
        let blind = !self.is_place_known()?;
        check_space(&self.name.display(), self.directory.as_ref(), size, size - old, blind)?;
        sys::reserve_range(&self.file, old, size - old).map_err(failed)?;
        prim::step();
        sys::extend(&self.file, size).map_err(failed)?;
        prim::step();
        Ok(())
    }

    /// Whether a page is memory and nothing else: then a hole is made sure of when it is mapped, and else when it is touched.
    fn is_in_memory(&self) -> Result<bool, Error> {
        Ok(self.file_system()?.in_memory)
    }

    fn file_system(&self) -> Result<FileSystem, Error> {
        sys::file_system(&self.file).map_err(Error::os("look at the file system of", self.name.display()))
    }

    /// Whether it is known what its bytes are taken from: its directory's file system, or the machine. Not so of a file that came
    /// as a descriptor, unless it is memory without a limit of its own.
    fn is_place_known(&self) -> Result<bool, Error> {
        let without_limit = |system: FileSystem| system.in_memory && system.total == 0;
        Ok(self.directory.is_some() || without_limit(self.file_system()?))
    }

    fn out_of_space(&self, error: io::Error, need: u64) -> Error {
        let name = self.name.display();
        match self.is_place_known() {
            Ok(true) => out_of_space(error, &name, self.directory.as_ref(), need),
            _ => Error::os("reserve memory for", name)(error),
        }
    }

    fn check_writable(&self) -> Result<(), Error> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly { name: self.name.display().to_string() });
        }
        Ok(())
    }

    /// Maps bytes for reading only: any, from any offset on, or all (`..`). An empty range, or file, is an empty region.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRange`] if they do not lie in the file as it is now, [`Error::NoSpace`] if there is no memory for them in a file in
    /// memory, [`Error::TooLarge`] or [`Error::Os`] if the address space is used up.
    pub fn map(&self, range: impl RangeBounds<u64>) -> Result<Region, Error> {
        Ok(Region { mapping: self.mapping(range, Access::Read)?, _object: None })
    }

    /// Maps bytes for reading and writing, as [`map`](Self::map) does.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), [`Error::NoSpace`] also for a file on a disk, and [`Error::ReadOnly`].
    pub fn map_mut(&self, range: impl RangeBounds<u64>) -> Result<MemoryMut, Error> {
        self.check_writable()?;
        Ok(MemoryMut { mapping: self.mapping(range, Access::ReadWrite)? })
    }

    /// Maps bytes for reading and for changes that nobody else sees, as [`map`](Self::map) does.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn map_copy(&self, range: impl RangeBounds<u64>) -> Result<RegionCopy, Error> {
        Ok(RegionCopy::of_memory(self.mapping(range, Access::Copy)?))
    }

    fn mapping(&self, range: impl RangeBounds<u64>, access: Access) -> Result<Mapping, Error> {
        let name = self.name.to_string_lossy();
        let Range { start, end } = range_in(range, self.size()?, &name)?;
        let too_large = |_| Error::TooLarge { name: name.to_string() };
        let len = usize::try_from(end - start).map_err(too_large)?;
        let no_space = |error| self.out_of_space(error, end - start);
        if access == Access::ReadWrite && len > 0 {
            sys::reserve_range(&self.file, start, end - start).map_err(no_space)?;
        }
        let map = Map::of(&self.file, start, len, access).map_err(Error::os("map", &name))?;
        if self.is_in_memory()? && len > 0 {
            let access = if access == Access::ReadWrite { access } else { Access::Read };
            map.populate(0..len, access).map_err(no_space)?;
        }
        Ok(Mapping::new(map, &name, access, 0, 0))
    }
}

/// The last part of a path.
fn file_name(path: &Path) -> Result<&std::ffi::OsStr, Error> {
    path.file_name().filter(|_| !path.as_os_str().is_empty()).ok_or_else(|| of_kind(path, Kind::Directory))
}

/// The directory that a path lies in.
fn directory_of(path: &Path) -> Result<Directory, Error> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Directory::of_files(directory).map_err(|error| refused(path, &error))
}

/// Why there is no file to be had, so that people can mend it.
fn refused(path: &Path, error: &io::Error) -> Error {
    let kind = error.kind();
    let reason = match (kind, sys::meta_of(path).map(|meta| meta.kind)) {
        (io::ErrorKind::AlreadyExists, _) => "exists already: open it, or remove it".into(),
        (io::ErrorKind::NotFound, _) => "does not exist: create it, or look for its name and directory".into(),
        (_, Ok(other)) if other != Kind::File => return of_kind(path, other),
        (io::ErrorKind::PermissionDenied, _) => {
            "is not yours to use so: change its mode or its directory's, or open it for reading only".into()
        }
        _ => format!("cannot be used: {error}"),
    };
    Error::File { path: path.to_owned(), kind, reason }
}

/// That the path leads to something else.
fn of_kind(path: &Path, kind: Kind) -> Error {
    let what = match kind {
        Kind::Link => "a symbolic link: name the file that it leads to",
        Kind::Directory => "a directory: name a file in it",
        Kind::File | Kind::Other => "no regular file: name one",
    };
    Error::File { path: path.to_owned(), kind: io::ErrorKind::InvalidInput, reason: format!("is {what}") }
}

/// Bytes of a [`Memory`] in this process, for reading and writing; others that map them see what is written. Unmapped when
/// dropped.
#[derive(Debug)]
pub struct MemoryMut {
    pub(super) mapping: Mapping,
}

impl MemoryMut {
    /// Copies the bytes at `offset` into `to`, as [`Region::read_at`] does.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.mapping.read_at(offset, to)
    }

    /// Copies `from` to the bytes at `offset`, as [`RegionMut::write_at`](crate::RegionMut::write_at) does.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the range does not lie in the region.
    pub fn write_at(&mut self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.mapping.put_at(offset, from)
    }

    /// The address of the first byte, for writing.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.mapping.base().as_ptr()
    }

    /// Gives everything but `range` back, as [`Region::shrink_to`] does.
    ///
    /// # Errors
    ///
    /// As [`Region::shrink_to`].
    pub fn shrink_to(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.mapping.shrink_to(&range)
    }
}
