//! A file system of our own, so that every block and inode that is used in it is ours.
#![allow(unsafe_code)]

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
