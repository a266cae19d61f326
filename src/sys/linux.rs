//! Linux: unnamed tmpfs files, open-file-description locks, shared futexes.
#![allow(unsafe_code)]

mod clock;
mod handover;
mod openings;
mod treatment;

use super::{Access, FileSystem, Kind, Meta, Process, Sharing};
pub(crate) use clock::{age, clock_id, moment, stamp};
pub(crate) use handover::{
    AsFd, BorrowedFd, Descriptor, Socket, adopt, create_anonymous, is_sealed, opened_for, patience, peer, receive,
    reopen, seal, send, wait_for,
};
use openings::Openings;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
pub(crate) use treatment::{free_memory, lock_limit};
use treatment::{page_size, roomy_address};

/// An open file or directory.
pub(crate) type Fd = fs::File;

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls `call` again as long as a signal interrupts it.
fn retry(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn open(directory: RawFd, name: &OsStr, flags: libc::c_int, mode: u32) -> io::Result<Fd> {
    let name = c_string(name)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    let fd = retry(|| unsafe { libc::openat(directory, name.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    // SAFETY: the call above just made `fd`, and nothing else owns it.
    Ok(Fd::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn flags(access: Access) -> libc::c_int {
    match access {
        Access::Read | Access::Copy => libc::O_RDONLY,
        Access::ReadWrite => libc::O_RDWR,
    }
}

pub(crate) fn default_directory() -> PathBuf {
    PathBuf::from(format!("/dev/shm/memlane-{}", user()))
}

pub(crate) fn open_directory(path: &Path) -> io::Result<Fd> {
    open(libc::AT_FDCWD, path.as_os_str(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)
}

pub(crate) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(mode).create(path)
}

pub(crate) fn create_unnamed(directory: &Fd, mode: u32) -> io::Result<Fd> {
    let file = open(directory.as_raw_fd(), OsStr::new("."), libc::O_TMPFILE | libc::O_RDWR, mode)?;
    set_mode(&file, mode)?; // exactly as asked, whatever the umask is
    Ok(file)
}

pub(crate) fn open_at(directory: &Fd, name: impl AsRef<OsStr>, access: Access) -> io::Result<Fd> {
    // O_NONBLOCK: opening a FIFO that somebody planted under the name must not hang.
    let flags = flags(access) | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    open(directory.as_raw_fd(), name.as_ref(), flags, 0)
}

pub(crate) fn open_or_make(path: &Path) -> io::Result<Fd> {
    let flags = libc::O_RDONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    open(libc::AT_FDCWD, path.as_os_str(), flags, 0o666)
}

pub(crate) fn publish(file: &Fd, directory: &Fd, name: impl AsRef<OsStr>) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = c_string(name.as_ref())?;
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let link = || unsafe {
        libc::linkat(libc::AT_FDCWD, from.as_ptr(), directory.as_raw_fd(), to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    };
    retry(link).map(drop)
}

pub(crate) fn unlink(directory: &Fd, name: &str) -> io::Result<()> {
    let name = c_string(OsStr::new(name))?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    retry(|| unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

pub(crate) fn names(directory: &Fd) -> io::Result<Vec<OsString>> {
    let list = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    list.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

pub(crate) fn meta(file: &Fd) -> io::Result<Meta> {
    Ok(to_meta(&file.metadata()?))
}

/// Like [`meta`] for a name, without following or opening what it leads to.
pub(crate) fn meta_at(directory: &Fd, name: &str) -> io::Result<Meta> {
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(to_meta(&fs::symlink_metadata(path)?))
}

/// Like [`meta_at`] for a path.
pub(crate) fn meta_of(path: &Path) -> io::Result<Meta> {
    Ok(to_meta(&fs::symlink_metadata(path)?))
}

fn to_meta(meta: &fs::Metadata) -> Meta {
    let kind = match meta.file_type() {
        kind if kind.is_file() => Kind::File,
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Link,
        _ => Kind::Other,
    };
    Meta {
        kind,
        user: meta.uid(),
        group: meta.gid(),
        mode: meta.mode() & 0o7777,
        links: meta.nlink(),
        len: meta.len(),
        taken: meta.blocks().saturating_mul(512),
        identity: (meta.dev(), meta.ino()),
    }
}

pub(crate) fn file_system(file: &Fd) -> io::Result<FileSystem> {
    // SAFETY: all-zero bytes are a valid `statfs`, a plain C struct.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is valid for writes for the duration of the call.
    retry(|| unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) })?;
    let block = u64::try_from(stat.f_bsize).unwrap_or(0);
    Ok(FileSystem {
        free: block.saturating_mul(stat.f_bavail),
        total: block.saturating_mul(stat.f_blocks),
        out_of_files: stat.f_files > 0 && stat.f_ffree == 0,
        in_memory: stat.f_type == libc::TMPFS_MAGIC || stat.f_type == libc::HUGETLBFS_MAGIC,
    })
}

pub(crate) fn reserve(file: &Fd, len: u64) -> io::Result<()> {
    allocate(file, 0, 0, len)
}

pub(crate) fn reserve_range(file: &Fd, start: u64, len: u64) -> io::Result<()> {
    match allocate(file, libc::FALLOC_FL_KEEP_SIZE, start, len) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}

pub(crate) fn extend(file: &Fd, len: u64) -> io::Result<()> {
    let last = len.min(1);
    allocate(file, 0, len - last, last)
}

fn allocate(file: &Fd, mode: libc::c_int, first: u64, len: u64) -> io::Result<()> {
    let offset = |bytes| libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    offset(first.saturating_add(len))?;
    let (first, len) = (offset(first)?, offset(len)?);
    // In pieces: a signal makes tmpfs give back all of the call it interrupts, and with one call for everything a
    // profiler's timer could keep it from ever ending.
    const PIECE: libc::off_t = 32 << 20;
    for start in (0..len).step_by(PIECE as usize) {
        let piece = PIECE.min(len - start);
        // SAFETY: the call takes no pointers.
        retry(|| unsafe { libc::fallocate(file.as_raw_fd(), mode, first + start, piece) })?;
    }
    Ok(())
}

pub(crate) fn set_len(file: &Fd, len: u64) -> io::Result<()> {
    file.set_len(len)
}

fn set_mode(file: &Fd, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

pub(crate) fn read_at(file: &Fd, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(bytes, offset)
}

pub(crate) fn write_at(file: &Fd, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// The largest file this process may make, and how much memory its control groups still allow.
pub(crate) fn limits() -> (Option<u64>, Option<u64>) {
    // SAFETY: all-zero bytes are a valid `rlimit`, a plain C struct.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is valid for writes for the duration of the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    let file_size = (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur);
    (file_size, group_memory())
}

/// The least headroom of any control group (version 2) on the way from this process's own to the root.
fn group_memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let headroom = |group: &Path| {
        let group = Path::new("/sys/fs/cgroup").join(group);
        let used = number(group.join("memory.current"))?;
        // What the kernel gives up by itself when memory is asked for: mostly the cache of files that were read.
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let reclaimable = ["active_file ", "inactive_file ", "slab_reclaimable "];
        let reclaimable = stat.lines().filter_map(|line| {
            let value = reclaimable.iter().find_map(|key| line.strip_prefix(key))?;
            value.parse::<u64>().ok()
        });
        Some(number(group.join("memory.max"))?.saturating_sub(used.saturating_sub(reclaimable.sum())))
    };
    Path::new(own).ancestors().filter_map(headroom).min()
}

// ---------------------------------------------------------------------------------------------------------------
// Liveness

static FORKS: AtomicU64 = AtomicU64::new(0);

/// Every descriptor that carries a lock, so that a forked child can close them all.
static LOCKS: Openings = openings();

/// How many descriptors a chunk of the list has.
const SLOTS: usize = 64;

/// The list as it starts, and each further chunk of it.
const fn openings() -> Openings {
    Openings::new(AtomicU32::new(0), [const { AtomicI32::new(-1) }; SLOTS])
}

/// How many times this process is a fork of another that used memlane; a handle of an earlier count is dead here.
#[inline]
fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn before_fork() {
    LOCKS.enter(std::process::id());
}

extern "C" fn after_fork_in_parent() {
    LOCKS.leave();
}

extern "C" fn after_fork_in_child() {
    LOCKS.drain(|fd| {
        // SAFETY: the descriptor belongs to a `LockFd`, and that one sees the new count of forks in the child and
        // never uses or closes it again.
        unsafe { libc::close(fd) };
    });
    FORKS.fetch_add(1, Ordering::Relaxed);
    LOCKS.leave();
}

/// A lock of one byte.
fn flock(kind: libc::c_int, start: libc::off_t) -> libc::flock {
    // SAFETY: all-zero bytes are a valid `flock`, a plain C struct.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start;
    lock.l_len = 1;
    lock
}

/// Installs the fork handlers once; the caller is inside `LOCKS`.
fn hook_fork() -> io::Result<()> {
    static HOOKED: AtomicU32 = AtomicU32::new(0);
    if HOOKED.load(Ordering::Relaxed) == 0 {
        // SAFETY: the handlers are functions with static lifetime that only use atomics, `close` and `yield`.
        let failed =
            unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        HOOKED.store(1, Ordering::Relaxed);
    }
    Ok(())
}

/// An opening of an object or a directory that exists to hold locks, and is never mapped: a mapping would keep the
/// locks alive after it is closed.
#[derive(Debug)]
pub(crate) struct LockFd {
    fd: std::mem::ManuallyDrop<Fd>,
    forks: u64,
}

impl LockFd {
    /// Opens what `file` is once more.
    pub(crate) fn reopen(file: &Fd, access: Access) -> io::Result<Self> {
        LOCKS.enter(std::process::id());
        let fd = hook_fork().and_then(|()| reopen(file, access));
        if let Ok(fd) = &fd {
            LOCKS.add(fd.as_raw_fd());
        }
        LOCKS.leave();
        Ok(Self { fd: std::mem::ManuallyDrop::new(fd?), forks: forks() })
    }

    /// Whether this process is a fork of the one that opened it.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != forks()
    }

    /// How many forks after the first process it was opened.
    #[inline]
    pub(crate) fn forks(&self) -> u64 {
        self.forks
    }

    /// The opening itself, for everything but locks.
    pub(crate) fn file(&self) -> io::Result<&Fd> {
        if self.is_forked() { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(&self.fd) }
    }

    fn lock(&self, command: libc::c_int, kind: libc::c_int, byte: u64) -> io::Result<libc::flock> {
        let start = libc::off_t::try_from(byte).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut lock = flock(kind, start);
        let fd = self.file()?.as_raw_fd();
        // SAFETY: `lock` is valid for reads and writes for the duration of the call.
        retry(|| unsafe { libc::fcntl(fd, command, &raw mut lock) })?;
        Ok(lock)
    }

    /// Locks one byte; false if another opening holds it in a way that excludes this.
    pub(crate) fn try_lock(&self, byte: u64, sharing: Sharing) -> io::Result<bool> {
        let kind = match sharing {
            Sharing::Shared => libc::F_RDLCK,
            Sharing::Exclusive => libc::F_WRLCK,
        };
        match self.lock(libc::F_OFD_SETLK, kind, byte) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives one byte back.
    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        self.lock(libc::F_OFD_SETLK, libc::F_UNLCK, byte).map(drop)
    }

    /// Whether any *other* opening holds a lock on the byte; this opening's own locks do not count.
    pub(crate) fn is_locked(&self, byte: u64) -> io::Result<bool> {
        Ok(self.lock(libc::F_OFD_GETLK, libc::F_WRLCK, byte)?.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Locks the whole thing against other openings that do the same; false if one holds it in a way that excludes this.
    pub(crate) fn try_lock_whole(&self, sharing: Sharing) -> io::Result<bool> {
        let fd = self.file()?.as_raw_fd();
        let kind = match sharing {
            Sharing::Shared => libc::LOCK_SH,
            Sharing::Exclusive => libc::LOCK_EX,
        };
        // SAFETY: the call takes no pointers.
        match retry(|| unsafe { libc::flock(fd, kind | libc::LOCK_NB) }) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the whole thing back.
    pub(crate) fn unlock_whole(&self) -> io::Result<()> {
        let fd = self.file()?.as_raw_fd();
        // SAFETY: the call takes no pointers.
        retry(|| unsafe { libc::flock(fd, libc::LOCK_UN) }).map(drop)
    }

    /// The process that holds `try_lock_whole`, or one of them, if the system shows it.
    pub(crate) fn whole_lock_holder(&self) -> Option<u32> {
        let (device, inode) = meta(self.file().ok()?).ok()?.identity;
        let wanted = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
        fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let flock = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&wanted.as_str());
            flock.then(|| fields.get(4)?.parse().ok()).flatten()
        })
    }
}

impl Drop for LockFd {
    fn drop(&mut self) {
        LOCKS.enter(std::process::id());
        if !self.is_forked() {
            let fd = self.fd.as_raw_fd();
            LOCKS.remove(fd);
            // Closing would do if nobody else had the opening; a child made by a raw `clone`, or one that has not yet
            // reached its `exec`, has. What cannot be unlocked is closed all the same.
            let mut all: libc::flock = flock(libc::F_UNLCK, 0);
            all.l_len = 0;
            // SAFETY: `all` is valid for reads for the duration of the first call; the second takes no pointers.
            unsafe {
                libc::fcntl(fd, libc::F_OFD_SETLK, &raw mut all);
                libc::flock(fd, libc::LOCK_UN);
            }
            // SAFETY: this is the only drop, and nothing uses the file after it.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.fd) };
        }
        LOCKS.leave();
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Memory

/// A mapping of a range of a file.
#[derive(Debug)]
pub(crate) struct Map {
    /// Where the range begins, so many bytes behind the beginning of a page.
    base: NonNull<u8>,
    lead: usize,
    len: usize,
}

// SAFETY: a mapping is plain memory: it may be used and unmapped from any thread.
unsafe impl Send for Map {}
// SAFETY: `&Map` gives out nothing but the address and the length.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes at `start` of `file`; of none, the page in which they would be.
    pub(crate) fn of(file: &Fd, start: u64, len: usize, access: Access) -> io::Result<Self> {
        let (protection, sharing) = match access {
            Access::Read => (libc::PROT_READ, libc::MAP_SHARED),
            Access::ReadWrite => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
            Access::Copy => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE),
        };
        let (lead, too_far) = ((start % page_size() as u64) as usize, || io::Error::from(io::ErrorKind::FileTooLarge));
        let first = libc::off_t::try_from(start - lead as u64).map_err(|_| too_far())?;
        let whole = len.max(1).checked_add(lead).ok_or_else(too_far)?;
        let hint = roomy_address(whole, first);
        // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
        let base = unsafe { libc::mmap(hint, whole, protection, sharing, file.as_raw_fd(), first) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the mapping is longer than `lead`.
        Ok(Self { base: unsafe { base.add(lead) }, lead, len })
    }

    /// Lets `len` bytes at `offset` of a mapping for reading be written too, and what shares a page with them; enters
    /// these pages into the page table.
    pub(crate) fn allow_write(&self, offset: usize, len: usize) -> io::Result<()> {
        let range = offset..offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let (first, whole) = self.pages(range.clone())?;
        // SAFETY: the range lies in this mapping, whose file was opened for writing, and takes no right away.
        check(unsafe { libc::mprotect(first, whole, libc::PROT_READ | libc::PROT_WRITE) })?;
        self.populate(range, Access::ReadWrite)
    }

    /// The address of a 32-bit word at `offset`, if there is one.
    pub(crate) fn word(&self, offset: u64) -> Option<*const u32> {
        let offset = usize::try_from(offset).ok()?;
        let fits = offset.is_multiple_of(4) && offset.checked_add(4)? <= self.len;
        fits.then(|| self.base.as_ptr().wrapping_add(offset).cast::<u32>().cast_const())
    }

    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let first = self.base.as_ptr().wrapping_sub(self.lead).cast();
        // SAFETY: the range is exactly what `of` mapped, and whoever borrowed from it borrowed this `Map`.
        unsafe { libc::munmap(first, self.lead + self.len.max(1)) };
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Waiting

/// Sleeps at most `limit` while the word at that address holds `expected`.
pub(crate) fn wait(word: *const u32, expected: u32, _: impl Fn() -> bool, limit: Duration) {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos() as libc::c_long,
    };
    // SAFETY: `time` is valid for the duration of the call, and the kernel itself checks and reads the address of
    // the word. Without FUTEX_PRIVATE_FLAG it keys the wait by the object behind the mapping: it crosses processes.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, expected, &raw const time) };
}

/// How many words one call can sleep on.
pub(crate) const WAIT_MOST: usize = 128;

/// Like [`wait`] for any of up to [`WAIT_MOST`] words.
pub(crate) fn wait_any(words: &[(*const u32, u32)], _: impl Fn() -> bool, limit: Duration) {
    let waiters: Vec<libc::futex_waitv> = words
        .iter()
        .map(|(word, expected)| {
            // SAFETY: all-zero bytes are a valid `futex_waitv`, a plain C struct.
            let mut waiter: libc::futex_waitv = unsafe { std::mem::zeroed() };
            (waiter.val, waiter.uaddr) = ((*expected).into(), word.addr() as u64);
            waiter.flags = libc::FUTEX2_SIZE_U32 as u32;
            waiter
        })
        .collect();
    let end = clock::time(libc::CLOCK_MONOTONIC).saturating_add(limit.as_nanos() as u64);
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(end / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: (end % 1_000_000_000) as libc::c_long,
    };
    let (first, count) = (waiters.as_ptr(), waiters.len().min(WAIT_MOST));
    // SAFETY: `waiters` and `time` are valid for the duration of the call, and the kernel itself checks and reads the
    // addresses of the words.
    let result =
        unsafe { libc::syscall(libc::SYS_futex_waitv, first, count, 0, &raw const time, libc::CLOCK_MONOTONIC) };
    if result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        // A kernel before 5.16: whoever called looks again.
        std::thread::sleep(limit.min(Duration::from_millis(1)));
    }
}

/// Wakes up to `count` of those who sleep on the word at that address; returns how many.
pub(crate) fn wake(word: *const u32, count: u32) -> u32 {
    let count = libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX);
    // SAFETY: the call uses nothing of the word but its address.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}

// ---------------------------------------------------------------------------------------------------------------
// Identity

/// The user this process acts for.
pub(crate) fn user() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// 128 bits nobody can predict.
pub(crate) fn random() -> io::Result<u128> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is valid for 16 bytes of writes.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes come whole or not at all.
    if got == 16 { Ok(u128::from_ne_bytes(bytes)) } else { Err(io::Error::last_os_error()) }
}

/// Who this process is.
pub(crate) fn process() -> Process {
    let pid = std::process::id();
    known("self", pid).unwrap_or(Process { pid, started: 0, name: [0; 16] })
}

/// What the system says of a process, which has that pid.
fn known(process: &str, pid: u32) -> Option<Process> {
    let (name, _, started) = stat(process)?;
    let mut process = Process { pid, started, name: [0; 16] };
    let len = name.len().min(process.name.len());
    process.name[..len].copy_from_slice(&name[..len]);
    Some(process)
}

/// Whether that process is stopped, by SIGSTOP, Ctrl-Z or a debugger.
pub(crate) fn is_stopped(pid: u32, started: u64) -> bool {
    stat(&pid.to_string()).is_some_and(|(_, state, start)| matches!(state, b'T' | b't') && start == started)
}

/// What the system says of a process: its name, the letter of its state, and when it started.
fn stat(process: &str) -> Option<(Vec<u8>, u8, u64)> {
    // "pid (name) state ppid ...": the name may hold anything, so the last ')' ends it; the start is field 22.
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = String::from_utf8_lossy(&stat[close + 1..]);
    let state = rest.trim_start().bytes().next()?;
    let started = rest.split_whitespace().nth(19)?.parse().ok()?;
    Some((stat.get(open + 1..close)?.to_vec(), state, started))
}

/// Ends this process as `kill -9` does: no destructor runs.
#[cfg(memlane_failpoints)]
pub(crate) fn kill_self() {
    // SAFETY: the call takes no pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call returns that fails with `error`.
    fn failed(error: libc::c_int) -> libc::c_int {
        // SAFETY: the place is this thread's own, and always there.
        unsafe { *libc::__errno_location() = error };
        -1
    }

    #[test]
    fn a_call_is_repeated_while_signals_interrupt_it_and_not_after_another_error() {
        let mut results = [libc::EINTR, libc::EINTR, 0, libc::EINTR, libc::EAGAIN, 0].into_iter();
        let mut call = || match results.next().expect("no call after the last") {
            0 => 7,
            error => failed(error),
        };
        assert_eq!(retry(&mut call).expect("the third call"), 7);
        assert_eq!(retry(&mut call).expect_err("the fifth call").raw_os_error(), Some(libc::EAGAIN));
    }

    /// It can have its parent's, in a PID namespace of its own, and its grandparent's, once that one is dead. No other
    /// test of this binary has an opening, which would be closed here.
    #[test]
    fn a_forked_child_is_not_inside_the_list_whatever_its_pid_is() {
        before_fork();
        after_fork_in_child();
        assert!(LOCKS.try_enter(std::process::id()), "nobody is left inside who could leave");
        LOCKS.leave();
    }
}
