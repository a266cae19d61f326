//! A system memlane has not been brought to: everything is here, and everything fails.

use super::{Access, Advice, FileSystem, Meta, Moment, Process, Sharing};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::Duration;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "memlane does not run on this system yet"))
}

/// Never made.
#[derive(Debug)]
pub(crate) struct Fd(Infallible);

impl From<Fd> for Descriptor {
    fn from(file: Fd) -> Self {
        match file.0 {}
    }
}

#[cfg(unix)]
pub(crate) use std::os::fd::{AsFd, BorrowedFd};

#[cfg(unix)]
impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}

/// Never made.
#[derive(Debug)]
pub(crate) struct LockFd(Infallible);

/// Never made.
#[derive(Debug)]
pub(crate) struct Map(Infallible);

pub(crate) fn default_directory() -> PathBuf {
    PathBuf::from("memlane")
}

pub(crate) fn open_directory(_: &Path) -> io::Result<Fd> {
    unsupported()
}

pub(crate) fn open_or_make(_: &Path) -> io::Result<Fd> {
    unsupported()
}

pub(crate) fn make_directory(_: &Path, _: u32) -> io::Result<()> {
    unsupported()
}

pub(crate) fn create_unnamed(directory: &Fd, _: u32) -> io::Result<Fd> {
    match directory.0 {}
}

pub(crate) fn open_at(directory: &Fd, _: impl AsRef<OsStr>, _: Access) -> io::Result<Fd> {
    match directory.0 {}
}

pub(crate) fn publish(file: &Fd, _: &Fd, _: impl AsRef<OsStr>) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn unlink(directory: &Fd, _: &str) -> io::Result<()> {
    match directory.0 {}
}

pub(crate) fn names(directory: &Fd) -> io::Result<Vec<OsString>> {
    match directory.0 {}
}

pub(crate) fn meta(file: &Fd) -> io::Result<Meta> {
    match file.0 {}
}

pub(crate) fn meta_at(directory: &Fd, _: &str) -> io::Result<Meta> {
    match directory.0 {}
}

pub(crate) fn meta_of(_: &Path) -> io::Result<Meta> {
    unsupported()
}

pub(crate) fn file_system(file: &Fd) -> io::Result<FileSystem> {
    match file.0 {}
}

pub(crate) fn reserve(file: &Fd, _: u64) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn reserve_range(file: &Fd, _: u64, _: u64) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn extend(file: &Fd, _: u64) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn set_len(file: &Fd, _: u64) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn read_at(file: &Fd, _: &mut [u8], _: u64) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn write_at(file: &Fd, _: &[u8], _: u64) -> io::Result<()> {
    match file.0 {}
}

/// Never made.
pub(crate) type Descriptor = Infallible;

/// Never made.
pub(crate) type Socket = Infallible;

pub(crate) fn create_anonymous(_: &str, _: u32) -> io::Result<Fd> {
    unsupported()
}

pub(crate) fn seal(file: &Fd) -> io::Result<()> {
    match file.0 {}
}

pub(crate) fn is_sealed(file: &Fd) -> io::Result<bool> {
    match file.0 {}
}

pub(crate) fn reopen(file: &Fd, _: Access) -> io::Result<Fd> {
    match file.0 {}
}

pub(crate) fn opened_for(file: &Fd) -> io::Result<Option<Access>> {
    match file.0 {}
}

pub(crate) fn peer(socket: &Socket) -> Option<Process> {
    match *socket {}
}

pub(crate) fn adopt(descriptor: Descriptor) -> io::Result<Fd> {
    match descriptor {}
}

pub(crate) fn patience(socket: &Socket, _: bool) -> io::Result<Option<Duration>> {
    match *socket {}
}

pub(crate) fn wait_for(socket: &Socket, _: bool, _: Duration) -> io::Result<()> {
    match *socket {}
}

pub(crate) fn send(socket: &Socket, _: &[u8], _: Option<&Fd>) -> io::Result<usize> {
    match *socket {}
}

pub(crate) fn receive(socket: &Socket, _: &mut [u8]) -> io::Result<(usize, Vec<Fd>, bool)> {
    match *socket {}
}

pub(crate) fn limits() -> (Option<u64>, Option<u64>) {
    (None, None)
}

pub(crate) fn free_memory() -> Option<u64> {
    None
}

pub(crate) fn lock_limit() -> Option<(u64, u64)> {
    None
}

impl LockFd {
    pub(crate) fn reopen(file: &Fd, _: Access) -> io::Result<Self> {
        match file.0 {}
    }

    pub(crate) fn is_forked(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn forks(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn file(&self) -> io::Result<&Fd> {
        match self.0 {}
    }

    pub(crate) fn try_lock(&self, _: u64, _: Sharing) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn unlock(&self, _: u64) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn is_locked(&self, _: u64) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn try_lock_whole(&self, _: Sharing) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn unlock_whole(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn whole_lock_holder(&self) -> Option<u32> {
        match self.0 {}
    }
}

impl Map {
    pub(crate) fn of(file: &Fd, _: u64, _: usize, _: Access) -> io::Result<Self> {
        match file.0 {}
    }

    pub(crate) fn populate(&self, _: Range<usize>, _: Access) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn advise(&self, _: Range<usize>, _: Advice) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn request_huge_pages(&self, _: Range<usize>) -> io::Result<u64> {
        match self.0 {}
    }

    pub(crate) fn lock(&self, _: Range<usize>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn unlock(&self, _: Range<usize>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn flush(&self, _: Range<usize>, _: bool) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn release(&mut self, _: Range<usize>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn allow_write(&self, _: usize, _: usize) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn word(&self, _: u64) -> Option<*const u32> {
        match self.0 {}
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        match self.0 {}
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }
}

pub(crate) fn wait(_: *const u32, _: u32, _: impl Fn() -> bool, limit: Duration) {
    std::thread::sleep(limit);
}

pub(crate) const WAIT_MOST: usize = 1;

pub(crate) fn wait_any(_: &[(*const u32, u32)], _: impl Fn() -> bool, limit: Duration) {
    std::thread::sleep(limit);
}

pub(crate) fn wake(_: *const u32, _: u32) -> u32 {
    0
}

pub(crate) fn user() -> u32 {
    0
}

pub(crate) fn random() -> io::Result<u128> {
    unsupported()
}

pub(crate) fn stamp() -> u64 {
    0
}

pub(crate) fn moment() -> Moment {
    Moment { ticks: 0, nanos: 0 }
}

pub(crate) fn age(_: u64, _: Moment) -> Option<Duration> {
    None
}

pub(crate) fn clock_id() -> u64 {
    0
}

pub(crate) fn process() -> Process {
    Process { pid: std::process::id(), started: 0, name: [0; 16] }
}

pub(crate) fn is_stopped(_: u32, _: u64) -> bool {
    false
}
