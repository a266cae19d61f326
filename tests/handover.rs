//! Objects without a name, and objects that are handed over as descriptors: what is sent is what is opened, everything else is
//! a clean error, and no descriptor is left behind.
#![allow(missing_docs, unsafe_code)]

mod common;
#[path = "common/random.rs"]
mod random;

use common::{Dir, role, say, spawn, times};
use memlane::{
    ChannelOptions, Client, Error, LockError, Mutex, Name, Observer, Options, Origin, Persistence, Receiver, Region,
    Segment, Sender, Server, ServiceOptions, Shareable, SharedMemory, Untyped, gc, held_locks, list, remove, retire,
};
use random::Random;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Shareable)]
#[repr(C)]
struct Shared {
    value: Mutex<u64>,
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "descriptors" => descriptors(),
        "no descriptor left" => no_descriptor_left(),
        "interrupted" => interrupted(),
        "fork" => fork(),
        other => panic!("no role {other}"),
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    for socket in [&ours, &theirs] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        socket.set_write_timeout(Some(PATIENCE)).expect("a time");
    }
    (ours, theirs)
}

fn anonymous() -> Name {
    Name::anonymous("cam").expect("a label")
}

fn create(options: &Options) -> Segment<Shared> {
    Segment::create(anonymous(), (), options, |_| ()).expect("a fresh object")
}

/// Sends `send`, and what the other side gets.
fn hand_over(send: impl FnOnce(&UnixStream) -> Result<(), Error>) -> Name {
    let (ours, theirs) = pair();
    send(&ours).expect("there is room");
    Name::receive_from(&theirs).expect("it was sent")
}

/// What a message is, as docs/DESIGN.md draws it.
fn message(id: u128, label: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 232];
    bytes[..8].copy_from_slice(b"memlane>");
    bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    bytes[12..16].copy_from_slice(&(label.len() as u32).to_ne_bytes());
    bytes[16..32].copy_from_slice(&id.to_ne_bytes());
    bytes[32..32 + label.len()].copy_from_slice(label);
    bytes
}

/// Whether the bytes are a message, as docs/DESIGN.md draws it, about whatever object.
fn is_label_of(bytes: &[u8]) -> bool {
    let len = u32::from_ne_bytes(bytes[12..16].try_into().expect("four bytes")) as usize;
    let fixed = bytes.starts_with(b"memlane>") && bytes[8..12] == 1_u32.to_ne_bytes() && (1..=200).contains(&len);
    let (label, rest) = bytes[32..].split_at(if fixed { len } else { 0 });
    let character = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    fixed && label.iter().all(character) && label != b"." && label != b".." && rest.iter().all(|byte| *byte == 0)
}

/// Sends bytes with descriptors, as anybody could.
fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) {
    let mut control = [0_u64; 64];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`; the control data has room for all descriptors, and is aligned; everything
    // outlives the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        if !descriptors.is_empty() {
            let len = size_of_val(descriptors) as u32;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(len) as usize;
            assert!(message.msg_controllen <= size_of_val(&control));
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
            libc::CMSG_DATA(header).cast::<RawFd>().copy_from_nonoverlapping(descriptors.as_ptr(), descriptors.len());
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    assert_eq!(usize::try_from(sent).ok(), Some(bytes.len()));
}

/// A descriptor of the object that was sent, as whoever receives it in another way has it.
fn descriptor_of(send: impl FnOnce(&UnixStream) -> Result<(), Error>) -> OwnedFd {
    let (ours, theirs) = pair();
    send(&ours).expect("there is room");
    let (mut bytes, mut control) = ([0_u8; 232], [0_u64; 8]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as in `send`; the one descriptor that comes is ours.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        assert_eq!(libc::recvmsg(theirs.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC), 232);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
    }
}

/// A memfd with these bytes.
fn memory(bytes: &[u8], mode: u32, seals: libc::c_int) -> File {
    // SAFETY: the label is a string that ends; the descriptor is ours.
    let file =
        unsafe { File::from_raw_fd(libc::memfd_create(c"raw".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)) };
    file.write_all_at(bytes, 0).expect("memory");
    file.set_permissions(fs::Permissions::from_mode(mode)).expect("ours to change");
    // SAFETY: the call takes no pointers.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }, 0);
    file
}

const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

fn bytes_of(descriptor: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(descriptor).read_to_end(&mut bytes).expect("memory");
    bytes
}

#[track_caller]
fn assert_hand_over<T>(result: Result<T, Error>, expected: ErrorKind, parts: &[&str]) {
    let error = result.map(drop).expect_err("it cannot be handed over");
    let text = error.to_string();
    assert!(matches!(error, Error::HandOver { kind, .. } if kind == expected), "{error:?}");
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn memory_is_handed_over() {
    let mut ours = SharedMemory::create(anonymous(), 100, &Options::new()).expect("fresh").map_mut().expect("mapped");
    assert_eq!((ours.origin(), ours.name().as_str(), ours.name().directory()), (Origin::Created, "cam", None));
    ours.write_at(0, b"hello").expect("inside");
    let name = hand_over(|socket| ours.send_over(socket));
    assert_eq!(&name, ours.name());
    let theirs = SharedMemory::open(&name).expect("it was sent");
    assert_eq!((theirs.id(), theirs.origin(), theirs.size()), (ours.id(), Origin::Opened, 100));
    let again = hand_over(|socket| theirs.send_over(socket));
    let mut copy = [0; 5];
    Region::open(again).expect("it was sent on").read_at(0, &mut copy).expect("inside");
    assert_eq!(&copy, b"hello");
    theirs.map_mut().expect("mapped").write_at(0, b"HELLO").expect("inside");
    ours.read_at(0, &mut copy).expect("inside");
    assert_eq!(&copy, b"HELLO");
}

#[test]
fn a_segment_is_handed_over_with_its_type_and_its_locks() {
    let ours = create(&Options::new());
    let name = hand_over(|socket| ours.region().send_over(socket));
    let theirs = Segment::<Shared>::open(&name).expect("it was sent");
    let held = theirs.value.lock(&theirs).expect("free").or_repair(|_| ());
    assert!(matches!(ours.value.try_lock(&ours), Err(LockError::AlreadyLocked { .. })), "one lock, one thread");
    std::thread::scope(|scope| {
        let other = scope.spawn(|| ours.value.try_lock(&ours).map(drop));
        let error = other.join().expect("no panic").expect_err("it is held");
        assert!(matches!(error, LockError::TimedOut { holder: Some(who), .. } if who.pid == std::process::id()));
    });
    assert_eq!(held_locks(&name).expect("sound")[0].lock, "value");
    drop(held);
    let error = Segment::<u64>::open(&name).expect_err("of another type");
    assert!(matches!(error, Error::TypeMismatch { .. }), "{error:?}");
    assert!(ours.region().is_alive(theirs.region().owner()));
    let owner = theirs.region().owner();
    drop(theirs);
    assert!(!ours.region().is_alive(owner));
}

#[test]
fn channels_and_services_are_handed_over() {
    let options = ChannelOptions::new().max_message(100).senders(2);
    let sender = Sender::<[u8]>::create(anonymous(), &options).expect("a fresh channel");
    let name = hand_over(|socket| sender.send_over(socket));
    let mut receiver = Receiver::<[u8]>::open(&name).expect("it was sent");
    let untyped = Sender::<Untyped>::open(hand_over(|socket| receiver.send_over(socket))).expect("a second lane");
    sender.send_copy(b"one").expect("there is room");
    assert_eq!(&receiver.recv().expect("a message")[..], b"one");
    assert_eq!(Observer::open(&name).expect("it is there").id(), sender.id());
    assert_eq!(untyped.id(), sender.id());
    drop(untyped);
    drop(sender);
    assert!(receiver.recv_timeout(PATIENCE).is_err(), "its sender is gone");

    let mut server = Server::<u64, u64>::create(anonymous(), &ServiceOptions::new()).expect("a fresh service");
    let mut client = Client::<u64, u64>::open(hand_over(|socket| server.send_over(socket))).expect("it was sent");
    let second = Client::<u64, u64>::open(hand_over(|socket| client.send_over(socket))).expect("it was sent on");
    let mut request = client.loan(()).expect("a buffer");
    *request = 6;
    let call = client.call(request).expect("a server");
    let request = server.recv_timeout(PATIENCE).expect("a request");
    let mut answer = request.loan(()).expect("a buffer");
    *answer = *request * 7;
    answer.try_send().expect("the client waits");
    assert_eq!(*client.answer(call, Some(PATIENCE)).expect("an answer"), 42);
    drop(second);
}

#[test]
fn an_object_in_a_directory_is_handed_over_and_keeps_its_name() {
    let dir = Dir::new();
    let ours: Segment<Shared> = Segment::create(dir.name("cam"), (), &Options::new(), |_| ()).expect("a fresh object");
    let name = hand_over(|socket| ours.region().send_over(socket));
    let theirs = Segment::<Shared>::open(&name).expect("it was sent");
    assert_eq!(theirs.region().id(), ours.region().id());
    let error = theirs.region().remove_name().expect_err("where it is, is not known");
    assert!(matches!(error, Error::Unnamed { .. }), "{error:?}");
    // The last user, who does not know the directory, leaves the name to the next one.
    drop(ours);
    Segment::<Shared>::open(&name).expect("it is used");
    drop(theirs);
    assert_eq!(dir.files(), ["cam"]);
    assert!(matches!(Segment::<Shared>::open(&name), Err(Error::NotFound { .. })));
    assert_eq!(gc(Some(dir.path()), false).expect("the directory").len(), 1);

    // Whoever replaces the name replaces nothing for those who have the descriptor.
    let ours = SharedMemory::create(dir.name("cam"), 10, &Options::new()).expect("a fresh object");
    let name = hand_over(|socket| ours.send_over(socket));
    remove(dir.name("cam")).expect("it is there");
    let other = SharedMemory::create(dir.name("cam"), 10, &Options::new()).expect("another");
    assert_hand_over(
        SharedMemory::open(&name),
        ErrorKind::PermissionDenied,
        &["'cam'", "no name any more", "anonymous"],
    );
    assert_ne!(other.id(), ours.id());
}

#[test]
fn what_is_done_to_a_name_has_an_answer() {
    let ours = create(&Options::new());
    let unnamed = |result: Result<(), Error>| {
        let error = result.expect_err("it is in no directory");
        assert!(matches!(&error, Error::Unnamed { name, .. } if name == "cam"), "{error:?}");
    };
    unnamed(Segment::<Shared>::open(anonymous()).map(drop));
    unnamed(Segment::<Shared>::wait_for(anonymous(), None).map(drop));
    unnamed(Segment::<Shared>::open_or_create(anonymous(), (), &Options::new(), |_| ()).map(drop));
    unnamed(Observer::open(anonymous()).map(drop));
    unnamed(retire(anonymous()));
    unnamed(remove(anonymous()));
    let name = ours.region().name().clone();
    unnamed(Segment::<Shared>::create(&name, (), &Options::new(), |_| ()).map(drop));
    unnamed(remove(&name));
    ours.region().remove_name().expect("it has none");
    assert_ne!(create(&Options::new()).region().name(), &name, "another object");
    Segment::<Shared>::wait_for(&name, None).expect("it is there");
    Segment::<Shared>::open_or_create(&name, (), &Options::new(), |_| ()).expect("it is there");
    let dir = Dir::new();
    let named = name.clone().in_directory(dir.path());
    assert!(named != name && matches!(SharedMemory::open(named), Err(Error::NotFound { .. })));
    assert!(list(Some(dir.path())).expect("the directory").is_empty());

    retire(&name).expect("it is there");
    assert!(matches!(ours.value.lock(&ours), Err(LockError::Retired { .. })));
    let gone = |result: Result<Segment<Shared>, Error>| assert!(matches!(result, Err(Error::NotFound { .. })));
    gone(Segment::open(&name));
    gone(Segment::wait_for(&name, None));
    unnamed(Segment::<Shared>::open_or_create(&name, (), &Options::new(), |_| ()).map(drop));
}

#[test]
fn who_comes_when_nobody_uses_it_any_more_gets_it_only_if_it_is_kept() {
    for (persistence, there) in [(Persistence::UntilLastUser, false), (Persistence::Keep, true)] {
        let ours = create(&Options::new().persistence(persistence));
        *ours.value.lock(&ours).expect("free").or_repair(|_| ()) = 7;
        let name = hand_over(|socket| ours.region().send_over(socket));
        drop(ours);
        match Segment::<Shared>::open(&name) {
            Ok(theirs) => {
                assert!(there);
                assert_eq!(*theirs.value.lock(&theirs).expect("free").or_repair(|_| ()), 7);
            }
            Err(error) => assert!(!there && matches!(error, Error::NotFound { .. }), "{error:?}"),
        }
    }
}

#[test]
fn nobody_can_change_the_length_of_an_object_without_a_name() {
    let ours = SharedMemory::create(anonymous(), 100, &Options::new()).expect("a fresh object");
    let received = descriptor_of(|socket| ours.send_over(socket));
    let path = format!("/proc/self/fd/{}", received.as_raw_fd());
    let file = File::options().read(true).write(true).open(path).expect("of this user");
    let meta = file.metadata().expect("memory");
    assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o600, 0));
    for len in [0, meta.len() - 1, meta.len() + 1] {
        assert_eq!(file.set_len(len).expect_err("it is sealed").kind(), ErrorKind::PermissionDenied, "{len}");
    }
    assert!(meta.blocks() * 512 >= meta.len(), "it is reserved");
    let no_further = {
        // SAFETY: the call takes no pointers.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_FUTURE_WRITE) };
        (done, std::io::Error::last_os_error().kind())
    };
    assert_eq!(no_further, (-1, ErrorKind::PermissionDenied), "nobody can seal it against writing");
    let huge = SharedMemory::create(anonymous(), 1 << 50, &Options::new()).expect_err("more than there is");
    assert!(
        matches!(&huge, Error::NoSpace { place, .. } if place.to_str() == Some("the memory of this machine")),
        "{huge}"
    );
    let sparse = SharedMemory::create(anonymous(), 1 << 40, &Options::new().sparse()).expect("little of it is used");
    assert_eq!(SharedMemory::open(sparse.name()).expect("it is there").size(), 1 << 40);
}

#[test]
fn an_object_without_a_name_has_the_mode_that_was_asked_for() {
    for mode in [0o600, 0o640, 0o700, 0o755] {
        let ours = SharedMemory::create(anonymous(), 100, &Options::new().mode(mode)).expect("a fresh object");
        let received = descriptor_of(|socket| ours.send_over(socket));
        assert_eq!(File::from(received).metadata().expect("memory").mode() & 0o7777, mode);
    }
}

#[test]
fn an_object_on_a_disk_is_not_sent() {
    let (ours, theirs) = pair();
    let path = std::env::temp_dir().join(Name::unique("memlane-test").expect("a name").as_str());
    fs::create_dir(&path).expect("a directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("ours");
    let object = SharedMemory::create(Name::new("cam").expect("a name").in_directory(&path), 10, &Options::new());
    let in_memory = memlane::space(Some(&path)).expect("the directory").in_memory;
    match object {
        Ok(object) if !in_memory => {
            assert_hand_over(object.send_over(&ours), ErrorKind::Unsupported, &["'cam'", "memory", "anonymous"]);
        }
        // Not `eprintln`: the test harness would swallow it.
        other => drop(writeln!(std::io::stderr(), "SKIPPED, no directory on a disk: {in_memory}, {other:?}")),
    }
    fs::remove_dir_all(&path).expect("it is there");
    drop(theirs);
}

#[test]
fn a_descriptor_that_leads_to_no_object_is_refused() {
    let ours = SharedMemory::create(anonymous(), 100, &Options::new()).expect("a fresh object");
    let sound = bytes_of(descriptor_of(|socket| ours.send_over(socket)));
    let from = |file: File| Name::from_fd("cam", file.into());
    from(memory(&sound, 0o600, SEALS)).expect("as memlane makes them");

    let (reader, _writer) = std::io::pipe().expect("a pipe");
    assert_hand_over(Name::from_fd("cam", reader.into()), ErrorKind::Unsupported, &["'cam'", "no memory"]);
    assert_hand_over(Name::from_fd("cam", pair().0.into()), ErrorKind::Unsupported, &["no memory"]);
    for path in ["/dev/null", "/proc/self/stat"] {
        assert_hand_over(from(File::open(path).expect("it is there")), ErrorKind::Unsupported, &["no memory"]);
    }
    let untrusted = ErrorKind::PermissionDenied;
    assert_hand_over(from(memory(&sound, 0o602, SEALS)), untrusted, &["mode 0602", "share a directory"]);
    assert_hand_over(from(memory(&sound, 0o600, 0)), untrusted, &["sealed", "anonymous"]);
    assert_hand_over(from(memory(&sound, 0o600, libc::F_SEAL_GROW)), untrusted, &["sealed"]);
    let strange = memory(&sound, 0o600, SEALS);
    let path = format!("/proc/self/fd/{}", strange.as_raw_fd());
    match chown(path, Some(65_534), None) {
        Ok(()) => assert_hand_over(from(strange), untrusted, &["user 65534", "share a directory with a group"]),
        // Not `eprintln`: the test harness would swallow it.
        Err(error) => drop(writeln!(std::io::stderr(), "SKIPPED, only root can give files away: {error}")),
    }
    let dir = Dir::new();
    let path = dir.path().join("cam");
    assert_hand_over(from(File::open(dir.path()).expect("ours")), ErrorKind::Unsupported, &["no memory"]);
    fs::write(&path, &sound).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    from(File::open(&path).expect("ours")).expect("an object in a directory");
    fs::hard_link(&path, dir.path().join("second")).expect("a second name");
    assert_hand_over(from(File::open(&path).expect("ours")), untrusted, &["further names"]);

    assert!(matches!(from(memory(&[0; 20_000], 0o600, SEALS)), Err(Error::Foreign { .. })));
    assert!(matches!(from(memory(&sound[..sound.len() - 1], 0o600, SEALS)), Err(Error::Corrupt { field: "size", .. })));
    assert!(matches!(Name::from_fd("no/name", memory(&sound, 0o600, SEALS).into()), Err(Error::InvalidName { .. })));
    // It was another one when the name was made.
    let file = memory(&sound, 0o600, SEALS);
    let name = from(file.try_clone().expect("a descriptor")).expect("as memlane makes them");
    file.write_all_at(&[1; 16], 24).expect("inside");
    assert!(matches!(SharedMemory::open(name), Err(Error::Corrupt { field: "id", .. })));
}

#[test]
fn the_flags_of_what_was_received_do_not_matter() {
    let ours = create(&Options::new().persistence(Persistence::Keep));
    let received = descriptor_of(|socket| ours.region().send_over(socket));
    let path = format!("/proc/self/fd/{}", received.as_raw_fd());
    let append = File::options().append(true).open(path).expect("of this user");
    // It cannot be read, and whoever writes to it would write at its end.
    let name = Name::from_fd("cam", append.into()).expect("the object");
    retire(name).expect("it is there");
    assert!(ours.region().is_retired());
}

#[test]
fn what_is_sent_is_an_opening_of_its_own() {
    let ours = create(&Options::new());
    let received = descriptor_of(|socket| ours.region().send_over(socket));
    // Flags belong to the opening: a write to one that appends would go to its end.
    // SAFETY: the calls take no pointers.
    unsafe {
        assert_eq!(libc::fcntl(received.as_raw_fd(), libc::F_GETFL) & libc::O_ACCMODE, libc::O_RDONLY);
        assert_eq!(libc::fcntl(received.as_raw_fd(), libc::F_SETFL, libc::O_APPEND), 0);
    }
    let name = Name::from_fd("cam", received).expect("the object");
    assert!(Segment::<Shared>::open(&name).is_ok());
    retire(ours.region().name()).expect("it is there");
    assert!(ours.region().is_retired());
}

#[test]
fn what_a_socket_brings_is_checked_and_no_descriptor_is_left() {
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "descriptors", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

/// In a process of its own: nobody else opens or closes descriptors in it.
fn descriptors() {
    let ours = SharedMemory::create(anonymous(), 100, &Options::new()).expect("a fresh object");
    let file = descriptor_of(|socket| ours.send_over(socket));
    let (one, id) = ([file.as_raw_fd()], ours.id());
    let sound = message(id, b"cam");
    let open = || fs::read_dir("/proc/self/fd").expect("the list").count();
    let before = open();
    let receive = |bytes: &[u8], descriptors: &[RawFd]| {
        let (ours, theirs) = pair();
        send(&ours, bytes, descriptors);
        drop(ours);
        Name::receive_from(&theirs)
    };
    receive(&sound, &one).expect("what `send_over` sends");
    assert_eq!(open(), before);
    let no_object = |bytes: &[u8]| {
        assert_hand_over(receive(bytes, &one), ErrorKind::InvalidData, &["no object", "send_over", "receive_from"]);
    };
    for place in [0, 7, 8, 11, 13, 14, 15, 32 + 3, 231] {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x80;
        no_object(&bytes);
    }
    for label in [&b""[..], b".", b"a/b", b"\xff", b"a\0b"] {
        no_object(&message(id, label));
    }
    no_object(&[0xff; 232]);
    for len in [1, 8, 231] {
        assert_hand_over(receive(&sound[..len], &one), ErrorKind::UnexpectedEof, &["closed the socket", "see why"]);
    }
    let (here, there) = pair();
    drop(here);
    assert_hand_over(Name::receive_from(&there), ErrorKind::UnexpectedEof, &["closed the socket"]);
    assert_hand_over(ours.send_over(&there), ErrorKind::BrokenPipe, &["'cam'", "closed it"]);
    assert_eq!(open(), before + 1);
    drop(there);

    let wrong = ErrorKind::InvalidData;
    assert_hand_over(receive(&sound, &[]), wrong, &["'cam'", "without a descriptor"]);
    for count in [2, 3, 30, 100] {
        assert_hand_over(receive(&sound, &vec![one[0]; count]), wrong, &["several descriptors"]);
    }
    assert_hand_over(receive(&message(id ^ 1, b"cam"), &one), wrong, &["'cam'", "another object"]);
    let pid = format!("pid {}", std::process::id());
    let (pipe, _) = std::io::pipe().expect("a pipe");
    let no_memory = receive(&sound, &[pipe.as_raw_fd()]);
    assert_hand_over(no_memory, ErrorKind::Unsupported, &["'cam'", "no memory", &pid]);
    drop(pipe);
    assert_eq!(open(), before);

    // Any bytes, mostly almost right ones, with any number of descriptors.
    let mut random = Random::new();
    let mut taken = 0;
    for _ in 0..times(3_000, 300_000) {
        let mut bytes =
            if random.below(2) == 0 { sound.clone() } else { message(id, &b"a-label"[..random.below(8) as usize]) };
        for _ in 0..random.below(3) {
            let place = [random.below(48), random.below(232)][random.below(2) as usize] as usize;
            bytes[place] = [0, 1, 4, b'a', b'.', 200, 201, random.next() as u8][random.below(8) as usize];
        }
        let descriptors = vec![one[0]; [1, 1, 1, 0, 2][random.below(5) as usize]];
        let right = is_label_of(&bytes) && bytes[16..32] == sound[16..32] && descriptors.len() == 1;
        match receive(&bytes, &descriptors) {
            Ok(name) => assert!(right && name.as_str().as_bytes() == &bytes[32..32 + name.as_str().len()], "{bytes:?}"),
            Err(Error::HandOver { kind: ErrorKind::InvalidData, .. }) => assert!(!right, "{bytes:?}"),
            Err(error) => panic!("{error:?} for {bytes:?}"),
        }
        taken += u64::from(right);
    }
    assert!(taken > 100, "{taken} of the messages were right");
    assert_eq!(open(), before);

    // In pieces, with a descriptor in each; then whole, in pieces.
    let (here, there) = pair();
    send(&here, &sound[..100], &one);
    send(&here, &sound[100..], &one);
    assert_hand_over(Name::receive_from(&there), wrong, &["several descriptors"]);
    send(&here, &sound[..1], &one);
    send(&here, &sound[1..], &[]);
    send(&here, b"rest", &[]);
    Name::receive_from(&there).expect("what `send_over` sends");
    let mut rest = [0; 4];
    (&there).read_exact(&mut rest).expect("what follows is left");
    assert_eq!(&rest, b"rest");

    // The time of the socket, and none.
    let timed_out = |socket: &UnixStream, least: Duration| {
        let start = Instant::now();
        assert_hand_over(Name::receive_from(socket), ErrorKind::TimedOut, &["time is over", "longer"]);
        let waited = start.elapsed();
        assert!(waited >= least && waited < least + PATIENCE, "{waited:?}");
    };
    there.set_read_timeout(Some(Duration::from_millis(120))).expect("a time");
    timed_out(&there, Duration::from_millis(120));
    send(&here, &sound[..100], &one);
    timed_out(&there, Duration::from_millis(120));
    there.set_nonblocking(true).expect("it is a socket");
    timed_out(&there, Duration::ZERO);
    here.set_nonblocking(true).expect("it is a socket");
    let full = loop {
        if let Err(error) = ours.send_over(&here) {
            break error;
        }
    };
    assert!(matches!(full, Error::HandOver { kind: ErrorKind::TimedOut, .. }), "{full:?}");
    here.set_nonblocking(false).expect("it is a socket");
    here.set_write_timeout(Some(Duration::from_millis(60))).expect("a time");
    assert_hand_over(ours.send_over(&here), ErrorKind::TimedOut, &["'cam'", "time is over"]);
    drop((here, there));
    assert_eq!(open(), before, "also of what was under way");
    say("right");
}

#[test]
fn a_process_without_a_descriptor_left_says_so() {
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "no descriptor left", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

fn no_descriptor_left() {
    let ours = SharedMemory::create(anonymous(), 100, &Options::new()).expect("a fresh object");
    let (here, there) = pair();
    ours.send_over(&here).expect("there is room");
    // SAFETY: the limit is valid for the duration of the call.
    unsafe {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert_hand_over(Name::receive_from(&there), ErrorKind::InvalidData, &["no descriptor is left", "ulimit -n"]);
    // For one of two there is room.
    let one = files.pop().expect("a file");
    send(&here, &message(ours.id(), b"cam"), &[one.as_raw_fd(); 2]);
    drop(one);
    assert_hand_over(Name::receive_from(&there), ErrorKind::InvalidData, &["several descriptors"]);
    // That message was read whole, so the next one begins where it ended.
    files.truncate(files.len() - 4);
    ours.send_over(&here).expect("there is room");
    SharedMemory::open(Name::receive_from(&there).expect("there are some")).expect("the object");
    say("right");
}

#[test]
fn a_wait_for_an_object_is_interrupted() {
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "interrupted", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

fn interrupted() {
    let (_here, there) = UnixStream::pair().expect("a pair of sockets");
    memlane::interrupt_waits(|| true);
    let start = Instant::now();
    let error = Name::receive_from(&there).expect_err("nothing comes");
    assert!(matches!(error, Error::Interrupted { .. }) && start.elapsed() < PATIENCE, "{error:?}");
    say("right");
}

#[test]
fn a_forked_child_sends_nothing_and_a_program_that_is_executed_inherits_nothing() {
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "fork", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

fn fork() {
    let ours = create(&Options::new());
    let name = hand_over(|socket| ours.region().send_over(socket));
    let theirs = Segment::<Shared>::open(&name).expect("it was sent");
    let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().expect("a list");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("/proc/") && !listed.contains("memfd"), "{listed}");
    let (here, there) = pair();
    // SAFETY: the child uses only what fork handlers keep usable, memory and this library, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = matches!(ours.region().send_over(&here), Err(Error::Forked { .. }));
        let again = Segment::<Shared>::open(&name).and_then(|again| again.region().send_over(&here));
        // SAFETY: ends this process at once, without the destructors of what belongs to its parent.
        unsafe { libc::_exit(i32::from(!forked || again.is_err())) };
    }
    let mut status = -1;
    // SAFETY: the child is ours, and the status may be written.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(Name::receive_from(&there).expect("from the child's own opening"), name);
    drop(theirs);
    say("right");
}
