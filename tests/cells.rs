//! `Versioned` and `SeqCell` between threads and real processes.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, times};
use memlane::{LockError, Name, Options, Segment, SeqCell, Shareable, Versioned, held_locks, retire};
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

/// All of it is `number`, or a mixture that nobody wrote.
type Frame = [u64; 12];

#[derive(Shareable)]
#[repr(C)]
struct Shared {
    versioned: Versioned<Frame>,
    cell: SeqCell<Frame>,
    stop: AtomicU64,
}

fn create(name: &Name) -> Segment<Shared> {
    let init = |shared: &mut Shared| shared.cell = SeqCell::new([7; 12]);
    Segment::create(name, (), &Options::new(), init).expect("a fresh object")
}

fn number(frame: Frame) -> u64 {
    assert!(frame.iter().all(|word| *word == frame[0]), "torn: {frame:?}");
    frame[0]
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, _)) = role() else { return };
    let shared = Segment::<Shared>::open("c").expect("the parent's object");
    match role.as_str() {
        "update and hold" => shared
            .cell
            .update(&shared, |_| {
                say("inside");
                hear();
            })
            .expect("its turn"),
        "update versioned and hold" => {
            let hold = |_: &mut Frame| {
                say("inside");
                hear();
            };
            shared.versioned.update(&shared, hold).expect("its turn");
        }
        "count" => {
            say("here");
            while shared.stop.load(Ordering::Relaxed) == 0 {
                count(&shared);
            }
        }
        other => panic!("no role {other}"),
    }
}

/// The next number, for both.
fn count(shared: &Segment<Shared>) {
    shared.versioned.update(shared, |frame| *frame = [frame[0] + 1; 12]).expect("its turn");
    match shared.cell.update(shared, |frame| *frame = [frame[0] + 1; 12]) {
        Ok(()) => {}
        Err(LockError::NeedsRepair { .. }) => {
            shared.cell.write(shared, [1_000_000 + number(shared.versioned.read()); 12]).expect("its turn")
        }
        Err(error) => panic!("{error}"),
    }
}

/// Reads both, which never go back.
fn read(shared: &Segment<Shared>, last: &mut u64) {
    let now = number(shared.versioned.read());
    assert!(now >= *last, "{now} after {last}");
    *last = now;
    match shared.cell.read(shared) {
        Ok(frame) => drop(number(frame)),
        Err(LockError::NeedsRepair { .. } | LockError::TimedOut { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_written_is_read() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let other = Segment::<Shared>::open(dir.name("c")).expect("the same object");
    assert_eq!((number(other.versioned.read()), number(other.cell.read(&other).expect("a value"))), (0, 7));
    for round in 1..5 {
        shared.versioned.write(&shared, [round; 12]).expect("nobody else writes");
        shared.cell.write_timeout(&shared, [round; 12], SHORT).expect("nobody else writes");
        assert_eq!((number(other.versioned.read()), number(other.cell.read(&other).expect("a value"))), (round, round));
        other.versioned.update_timeout(&other, |frame| frame.fill(9), SHORT).expect("nobody else writes");
        other.cell.update(&other, |frame| frame.fill(9)).expect("nobody else writes");
        other.versioned.write_timeout(&other, [round + 100; 12], SHORT).expect("nobody else writes");
        assert_eq!(
            (number(shared.versioned.read()), number(shared.cell.read(&shared).expect("a value"))),
            (round + 100, 9)
        );
    }
}

/// Values of any size: their last bytes are no whole word.
#[test]
fn values_of_any_size_are_read_whole() {
    #[derive(Shareable)]
    #[repr(C)]
    struct Sizes {
        one: Versioned<u8>,
        five: SeqCell<[u8; 5]>,
        six: Versioned<[u16; 3]>,
        twelve: SeqCell<[u32; 3]>,
        wide: Versioned<[u128; 3]>,
        nine: SeqCell<[u8; 9]>,
    }
    let dir = Dir::new();
    let init = |sizes: &mut Sizes| sizes.one = Versioned::new(3);
    let sizes = Segment::<Sizes>::create(dir.name("c"), (), &Options::new(), init).expect("a fresh object");
    assert_eq!(sizes.one.read(), 3);
    for round in 0..3_u8 {
        let byte = |index: usize| round * 50 + index as u8;
        let nine: [u8; 9] = std::array::from_fn(byte);
        let wide = [1, 2, 3].map(|factor| u128::MAX / (factor + u128::from(round)));
        sizes.one.write(&sizes, byte(1)).expect("nobody else writes");
        sizes.five.write(&sizes, std::array::from_fn(byte)).expect("nobody else writes");
        sizes.six.write(&sizes, [0x1234 + u16::from(round), 0x5678, 0x9abc]).expect("nobody else writes");
        sizes.twelve.write(&sizes, [u32::MAX - 1, u32::from(round), 77]).expect("nobody else writes");
        sizes.wide.write(&sizes, wide).expect("nobody else writes");
        sizes.nine.write(&sizes, nine).expect("nobody else writes");
        assert_eq!((sizes.one.read(), sizes.five.read(&sizes).ok()), (byte(1), Some(std::array::from_fn(byte))));
        assert_eq!(sizes.six.read(), [0x1234 + u16::from(round), 0x5678, 0x9abc]);
        assert_eq!(sizes.twelve.read(&sizes).ok(), Some([u32::MAX - 1, u32::from(round), 77]));
        assert_eq!((sizes.wide.read(), sizes.nine.read(&sizes).ok()), (wide, Some(nine)));
    }
}

#[test]
fn nobody_reads_a_mixture() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let done = AtomicBool::new(false);
    let writes = if cfg!(miri) { 10 } else { times(20_000, 1_000_000) };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    read(&shared, &mut last);
                }
            });
        }
        let writers: Vec<_> = (0..2).map(|_| scope.spawn(|| (0..writes).for_each(|_| count(&shared)))).collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(number(shared.versioned.read()), 2 * writes, "no update was lost");
    assert_eq!(number(shared.cell.read(&shared).expect("nobody died")), 7 + 2 * writes);
}

#[test]
fn two_write_a_cell_in_turns() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let writes = if cfg!(miri) { 10 } else { times(50_000, 1_000_000) };
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let shared = &shared;
            scope.spawn(move || {
                for round in 0..writes {
                    shared.cell.write(shared, [2 * round + writer; 12]).expect("its turn");
                    if round % 8 == 0 {
                        number(shared.cell.read(shared).expect("nobody dies"));
                    }
                }
            });
        }
    });
    assert!(number(shared.cell.read(&shared).expect("nobody died")) >= 2 * (writes - 1));
}

#[test]
fn who_writes_may_not_write_within_that() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let again =
        |ended: Result<(), LockError>| assert!(matches!(ended, Err(LockError::AlreadyLocked { .. })), "{ended:?}");
    shared.versioned.update(&shared, |_| again(shared.versioned.write(&shared, [1; 12]))).expect("its turn");
    shared.cell.update(&shared, |_| again(shared.cell.write(&shared, [1; 12]))).expect("its turn");
    // It has not begun to write: the value is there.
    shared.cell.update(&shared, |_| assert!(shared.cell.read(&shared).is_ok())).expect("its turn");
    let panics = std::panic::AssertUnwindSafe(|| {
        let _ = shared.versioned.update(&shared, |frame| {
            frame[0] = 99;
            panic!("on purpose")
        });
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(number(shared.versioned.read()), 0, "nothing has happened");
    shared.versioned.write(&shared, [2; 12]).expect("nobody writes");
}

#[test]
fn of_a_retired_object_the_versioned_value_stays() {
    let dir = Dir::new();
    let (shared, elsewhere) = (create(&dir.name("c")), create(&dir.name("d")));
    let refused =
        |ended: Result<(), LockError>| assert!(matches!(ended, Err(LockError::NotInSegment { .. })), "{ended:?}");
    refused(shared.versioned.write(&elsewhere, [1; 12]));
    refused(shared.cell.update(&elsewhere, |_| ()));
    refused(shared.cell.read(&elsewhere).map(drop));
    shared.versioned.write(&shared, [1; 12]).expect("nobody writes");
    retire(dir.name("c")).expect("it is there");
    assert_eq!(number(shared.versioned.read()), 1);
    let retired = |ended: Result<(), LockError>| assert!(matches!(ended, Err(LockError::Retired { .. })), "{ended:?}");
    retired(shared.versioned.write(&shared, [2; 12]));
    retired(shared.cell.read(&shared).map(drop));
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_writer_is_named_and_if_it_is_killed_succeeded() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let mut child = spawn(dir.path(), "update and hold", &[]);
    child.expect("inside");
    assert_eq!(number(shared.cell.read(&shared).expect("it has not begun to write")), 7);
    for waited in [
        shared.cell.write_timeout(&shared, [8; 12], SHORT),
        shared.cell.update_timeout(&shared, |_| panic!("somebody is at it"), SHORT),
    ] {
        let named = matches!(&waited, Err(LockError::TimedOut { holder: Some(who), .. }) if who.pid == child.pid());
        assert!(named, "{waited:?}");
    }
    let held = held_locks(dir.name("c")).expect("it can be read");
    assert!(held.len() == 1 && held[0].lock == "cell.writer", "{held:?}");
    // As if it had been stopped in the middle of its write: docs/DESIGN.md says where the sequence lies.
    let sequence = set_begun(&dir, offset_of!(Shared, cell));
    assert_eq!(sequence & 1, 0);
    let read = shared.cell.read(&shared);
    assert!(matches!(&read, Err(LockError::TimedOut { holder: Some(who), .. }) if who.pid == child.pid()), "{read:?}");
    child.kill();
    for _ in 0..2 {
        let lost = shared.cell.read(&shared);
        assert!(matches!(lost, Err(LockError::NeedsRepair { .. })), "{lost:?}");
        assert!(matches!(shared.cell.update(&shared, |_| ()), Err(LockError::NeedsRepair { .. })));
    }
    let text = shared.cell.read(&shared).expect_err("it needs repair").to_string();
    assert!(text.starts_with("a writer died while it changed `cell` of 'c': take the write lock and repair"), "{text}");
    shared.cell.write(&shared, [9; 12]).expect("it is succeeded");
    assert_eq!(number(shared.cell.read(&shared).expect("it is mended")), 9);
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts a process")]
fn a_writer_of_a_versioned_value_is_named_and_waited_for_by_writers_alone() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let mut child = spawn(dir.path(), "update versioned and hold", &[]);
    child.expect("inside");
    assert_eq!(number(shared.versioned.read()), 0, "who reads waits for nobody");
    for waited in [
        shared.versioned.write_timeout(&shared, [8; 12], SHORT),
        shared.versioned.update_timeout(&shared, |_| panic!("somebody is at it"), SHORT),
    ] {
        let named = matches!(&waited, Err(LockError::TimedOut { holder: Some(who), .. }) if who.pid == child.pid());
        assert!(named, "{waited:?}");
    }
    child.kill();
    shared.versioned.write(&shared, [9; 12]).expect("it is succeeded");
    assert_eq!(number(shared.versioned.read()), 9);
}

/// Says in the sequence of the value at `offset` that a write has begun; returns what it was.
fn set_begun(dir: &Dir, offset: usize) -> u64 {
    let file = std::fs::File::options().read(true).write(true).open(dir.path().join("c")).expect("the object");
    let mut word = [0; 8];
    file.read_exact_at(&mut word, 40).expect("where the user's bytes begin");
    let at = u64::from_ne_bytes(word) + offset as u64 + 8;
    file.read_exact_at(&mut word, at).expect("the sequence");
    file.write_all_at(&(u64::from_ne_bytes(word) | 1).to_ne_bytes(), at).expect("the sequence");
    u64::from_ne_bytes(word)
}

#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "writes the object's file")]
fn a_versioned_value_is_whole_though_a_writer_died_in_the_middle() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    for round in 1..6 {
        set_begun(&dir, offset_of!(Shared, versioned));
        assert_eq!(number(shared.versioned.read()), round - 1, "the old one");
        shared.versioned.write(&shared, [round; 12]).expect("it is succeeded");
        assert_eq!(number(shared.versioned.read()), round);
    }
}

/// Writers are killed at any moment: who reads finds what was written whole, and who writes goes on.
#[test]
#[cfg_attr(any(miri, memlane_heap), ignore = "starts processes")]
fn no_kill_makes_a_mixture_or_stops_anybody() {
    let dir = Dir::new();
    let shared = create(&dir.name("c"));
    let (mut last, mut kills) = (0, 0);
    let start = || {
        let mut child = spawn(dir.path(), "count", &[]);
        child.expect("here");
        child
    };
    let mut writers: Vec<Child> = (0..2).map(|_| start()).collect();
    while kills < times(15, 1_000) {
        for _ in 0..500 {
            read(&shared, &mut last);
        }
        let victim = kills as usize % 2;
        writers[victim].kill();
        kills += 1;
        let next = |frame: &mut Frame| *frame = [frame[0] + 1; 12];
        shared.versioned.update_timeout(&shared, next, PATIENCE).expect("the dead are succeeded");
        shared.cell.write_timeout(&shared, [kills; 12], PATIENCE).expect("the dead are succeeded");
        writers[victim] = start();
    }
    shared.stop.store(1, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| assert!(writer.finish().success(), "it found something wrong"));
}
