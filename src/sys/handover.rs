//! Objects in no directory, and descriptors that pass from one process to another in a message over a socket.

use super::{Fd, c_string, check, flags, known, open, retry, set_mode};
use crate::sys::{Access, Process};
use std::ffi::OsStr;
use std::io;
pub(crate) use std::os::fd::{AsFd, BorrowedFd, OwnedFd as Descriptor};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
pub(crate) use std::os::unix::net::UnixStream as Socket;
use std::time::Duration;

/// The most descriptors of one message that are taken: one is right, and more are to be seen as wrong, and closed.
const DESCRIPTORS: usize = 4;

pub(crate) fn create_anonymous(label: &str, mode: u32) -> io::Result<Fd> {
    let label = c_string(OsStr::new(label))?;
    // SAFETY: `label` is a NUL-terminated string that outlives the call.
    let create = |flags| retry(|| unsafe { libc::memfd_create(label.as_ptr(), flags) });
    const NOEXEC_SEAL: libc::c_uint = 8; // `libc` has these two for other systems only
    const EXEC: libc::c_uint = 16;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // What is sealed so can have no mode with the right to execute.
    let executes = if mode & 0o111 == 0 { NOEXEC_SEAL } else { EXEC };
    let fd = match create(flags | executes) {
        // A kernel before 6.3 knows no memory that cannot be executed.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => create(flags)?,
        result => result?,
    };
    // SAFETY: the call above just made `fd`, and nothing else owns it.
    let file = Fd::from(unsafe { OwnedFd::from_raw_fd(fd) });
    set_mode(&file, mode)?;
    Ok(file)
}

pub(crate) fn seal(file: &Fd) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the call takes no pointers.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

pub(crate) fn is_sealed(file: &Fd) -> io::Result<bool> {
    // SAFETY: the call takes no pointers.
    let seals = retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })?;
    let wanted = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    Ok(seals & wanted == wanted)
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

pub(crate) fn reopen(file: &Fd, access: Access) -> io::Result<Fd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(libc::AT_FDCWD, OsStr::new(&path), flags(access) | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

pub(crate) fn adopt(descriptor: Descriptor) -> io::Result<Fd> {
    // One that was inherited is as good as never closed by programs that are executed.
    // SAFETY: the call takes no pointers.
    retry(|| unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(Fd::from(descriptor))
}

/// For how long a call on the socket may wait to read, or else to write; `None`: for ever.
pub(crate) fn patience(socket: &Socket, reads: bool) -> io::Result<Option<Duration>> {
    // SAFETY: the call takes no pointers.
    let flags = retry(|| unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })?;
    match () {
        () if flags & libc::O_NONBLOCK != 0 => Ok(Some(Duration::ZERO)),
        () if reads => socket.read_timeout(),
        () => socket.write_timeout(),
    }
}

/// Sleeps at most `limit` until the socket can be read, or else written.
pub(crate) fn wait_for(socket: &Socket, reads: bool, limit: Duration) -> io::Result<()> {
    let events = if reads { libc::POLLIN } else { libc::POLLOUT };
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    let limit = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `poll` is valid for reads and writes for the duration of the call.
    match check(unsafe { libc::poll(&raw mut poll, 1, limit) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Room for the control data of a message, aligned like its header.
#[repr(C, align(8))]
struct Control([u8; 128]);

const _: () = {
    // SAFETY: the call computes with its argument, and nothing else.
    let room = unsafe { libc::CMSG_SPACE((DESCRIPTORS * size_of::<libc::c_int>()) as u32) };
    assert!(room as usize <= size_of::<Control>() && align_of::<Control>() >= align_of::<libc::cmsghdr>());
};

/// A message of `bytes`, and of the first `len` bytes of `control`: valid as long as both are.
fn message(bytes: &mut libc::iovec, control: &mut Control, len: usize) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid `msghdr`, a plain C struct.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (bytes, 1);
    (message.msg_control, message.msg_controllen) = (control.0.as_mut_ptr().cast(), len);
    message
}

/// Sends some of `bytes`, with `file` if there is one, and says how many; does not wait.
pub(crate) fn send(socket: &Socket, bytes: &[u8], file: Option<&Fd>) -> io::Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 128]);
    let one = size_of::<libc::c_int>() as u32;
    // SAFETY: the call computes with its argument, and nothing else.
    let space = unsafe { libc::CMSG_SPACE(one) } as usize;
    let message = message(&mut part, &mut control, if file.is_some() { space } else { 0 });
    if let Some(file) = file {
        // SAFETY: `message` has room for the header and data of one descriptor, as was said just now, so the header is there,
        // aligned as `Control` is; data need not be.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(one) as usize;
            libc::CMSG_DATA(header).cast::<libc::c_int>().write_unaligned(file.as_raw_fd());
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `message` and what it points to, the bytes of which are only read, are valid for the duration of the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives some of `bytes`, and says how many (0 at the end), all descriptors that were sent with them, and whether some could
/// not be taken; does not wait.
pub(crate) fn receive(socket: &Socket, bytes: &mut [u8]) -> io::Result<(usize, Vec<Fd>, bool)> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 128]);
    let mut message = message(&mut part, &mut control, size_of::<Control>());
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` and what it points to are valid for writes for the duration of the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    // A descriptor of its sender, if this process has set SO_PASSPIDFD.
    const PIDFD: libc::c_int = 4;
    let mut files = Vec::new();
    // SAFETY: the kernel filled in the control data, and says how much of it; the two calls stay inside it.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(header) = next.as_ref() {
            if header.cmsg_level == libc::SOL_SOCKET && matches!(header.cmsg_type, libc::SCM_RIGHTS | PIDFD) {
                let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                let count = (header.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<libc::c_int>();
                // They were made for this process by this call, so nothing else owns them.
                let came = (0..count).map(|index| {
                    let fd = data.add(index).read_unaligned();
                    Fd::from(OwnedFd::from_raw_fd(fd))
                });
                // Those that nobody sent are closed at once.
                files.extend(came.filter(|_| header.cmsg_type == libc::SCM_RIGHTS));
            }
            next = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok((got, files, message.msg_flags & libc::MSG_CTRUNC != 0))
}

/// Who made the other end of the socket, or connected to it.
pub(crate) fn peer(socket: &Socket) -> Option<Process> {
    // SAFETY: all-zero bytes are a valid `ucred`, a plain C struct.
    let mut who: libc::ucred = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: `who` and `len` are valid for writes for the duration of the call, and `len` is the size of `who`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut who).cast(), &raw mut len) }).ok()?;
    let pid = u32::try_from(who.pid).ok().filter(|pid| *pid > 0)?;
    // One that has gone has left its number.
    let gone = Process { pid, started: 0, name: *b"not known\0\0\0\0\0\0\0" };
    Some(known(&pid.to_string(), pid).unwrap_or(gone))
}
