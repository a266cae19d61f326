//! Memory without a name that goes over a Unix socket: between processes, and with everything that may come instead.
#![cfg(not(any(miri, memlane_heap)))]
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Child, Dir, HANG, hear, role, say, spawn};
use memlane::{Error, Memory};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let socket = || UnixStream::connect(&arguments[0]).expect("somebody listens");
    match role.as_str() {
        "receive" => receive(&socket()),
        "send and die" => {
            let mut region = {
                let memory = Memory::anonymous(10_000).expect("memory");
                memory.send_over(&socket()).expect("sent");
                memory.map_mut(..).expect("mapped")
            };
            region.write_at(9990, b"to you").expect("inside");
            say("sent");
            hear();
        }
        "say nothing" => {
            let _socket = socket();
            say("connected");
            hear();
        }
        other => panic!("no role {other}"),
    }
}

/// Starts a child that connects to a socket of ours.
fn connected(role: &str) -> (Child, UnixStream, Dir) {
    let dir = Dir::new();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let child = spawn(dir.path(), role, &[path.to_str().expect("plain")]);
    let (socket, _) = listener.accept().expect("it connects");
    (child, socket, dir)
}

/// How many descriptors of this process are of one of these files; other tests have others meanwhile.
fn descriptors_of(files: &[&dyn AsRawFd]) -> usize {
    use std::os::unix::fs::MetadataExt;
    let file = |number: &str| fs::metadata(format!("/proc/self/fd/{number}")).ok().map(|meta| (meta.dev(), meta.ino()));
    let wanted: Vec<_> = files.iter().map(|it| file(&it.as_raw_fd().to_string())).collect();
    let all = fs::read_dir("/proc/self/fd").expect("the descriptors");
    let names = all.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| wanted.contains(&file(name))).count()
}

/// Sends `bytes` and `files` as any program could.
fn send(socket: &UnixStream, bytes: &[u8], files: &[&dyn AsRawFd]) {
    let numbers: Vec<libc::c_int> = files.iter().map(|file| file.as_raw_fd()).collect();
    let room = std::mem::size_of_val(&numbers[..]) as u32;
    let mut control = [0_u64; 64];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: everything is as long as it says, and lives as long as the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        if room > 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(room) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*header).cmsg_len = libc::CMSG_LEN(room) as _;
            libc::CMSG_DATA(header).copy_from_nonoverlapping(numbers.as_ptr().cast(), room as usize);
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(usize::try_from(sent).ok(), Some(bytes.len()), "{}", std::io::Error::last_os_error());
}

/// As docs/DESIGN.md draws it.
fn message(size: u128) -> Vec<u8> {
    let mut bytes =
        [&b"memlane)"[..], &1_u32.to_ne_bytes(), &6_u32.to_ne_bytes(), &size.to_ne_bytes(), b"memory"].concat();
    bytes.resize(232, 0);
    bytes
}

fn refusal(result: Result<Memory, Error>) -> String {
    match result {
        Err(error @ Error::HandOver { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_processes_write_the_same_memory() {
    let (mut child, socket, _dir) = connected("receive");
    let memory = Memory::anonymous(10_000).expect("memory");
    let mut region = memory.map_mut(..).expect("mapped");
    region.write_at(5000, b"ours").expect("inside");
    memory.send_over(&socket).expect("sent");
    drop(memory);
    child.expect("10000 ours");
    let mut theirs = [0; 6];
    region.read_at(5004, &mut theirs).expect("inside");
    assert_eq!(&theirs, b"theirs");
    assert!(child.finish().success());
}

fn receive(socket: &UnixStream) {
    let memory = Memory::receive_from(socket).expect("sent");
    assert!(memory.is_sealed());
    let mut region = memory.map_mut(5000..).expect("mapped");
    let mut ours = [0; 4];
    region.read_at(0, &mut ours).expect("inside");
    region.write_at(4, b"theirs").expect("inside");
    say(&format!("{} {}", memory.size().expect("its size"), String::from_utf8_lossy(&ours)));
    hear();
}

#[test]
fn memory_outlives_who_sent_it() {
    let (mut child, socket, _dir) = connected("send and die");
    child.expect("sent");
    child.kill();
    let region = Memory::receive_from(&socket).expect("it was sent").map(9990..9996).expect("mapped");
    let mut bytes = [0; 6];
    region.read_at(0, &mut bytes).expect("inside");
    assert_eq!(&bytes, b"to you");
}

#[test]
fn a_dead_peer_and_a_silent_one_are_named_and_nobody_waits_for_ever() {
    let (mut child, socket, _dir) = connected("say nothing");
    child.expect("connected");
    socket.set_read_timeout(Some(Duration::from_millis(120))).expect("a timeout");
    let start = Instant::now();
    let text = refusal(Memory::receive_from(&socket));
    assert!((Duration::from_millis(120)..HANG).contains(&start.elapsed()));
    let pid = format!("pid {}", child.pid());
    assert!(text.contains(&pid) && text.contains("the socket's time is over"), "{text}");
    child.signal("STOP");
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", child.pid())).expect("it lives").contains(") T ");
    while !stopped() {
        std::thread::yield_now();
    }
    let text = refusal(Memory::receive_from(&socket));
    assert!(text.contains(&pid) && text.contains("stopped"), "{text}");

    // Full of messages that it does not take.
    socket.set_write_timeout(Some(Duration::from_millis(60))).expect("a timeout");
    let memory = Memory::anonymous(1).expect("memory");
    let error = (0..100_000).find_map(|_| memory.send_over(&socket).err()).expect("it is full some time");
    assert!(error.to_string().contains(&pid) && error.to_string().contains("the socket's time is over"), "{error}");

    socket.set_read_timeout(None).expect("none");
    let waits = std::thread::spawn(move || (refusal(Memory::receive_from(&socket)), socket));
    child.kill();
    let (text, socket) = waits.join().expect("it ended");
    assert!(text.contains("closed the socket") || text.contains("reset"), "{text}");
    for text in [refusal(Memory::receive_from(&socket)), memory.send_over(&socket).expect_err("it is gone").to_string()]
    {
        assert!(text.contains(&pid) && text.contains("see why it ended"), "{text}");
    }
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    drop(theirs);
    assert!(refusal(Memory::receive_from(&ours)).contains("closed the socket"));
    assert!(memory.send_over(&ours).expect_err("nobody is there").to_string().contains("the other side has closed it"));
}

#[test]
fn whatever_comes_instead_is_an_error_and_its_descriptors_are_closed() {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let dir = Dir::new();
    let file = File::create(dir.path().join("file")).expect("a file");
    file.set_len(10).expect("a size");
    let sealed = Memory::anonymous(10).expect("memory");
    let sealed = sealed.as_fd().try_clone_to_owned().expect("a descriptor");
    let unsealed = {
        // SAFETY: the name is a string; the descriptor is new.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"plain".as_ptr(), libc::MFD_ALLOW_SEALING)) };
        File::from(fd.try_clone().expect("a descriptor")).set_len(10).expect("a size");
        fd
    };
    let half_sealed = {
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"half".as_ptr(), libc::MFD_ALLOW_SEALING)) };
        File::from(fd.try_clone().expect("a descriptor")).set_len(10).expect("a size");
        // SAFETY: the call takes no pointers.
        assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }, 0);
        fd
    };
    let for_reading = File::open(format!("/proc/self/fd/{}", sealed.as_raw_fd())).expect("opened again");
    let sixty: Vec<&dyn AsRawFd> = (0..60).map(|_| &sealed as &dyn AsRawFd).collect();
    let descriptors = || descriptors_of(&[&sealed, &file, &unsealed, &ours]);
    let before = descriptors();
    assert_eq!(before, 6, "the sealed memory three times, and three others");
    /// What it is, its bytes and descriptors, and what is said of it.
    type Case<'a> = (&'a str, Vec<u8>, &'a [&'a dyn AsRawFd], &'a str);
    let cases: [Case; 13] = [
        ("nothing but bytes", message(10), &[], "without a descriptor"),
        ("two", message(10), &[&sealed, &sealed], "several descriptors"),
        ("sixty", message(10), &sixty, "several descriptors"),
        ("another magic", [&b"memlaneX"[..], &message(10)[8..]].concat(), &[&sealed], "is no memory"),
        ("an object's", [&b"memlane>"[..], &message(10)[8..]].concat(), &[&sealed], "is no memory"),
        ("a longer one", message(11), &[&sealed], "10 bytes, and was said to have 11"),
        ("a shorter one", message(0), &[&sealed], "10 bytes, and was said to have 0"),
        ("a file", message(10), &[&file], "no sealed memory"),
        ("memory that is not sealed", message(10), &[&unsealed], "no sealed memory"),
        ("memory that can grow", message(10), &[&half_sealed], "no sealed memory"),
        ("memory for reading", message(10), &[&for_reading], "no sealed memory"),
        ("a socket", message(10), &[&ours], "no sealed memory"),
        ("the right thing", message(10), &[&sealed], ""),
    ];
    for (what, bytes, files, text) in cases {
        send(&theirs, &bytes, files);
        match Memory::receive_from(&ours) {
            Ok(memory) => {
                assert_eq!((text, memory.size().expect("its size")), ("", 10), "{what}");
                // SAFETY: the call takes no pointers.
                let flags = unsafe { libc::fcntl(memory.as_fd().as_raw_fd(), libc::F_GETFD) };
                assert_eq!(flags, libc::FD_CLOEXEC, "programs that are executed do not get it");
            }
            error => {
                let said = refusal(error);
                assert!(!text.is_empty() && said.contains(text), "{what}: {said}");
                assert!(said.contains(&format!("pid {}", std::process::id())), "{said}");
            }
        }
        assert_eq!(descriptors(), before, "{what}");
    }
}

#[test]
fn memory_that_was_never_reserved_is_not_taken() {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    // SAFETY: the name is a string; the descriptor is new.
    let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"huge".as_ptr(), libc::MFD_ALLOW_SEALING)) };
    File::from(fd.try_clone().expect("a descriptor")).set_len(1 << 50).expect("a hole takes nothing");
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the call takes no pointers.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    send(&theirs, &message(1 << 50), &[&fd]);
    let said = refusal(Memory::receive_from(&ours));
    assert!(said.contains("is not reserved") && said.contains("Memory::anonymous"), "{said}");
}

#[test]
fn a_descriptor_of_the_peer_that_comes_by_itself_is_closed() {
    const PASS_PIDFD: libc::c_int = 76;
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let on: libc::c_int = 1;
    // SAFETY: the option is valid for the duration of the call.
    let set = unsafe {
        let size = size_of::<libc::c_int>() as u32;
        libc::setsockopt(ours.as_raw_fd(), libc::SOL_SOCKET, PASS_PIDFD, (&raw const on).cast(), size)
    };
    if set != 0 {
        let _ = writeln!(std::io::stderr(), "SKIPPED: a kernel before 6.5 passes no such descriptor");
        return;
    }
    let pidfds = || {
        let all = fs::read_dir("/proc/self/fd").expect("the descriptors");
        let links = all.filter_map(|entry| fs::read_link(entry.expect("an entry").path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
    };
    Memory::anonymous(10).expect("memory").send_over(&theirs).expect("sent");
    Memory::receive_from(&ours).expect("sent");
    assert_eq!(pidfds(), 0);
}

#[test]
fn only_sealed_memory_is_sent() {
    let (ours, mut theirs) = UnixStream::pair().expect("sockets");
    let dir = Dir::new();
    let file = Memory::create(dir.path().join("file"), 10).expect("a new file");
    let sealed = Memory::anonymous(10).expect("memory");
    let for_reading = File::open(format!("/proc/self/fd/{}", sealed.as_fd().as_raw_fd())).expect("opened again");
    for memory in [file, Memory::from_fd(for_reading.into()).expect("a file")] {
        let error = memory.send_over(&ours).expect_err("it is not to be sent");
        assert!(error.to_string().contains("only anonymous memory"), "{error}");
    }
    drop(ours);
    assert_eq!(theirs.read(&mut [0; 10]).expect("closed"), 0, "nothing was sent");
}

#[test]
fn the_size_of_anonymous_memory_is_the_same_for_ever() {
    let memory = Memory::anonymous(100).expect("memory");
    assert!(memory.is_sealed());
    let error = memory.grow(200).expect_err("it is sealed").to_string();
    assert!(error.contains("sealed"), "{error}");
    let file = File::from(memory.as_fd().try_clone_to_owned().expect("a descriptor"));
    assert!(file.set_len(10).is_err() && file.set_len(200).is_err());
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    // SAFETY: the call takes no pointers.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) }, -1);
}

#[test]
fn a_descriptor_goes_out_and_comes_in() {
    let memory = Memory::anonymous(100).expect("memory");
    let mut region = memory.map_mut(..).expect("mapped");
    region.write_at(0, b"hello").expect("inside");
    let fd = memory.into_fd();
    // SAFETY: the call takes no pointers.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) } & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    let again = Memory::from_fd(fd).expect("the same");
    let mut bytes = [0; 5];
    again.map(..).expect("mapped").read_at(0, &mut bytes).expect("inside");
    assert_eq!((&bytes, again.is_sealed()), (b"hello", true));

    let dir = Dir::new();
    let mut file = File::create(dir.path().join("file")).expect("a file");
    file.write_all(&[1; 50]).expect("written");
    let open = |flags: libc::c_int| {
        let path = std::ffi::CString::new(dir.path().join("file").to_str().expect("plain")).expect("no NUL");
        // SAFETY: the path is a string that outlives the call; the descriptor is new.
        unsafe { OwnedFd::from_raw_fd(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC)) }
    };
    let for_reading = Memory::from_fd(open(libc::O_RDONLY)).expect("a file");
    assert!(!for_reading.is_sealed());
    assert!(matches!(for_reading.map_mut(..), Err(Error::ReadOnly { .. })));
    assert_eq!(for_reading.map(10..).expect("mapped").len(), 40);
    let for_both = Memory::from_fd(open(libc::O_RDWR)).expect("a file");
    for_both.grow(60).expect("there is room");
    assert_eq!(for_both.map_mut(..).expect("mapped").len(), 60);
    assert_eq!(for_both.size().expect("its size"), 60);
    for flags in [libc::O_WRONLY, libc::O_PATH] {
        let error = Memory::from_fd(open(flags)).expect_err("it cannot be read").to_string();
        assert!(error.contains("was not opened for reading"), "{error}");
    }
    // As a descriptor is that was inherited.
    let inherited = open(libc::O_RDONLY);
    // SAFETY: the calls take no pointers.
    unsafe {
        assert_eq!(libc::fcntl(inherited.as_raw_fd(), libc::F_SETFD, 0), 0);
        let memory = Memory::from_fd(inherited).expect("a file");
        let flags = libc::fcntl(memory.as_fd().as_raw_fd(), libc::F_GETFD);
        assert_eq!(flags, libc::FD_CLOEXEC, "programs that are executed do not get it");
    }
    let (socket, _) = UnixStream::pair().expect("sockets");
    let directory = File::open(dir.path()).expect("the directory");
    for other in [OwnedFd::from(socket), directory.into()] {
        let error = Memory::from_fd(other).expect_err("it is no file").to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
}
