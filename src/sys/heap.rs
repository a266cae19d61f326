//! An operating system in one process, on the heap: for Miri and ThreadSanitizer, which know of no second process and
//! take two mappings of one object for different memory.
//!
//! An object's bytes are one block of memory, at the same address in every mapping; names, locks and sleepers are kept
//! in tables. A thread can be a process of its own, which dies as by `kill -9`.
//! A private copy of memory is made when it is mapped, and what a system is told of memory does nothing.
//! Not modelled: users and permissions (what is opened for reading only can be written), forks, files that grow, and a file
//! system that is full. A directory is there as soon as it is named.
#![allow(unsafe_code)]

use super::{Access, Advice, FileSystem, Kind, Meta, Moment, Process, Sharing};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
pub(crate) use std::os::fd::OwnedFd as Descriptor;
pub(crate) use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// As much memory as there is.
const MEMORY: u64 = 256 << 20;

fn locked<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that nothing else has.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

// ---------------------------------------------------------------------------------------------------------------
// Objects

/// A file or a directory; it lives as long as something refers to it.
#[derive(Debug)]
struct Node {
    inode: u64,
    mode: u32,
    links: AtomicU64,
    sealed: AtomicBool,
    bytes: OnceLock<Arc<Block>>,
    /// What is in it, if it is a directory.
    names: Option<Mutex<BTreeMap<String, Fd>>>,
}

/// An open file or directory.
#[derive(Debug, Clone)]
pub(crate) struct Fd(Arc<Node>);

impl Fd {
    fn new(mode: u32, names: Option<Mutex<BTreeMap<String, Self>>>) -> Self {
        let (inode, links, sealed) = (next_number(), AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Node { inode, mode, links, sealed, bytes: OnceLock::new(), names }))
    }

    fn names(&self) -> io::Result<MutexGuard<'_, BTreeMap<String, Self>>> {
        self.0.names.as_ref().map(locked).ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    fn find(&self, name: &str) -> io::Result<Self> {
        self.names()?.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The address of `len` bytes at `offset`.
    fn range(&self, offset: u64, len: usize) -> io::Result<*mut u8> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let block = self.0.bytes.get().ok_or_else(end)?;
        let start = usize::try_from(offset).map_err(|_| end())?;
        start.checked_add(len).filter(|end| *end <= block.len).ok_or_else(end)?;
        Ok(block.base.as_ptr().wrapping_add(start))
    }
}

/// Goes through the `len` bytes at `offset` of an object in the pieces in which those who have it mapped access them:
/// calls `access` with the place of each in what is copied, and its size. docs/DESIGN.md draws what lies where.
fn in_pieces(offset: u64, len: usize, mut access: impl FnMut(usize, usize)) {
    const STATE: u64 = 128;
    const TABLE: u64 = 256;
    const SCHEMA: u64 = 8448;
    // The two halves of these are words of their own, and Miri forbids to access one in another size than who writes
    // it: the state, and generation and pid of a participant.
    let is_two_words = |at: u64| at == STATE || (TABLE..SCHEMA).contains(&at) && at.is_multiple_of(64);
    let mut done = 0;
    while done < len {
        let (at, left) = (offset + done as u64, len - done);
        let size = match left {
            // What never changes.
            9.. if at == 0 => left.min(STATE as usize),
            9.. if at >= SCHEMA => left,
            8.. if at.is_multiple_of(8) && !is_two_words(at) => 8,
            4.. if at.is_multiple_of(4) => 4,
            _ => 1,
        };
        access(done, size);
        done += size;
    }
}

pub(crate) fn default_directory() -> PathBuf {
    PathBuf::from("/memlane")
}

pub(crate) fn open_directory(path: &Path) -> io::Result<Fd> {
    static DIRECTORIES: Mutex<BTreeMap<PathBuf, Fd>> = Mutex::new(BTreeMap::new());
    let mut directories = locked(&DIRECTORIES);
    Ok(directories.entry(path.to_owned()).or_insert_with(|| Fd::new(0o700, Some(Mutex::default()))).clone())
}

pub(crate) fn make_directory(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

pub(crate) fn create_unnamed(_: &Fd, mode: u32) -> io::Result<Fd> {
    Ok(Fd::new(mode, None))
}

pub(crate) fn open_at(directory: &Fd, name: impl AsRef<OsStr>, _: Access) -> io::Result<Fd> {
    directory.find(&name.as_ref().to_string_lossy())
}

pub(crate) fn open_or_make(path: &Path) -> io::Result<Fd> {
    let directory = open_directory(path.parent().unwrap_or(path))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    Ok(directory.names()?.entry(name).or_insert_with(|| Fd::new(0o600, None)).clone())
}

pub(crate) fn publish(file: &Fd, directory: &Fd, name: impl AsRef<OsStr>) -> io::Result<()> {
    let name = name.as_ref().to_string_lossy();
    let mut names = directory.names()?;
    if names.contains_key(&*name) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    file.0.links.fetch_add(1, Ordering::Relaxed);
    names.insert(name.into_owned(), file.clone());
    Ok(())
}

pub(crate) fn unlink(directory: &Fd, name: &str) -> io::Result<()> {
    let file = directory.names()?.remove(name).ok_or(io::ErrorKind::NotFound)?;
    file.0.links.fetch_sub(1, Ordering::Relaxed);
    Ok(())
}

pub(crate) fn names(directory: &Fd) -> io::Result<Vec<OsString>> {
    Ok(directory.names()?.keys().map(OsString::from).collect())
}

pub(crate) fn meta(file: &Fd) -> io::Result<Meta> {
    let node = &file.0;
    Ok(Meta {
        kind: if node.names.is_some() { Kind::Directory } else { Kind::File },
        user: user(),
        group: user(),
        mode: node.mode,
        links: node.links.load(Ordering::Relaxed),
        len: node.bytes.get().map_or(0, |block| block.len as u64),
        taken: node.bytes.get().map_or(0, |block| block.len as u64),
        identity: (1, node.inode),
    })
}

pub(crate) fn meta_at(directory: &Fd, name: &str) -> io::Result<Meta> {
    meta(&directory.find(name)?)
}

pub(crate) fn meta_of(path: &Path) -> io::Result<Meta> {
    meta(&open_directory(path)?)
}

pub(crate) fn file_system(_: &Fd) -> io::Result<FileSystem> {
    Ok(FileSystem { free: MEMORY, total: MEMORY, in_memory: true, out_of_files: false })
}

pub(crate) fn reserve(file: &Fd, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let block = Block::new(len).ok_or(io::ErrorKind::StorageFull)?;
    file.0.bytes.set(Arc::new(block)).map_err(|_| io::ErrorKind::Unsupported.into())
}

pub(crate) fn reserve_range(_: &Fd, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}

pub(crate) fn extend(file: &Fd, len: u64) -> io::Result<()> {
    reserve(file, len)
}

pub(crate) fn set_len(file: &Fd, len: u64) -> io::Result<()> {
    reserve(file, len)
}

pub(crate) fn read_at(file: &Fd, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let from = file.range(offset, bytes.len())?;
    in_pieces(offset, bytes.len(), |at, size| {
        let (from, to) = (from.wrapping_add(at), &mut bytes[at..at + size]);
        // SAFETY: the bytes lie in the block that `file` keeps; words are aligned, and whoever changes them meanwhile
        // does so by atomics; nobody changes the rest.
        unsafe {
            match size {
                8 => to.copy_from_slice(&AtomicU64::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                4 => to.copy_from_slice(&AtomicU32::from_ptr(from.cast()).load(Ordering::Relaxed).to_ne_bytes()),
                _ => to.as_mut_ptr().copy_from_nonoverlapping(from, size),
            }
        }
    });
    Ok(())
}

pub(crate) fn write_at(file: &Fd, bytes: &[u8], offset: u64) -> io::Result<()> {
    let to = file.range(offset, bytes.len())?;
    in_pieces(offset, bytes.len(), |at, size| {
        let (to, from) = (to.wrapping_add(at), &bytes[at..at + size]);
        // SAFETY: as in `read_at`; nobody reads meanwhile, but for words.
        unsafe {
            match size {
                8 => AtomicU64::from_ptr(to.cast())
                    .store(from.as_ptr().cast::<u64>().read_unaligned(), Ordering::Relaxed),
                4 => AtomicU32::from_ptr(to.cast())
                    .store(from.as_ptr().cast::<u32>().read_unaligned(), Ordering::Relaxed),
                _ => to.copy_from_nonoverlapping(from.as_ptr(), size),
            }
        }
    });
    Ok(())
}

/// Reads what is at `offset` of an object's file, as any process of this user could.
///
/// # Errors
///
/// If there is no such object, or it ends before.
pub fn peek(directory: &Path, name: &str, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    read_at(&open_directory(directory)?.find(name)?, bytes, offset)
}

/// Like [`peek`] for writing.
///
/// # Errors
///
/// As for [`peek`].
pub fn poke(directory: &Path, name: &str, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_at(&open_directory(directory)?.find(name)?, bytes, offset)
}

pub(crate) fn create_anonymous(_: &str, mode: u32) -> io::Result<Fd> {
    Ok(Fd::new(mode, None))
}

pub(crate) fn seal(file: &Fd) -> io::Result<()> {
    file.0.sealed.store(true, Ordering::Relaxed);
    Ok(())
}

pub(crate) fn is_sealed(file: &Fd) -> io::Result<bool> {
    Ok(file.0.sealed.load(Ordering::Relaxed))
}

pub(crate) fn reopen(file: &Fd, _: Access) -> io::Result<Fd> {
    Ok(file.clone())
}

pub(crate) fn opened_for(_: &Fd) -> io::Result<Option<Access>> {
    Ok(Some(Access::ReadWrite))
}

pub(crate) fn peer(_: &Socket) -> Option<Process> {
    None
}

pub(crate) fn adopt(_: Descriptor) -> io::Result<Fd> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn patience(_: &Socket, _: bool) -> io::Result<Option<Duration>> {
    Ok(None)
}

pub(crate) fn wait_for(_: &Socket, _: bool, _: Duration) -> io::Result<()> {
    Ok(())
}

/// What is under way: a message, and the file that goes with it.
static UNDER_WAY: Mutex<Vec<(Vec<u8>, Fd)>> = Mutex::new(Vec::new());

/// The socket as a file: Miri knows no calls that are for sockets alone.
fn stream(socket: &Socket) -> io::Result<File> {
    socket.as_fd().try_clone_to_owned().map(File::from)
}

pub(crate) fn send(socket: &Socket, bytes: &[u8], file: Option<&Fd>) -> io::Result<usize> {
    locked(&UNDER_WAY).extend(file.map(|file| (bytes.to_vec(), file.clone())));
    stream(socket)?.write_all(bytes).map(|()| bytes.len())
}

/// Waits, as long as there is nothing; a file comes with a message that is received whole.
pub(crate) fn receive(socket: &Socket, bytes: &mut [u8]) -> io::Result<(usize, Vec<Fd>, bool)> {
    let got = stream(socket)?.read(bytes)?;
    let mut under_way = locked(&UNDER_WAY);
    let place = under_way.iter().position(|(message, _)| message == &bytes[..got]);
    Ok((got, place.map(|place| under_way.remove(place).1).into_iter().collect(), false))
}

pub(crate) fn limits() -> (Option<u64>, Option<u64>) {
    (None, None)
}

pub(crate) fn free_memory() -> Option<u64> {
    Some(MEMORY)
}

pub(crate) fn lock_limit() -> Option<(u64, u64)> {
    None
}

// ---------------------------------------------------------------------------------------------------------------
// Liveness

/// A byte that an opening holds, of a process.
#[derive(Debug, Clone, Copy)]
struct Lock {
    inode: u64,
    byte: u64,
    sharing: Sharing,
    opening: u64,
    process: u32,
}

static LOCKS: Mutex<Vec<Lock>> = Mutex::new(Vec::new());

/// Stands for the whole thing.
const WHOLE: u64 = u64::MAX;

/// An opening that exists to hold locks.
#[derive(Debug)]
pub(crate) struct LockFd {
    file: Fd,
    opening: u64,
}

impl LockFd {
    pub(crate) fn reopen(file: &Fd, _: Access) -> io::Result<Self> {
        Ok(Self { file: file.clone(), opening: next_number() })
    }

    pub(crate) fn is_forked(&self) -> bool {
        false
    }

    pub(crate) fn forks(&self) -> u64 {
        0
    }

    pub(crate) fn file(&self) -> io::Result<&Fd> {
        Ok(&self.file)
    }

    fn is_mine(&self, lock: &Lock, byte: u64) -> bool {
        (lock.opening, lock.byte) == (self.opening, byte)
    }

    fn is_others(&self, lock: &Lock, byte: u64) -> bool {
        (lock.inode, lock.byte) == (self.file.0.inode, byte) && lock.opening != self.opening
    }

    pub(crate) fn try_lock(&self, byte: u64, sharing: Sharing) -> io::Result<bool> {
        let mut locks = locked(&LOCKS);
        let excludes = |lock: &Lock| sharing == Sharing::Exclusive || lock.sharing == Sharing::Exclusive;
        if locks.iter().any(|lock| self.is_others(lock, byte) && excludes(lock)) {
            return Ok(false);
        }
        locks.retain(|lock| !self.is_mine(lock, byte));
        locks.push(Lock { inode: self.file.0.inode, byte, sharing, opening: self.opening, process: pid() });
        Ok(true)
    }

    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        locked(&LOCKS).retain(|lock| !self.is_mine(lock, byte));
        Ok(())
    }

    pub(crate) fn is_locked(&self, byte: u64) -> io::Result<bool> {
        Ok(locked(&LOCKS).iter().any(|lock| self.is_others(lock, byte)))
    }

    pub(crate) fn try_lock_whole(&self, sharing: Sharing) -> io::Result<bool> {
        self.try_lock(WHOLE, sharing)
    }

    pub(crate) fn unlock_whole(&self) -> io::Result<()> {
        self.unlock(WHOLE)
    }

    pub(crate) fn whole_lock_holder(&self) -> Option<u32> {
        locked(&LOCKS).iter().find(|lock| self.is_others(lock, WHOLE)).map(|lock| lock.process)
    }
}

impl Drop for LockFd {
    fn drop(&mut self) {
        locked(&LOCKS).retain(|lock| lock.opening != self.opening);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Memory

/// The bytes of an object, page-aligned like a mapping.
#[derive(Debug)]
struct Block {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a block is plain memory: it may be used and freed from any thread.
unsafe impl Send for Block {}
// SAFETY: `&Block` gives out nothing but the address and the length.
unsafe impl Sync for Block {}

impl Block {
    fn new(len: u64) -> Option<Self> {
        let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
        let layout = Layout::from_size_align(len, 4096).ok()?;
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, len })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` allocated exactly this, with this layout, and nothing refers to it any more.
        unsafe { dealloc(self.base.as_ptr(), Layout::from_size_align_unchecked(self.len, 4096)) };
    }
}

/// A mapping of a range of an object: the same memory as in every other mapping, or a copy of it.
#[derive(Debug)]
pub(crate) struct Map {
    block: Arc<Block>,
    start: usize,
    len: usize,
}

impl Map {
    pub(crate) fn of(file: &Fd, start: u64, len: usize, access: Access) -> io::Result<Self> {
        if len == 0 {
            let block = Block::new(1).ok_or(io::ErrorKind::OutOfMemory)?;
            return Ok(Self { block: Arc::new(block), start: 0, len });
        }
        let from = file.range(start, len)?;
        if access != Access::Copy {
            let block = file.0.bytes.get().ok_or(io::ErrorKind::OutOfMemory)?;
            return Ok(Self { block: Arc::clone(block), start: start as usize, len });
        }
        let block = Block::new(len as u64).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the bytes lie in the block that `file` keeps, and in the new one.
        unsafe { block.base.as_ptr().copy_from_nonoverlapping(from, len) };
        Ok(Self { block: Arc::new(block), start: 0, len })
    }

    pub(crate) fn populate(&self, _: Range<usize>, _: Access) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn advise(&self, _: Range<usize>, _: Advice) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn request_huge_pages(&self, _: Range<usize>) -> io::Result<u64> {
        Ok(0)
    }

    pub(crate) fn lock(&self, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn unlock(&self, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn flush(&self, _: Range<usize>, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn release(&mut self, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn allow_write(&self, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn word(&self, offset: u64) -> Option<*const u32> {
        let offset = usize::try_from(offset).ok()?;
        let fits = offset.is_multiple_of(4) && offset.checked_add(4)? <= self.len;
        fits.then(|| self.base().as_ptr().wrapping_add(offset).cast::<u32>().cast_const())
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        // SAFETY: `of` saw that the range lies in the block.
        unsafe { self.block.base.add(self.start) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Waiting

/// Who sleeps, by the address of the word and a number of its own, in the order in which they came.
static SLEEPERS: Mutex<Vec<(usize, u64)>> = Mutex::new(Vec::new());
static WOKEN: Condvar = Condvar::new();

pub(crate) fn wait(word: *const u32, _: u32, holds: impl Fn() -> bool, limit: Duration) {
    let me = (word.addr(), next_number());
    let mut sleepers = locked(&SLEEPERS);
    if !holds() {
        return;
    }
    sleepers.push(me);
    let asleep = |sleepers: &mut Vec<(usize, u64)>| sleepers.contains(&me);
    let woken = WOKEN.wait_timeout_while(sleepers, limit, asleep);
    woken.unwrap_or_else(PoisonError::into_inner).0.retain(|sleeper| *sleeper != me);
}

pub(crate) const WAIT_MOST: usize = 128;

pub(crate) fn wait_any(words: &[(*const u32, u32)], holds: impl Fn() -> bool, limit: Duration) {
    let number = next_number();
    let mut sleepers = locked(&SLEEPERS);
    if !holds() {
        return;
    }
    sleepers.extend(words.iter().map(|(word, _)| (word.addr(), number)));
    let is_mine = |sleeper: &(usize, u64)| sleeper.1 == number;
    let asleep = |sleepers: &mut Vec<(usize, u64)>| sleepers.iter().filter(|it| is_mine(it)).count() == words.len();
    let woken = WOKEN.wait_timeout_while(sleepers, limit, asleep);
    woken.unwrap_or_else(PoisonError::into_inner).0.retain(|sleeper| !is_mine(sleeper));
}

pub(crate) fn wake(word: *const u32, count: u32) -> u32 {
    let mut woken = 0;
    locked(&SLEEPERS).retain(|(address, _)| {
        let wakes = *address == word.addr() && woken < count;
        woken += u32::from(wakes);
        !wakes
    });
    WOKEN.notify_all();
    woken
}

// ---------------------------------------------------------------------------------------------------------------
// Identity

thread_local! {
    /// How many processes were started before the one that this thread is; 0 for the real one.
    static PROCESS: Cell<u32> = const { Cell::new(0) };
    /// Who is to know of its end.
    static ENDS: Cell<Option<Sender<bool>>> = const { Cell::new(None) };
}

fn pid() -> u32 {
    std::process::id().wrapping_add(PROCESS.get())
}

/// Runs `operation` in a thread that is a process of its own. `true` is received when that comes to its end, `false`
/// when it dies.
pub fn start_process(operation: impl FnOnce() + Send + 'static) -> Receiver<bool> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let (says, hears) = channel();
    std::thread::spawn(move || {
        PROCESS.set(STARTED.fetch_add(1, Ordering::Relaxed) + 1);
        ENDS.set(Some(says.clone()));
        operation();
        let _ = says.send(true);
    });
    hears
}

/// Ends the process that this thread is, as `kill -9` does: its locks are free, no destructor runs, and it does nothing
/// any more.
pub fn kill_self() {
    locked(&LOCKS).retain(|lock| lock.process != pid());
    if let Some(says) = ENDS.take() {
        let _ = says.send(false);
    }
    loop {
        std::thread::park();
    }
}

pub(crate) fn user() -> u32 {
    1000
}

pub(crate) fn random() -> io::Result<u128> {
    let half = || u128::from(RandomState::new().hash_one(next_number()));
    Ok(half() << 64 | half())
}

pub(crate) fn stamp() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

pub(crate) fn moment() -> Moment {
    Moment { ticks: 0, nanos: 0 }
}

pub(crate) fn age(stamp: u64, _: Moment) -> Option<Duration> {
    Some(Duration::from_nanos(self::stamp().saturating_sub(stamp)))
}

pub(crate) fn clock_id() -> u64 {
    1
}

pub(crate) fn process() -> Process {
    Process { pid: pid(), started: 0, name: *b"on the heap\0\0\0\0\0" }
}

pub(crate) fn is_stopped(_: u32, _: u64) -> bool {
    false
}
