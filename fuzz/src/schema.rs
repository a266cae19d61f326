//! A schema that is any text, in an otherwise sound object: the differences it is shown with, and the names of locks.
#![allow(unsafe_code, reason = "a type whose description is the input")]

use super::object::{SCHEMA, STATE, TABLE, Victim, open_file, u64_at};
use super::{Input, Place, listed, plant, show, sound, tidy};
use memlane::{
    Error, Layout, LockError, Mutex, Options, Persistence, Region, Schema, Segment, Shareable, SharedMemory,
};
use std::cell::RefCell;

/// One lock, described as the input says.
#[repr(C)]
struct Odd {
    lock: Mutex<u64>,
}

thread_local! {
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

// SAFETY: a `repr(C)` struct of one lock, which is `Shareable` itself; `LAYOUT` and `from_base` are the compiler's.
unsafe impl Shareable for Odd {
    type Tail = ();
    const LAYOUT: Layout = Layout::of::<Self>();
    const PLAIN: bool = true;

    fn describe(schema: &mut Schema, path: &str, offset: usize) {
        TEXT.with_borrow(|text| schema.line(&format!("{path}{text}"), "mutex", offset, size_of::<Self>()));
    }

    fn from_base(base: *mut u8, (): ()) -> *mut Self {
        base.cast()
    }
}

/// A text: any bytes, or the schema of a [`Victim`] of which some cells or lines were changed.
fn text(input: &mut Input<'_>, victim: &str) -> Vec<u8> {
    let mut lines: Vec<Vec<Vec<u8>>> =
        victim.lines().map(|line| line.split('\t').map(|cell| cell.as_bytes().to_vec()).collect()).collect();
    let edits = input.byte() % 16;
    for _ in 0..edits {
        if lines.is_empty() {
            break;
        }
        let line = usize::from(input.byte()) % lines.len();
        let cell = usize::from(input.byte()) % lines[line].len().max(1);
        match input.byte() % 8 {
            0 => drop(lines.remove(line)),
            1 => lines.push(lines[line].clone()),
            2 => lines.swap(0, line),
            3 => lines[line].clear(),
            4 => lines[line].push(b"more".to_vec()),
            5 => lines[line].iter_mut().skip(cell).take(1).for_each(|cell| cell.push(input.byte())),
            // Many lines that differ.
            6 => lines.extend((0..input.byte()).map(|number| vec![vec![b'f', number], b"u8".to_vec()])),
            _ => {
                let cell_now: &[u8] = input.pick(&[b"", b"mutex", b"u64", b"0", b"8", b"\x1b[2J", b"-1", b"state"]);
                lines[line].iter_mut().skip(cell).take(1).for_each(|cell| *cell = cell_now.to_vec());
            }
        }
    }
    if edits == 0 {
        return input.rest().to_vec();
    }
    lines.iter().map(|line| line.join(&b'\t')).flat_map(|line| [line, b"\n".to_vec()].concat()).collect()
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let place = Place::new();
    let name = place.name("o");
    let options = Options::new().persistence(Persistence::Keep);
    drop(Segment::<Victim>::create(&name, (), &options, |_| ()).expect("a fresh object"));
    let made = sound(&open_file(&place.file("o"))).expect("just made");
    let text = text(&mut input, &made.schema);
    let mut bytes = std::fs::read(place.file("o")).expect("its bytes");
    set_schema(&mut bytes, &text);
    plant(&place.file("o"), &bytes);

    let header = sound(&open_file(&place.file("o")));
    let opened = Segment::<Victim>::open(&name).map(drop);
    let mapped = SharedMemory::open(&name).and_then(SharedMemory::map_mut).map(drop);
    match header {
        Some(header) => {
            assert_eq!(opened.is_ok(), header.schema == made.schema, "{opened:?}");
            assert_eq!(mapped.is_ok(), header.schema.is_empty(), "{mapped:?}");
            Region::open(&name).expect("it is sound, whatever its type is");
            for error in [opened, mapped].into_iter().filter_map(Result::err) {
                show(&error);
                let Error::TypeMismatch { difference, .. } = error else { panic!("{error:?}") };
                tidy(&difference);
            }
            name_a_lock(&place, header.schema);
        }
        None => {
            for error in [opened.expect_err("a damaged schema"), mapped.expect_err("a damaged schema")] {
                assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
                show(&error);
            }
        }
    }
    listed(&place);
}

/// Gives an object another schema, and moves what is behind it as far as that needs.
fn set_schema(bytes: &mut Vec<u8>, text: &[u8]) {
    let data = (SCHEMA as usize + text.len()).next_multiple_of(4096);
    let user = bytes.split_off(12_288);
    bytes.truncate(SCHEMA as usize);
    bytes.extend_from_slice(text);
    bytes.resize(data, 0);
    bytes.extend_from_slice(&user);
    bytes[40..48].copy_from_slice(&(data as u64).to_ne_bytes());
    bytes[64..68].copy_from_slice(&(text.len() as u32).to_ne_bytes());
    assert!(bytes[STATE as usize..TABLE as usize].len() == 128);
}

/// The lock of an object whose schema ends in that text is named by it.
fn name_a_lock(place: &Place, text: String) {
    TEXT.set(text);
    let name = place.name("odd");
    let mine = Segment::<Odd>::create(&name, (), &Options::new(), |_| ()).expect("a fresh object");
    let peer = Segment::<Odd>::open(&name).expect("the same text");
    let header = sound(&open_file(&place.file("odd"))).expect("just made");
    let _held = peer.lock.try_lock(&peer).expect("it is free");
    assert_ne!(u64_at(&open_file(&place.file("odd")), header.data), 0);
    let error = mine.lock.try_lock(&mine).map(drop).expect_err("it is held");
    let LockError::AlreadyLocked { lock, .. } = error else { panic!("{error:?}") };
    let mut paths = header.schema.lines().filter_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [path, "mutex", "0", _] => Some(format!("`{path}`")),
        _ => None,
    });
    assert_eq!(*lock, *paths.next().unwrap_or("at offset 0".to_owned()));
}
