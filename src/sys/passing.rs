//! Memory without a name, and descriptors that go from one process to another.
#![allow(unsafe_code)]

use super::{Fd, check, known, retry, set_mode};
use crate::sys::{Access, Process};
use std::io;
use std::mem::size_of;
pub(crate) use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::fd::{AsRawFd, FromRawFd};
pub(crate) use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How many descriptors of one message are taken, to be closed; the kernel closes what goes beyond.
const MOST: usize = 16;

pub(crate) fn create_anonymous(len: u64) -> io::Result<Fd> {
    const NOEXEC_SEAL: libc::c_uint = 8;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a NUL-terminated string.
    let create = |flags| retry(|| unsafe { libc::memfd_create(c"memlane".as_ptr(), flags) });
    // Some systems refuse memory that could be executed; a kernel before 6.3 does not know the difference.
    let fd = create(flags | NOEXEC_SEAL).or_else(|_| create(flags))?;
    // SAFETY: the call above just made `fd`, and nothing else owns it.
    let file = Fd::from(unsafe { OwnedFd::from_raw_fd(fd) });
    set_mode(&file, 0o600)?;
    super::reserve(&file, len)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the call takes no pointers.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

/// Whether the size of what it refers to is the same for ever.
pub(crate) fn is_sealed(file: &Fd) -> bool {
    let wanted = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    // SAFETY: the call takes no pointers.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & wanted == wanted
}

/// What a descriptor was opened for, if that is reading.
pub(crate) fn opened_for(file: &Fd) -> io::Result<Option<Access>> {
    // SAFETY: the call takes no pointers.
    let flags = retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    Ok(match flags & (libc::O_ACCMODE | libc::O_PATH) {
        libc::O_RDONLY => Some(Access::Read),
        libc::O_RDWR => Some(Access::ReadWrite),
        _ => None,
    })
}

/// Room for the descriptors of one message, aligned as its header is.
#[repr(C, align(8))]
struct Control([u8; 96]);

const _: () = {
    // SAFETY: the call computes a size.
    let needed = unsafe { libc::CMSG_SPACE((MOST * size_of::<libc::c_int>()) as u32) };
    assert!(needed as usize <= size_of::<Control>());
};

/// A message of `bytes` and what goes with it, as the calls below take it.
fn message(bytes: &mut libc::iovec, control: &mut Control, room: u32) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid `msghdr`, a plain C struct.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (bytes, 1);
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the call computes a size.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(room) } as _;
    message
}

/// Sends `bytes` and a copy of a descriptor, without waiting; how many of them were sent.
pub(crate) fn pass(socket: &UnixStream, bytes: &[u8], file: &Fd) -> io::Result<usize> {
    const FD: u32 = size_of::<libc::c_int>() as u32;
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 96]);
    let message = message(&mut part, &mut control, FD);
    // SAFETY: the control data has room for one descriptor, so there is a first header, and it lies in `control`.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(FD) as _;
        libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(file.as_raw_fd());
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: what `message` points to lives as long as the call; `bytes` is only read.
    transferred(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// What came over a socket.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) len: usize,
    pub(crate) files: Vec<OwnedFd>,
    /// There were more descriptors than are taken, or than this process can have; those are closed.
    pub(crate) cut: bool,
}

/// Receives at most `bytes`, and all descriptors that come with them, without waiting.
pub(crate) fn receive(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<Passed> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 96]);
    let mut message = message(&mut part, &mut control, (MOST * size_of::<libc::c_int>()) as u32);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: what `message` points to is valid for writes and lives as long as the call.
    let len = transferred(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    let mut files = Vec::new();
    // SAFETY: the kernel wrote the headers and says in `message` how long they are; they lie in `control`. The
    // descriptors in them are new, and nothing else owns them.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let whole = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(header).cast::<libc::c_int>();
                let numbers = (0..whole / size_of::<libc::c_int>()).map(|index| first.add(index).read_unaligned());
                files.extend(numbers.map(|number| OwnedFd::from_raw_fd(number)));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Passed { len, files, cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// Calls `call` again as long as a signal interrupts it; how many bytes it moved.
fn transferred(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    let mut moved = 0;
    retry(|| {
        moved = call();
        if moved < 0 { -1 } else { 0 }
    })?;
    Ok(moved as usize)
}

/// Sleeps at most `limit` until the socket can be written, or read; may return early for any reason.
pub(crate) fn wait_for_socket(socket: &UnixStream, writes: bool, limit: Duration) {
    let events = if writes { libc::POLLOUT } else { libc::POLLIN };
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    let limit = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX).max(1);
    // SAFETY: `poll` is valid for reads and writes for the duration of the call.
    unsafe { libc::poll(&raw mut poll, 1, limit) };
}

/// Who made the other end of the socket, or connected to it.
pub(crate) fn peer(socket: &UnixStream) -> Option<Process> {
    // SAFETY: all-zero bytes are a valid `ucred`, a plain C struct.
    let mut who: libc::ucred = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: `who` and `len` are valid for writes for the duration of the call, and `len` is the size of `who`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut who).cast(), &raw mut len) }).ok()?;
    let pid = u32::try_from(who.pid).ok().filter(|pid| *pid > 0)?;
    known(&pid.to_string(), pid)
}
