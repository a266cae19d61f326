//! Two counters in the kernel: the asking side makes them and passes them through a socket.
#![allow(unsafe_code)]

use super::rendezvous::wait;
use crate::transport::{Laps, Role, Setup, Side};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

struct Eventfds {
    role: Role,
    own: OwnedFd,
    other: OwnedFd,
}

impl Side for Eventfds {
    fn rounds(&mut self, rounds: u64, think: &dyn Fn(), laps: &mut Laps) {
        for _ in 0..rounds {
            self.role.turn(think, || tell(&self.own), || hear(&self.other));
            laps.lap();
        }
    }
}

fn tell(eventfd: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the call reads 8 bytes that are there.
    let result = unsafe { libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    assert_eq!(result, 8, "an eventfd takes 8 bytes: {}", io::Error::last_os_error());
}

fn hear(eventfd: &OwnedFd) {
    let mut count = [0_u8; 8];
    // SAFETY: the call writes 8 bytes that are there.
    let result = unsafe { libc::read(eventfd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    assert_eq!(result, 8, "an eventfd gives 8 bytes: {}", io::Error::last_os_error());
}

pub(super) fn open(setup: &Setup) -> Box<dyn Side> {
    let path = setup.directory.join("eventfds");
    let [own, other] = match setup.role {
        Role::Ask => {
            let listener = UnixListener::bind(path).expect("a socket in an empty directory");
            let eventfds = [(); 2].map(|()| create().expect("an eventfd"));
            pass(&listener.accept().expect("the other side").0, &eventfds)
                .expect("both eventfds go through the socket");
            eventfds
        }
        Role::Answer => {
            let stream = wait("the other side's socket", || UnixStream::connect(&path).ok());
            let [questions, answers] = take(&stream).expect("both eventfds come through the socket");
            [answers, questions]
        }
    };
    Box::new(Eventfds { role: setup.role, own, other })
}

fn create() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no address.
    let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if eventfd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(eventfd) })
}

/// Room for one message with two descriptors beside it.
struct Envelope {
    byte: u8,
    vector: libc::iovec,
    /// Aligned as the head of what lies in it.
    beside: [libc::cmsghdr; 2],
}

impl Envelope {
    const FDS: u32 = size_of::<[RawFd; 2]>() as u32;

    fn new() -> Self {
        // SAFETY: all-zero bytes are valid in these C structures.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// What the system calls want; valid as long as `self` is not moved.
    fn header(&mut self) -> libc::msghdr {
        self.vector = libc::iovec { iov_base: (&raw mut self.byte).cast(), iov_len: 1 };
        // SAFETY: all-zero bytes are a valid `msghdr`; CMSG_SPACE only computes.
        let (mut header, space): (libc::msghdr, _) = unsafe { (std::mem::zeroed(), libc::CMSG_SPACE(Self::FDS)) };
        assert!(space as usize <= size_of_val(&self.beside));
        header.msg_iov = &raw mut self.vector;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.beside).cast();
        header.msg_controllen = space as usize;
        header
    }
}

fn pass(stream: &UnixStream, eventfds: &[OwnedFd; 2]) -> io::Result<()> {
    let mut envelope = Envelope::new();
    let header = envelope.header();
    let fds = eventfds.each_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: the header names room for one control message of two descriptors, so CMSG_FIRSTHDR points to it, and all
    // that it names lives in `envelope` until the call is over.
    let sent = unsafe {
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        (*control).cmsg_level = libc::SOL_SOCKET;
        (*control).cmsg_type = libc::SCM_RIGHTS;
        (*control).cmsg_len = libc::CMSG_LEN(Envelope::FDS) as usize;
        libc::CMSG_DATA(control).cast::<[RawFd; 2]>().write_unaligned(fds);
        libc::sendmsg(stream.as_raw_fd(), &raw const header, 0)
    };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn take(stream: &UnixStream) -> io::Result<[OwnedFd; 2]> {
    let mut envelope = Envelope::new();
    let mut header = envelope.header();
    // SAFETY: all that the header names lives in `envelope` until the call is over.
    if unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) } != 1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel wrote what the header says; only if that is a control message of two descriptors, these are
    // read, which are new and nobody else's.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        if control.is_null() || (*control).cmsg_len != libc::CMSG_LEN(Envelope::FDS) as usize {
            return Err(io::Error::other("no two descriptors came"));
        }
        let fds = libc::CMSG_DATA(control).cast::<[RawFd; 2]>().read_unaligned();
        Ok(fds.map(|fd| OwnedFd::from_raw_fd(fd)))
    }
}
