//! Memory that cannot be had: always an error that says what is missing, never a SIGBUS, and nothing left behind.
//!
//! Most of it needs a file system of its own, and says so loudly where it may not have one.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, spawn_under};
use memlane::{Error, Name, Options, Origin, Persistence, Region, Segment, SharedMemory, space};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "full" => full(),
        "race" => race(),
        "racer" => racer(),
        "hold" => {
            let size = arguments[0].parse().expect("a size");
            let _object = SharedMemory::create("held", size, &Options::new()).expect("it fits");
            say("held");
            hear();
        }
        "killed" => killed(),
        "taken over" => taken_over(),
        "no inodes" => no_inodes(),
        "holes" => holes(),
        "read only" => read_only(),
        "no own directory" => no_own_directory(),
        "memory limit" => memory_limit(),
        "file size limit" => file_size_limit(),
        "huge" => huge(),
        other => panic!("no role {other}"),
    }
}

/// Runs `role` below `wrapper`, and sees that it comes to its end: a signal or a panic would not.
fn run(wrapper: &[impl AsRef<std::ffi::OsStr>], role: &str) {
    let dir = Dir::new();
    let mut child = spawn_under(wrapper, dir.path(), role, &[]);
    child.expect("right");
    let status = child.finish();
    assert!(status.success(), "{status}");
}

fn run_in_small_file_system(options: &str, role: &str) {
    if let Some(wrapper) = common::small_file_system(options) {
        run(&wrapper, role);
    }
}

fn directory() -> PathBuf {
    std::env::var_os("MEMLANE_DIR").expect("it is set").into()
}

fn files() -> usize {
    directory().read_dir().expect("the directory").count()
}

fn free() -> u64 {
    space(None).expect("the directory").free
}

fn create(name: &str, size: u64) -> Result<SharedMemory, Error> {
    SharedMemory::create(name, size, &Options::new())
}

#[test]
fn a_full_file_system_is_an_error_that_says_what_to_do() {
    run_in_small_file_system("size=1m", "full");
}

fn full() {
    let all = free();
    let error = create("cam", 2 << 20).expect_err("it has 1 MiB");
    let text = error.to_string();
    match error {
        Error::NoSpace { name, need, available, place, fix } => {
            assert_eq!((name.as_str(), available, place), ("cam", all, directory()));
            assert!(((2 << 20)..(2 << 20) + 16_384).contains(&need), "{need}");
            assert!(fix.contains("remount,size=") && fix.contains("--shm-size") && fix.contains("memlane gc"), "{fix}");
            for part in ["'cam'", &need.to_string(), &available.to_string(), &directory().to_string_lossy(), &fix] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((files(), free()), (0, all), "something was left behind");

    // To the brim: every byte of what was created can be written, and what was not created left nothing.
    let mut objects = Vec::new();
    let error = loop {
        match create(&format!("part{}", objects.len()), 50_000) {
            Ok(object) => objects.push(object.map_mut().expect("mapped")),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert!(objects.len() > 10 && files() == objects.len());
    for object in &mut objects {
        object.write_at(0, &[0xff; 50_000]).expect("inside");
    }
    drop(objects);
    assert_eq!((files(), free()), (0, all));
    say("right");
}

#[test]
fn a_race_for_the_last_memory_ends_with_objects_or_errors() {
    run_in_small_file_system("size=2m", "race");
}

fn race() {
    let all = free();
    let mut racers: Vec<Child> = (0..4).map(|_| spawn(&directory(), "racer", &[])).collect();
    racers.iter_mut().for_each(|racer| racer.expect("ready"));
    let (mut created, mut refused) = (0, 0);
    for _ in 0..50 {
        racers.iter_mut().for_each(|racer| racer.say("go"));
        for racer in &mut racers {
            match racer.hear().as_deref() {
                Some("created") => created += 1,
                Some("refused") => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(files(), 2, "two of four fit");
        racers.iter_mut().for_each(|racer| racer.say("close"));
        racers.iter_mut().for_each(|racer| racer.expect("closed"));
        assert_eq!((files(), free()), (0, all), "something was left behind");
    }
    assert_eq!((created, refused), (100, 100));
    racers.into_iter().for_each(|racer| assert!(racer.finish().success()));
    say("right");
}

fn racer() {
    let name = Name::unique("racer").expect("a name");
    say("ready");
    while hear().is_some() {
        // Who comes second may be refused although two fit, while a third holds what it will not get: try again.
        let object = loop {
            match SharedMemory::create(&name, 800_000, &Options::new()) {
                Ok(object) => break Some(object.map_mut().expect("mapped")),
                Err(Error::NoSpace { .. }) if files() == 2 => break None,
                Err(Error::NoSpace { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        if let Some(mut object) = object {
            object.write_at(0, &[0xff; 800_000]).expect("inside");
            say("created");
            hear();
        } else {
            say("refused");
            hear();
        }
        say("closed");
    }
}

#[test]
fn memory_of_a_killed_process_is_free_again_after_the_next_create() {
    run_in_small_file_system("size=1m", "killed");
}

fn killed() {
    let all = free();
    for round in 0..6 {
        let mut holder = spawn(&directory(), "hold", &["700000"]);
        holder.expect("held");
        assert!(matches!(create("other", 700_000), Err(Error::NoSpace { .. })), "it is in use");
        holder.kill();
        assert!(all - free() > 700_000, "its name is still there");
        let name = if round % 2 == 0 { "held" } else { "other" };
        drop(create(name, 700_000).expect("the dead one makes room"));
        assert_eq!((files(), free()), (0, all));
    }
    say("right");
}

#[test]
fn an_object_is_taken_over_although_there_is_no_memory_for_a_second_one() {
    run_in_small_file_system("size=1m", "taken over");
}

fn taken_over() {
    let mut holder = spawn(&directory(), "hold", &["700000"]);
    holder.expect("held");
    let mut user = SharedMemory::open("held").and_then(SharedMemory::map_mut).expect("it is there");
    user.write_at(0, b"stays").expect("inside");
    let error = create("held", 700_000).expect_err("its creator lives");
    assert!(matches!(error, Error::AlreadyExists { creator: None, .. }), "it never mapped it: {error:?}");
    holder.kill();
    assert!(matches!(create("held", 700_001), Err(Error::NoSpace { .. })), "of another size it needs more memory");
    let mut taken = create("held", 700_000).and_then(SharedMemory::map_mut).expect("no memory is needed");
    assert_eq!((taken.origin(), taken.id()), (Origin::TakenOver, user.id()));
    let mut bytes = [0; 5];
    taken.read_at(0, &mut bytes).expect("inside");
    assert_eq!(&bytes, b"stays");
    drop((user, taken));

    let of_bytes = |init: fn(&mut [u8])| Segment::<[u8]>::create("typed", 700_000, &Options::new(), init);
    let creator = of_bytes(|bytes| bytes.fill(7)).expect("it fits");
    let user = Segment::<[u8]>::open("typed").expect("it is there");
    drop(creator);
    let taken = of_bytes(|_| panic!("there is nothing to build")).expect("no memory is needed");
    assert!(taken.origin() == Origin::TakenOver && user.iter().all(|byte| *byte == 7));
    drop((user, taken));
    assert_eq!(files(), 0);
    say("right");
}

#[test]
fn a_file_system_without_inodes_is_an_error_that_says_so() {
    run_in_small_file_system("size=1m,nr_inodes=4", "no inodes");
}

fn no_inodes() {
    let all = free();
    let objects: Vec<SharedMemory> =
        (0..3).map(|number| create(&format!("part{number}"), 10).expect("there are 4 inodes")).collect();
    let error = create("cam", 10).expect_err("the directory and three objects have them all");
    let text = error.to_string();
    assert!(matches!(&error, Error::NoSpace { place, .. } if *place == directory()), "{error:?}");
    assert!(text.contains("'cam'") && text.contains("inode") && text.contains("remount,nr_inodes="), "{text}");
    assert!(!text.contains("size=SIZE"), "more bytes would not help: {text}");
    assert_eq!(files(), 3);
    drop(objects);
    assert_eq!((files(), free()), (0, all));
    create("cam", 10).expect("there is an inode again");
    say("right");
}

#[test]
fn an_object_that_lost_its_memory_is_refused_and_not_a_sigbus() {
    run_in_small_file_system("size=1m", "holes");
}

fn holes() {
    let keep = Options::new().persistence(Persistence::Keep);
    drop(SharedMemory::create("cam", 200_000, &keep).expect("it fits"));
    let file = OpenOptions::new().write(true).open(directory().join("cam")).expect("the file");
    let len = file.metadata().expect("its length").len();
    file.set_len(len - 100_000).and_then(|()| file.set_len(len)).expect("cut off, and empty now");
    let mut filler = std::fs::File::create(directory().join("filler")).expect("a file");
    let full = loop {
        if let Err(error) = filler.write(&[1; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull);

    let read_only = SharedMemory::open("cam").and_then(SharedMemory::map);
    assert!(matches!(read_only, Err(Error::NoSpace { .. })), "{read_only:?}");
    let writable = SharedMemory::open("cam").and_then(SharedMemory::map_mut);
    let error = writable.expect_err("its pages cannot be had");
    assert!(matches!(&error, Error::NoSpace { need, .. } if *need == len), "{error:?}");
    assert!(error.to_string().contains("'cam'"), "{error}");

    drop(filler);
    std::fs::remove_file(directory().join("filler")).expect("it is there");
    let mut object = SharedMemory::open("cam").and_then(SharedMemory::map_mut).expect("now they can be had");
    let mut bytes = vec![1; 200_000];
    object.read_at(0, &mut bytes).expect("inside");
    assert!(bytes.iter().all(|byte| *byte == 0));
    object.write_at(0, &bytes).expect("inside");
    say("right");
}

/// Changes what this child, in a mount namespace of its own, sees.
fn shell(script: &str) {
    let done = Command::new("sh").args(["-ec", script, "sh"]).arg(directory()).status();
    assert!(done.is_ok_and(|status| status.success()), "{script}");
}

#[test]
fn a_read_only_file_system_is_an_error_and_can_be_read() {
    run_in_small_file_system("size=1m", "read only");
}

fn read_only() {
    let keep = Options::new().persistence(Persistence::Keep);
    drop(SharedMemory::create("cam", 100, &keep).expect("it fits"));
    shell(r#"mount -o remount,ro "$1""#);
    let results = [
        create("new", 100).map(drop),
        SharedMemory::open("cam").map(drop),
        memlane::remove("cam"),
        memlane::retire("cam"),
    ];
    for result in results {
        let text = result.expect_err("nothing can be written").to_string();
        assert!(text.contains("Read-only file system"), "{text}");
    }
    assert_eq!(Region::open("cam").expect("reading takes no right to write").len(), 100);
    assert_eq!(memlane::list(None).expect("a list").len(), 1);
    say("right");
}

#[test]
fn an_own_directory_that_cannot_be_made_is_an_error() {
    if let Some(mut wrapper) = common::small_file_system("size=1m") {
        let script = r#"mount -t tmpfs -o ro tmpfs /dev/shm && exec env -u MEMLANE_DIR "$@""#;
        wrapper.extend(["sh", "-c", script, "sh"].map(str::to_owned));
        run(&wrapper, "no own directory");
    }
}

fn no_own_directory() {
    let error = create("cam", 100).expect_err("it cannot be made");
    assert!(matches!(&error, Error::Directory { path, .. } if path.starts_with("/dev/shm")), "{error:?}");
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    say("right");
}

#[test]
fn the_memory_limit_of_a_container_is_an_error_and_not_a_kill() {
    run_in_small_file_system("size=1m", "memory limit");
}

fn memory_limit() {
    // What a group of version 2 looks like from inside: 600,000 bytes allowed, 300,000 in use, of which 50,000 the
    // kernel would give up by itself.
    shell(
        r#"mount -t tmpfs tmpfs /sys/fs/cgroup && cd /sys/fs/cgroup
        echo 600000 >memory.max; echo 300000 >memory.current
        printf 'anon 250000\nactive_file 30000\ninactive_file 20000\nslab_reclaimable 0\n' >memory.stat"#,
    );
    drop(create("cam", 300_000).expect("it fits"));
    let error = create("cam", 400_000).expect_err("it does not fit");
    assert!(matches!(error, Error::NoSpace { available: 350_000, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("the memory limit of this container") && text.contains("more memory"), "{text}");
    drop(SharedMemory::create("cam", 400_000, &Options::new().sparse()).expect("nothing is reserved"));
    shell("echo max >/sys/fs/cgroup/memory.max");
    drop(create("cam", 400_000).expect("there is no limit"));
    assert_eq!(files(), 0);
    say("right");
}

#[test]
fn a_large_object_is_reserved_to_its_end() {
    const SIZE: u64 = 70 << 20;
    let dir = Dir::new();
    let object = SharedMemory::create(dir.name("large"), SIZE, &Options::new()).expect("it fits");
    let file = std::fs::metadata(dir.path().join("large")).expect("the file");
    assert!(file.len() > SIZE && std::os::unix::fs::MetadataExt::blocks(&file) * 512 >= file.len());
    let mut bytes = object.map_mut().expect("mapped");
    bytes.write_at(SIZE as usize - 1, &[1]).expect("inside");
}

#[test]
fn the_file_size_limit_is_an_error_and_not_a_signal() {
    run(&["sh", "-c", "ulimit -f 64; exec \"$@\"", "sh"], "file size limit");
}

fn file_size_limit() {
    for options in [Options::new(), Options::new().sparse()] {
        let error = SharedMemory::create("cam", 1 << 20, &options).expect_err("the limit is less");
        let text = error.to_string();
        assert!(matches!(error, Error::NoSpace { available: 32_768 | 65_536, .. }), "{error:?}");
        assert!(text.contains("'cam'") && text.contains("file size limit") && text.contains("ulimit -f"), "{text}");
        assert_eq!(files(), 0, "something was left behind");
    }
    create("cam", 10_000).expect("that is below the limit").map_mut().expect("mapped");
    say("right");
}

#[test]
fn sizes_beyond_all_bounds_are_errors() {
    run(&["env"], "huge");
}

fn huge() {
    for size in [u64::MAX, u64::MAX - 20_000, i64::MAX as u64, i64::MAX as u64 - 4096, 1 << 62] {
        for options in [Options::new(), Options::new().sparse()] {
            let error = SharedMemory::create("cam", size, &options).and_then(SharedMemory::map_mut).map(drop);
            let clean = matches!(&error, Err(Error::TooLarge { .. } | Error::NoSpace { .. } | Error::Os { .. }));
            assert!(clean, "{size}: {error:?}");
            let too_large = size > i64::MAX as u64 - 12_288; // with its header, 12288 bytes
            assert!(!too_large || matches!(error, Err(Error::TooLarge { .. })), "{size}: {error:?}");
            assert_eq!(files(), 0, "something was left behind");
        }
    }
    say("right");
}
