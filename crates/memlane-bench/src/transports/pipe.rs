//! Pipes with a name: one there, and one back.
#![allow(unsafe_code)]

use super::rendezvous::{meet, wait};
use super::rounds::Rounds;
use super::stream::{Stream, Streams};
use crate::transport::{Case, How, Role, Setup, Side, Transport, Workload};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The most that a user may have, unless the administrator says otherwise.
const BUFFER: libc::c_int = 1 << 20;

pub(crate) fn transports() -> Vec<Transport> {
    vec![Transport {
        name: "pipe",
        about: "a pipe there and one back: copied into the kernel and out of it",
        missing: || None,
        offers,
        how: How::Side(open),
    }]
}

fn offers(case: Case) -> bool {
    match case.workload {
        Workload::RoundTrip => true,
        Workload::OneWay | Workload::Idle => !case.asleep,
        _ => false,
    }
}

/// A pipe can be opened for writing only once it is open for reading: so each side begins with that.
fn open(setup: &Setup) -> Box<dyn Side> {
    let [there, back] = ["there", "back"].map(|name| setup.directory.join(name));
    let (from, to) = match setup.role {
        Role::Ask => (back, there),
        Role::Answer => (there, back),
    };
    let reading = reading_end(&from).unwrap_or_else(|error| panic!("cannot make pipe {}: {error}", from.display()));
    let mut writing = OpenOptions::new();
    writing.write(true).custom_flags(libc::O_NONBLOCK);
    let writing = wait(to.display(), || writing.open(&to).ok());
    meet(setup, "open");
    for end in [&reading, &writing] {
        block(end)
            .unwrap_or_else(|error| panic!("cannot set flags of the pipes in {}: {error}", setup.directory.display()));
    }
    fs::remove_file(&from).unwrap_or_else(|error| panic!("cannot remove {}: {error}", from.display()));
    Box::new(Rounds::new(setup, Streams::new(setup.case, vec![Stream::new(reading, writing)])))
}

fn reading_end(path: &Path) -> io::Result<File> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `name` ends with a zero, and the call only reads it.
    check(unsafe { libc::mkfifo(name.as_ptr(), 0o600) })?;
    let end = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // SAFETY: the call takes integers only.
    check(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETPIPE_SZ, BUFFER) })?;
    Ok(end)
}

fn block(end: &File) -> io::Result<()> {
    // SAFETY: the call takes integers only. No other flag is set on an end.
    check(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, 0) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
