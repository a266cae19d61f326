//! Plain memory: parts of objects and files, private copies, memory without a name, and what the system is told of it. How
//! files are made, opened and grown is in `files.rs`.
//!
//! The first ones are what Boost.Interprocess's own tests assert of shared memory, mapped files and regions.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Dir, ON_THE_HEAP, all, hear, of_mapping, role, say, spawn, spawn_under};
use memlane::{Advice, Error, LockError, Locked, Memory, Mutex, Options, Region, RegionCopy, Segment, SharedMemory};
use proptest::prelude::{Just, Strategy, TestCaseError, any, prop_assert_eq, proptest};
use proptest::test_runner::Config;
use std::fs;
use std::io::{self, Write};
use std::ops::{Bound, RangeBounds};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    match role.as_str() {
        "read a byte" => read_a_byte(&arguments),
        "hold a lock" => hold_a_lock(),
        "write a half" => write_a_half(&arguments[0]),
        "lock too much" => lock_too_much(),
        "fork" => fork(),
        other => panic!("no role {other}"),
    }
}

/// Not a multiple of a page, nor is its half.
const SIZE: usize = if cfg!(miri) { 19_996 } else { 399_996 };

fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|at| (at * 31 % 251) as u8).collect()
}

fn options() -> Options {
    Options::new()
}

/// As many bytes as are read.
fn bytes_of(len: usize, read: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    read(&mut bytes);
    bytes
}

fn all_of_copy(copy: &RegionCopy) -> Vec<u8> {
    bytes_of(copy.len(), |to| copy.read_at(0, to).expect("all of it"))
}

fn path(dir: &Dir) -> PathBuf {
    dir.path().join("file")
}

// ---------------------------------------------------------------------------------------------------------------
// What Boost's tests assert

#[test]
fn two_halves_of_an_object_are_the_whole() {
    let dir = Dir::new();
    let (name, half) = (dir.name("cam"), SIZE / 2 + 1);
    let first = SharedMemory::create(&name, SIZE as u64, &options()).expect("a fresh object");
    let mut first = first.map_mut_range(..half as u64).expect("mapped");
    let open = || SharedMemory::open(&name).expect("it is there");
    let mut second = open().map_mut_range(half as u64..).expect("mapped");
    assert_eq!((first.len(), second.len()), (half, SIZE - half));
    first.write_at(0, &pattern(0, half)).expect("inside");
    second.write_at(0, &pattern(half, SIZE - half)).expect("inside");

    assert_eq!(all(&open().map().expect("mapped")), pattern(0, SIZE));
    assert_eq!(all(&open().map_range(..half as u64).expect("mapped")), pattern(0, half));
    assert_eq!(all(&open().map_range(half as u64..).expect("mapped")), pattern(half, SIZE - half));
    let moved = Box::new(second);
    drop(first);
    let mut again = *moved;
    again.write_at(0, &[7]).expect("inside");
    assert_eq!(all(&open().map_range(half as u64..=half as u64).expect("mapped")), [7]);
}

#[test]
fn two_halves_of_a_file_are_the_whole_also_for_those_who_read_it() {
    let dir = Dir::new();
    let (path, half) = (path(&dir), SIZE as u64 / 2 + 1);
    let file = Memory::create(&path, SIZE as u64).expect("a new file");
    assert_eq!(file.size().expect("its size"), SIZE as u64);
    let mut first = file.map_mut(..half).expect("mapped");
    let mut second = Memory::open(&path).expect("it is there").map_mut(half..).expect("mapped");
    first.write_at(0, &pattern(0, half as usize)).expect("inside");
    second.write_at(0, &pattern(half as usize, SIZE - half as usize)).expect("inside");
    first.flush(..).expect("flushed");
    second.flush_async(1..).expect("flushed");
    assert_eq!(bytes_of(10, |to| second.read_at(5, to).expect("inside")), pattern(half as usize + 5, 10));

    let whole = Memory::open_read_only(&path).expect("it is there").map(..).expect("mapped");
    assert_eq!(all(&whole), pattern(0, SIZE));
    if !ON_THE_HEAP {
        assert!(fs::read(&path).expect("read as any file") == pattern(0, SIZE));
    }
}

#[test]
fn another_process_writes_its_half() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    let file = Memory::create(path(&dir), SIZE as u64).expect("a new file");
    let region = file.map(..).expect("mapped");
    let file_path = path(&dir);
    let mut child = spawn(dir.path(), "write a half", &[file_path.to_str().expect("plain")]);
    child.expect("written");
    let half = SIZE / 2;
    assert_eq!(all(&region), [vec![0; half], pattern(half, SIZE - half)].concat());
    // It is killed with everything mapped, and leaves all it has written.
    child.kill();
    assert_eq!(all(&region)[half..], pattern(half, SIZE - half));
}

fn write_a_half(path: &str) {
    let half = SIZE / 2;
    let mut region = Memory::open(path).expect("it is there").map_mut(half as u64..).expect("mapped");
    region.write_at(0, &pattern(half, SIZE - half)).expect("inside");
    say("written");
    hear();
}

#[test]
fn a_region_shrinks_from_both_ends_to_the_byte() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mut written =
        SharedMemory::create(&name, SIZE as u64, &options()).expect("a fresh object").map_mut().expect("mapped");
    written.write_at(0, &pattern(0, SIZE)).expect("inside");
    let open = || SharedMemory::open(&name).expect("it is there");
    let (mut read, mut copy) = (open().map().expect("mapped"), open().map_copy(..).expect("mapped"));
    copy.write_at(SIZE / 2 + 1, &[0xab]).expect("inside");
    let half = SIZE / 2;
    let addresses = (written.as_ptr(), read.as_ptr());

    macro_rules! shrinks {
        ($region:ident) => {{
            $region.shrink_to(half..).expect("the front is given back");
            assert_eq!($region.len(), SIZE - half);
            $region.shrink_to(..half / 2).expect("the back is given back");
            assert_eq!($region.len(), half / 2);
            assert!(matches!($region.shrink_to(..half), Err(Error::NoSuchRange { .. })));
            assert_eq!($region.len(), half / 2);
            assert!(matches!($region.read_at(half / 2, &mut [0]), Err(Error::OutOfBounds { .. })));
        }};
    }
    shrinks!(written);
    shrinks!(read);
    shrinks!(copy);
    assert_eq!((written.as_ptr(), read.as_ptr()), (addresses.0.wrapping_add(half), addresses.1.wrapping_add(half)));
    assert_eq!(all(&read), pattern(half, half / 2));
    assert_eq!(bytes_of(half / 2, |to| written.read_at(0, to).expect("inside")), pattern(half, half / 2));
    let mut mine = pattern(half, half / 2);
    mine[1] = 0xab;
    assert_eq!(all_of_copy(&copy), mine);
    // What was given back is as it was where it comes from.
    assert_eq!(all(&open().map().expect("mapped")), pattern(0, SIZE));
    read.shrink_to(3..3).expect("all is given back");
    assert_eq!((read.len(), all(&read)), (0, vec![]));

    let mut memory = Memory::anonymous(SIZE as u64).expect("memory").map_mut(1..).expect("mapped");
    memory.shrink_to(half..half + 10).expect("both ends at once");
    memory.write_at(0, &[9; 10]).expect("inside");
    assert!(memory.write_at(1, &[9; 10]).is_err());
}

#[test]
fn what_was_given_back_cannot_be_touched_and_what_is_left_can() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    // Of 40000 bytes behind the header, 10000 to 30001 are left, in pages 2 to 7.
    for (offset, there) in [(0, false), (8191, false), (8192, true), (10_000, true), (30_000, true), (32_768, false)] {
        for how in ["shrunk", "mapped"] {
            let offset = offset.to_string();
            let child = spawn(dir.path(), "read a byte", &[how, &offset]);
            let status = child.finish();
            assert_eq!(status.signal(), (!there).then_some(libc::SIGSEGV), "{how}, {offset}: {status}");
        }
    }
}

/// Reads a byte, at an address counted from the object's first one, of a region of bytes 10000 to 30000.
fn read_a_byte(arguments: &[String]) {
    let range = 10_000_u64..30_001;
    let open = || SharedMemory::open_or_create("cam", 40_000, &options()).expect("it is there");
    let region = if arguments[0] == "shrunk" {
        let mut region = open().map_mut().expect("mapped");
        region.shrink_to(range.start as usize..range.end as usize).expect("shrunk");
        region
    } else {
        // Beyond its end nothing is mapped, or something else.
        let offset: u64 = arguments[1].parse().expect("a number");
        if offset > range.end {
            // SAFETY: ends this process as what is expected of the other one.
            unsafe { libc::raise(libc::SIGSEGV) };
        }
        open().map_mut_range(range).expect("mapped")
    };
    let offset: usize = arguments[1].parse().expect("a number");
    let address = region.as_ptr().wrapping_sub(10_000).wrapping_add(offset);
    // SAFETY: if nothing is mapped there, this process ends, which is what is looked at.
    let _ = unsafe { address.read_volatile() };
}

#[test]
fn a_region_gives_its_last_page_back_and_its_addresses_stay_its_own() {
    if ON_THE_HEAP {
        return;
    }
    let mut region = Memory::anonymous(10_000).expect("memory").map_mut(..).expect("mapped");
    region.write_at(0, &[7; 10_000]).expect("inside");
    region.shrink_to(..8192).expect("the last page is given back");
    assert_eq!(of_mapping(region.as_ptr(), "Size:"), 8192);
    assert_eq!(of_mapping(region.as_ptr().wrapping_add(8192), "Rss:"), 0, "nothing else is mapped there, nor is it");
}

#[test]
fn what_is_given_back_bit_by_bit_is_free_in_the_end() {
    if ON_THE_HEAP {
        return;
    }
    const PAGE: usize = 4096;
    // From the back, then from the front, by less than a page each time.
    let mut region = Memory::anonymous(10 * PAGE as u64).expect("memory").map_mut(..).expect("mapped");
    region.write_at(0, &pattern(0, 10 * PAGE)).expect("inside");
    let first = region.as_ptr();
    for len in (0..=40).rev().map(|tenths| tenths * PAGE / 10 + 6 * PAGE) {
        region.shrink_to(..len).expect("inside");
    }
    assert_eq!((region.len(), of_mapping(first, "Rss:")), (6 * PAGE, 6 * PAGE as u64));
    for _ in 0..40 {
        region.shrink_to(PAGE / 10..).expect("inside");
    }
    let left = region.as_ptr();
    assert_eq!(left.addr(), first.addr() + 40 * (PAGE / 10));
    assert_eq!(of_mapping(left, "Rss:"), 6 * PAGE as u64 - (left.addr() - first.addr()) as u64 / 4096 * 4096);
    assert_eq!(bytes_of(region.len(), |to| region.read_at(0, to).expect("inside")), pattern(40 * 409, region.len()));

    // The first page goes too, if the region does not begin with it.
    let dir = Dir::new();
    let object = SharedMemory::create(dir.name("cam"), 40_000, &options()).expect("a fresh object");
    let mut written = object.map_mut_range(100..).expect("mapped");
    let page = written.as_ptr().wrapping_sub(100);
    written.shrink_to(PAGE..).expect("inside");
    assert_eq!(of_mapping(page.wrapping_add(PAGE), "Rss:"), 40_960 - PAGE as u64);
    let mut read = Memory::anonymous(40_000).expect("memory").map(100..).expect("mapped");
    let page = read.as_ptr().wrapping_sub(100);
    read.shrink_to(PAGE..).expect("inside");
    assert_eq!(of_mapping(page.wrapping_add(PAGE), "Rss:"), 40_960 - PAGE as u64);

    // What is left of a region of which nothing is left can be told of like any other.
    read.shrink_to(read.len()..).expect("inside");
    read.lock_in_memory().expect("nothing to lock");
}

#[test]
fn an_empty_file_and_an_empty_range_are_empty_regions() {
    let dir = Dir::new();
    let file = Memory::create(path(&dir), 0).expect("a new file");
    assert_eq!(file.size().expect("its size"), 0);
    let (read, copy) = (file.map(..).expect("mapped"), file.map_copy(..).expect("mapped"));
    let mut written = file.map_mut(..).expect("mapped");
    assert_eq!((read.len(), copy.len(), written.len()), (0, 0, 0));
    assert!(matches!(written.write_at(0, &[1]), Err(Error::OutOfBounds { .. })));
    written.write_at(0, &[]).expect("nothing fits");
    written.shrink_to(..).expect("nothing is left of nothing");
    for advice in ADVICE {
        read.advise(advice).expect("nothing to advise on");
    }
    read.populate().expect("nothing to bring");
    written.lock_in_memory().expect("nothing to lock");
    written.flush(..).expect("nothing to write");
    assert_eq!(copy.request_huge_pages().expect("none"), 0);

    let object = SharedMemory::create(dir.name("cam"), 5000, &options()).expect("a fresh object");
    let mut empty = object.map_mut_range(5000..).expect("mapped");
    assert_eq!(empty.len(), 0);
    assert!(empty.write_at(0, &[1]).is_err());
}

const ADVICE: [Advice; 5] = [Advice::Normal, Advice::Sequential, Advice::Random, Advice::WillNeed, Advice::DontNeed];

#[test]
fn no_advice_is_refused_and_none_changes_a_byte() {
    let dir = Dir::new();
    let file = Memory::create(path(&dir), SIZE as u64).expect("a new file");
    let object = SharedMemory::create(dir.name("cam"), SIZE as u64, &options()).expect("a fresh object");
    let (mut of_file, mut of_object) = (file.map_mut(1..).expect("mapped"), object.map_mut_range(1..).expect("mapped"));
    let (mut copy, read) = (file.map_copy(1..).expect("mapped"), file.map(1..).expect("mapped"));
    let expected = pattern(1, SIZE - 1);
    of_file.write_at(0, &expected).expect("inside");
    of_object.write_at(0, &expected).expect("inside");
    let mine: Vec<u8> = expected.iter().map(|byte| !byte).collect();
    copy.write_at(0, &mine).expect("inside");
    for advice in ADVICE {
        of_file.advise(advice).expect("it is advice");
        of_object.advise(advice).expect("it is advice");
        copy.advise(advice).expect("it is advice");
        read.advise(advice).expect("it is advice");
    }
    assert_eq!(bytes_of(SIZE - 1, |to| of_file.read_at(0, to).expect("inside")), expected);
    assert_eq!(bytes_of(SIZE - 1, |to| of_object.read_at(0, to).expect("inside")), expected);
    assert!(all_of_copy(&copy) == mine);
}

// ---------------------------------------------------------------------------------------------------------------
// Ranges

fn bound() -> impl Strategy<Value = Bound<u64>> {
    let near = proptest::sample::select(vec![0_u64, 4096, 8192, 20_000, u64::MAX]);
    let at = (near, -2_i64..3).prop_map(|(at, off)| at.wrapping_add_signed(off));
    (any::<bool>(), at).prop_map(|(included, at)| if included { Bound::Included(at) } else { Bound::Excluded(at) })
}

/// What a range of 20000 bytes means, found out byte by byte.
fn meant(range: (Bound<u64>, Bound<u64>)) -> Option<Vec<u8>> {
    let beyond = |at: &u64| *at > 20_000;
    let start = match range.0 {
        Bound::Included(at) => at,
        Bound::Excluded(at) => at.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.1 {
        Bound::Included(at) => at.checked_add(1)?,
        Bound::Excluded(at) => at,
        Bound::Unbounded => 20_000,
    };
    if beyond(&start) || beyond(&end) || start > end {
        return None;
    }
    Some(
        pattern(0, 20_000)
            .into_iter()
            .enumerate()
            .filter(|(at, _)| range.contains(&(*at as u64)))
            .map(|it| it.1)
            .collect(),
    )
}

#[test]
fn any_range_has_its_bytes_and_no_other() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mut whole = SharedMemory::create(&name, 20_000, &options()).expect("a fresh object").map_mut().expect("mapped");
    whole.write_at(0, &pattern(0, 20_000)).expect("inside");
    let file = Memory::create(path(&dir), 20_000).expect("a new file");
    file.map_mut(..).expect("mapped").write_at(0, &pattern(0, 20_000)).expect("inside");
    let open = || SharedMemory::open(&name).expect("it is there");
    let cases = if cfg!(miri) { 8 } else { 300 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let start = proptest::strategy::Union::new([bound().boxed(), Just(Bound::Unbounded).boxed()]);
    let end = proptest::strategy::Union::new([bound().boxed(), Just(Bound::Unbounded).boxed()]);
    proptest!(config, |(range in (start, end))| {
        let expected = meant(range).map(|bytes| bytes.len());
        let refused = |error: &Error| matches!(error, Error::NoSuchRange { size: 20_000, .. });
        macro_rules! agrees {
            ($map:expr, $bytes:expr) => {
                match $map {
                    Ok(region) => {
                        prop_assert_eq!(Some(region.len()), expected);
                        let mut region = region;
                        prop_assert_eq!(Some(bytes_of(region.len(), |to| $bytes(&mut region, to))), meant(range));
                    }
                    Err(error) => prop_assert_eq!((refused(&error), None), (true, expected), "{}", error),
                }
            };
        }
        agrees!(open().map_range(range), |it: &mut Region, to: &mut [u8]| it.read_at(0, to).expect("inside"));
        agrees!(open().map_mut_range(range), |it: &mut memlane::RegionMut, to: &mut [u8]| it.read_at(0, to).expect("inside"));
        agrees!(open().map_copy(range), |it: &mut RegionCopy, to: &mut [u8]| it.read_at(0, to).expect("inside"));
        agrees!(file.map(range), |it: &mut Region, to: &mut [u8]| it.read_at(0, to).expect("inside"));
        agrees!(file.map_mut(range), |it: &mut memlane::MemoryMut, to: &mut [u8]| it.read_at(0, to).expect("inside"));
        agrees!(file.map_copy(range), |it: &mut RegionCopy, to: &mut [u8]| it.read_at(0, to).expect("inside"));
        Ok::<(), TestCaseError>(())?;
    });
}

#[test]
fn a_range_that_is_not_there_is_an_error_that_says_what_is() {
    let dir = Dir::new();
    let object = SharedMemory::create(dir.name("cam"), 100, &options()).expect("a fresh object");
    let error = object.map_range(50..101).expect_err("it has 100 bytes").to_string();
    for part in ["'cam'", "100 bytes", "50..101"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn a_lock_in_a_part_of_an_object_is_the_lock_in_the_whole() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let object = SharedMemory::create(&name, 40_000, &options()).expect("a fresh object");
    let mut part = object.map_mut_range(30_000..).expect("mapped");
    // SAFETY: nothing else uses these bytes.
    let placed = unsafe { part.place::<Mutex<u64>>(800, (), |_| ()) };
    assert!(placed.is_ok(), "it fits");
    let open = || SharedMemory::open(&name).expect("it is there");
    let (whole, other) = (open().map_mut().expect("mapped"), open().map_mut_range(..30_800).expect("mapped"));
    // SAFETY: this is what was placed there.
    let (here, there) = unsafe {
        (part.at::<Mutex<u64>>(800, ()).expect("it is there"), whole.at::<Mutex<u64>>(30_800, ()).expect("it is there"))
    };
    let held = here.lock(&part).expect("free").or_repair(|_| ());
    assert!(matches!(there.try_lock(&whole), Err(LockError::AlreadyLocked { .. })));
    assert!(matches!(here.try_lock(&part), Err(LockError::AlreadyLocked { .. })));
    let Err(LockError::TimedOut { lock, holder, .. }) =
        std::thread::scope(|scope| scope.spawn(|| there.try_lock(&whole).map(drop)).join().expect("it ended"))
    else {
        panic!("it is held");
    };
    assert_eq!((&*lock, holder.expect("known").pid), ("at offset 30800", std::process::id()));
    drop(held);
    assert!(matches!(there.lock(&other), Err(LockError::NotInSegment { .. })), "it ends before");
    if ON_THE_HEAP {
        return;
    }
    assert!(matches!(here.lock(&whole), Err(LockError::NotInSegment { .. })), "another mapping");
    let mut child = spawn(dir.path(), "hold a lock", &[]);
    child.expect("held");
    child.kill();
    assert!(matches!(here.lock(&part).expect("its holder is dead"), Locked::OwnerDied(_)));
}

fn hold_a_lock() {
    let part = SharedMemory::open("cam").expect("it is there").map_mut_range(30_001..).expect("mapped");
    // SAFETY: this is what was placed there.
    let lock = unsafe { part.at::<Mutex<u64>>(799, ()) }.expect("it is there");
    let _held = lock.lock(&part).expect("free");
    say("held");
    hear();
}

// ---------------------------------------------------------------------------------------------------------------
// Copies

#[test]
fn nobody_sees_what_is_written_to_a_copy() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mut shared =
        SharedMemory::create(&name, 20_000, &options()).expect("a fresh object").map_mut().expect("mapped");
    shared.write_at(0, &pattern(0, 20_000)).expect("inside");
    let open = || SharedMemory::open(&name).expect("it is there");
    let (mut one, mut two) = (open().map_copy(100..).expect("mapped"), open().map_copy(100..).expect("mapped"));
    one.write_at(0, &[1; 9000]).expect("inside");
    two.populate().expect("copied");
    shared.write_at(0, &[0xff; 20_000]).expect("inside");
    assert_eq!(all(&open().map().expect("mapped")), [0xff; 20_000]);
    assert_eq!(all_of_copy(&one)[..9000], [1; 9000]);
    assert_eq!(all_of_copy(&two), pattern(100, 19_900), "all of it was copied");
    two.write_at(0, &[2]).expect("inside");
    assert_eq!(all_of_copy(&one)[0], 1);
    one.flush(..).expect("there is nothing to flush");
    assert_eq!(all(&open().map().expect("mapped")), [0xff; 20_000]);
    let sent = std::thread::spawn(move || all_of_copy(&one).len());
    assert_eq!(sent.join().expect("a copy can go to another thread"), 19_900);
}

#[test]
fn a_typed_value_and_a_file_that_can_only_be_read_are_copied_and_stay_as_they_are() {
    let dir = Dir::new();
    let typed = Segment::<u64>::create(dir.name("typed"), (), &options(), |value| *value = 77).expect("a fresh object");
    let mut copy =
        SharedMemory::open(dir.name("typed")).expect("it is there").map_copy(..).expect("a copy is not the value");
    copy.write_at(0, &5_u64.to_ne_bytes()).expect("inside");
    assert_eq!(*typed, 77);

    drop(Memory::create(path(&dir), 100).expect("a new file"));
    let file = Memory::open_read_only(path(&dir)).expect("it is there");
    file.map_copy(50..).expect("mapped").write_at(0, &[1; 50]).expect("inside");
    assert_eq!(all(&file.map(..).expect("mapped")), [0; 100]);
    assert!(matches!(file.map_mut(..), Err(Error::ReadOnly { .. })));
    assert!(matches!(file.grow(200), Err(Error::ReadOnly { .. })));
    assert!(file.map_mut(..).expect_err("for reading only").to_string().contains(path(&dir).to_str().expect("plain")));
}

#[test]
fn an_object_is_used_as_long_as_a_part_or_a_copy_of_it() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let copy = SharedMemory::create(&name, 100, &options()).expect("a fresh object").map_copy(..).expect("mapped");
    let part = SharedMemory::open(&name).expect("it is in use").map_range(5..).expect("mapped");
    drop(copy);
    drop(SharedMemory::open(&name).expect("it is in use"));
    drop(part);
    assert!(matches!(SharedMemory::open(&name), Err(Error::NotFound { .. })));
    assert!(dir.files().is_empty());
}

// ---------------------------------------------------------------------------------------------------------------
// Memory without a name

#[test]
fn anonymous_memory_is_shared_by_its_mappings() {
    let memory = Memory::anonymous(SIZE as u64).expect("memory");
    let mut region = memory.map_mut(..).expect("mapped");
    assert_eq!(all(&memory.map(..).expect("mapped")), [0; SIZE]);
    region.write_at(0, &pattern(0, SIZE)).expect("inside");
    assert_eq!(all(&memory.map(7..).expect("mapped")), pattern(7, SIZE - 7));
    drop(memory);
    assert_eq!(bytes_of(5, |to| region.read_at(3, to).expect("inside")), pattern(3, 5), "a mapping keeps it");
}

#[test]
fn more_memory_than_the_machine_has_is_an_error() {
    let error = Memory::anonymous(1 << 50).expect_err("no machine has it");
    assert!(matches!(&error, Error::NoSpace { need, .. } if *need == 1 << 50), "{error:?}");
    assert!(error.to_string().contains("of this machine"), "{error}");
}

#[test]
fn a_forked_child_shares_what_was_mapped_before() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    let mut child = spawn(dir.path(), "fork", &[]);
    child.expect("the child wrote [7, 7]");
    assert!(child.finish().success());
}

fn fork() {
    let mut region = Memory::anonymous(10_000).expect("memory").map_mut(5000..).expect("mapped");
    // SAFETY: the child uses its memory, and ends with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let written = region.write_at(4998, &[7; 2]).is_ok();
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(i32::from(!written)) };
    }
    // SAFETY: the child is ours, and what may be null is null.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    say(&format!("the child wrote {:?}", bytes_of(2, |to| region.read_at(4998, to).expect("inside"))));
}

// ---------------------------------------------------------------------------------------------------------------
// What the system is told

#[test]
fn pages_are_brought_let_go_of_and_locked_as_asked() {
    if ON_THE_HEAP {
        return;
    }
    let memory = Memory::anonymous(10 * 4096).expect("memory");
    let mut region = memory.map_mut(..).expect("mapped");
    region.write_at(0, &pattern(0, 10 * 4096)).expect("inside");
    let at = region.as_ptr();
    region.advise(Advice::DontNeed).expect("let go of");
    assert_eq!(of_mapping(at, "Rss:"), 0);
    region.populate().expect("brought");
    assert_eq!(of_mapping(at, "Rss:"), 10 * 4096);
    region.lock_in_memory().expect("40 KiB may be locked");
    assert_eq!(of_mapping(at, "Locked:"), 10 * 4096);
    assert!(matches!(region.advise(Advice::DontNeed), Err(Error::Os { .. })), "it is locked");
    region.unlock_from_memory().expect("unlocked");
    assert_eq!(of_mapping(at, "Locked:"), 0);
    assert_eq!(bytes_of(10 * 4096, |to| region.read_at(0, to).expect("inside")), pattern(0, 10 * 4096));

    // The advice is there to be seen: read ahead, and not.
    for (advice, flag) in [(Advice::Random, "rr"), (Advice::Sequential, "sr"), (Advice::Normal, "")] {
        region.advise(advice).expect("advice");
        let text = fs::read_to_string("/proc/self/smaps").expect("what is mapped");
        let start = format!("{:x}-", at.addr());
        let flags = text.lines().skip_while(|line| !line.starts_with(&start));
        let flags = flags.skip(1).find(|line| line.starts_with("VmFlags:")).expect("flags");
        let found: Vec<&str> = flags.split_whitespace().filter(|it| ["rr", "sr"].contains(it)).collect();
        assert_eq!(found.concat(), flag);
    }

    let mut copy = memory.map_copy(..).expect("mapped");
    copy.write_at(0, &[1]).expect("inside");
    assert_eq!(of_mapping(copy.as_ptr(), "Anonymous:"), 4096);
    copy.populate().expect("copied");
    assert_eq!(of_mapping(copy.as_ptr(), "Anonymous:"), 10 * 4096);
}

#[test]
fn huge_pages_are_a_request_and_their_number_is_said() {
    if ON_THE_HEAP {
        return;
    }
    const HUGE: u64 = 2 << 20;
    let memory = Memory::anonymous(4 * HUGE).expect("memory");
    let mut region = memory.map_mut(..).expect("mapped");
    region.write_at(0, &pattern(0, 4 * HUGE as usize)).expect("inside");
    let got = region.request_huge_pages().expect("a request is not refused");
    assert!(got <= 4 * HUGE && got.is_multiple_of(HUGE), "{got}");
    assert!(bytes_of(4 * HUGE as usize, |to| region.read_at(0, to).expect("inside")) == pattern(0, 4 * HUGE as usize));
    let small = Memory::anonymous(4096).expect("memory").map(..).expect("mapped");
    assert_eq!(small.request_huge_pages().expect("a request is not refused"), 0);
    if got == 0 {
        let _ = writeln!(io::stderr(), "SKIPPED: this system gives no huge pages to anonymous memory");
    } else {
        assert_eq!(of_mapping(region.as_ptr(), "ShmemPmdMapped:"), got);
    }
}

#[test]
fn the_limit_of_locked_memory_is_named() {
    if ON_THE_HEAP {
        return;
    }
    let dir = Dir::new();
    let limited = ["sh", "-c", "ulimit -l 64 && exec \"$@\"", "sh"].map(str::to_owned);
    let dropped = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-all"].map(str::to_owned);
    // SAFETY: the call takes nothing.
    let is_root = unsafe { libc::geteuid() } == 0;
    let wrapper: Vec<String> = limited.into_iter().chain(is_root.then_some(dropped).into_iter().flatten()).collect();
    let mut wrappers = vec![wrapper];
    // Whoever is root in a container of his own has the right there, and it counts for nothing.
    let container = ["unshare", "--user", "--map-root-user"];
    if Command::new(container[0]).args(&container[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        wrappers.push(
            ["sh", "-c", "ulimit -l 64 && exec \"$@\"", "sh"].into_iter().chain(container).map(str::to_owned).collect(),
        );
    } else {
        let _ = writeln!(io::stderr(), "SKIPPED: no user namespace can be made");
    }
    for wrapper in wrappers {
        let mut child = spawn_under(&wrapper, dir.path(), "lock too much", &[]);
        child.expect("right");
        assert!(child.finish().success());
    }
}

fn lock_too_much() {
    let memory = Memory::anonymous(100 * 4096).expect("memory");
    let few = memory.map(..4096).expect("mapped");
    few.lock_in_memory().expect("a page may be locked");
    let error = memory.map(..).expect("mapped").lock_in_memory().expect_err("64 KiB may be");
    let Error::NoSpace { need, available, .. } = error else { panic!("{error:?}") };
    assert_eq!((need, available), (100 * 4096, 64 * 1024 - 4096));
    for part in ["'anonymous memory'", "65536 bytes", "ulimit -l", "--ulimit memlock"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    say("right");
}
