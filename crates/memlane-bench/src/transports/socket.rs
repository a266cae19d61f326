//! Unix stream sockets: what most programs use between processes.
#![allow(unsafe_code)]

use super::rendezvous::{meet, wait};
use super::rounds::Rounds;
use super::stream::{Stream, Streams};
use crate::transport::{Case, How, Role, Setup, Side, Transport, Workload};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// What may be under way in one direction; the kernel makes it less if the administrator says so.
const BUFFER: libc::c_int = 4 << 20;

pub(crate) fn transports() -> Vec<Transport> {
    vec![Transport {
        name: "Unix socket",
        about: "a stream between processes: copied into the kernel and out of it",
        missing: || None,
        offers,
        how: How::Side(open),
    }]
}

fn offers(case: Case) -> bool {
    match case.workload {
        Workload::RoundTrip | Workload::Channels => true,
        Workload::OneWay | Workload::FanOut | Workload::Idle => !case.asleep,
        _ => false,
    }
}

fn open(setup: &Setup) -> Box<dyn Side> {
    let count = match setup.case.workload {
        Workload::FanOut | Workload::Channels => setup.case.count,
        _ => 1,
    };
    let path = setup.directory.join("socket");
    let sockets: io::Result<Vec<UnixStream>> = match setup.role {
        Role::Ask => UnixListener::bind(&path).and_then(|listener| {
            meet(setup, "bound");
            let sockets = (0..count).map(|_| Ok(listener.accept()?.0)).collect();
            fs::remove_file(&path)?;
            sockets
        }),
        Role::Answer => {
            meet(setup, "bound");
            Ok((0..count).map(|_| wait(path.display(), || UnixStream::connect(&path).ok())).collect())
        }
    };
    let streams = sockets.and_then(|sockets| sockets.into_iter().map(stream).collect());
    let streams = streams.unwrap_or_else(|error| panic!("cannot connect through {}: {error}", path.display()));
    Box::new(Rounds::new(setup, Streams::new(setup.case, streams)))
}

fn stream(socket: UnixStream) -> io::Result<Stream> {
    let (buffer, len) = (BUFFER, size_of_val(&BUFFER) as libc::socklen_t);
    // SAFETY: the call reads one integer of the size that it is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, (&raw const buffer).cast(), len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let from = File::from(OwnedFd::from(socket.try_clone()?));
    Ok(Stream::new(from, File::from(OwnedFd::from(socket))))
}
