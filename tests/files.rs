//! Files by their paths: made, opened and grown, and what is said where that cannot be.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, ON_THE_HEAP, all, hear, of_mapping, role, say, spawn, spawn_under};
use memlane::{Error, Memory};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "grow" => grow(&arguments[0]),
        "no room" => no_room(),
        "create where others do" => create_where_others_do(),
        "grow nothing" => grow_nothing(),
        "grow too far" => grow_too_far(&arguments[0]),
        other => panic!("no role {other}"),
    }
}

/// Not a multiple of a page.
const SIZE: usize = 399_996;

fn path(dir: &Dir) -> PathBuf {
    dir.path().join("file")
}

#[test]
fn a_file_is_made_once_and_opened_if_it_is_there() {
    let dir = Dir::new();
    let kind = |result: Result<Memory, Error>| match result {
        Err(Error::File { kind, path: named, .. }) if named == path(&dir) => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(Memory::open(path(&dir))), ErrorKind::NotFound);
    let file = Memory::create(path(&dir), 10).expect("a new file");
    file.map_mut(..).expect("mapped").write_at(0, b"0123456789").expect("inside");
    assert_eq!(kind(Memory::create(path(&dir), 20)), ErrorKind::AlreadyExists);
    assert_eq!(all(&Memory::open(path(&dir)).expect("it is there").map(..).expect("mapped")), b"0123456789");
    if !ON_THE_HEAP {
        assert_eq!(fs::metadata(path(&dir)).expect("it is there").permissions().mode() & 0o7777, 0o600);
        assert_eq!(dir.files(), ["file"]);
    }
}

#[test]
fn what_is_no_file_is_refused_with_its_path() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    fs::write(path(&dir), b"there").expect("a file");
    symlink(path(&dir), dir.path().join("link")).expect("a link");
    fs::create_dir(dir.path().join("directory")).expect("a directory");
    symlink(dir.path().join("directory"), dir.path().join("other")).expect("a link");
    let pipe = Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    assert!(pipe.is_ok_and(|status| status.success()));
    for (name, text) in [
        ("link", "symbolic link"),
        ("directory", "is a directory"),
        ("pipe", "no regular file"),
        ("none/file", "does not exist"),
        ("file/file", "cannot be used"),
        ("nul\0", "cannot be used"),
        ("..", "is a directory"),
    ] {
        let path = dir.path().join(name);
        let error = Memory::open(&path).expect_err(name);
        assert!(matches!(&error, Error::File { path: named, .. } if *named == path), "{error:?}");
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(Memory::create(&path, 10).is_err(), "{name}");
        assert!(Memory::open_read_only(&path).is_err(), "{name}");
    }
    assert!(matches!(Memory::open(""), Err(Error::File { .. })));
    // Below a link to a directory, and with a name that is no text.
    use std::os::unix::ffi::OsStrExt;
    let odd = dir.path().join("other").join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    drop(Memory::create(&odd, 10).expect("a new file"));
    assert_eq!(Memory::open(&odd).expect("it is there").size().expect("its size"), 10);
    // SAFETY: the call takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        fs::set_permissions(path(&dir), PermissionsExt::from_mode(0o400)).expect("it is ours");
        assert!(Memory::open(path(&dir)).expect_err("for reading only").to_string().contains("reading only"));
    }
    // Relative to where this program runs.
    assert_eq!(Memory::open_read_only("Cargo.toml").expect("it is there").size().expect("its size"), {
        fs::metadata("Cargo.toml").expect("it is there").len()
    });
}

#[test]
fn a_directory_of_others_is_refused_with_what_helps() {
    // SAFETY: the call takes nothing.
    if ON_THE_HEAP || unsafe { libc::geteuid() } != 0 {
        let _ = writeln!(io::stderr(), "SKIPPED: only root can become somebody else");
        return;
    }
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "create where others do", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

fn create_where_others_do() {
    let directory = PathBuf::from(std::env::var_os("MEMLANE_DIR").expect("it is set"));
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("ours");
    // SAFETY: the call takes no pointers.
    assert_eq!(unsafe { libc::seteuid(65_534) }, 0);
    let path = directory.join("file");
    let error = Memory::create(&path, 10).expect_err("the directory is another's");
    assert!(matches!(error, Error::File { kind: ErrorKind::PermissionDenied, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().expect("plain")) && !text.contains("MEMLANE_DIR"), "{text}");
    say("right");
}

#[test]
fn a_file_that_was_cut_off_is_an_error_and_not_a_sigbus() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    let file = Memory::create(path(&dir), 20_000).expect("a new file");
    let other = OpenOptions::new().write(true).open(path(&dir)).expect("it is there");
    other.set_len(5000).expect("cut off");
    assert!(matches!(file.map(..5001), Err(Error::NoSuchRange { size: 5000, end: 5001, .. })));
    assert_eq!(all(&file.map(..).expect("what is left")), [0; 5000]);
}

#[test]
fn a_file_grows_and_never_gets_shorter() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    let file = Memory::create(path(&dir), 10).expect("a new file");
    assert!(blocks(&path(&dir)) > 0, "it is reserved");
    let before = file.map(..).expect("mapped");
    file.grow(SIZE as u64).expect("there is room");
    file.grow(5).expect("it is as long");
    assert!(blocks(&path(&dir)) >= SIZE as u64, "it is reserved");
    assert_eq!((file.size().expect("its size"), before.len()), (SIZE as u64, 10));
    assert_eq!(all(&file.map(..).expect("mapped")), [0; SIZE]);

    // Two that grow it at the same time, to and fro.
    let file_path = path(&dir);
    let mut children: Vec<_> =
        (0..2).map(|_| spawn(dir.path(), "grow", &[file_path.to_str().expect("plain")])).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    for round in 1..50_u64 {
        for (number, child) in children.iter_mut().enumerate() {
            child.say(&(1_000_000 + round * 1000 + (round + number as u64) % 2 * 500).to_string());
        }
        children.iter_mut().for_each(|child| child.expect("grown"));
        assert_eq!(file.size().expect("its size"), 1_000_000 + round * 1000 + 500);
    }
}

/// What a file has on its file system, in bytes.
fn blocks(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).expect("it is there")) * 512
}

/// Where this program is built is a disk, most often.
#[test]
fn a_file_with_holes_is_reserved_when_it_is_to_be_written_and_not_before() {
    if ON_THE_HEAP {
        return;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(memlane::Name::unique("holes").expect("a name").as_str());
    File::create(&path).and_then(|file| file.set_len(SIZE as u64)).expect("a file with a hole");
    let file = Memory::open(&path).expect("it is there");
    let read = file.map(5000..).expect("mapped");
    let before = (blocks(&path), of_mapping(read.as_ptr(), "Rss:"));
    let mut written = file.map_mut(SIZE as u64 / 2..).expect("mapped");
    let after = blocks(&path);
    written.write_at(1, &[7; 100]).expect("inside");
    written.flush(..5000).expect("on the disk");
    let mut bytes = [0; 102];
    read.read_at(SIZE / 2 - 5000, &mut bytes).expect("inside");
    fs::remove_file(&path).expect("it is there");
    assert_eq!((&bytes[..1], &bytes[1..101], &bytes[101..]), (&[0][..], &[7; 100][..], &[0][..]));
    assert!(after >= SIZE as u64 / 2, "{after}");
    if before.0 == 0 {
        assert_eq!(before.1, 0, "what is on a disk was read");
    } else {
        let _ =
            writeln!(io::stderr(), "SKIPPED: this program is built in memory, so files on a disk are not looked at");
    }
}

fn grow(path: &str) {
    let file = Memory::open(path).expect("it is there");
    say("ready");
    while let Some(size) = hear() {
        let size = size.parse().expect("a size");
        file.grow(size).expect("there is room");
        assert!(file.size().expect("its size") >= size);
        say("grown");
    }
}

#[test]
fn a_full_file_system_is_an_error_and_leaves_nothing() {
    if ON_THE_HEAP {
        return;
    }
    if let Some(wrapper) = common::small_file_system("size=1m") {
        let dir = Dir::new();
        let mut child = spawn_under(&wrapper, dir.path(), "no room", &[]);
        child.expect("right");
        assert!(child.finish().success());
    }
}

#[test]
fn a_file_system_that_cannot_reserve_is_named() {
    if ON_THE_HEAP {
        return;
    }
    // As `small_file_system` does, but of a kind without `fallocate`.
    const SCRIPT: &str = r#"mount -t ramfs -o mode=0700 ramfs "$MEMLANE_DIR" && exec "$@""#;
    let dir = Dir::new();
    let wrapper = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh"];
    let trial = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").env("MEMLANE_DIR", dir.path()).output();
    if !trial.is_ok_and(|trial| trial.status.success()) {
        let _ = writeln!(io::stderr(), "SKIPPED: only root can mount a ramfs");
        return;
    }
    let mut child = spawn_under(&wrapper, dir.path(), "grow nothing", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

fn grow_nothing() {
    let directory = PathBuf::from(std::env::var_os("MEMLANE_DIR").expect("it is set"));
    fs::write(directory.join("file"), "hello").expect("a file");
    let file = Memory::open(directory.join("file")).expect("it is there");
    let error = file.grow(10_000).expect_err("its file system reserves nothing");
    assert!(matches!(error, Error::File { kind: ErrorKind::Unsupported, .. }), "{error:?}");
    assert_eq!(file.size().expect("its size"), 5);
    say("right");
}

fn no_room() {
    let directory = PathBuf::from(std::env::var_os("MEMLANE_DIR").expect("it is set"));
    let path = directory.join("file");
    let is_no_space = |error: Error| {
        assert!(matches!(&error, Error::NoSpace { place, .. } if *place == directory), "{error:?}");
        assert!(error.to_string().contains(path.to_str().expect("plain")), "{error}");
    };
    is_no_space(Memory::create(&path, 2 << 20).expect_err("it has 1 MiB"));
    assert_eq!(directory.read_dir().expect("the directory").count(), 0);
    let file = Memory::create(&path, 500_000).expect("it fits");
    is_no_space(file.grow(2 << 20).expect_err("it has 1 MiB"));
    assert_eq!(file.size().expect("its size"), 500_000);
    // Holes in a file that another program made, more than there is room for.
    File::create(&path).and_then(|file| file.set_len(2 << 20)).expect("a file with a hole");
    is_no_space(file.map_mut(..).expect_err("a write to it would be a SIGBUS"));
    is_no_space(file.map(..).expect_err("a read of it would be a SIGBUS"));
    is_no_space(file.map_copy(..).expect_err("a read of it would be a SIGBUS"));
    // Of a descriptor it is not known where its file lies: the machine is not to blame.
    let passed = File::options().read(true).write(true).open(&path).expect("it is there");
    let passed = Memory::from_fd(passed.into()).expect("a file");
    for error in [passed.map_mut(..).expect_err("a SIGBUS"), passed.grow(3 << 20).expect_err("it has 1 MiB")] {
        assert!(!error.to_string().contains("of this machine"), "{error}");
    }
    say("right");
}

#[test]
fn a_file_does_not_grow_beyond_what_this_process_may_write() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    let limited = ["sh", "-c", "ulimit -f 200 && exec \"$@\"", "sh"].map(str::to_owned);
    let path = path(&dir);
    Memory::create(&path, 90_000).expect("a new file");
    let mut child = spawn_under(&limited, dir.path(), "grow too far", &[path.to_str().expect("plain")]);
    child.expect("right");
    assert!(child.finish().success());
}

fn grow_too_far(path: &str) {
    let file = Memory::open(path).expect("it is there");
    let passed = Memory::from_fd(File::options().read(true).write(true).open(path).expect("it is there").into());
    for file in [&file, &passed.expect("a file")] {
        file.grow(95_000).expect("it may");
        let error = file.grow(250_000).expect_err("it may not, and is not killed for it");
        assert!(matches!(&error, Error::NoSpace { need: 250_000, .. }), "{error:?}");
        assert!(error.to_string().contains("ulimit -f"), "{error}");
    }
    say("right");
}
