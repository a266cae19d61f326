//! Directories that cannot be trusted, and things under an object's name that are no objects: clean errors that name
//! the object, the cause and the cure; and nothing of somebody else's is ever touched.
#![allow(missing_docs)]

mod common;

use common::{Dir, role, say, spawn_under};
use memlane::{Error, Name, Options, Region, SharedMemory, gc, list, remove, retire, space};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

const STRANGER: u32 = 65_534;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    match role.as_str() {
        "default directory" => default_directory(),
        other => panic!("no role {other}"),
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours to change");
}

/// Gives `path` to somebody else; false, and a reason on stderr, if this user may not do that.
fn give_away(path: &Path) -> bool {
    match chown(path, Some(STRANGER), Some(STRANGER)) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // Not `eprintln`: the test harness would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED, only root can give files away: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Every operation on `directory` is refused, with `parts` in the message.
fn assert_refused(directory: &Path, parts: &[&str]) {
    let name = || Name::new("cam").expect("a name").in_directory(directory);
    let results = [
        SharedMemory::create(name(), 10, &Options::new()).map(drop),
        SharedMemory::open(name()).map(drop),
        SharedMemory::open_or_create(name(), 10, &Options::new()).map(drop),
        Region::open(name()).map(drop),
        remove(name()),
        retire(name()),
        gc(Some(directory), false).map(drop),
        list(Some(directory)).map(drop),
        space(Some(directory)).map(drop),
    ];
    for result in results {
        let error = result.expect_err("it is not to be trusted");
        let text = error.to_string();
        assert!(matches!(&error, Error::Directory { path, .. } if path == directory), "{error:?}");
        let shown = directory.components().as_path().to_string_lossy();
        for part in parts.iter().copied().chain([&*shown]) {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let dir = Dir::new();
    let path = |name: &str| dir.path().join(name);
    assert_refused(&path("missing"), &["does not exist", "make it, or name another with MEMLANE_DIR"]);
    fs::write(path("file"), "").expect("a file");
    assert_refused(&path("file"), &["not a directory", "name one with MEMLANE_DIR"]);

    fs::create_dir(path("real")).expect("a directory");
    set_mode(&path("real"), 0o700);
    symlink(path("real"), path("link")).expect("a link");
    symlink(path("nowhere"), path("dangling")).expect("a link");
    let cure = ["symbolic link", "name the directory itself"];
    assert_refused(&path("link"), &cure);
    assert_refused(&path("dangling"), &cure);
    assert_refused(&path("link/"), &cure);
    assert_refused(&path("link/."), &cure);
    assert_eq!(path("real").read_dir().expect("untouched").count(), 0);
}

#[test]
fn a_directory_that_is_relative_is_refused() {
    assert_refused(Path::new("target"), &["relative", "name it from the root"]);
}

#[test]
fn a_directory_in_which_anybody_may_remove_is_refused_unless_sticky() {
    let dir = Dir::new();
    for mode in [0o777, 0o707, 0o702] {
        set_mode(dir.path(), mode);
        assert_refused(dir.path(), &[&format!("{mode:04o}"), "anybody remove objects", "chmod it to 0700 or 2770"]);
    }
    for mode in [0o1777, 0o2770, 0o755, 0o700] {
        set_mode(dir.path(), mode);
        SharedMemory::create(dir.name("cam"), 10, &Options::new()).expect("nobody else can remove it");
    }
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let dir = Dir::new();
    let path = dir.path().join("theirs");
    fs::create_dir(&path).expect("a directory");
    if give_away(&path) {
        assert_refused(&path, &["belongs to user 65534", "name another one with MEMLANE_DIR"]);
    }
}

/// The default directory, in a `/dev/shm` of its own.
#[test]
fn the_default_directory_is_made_when_missing_and_refused_when_it_is_not_private() {
    let Some(mut wrapper) = common::small_file_system("size=1m") else { return };
    wrapper.extend(["env", "-u", "MEMLANE_DIR"].map(str::to_owned));
    let mut child = spawn_under(&wrapper, Path::new("/dev/shm"), "default directory", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

fn default_directory() {
    assert_eq!(fs::read_dir("/dev/shm").expect("a file system").count(), 0, "it is a new one");
    let object = SharedMemory::create("cam", 10, &Options::new()).expect("the directory is made");
    let directory = object.name().directory().expect("it has one").to_owned();
    assert!(directory.starts_with("/dev/shm") && directory.join("cam").exists(), "{}", directory.display());
    assert_eq!(fs::metadata(&directory).expect("it is there").permissions().mode() & 0o7777, 0o700);
    drop(object);

    for mode in [0o755, 0o770, 0o1777] {
        set_mode(&directory, mode);
        assert_refused(&directory, &[&format!("{mode:04o} lets others in"), "chmod it to 0700"]);
    }
    set_mode(&directory, 0o700);
    if give_away(&directory) {
        assert_refused(&directory, &["belongs to user 65534", "MEMLANE_DIR"]);
    }
    fs::remove_dir(&directory).expect("it is empty");
    fs::create_dir("/dev/shm/elsewhere").expect("a directory");
    symlink("/dev/shm/elsewhere", &directory).expect("a link");
    assert_refused(&directory, &["symbolic link"]);
    fs::remove_file(&directory).expect("the link");
    fs::write(&directory, "").expect("a file");
    assert_refused(&directory, &["not a directory"]);
    say("right");
}

/// Every operation on the name says that it is no object but `what`; it stays as it was.
fn assert_foreign(dir: &Dir, what: &str) {
    let name = || dir.name("cam");
    let id = |path: &Path| {
        let meta = fs::symlink_metadata(path).expect("still there");
        (std::os::unix::fs::MetadataExt::ino(&meta), meta.len())
    };
    let before = id(&dir.path().join("cam"));
    let results = [
        SharedMemory::create(name(), 10, &Options::new()).map(drop),
        SharedMemory::open(name()).map(drop),
        SharedMemory::open_or_create(name(), 10, &Options::new()).map(drop),
        Region::open(name()).map(drop),
        memlane::Segment::<u64>::wait_for(name(), None).map(drop),
        remove(name()),
        retire(name()),
    ];
    for result in results {
        let error = result.expect_err("it is no object");
        let text = error.to_string();
        assert!(matches!(&error, Error::Foreign { name, .. } if name == "cam"), "{error:?}");
        for part in ["'cam'", what, "use another name, or take it out of the way"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    assert!(gc(Some(dir.path()), false).expect("the directory").is_empty());
    let listed = list(Some(dir.path())).expect("the directory");
    let cam = listed.iter().find(|object| object.name == "cam").expect("it is shown");
    assert!(cam.problem.as_ref().is_some_and(|problem| problem.contains(what)) && !cam.stale, "{cam:?}");
    assert_eq!(id(&dir.path().join("cam")), before);
}

#[test]
fn what_is_no_file_is_no_object_and_is_left_alone() {
    let dir = Dir::new();
    let path = dir.path().join("cam");
    let real = SharedMemory::create(dir.name("real"), 10, &Options::new()).expect("a fresh object");
    symlink(dir.path().join("real"), &path).expect("a link to a sound object");
    assert_foreign(&dir, "a symbolic link");
    fs::remove_file(&path).expect("the link");
    symlink(dir.path().join("nowhere"), &path).expect("a link to nothing");
    assert_foreign(&dir, "a symbolic link");
    fs::remove_file(&path).expect("the link");
    fs::create_dir(&path).expect("a directory");
    assert_foreign(&dir, "a directory");
    fs::remove_dir(&path).expect("the directory");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    let mut writer = None;
    std::thread::scope(|scope| {
        let (done, ended) = mpsc::channel();
        let dir = &dir;
        scope.spawn(move || {
            assert_foreign(dir, "a pipe, socket or device");
            done.send(()).expect("the test listens");
        });
        let ended = ended.recv_timeout(Duration::from_secs(10));
        // Whoever hangs in opening the pipe goes on when somebody writes to it.
        writer = ended.is_err().then(|| fs::File::options().read(true).write(true).open(&path));
    });
    assert!(writer.is_none(), "to open a pipe hangs");
    fs::remove_file(&path).expect("the pipe");
    let _socket = UnixListener::bind(&path).expect("a socket");
    assert_foreign(&dir, "a pipe, socket or device");
    drop(real);
}

#[test]
fn a_file_that_is_no_object_is_left_alone() {
    let dir = Dir::new();
    let path = dir.path().join("cam");
    for content in [&b""[..], b"m", b"memlane", b"not an object", &[0; 20_000], &[0xff; 20_000]] {
        fs::write(&path, content).expect("a file");
        set_mode(&path, 0o600);
        assert_foreign(&dir, "another file");
    }
}

#[test]
fn a_sound_object_that_others_could_have_made_or_changed_is_not_trusted() {
    let dir = Dir::new();
    let path = dir.path().join("cam");
    let object = SharedMemory::create(dir.name("cam"), 10, &Options::new()).expect("a fresh object");
    set_mode(&path, 0o602);
    assert_foreign(&dir, "with mode 0602, which is not to be trusted");
    set_mode(&path, 0o600);
    fs::hard_link(&path, dir.path().join("second")).expect("a second name");
    assert_foreign(&dir, "a file with further names");
    fs::remove_file(dir.path().join("second")).expect("it is there");
    SharedMemory::open(dir.name("cam")).expect("sound again");
    if give_away(&path) {
        assert_foreign(&dir, "a file of user 65534");
        set_mode(dir.path(), 0o2770);
        assert_foreign(&dir, "a file of user 65534");
        chown(&path, None, Some(0)).expect("root may");
        SharedMemory::open(dir.name("cam")).expect("of the group that shares the directory");
        for not_shared in [0o700, 0o750, 0o770, 0o2750] {
            set_mode(dir.path(), not_shared);
            assert_foreign(&dir, "a file of user 65534");
        }
        set_mode(dir.path(), 0o2770);
        set_mode(&path, 0o662);
        assert_foreign(&dir, "a file of user 65534");
    }
    drop(object);
}
