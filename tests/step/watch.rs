//! The bytes of all objects in a directory, watched for changes; and a file system of our own to have them in.
#![allow(unsafe_code)]

use crate::common::Dir;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

/// What the objects in a directory looked like last.
pub struct Watch {
    names: Vec<(std::ffi::OsString, u64)>,
    files: Vec<Watched>,
}

struct Watched {
    base: *mut libc::c_void,
    seen: Vec<u8>,
}

impl Watch {
    pub fn new(dir: &Dir) -> Self {
        let mut watch = Self { names: Vec::new(), files: Vec::new() };
        watch.refresh(dir);
        watch
    }

    /// Looks which objects there are now.
    pub fn refresh(&mut self, dir: &Dir) {
        let list = std::fs::read_dir(dir.path()).expect("the directory");
        let mut names: Vec<_> =
            list.map(|entry| entry.expect("an entry")).map(|entry| (entry.file_name(), entry.ino())).collect();
        names.sort();
        if names != self.names {
            self.files = names.iter().filter_map(|(name, _)| Watched::open(&dir.path().join(name))).collect();
            self.names = names;
        }
    }

    /// Whether any byte is not what it was at the last look.
    pub fn has_changed(&mut self) -> bool {
        self.files.iter_mut().any(Watched::has_changed)
    }
}

impl Watched {
    /// `None` if the file is empty: then there is nothing to see.
    fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).expect("a file");
        let len = usize::try_from(file.metadata().expect("its size").len()).expect("a small file");
        if len == 0 {
            return None;
        }
        // SAFETY: a fresh mapping at an address the kernel chooses; it overlaps nothing that exists.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        let mut watched = Self { base, seen: vec![0; len] };
        watched.has_changed();
        Some(watched)
    }

    fn has_changed(&mut self) -> bool {
        let (seen, len) = (self.seen.as_mut_ptr().cast(), self.seen.len());
        // SAFETY: both are `len` readable bytes; no reference to the shared ones exists, so they may change any time.
        if unsafe { libc::memcmp(self.base, seen, len) } == 0 {
            return false;
        }
        // SAFETY: as above, and `seen` is ours to write.
        unsafe { libc::memcpy(seen, self.base, len) };
        true
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `open` mapped.
        unsafe { libc::munmap(self.base, self.seen.len()) };
    }
}

/// Covers `/dev/shm` with a file system that only this process and its children see, so that every block and inode
/// that is used there is ours. Only before there are threads. False if the system forbids it.
pub fn own_file_system() -> bool {
    // SAFETY: the calls take nothing and cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: the call takes no pointers, and this process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        // SAFETY: as above.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
            return false;
        }
        let mapped = std::fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| std::fs::write("/proc/self/uid_map", format!("{user} {user} 1")))
            .and_then(|()| std::fs::write("/proc/self/gid_map", format!("{group} {group} 1")));
        if mapped.is_err() {
            return false;
        }
    }
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let nothing = std::ptr::null();
    // SAFETY: the strings are NUL-terminated literals, and what may be null is null.
    let cut_off = unsafe { libc::mount(nothing, c"/".as_ptr(), nothing, private, nothing.cast()) } == 0;
    let (kind, options) = (c"tmpfs", c"size=64m,mode=1777");
    // SAFETY: all arguments are NUL-terminated literals.
    cut_off
        && unsafe { libc::mount(kind.as_ptr(), c"/dev/shm".as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) } == 0
}

/// Free blocks and inodes of `/dev/shm`.
pub fn free() -> (u64, u64) {
    // SAFETY: all-zero bytes are a valid `statfs`, a plain C struct.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a NUL-terminated literal, and `stat` is valid for writes.
    let result = unsafe { libc::statfs(c"/dev/shm".as_ptr(), &raw mut stat) };
    assert_eq!(result, 0, "statfs: {}", std::io::Error::last_os_error());
    (stat.f_bfree, stat.f_ffree)
}
