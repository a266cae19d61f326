//! What a type looks like in shared memory: as the compiler lays it out, and the same for both sides or not at all.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::Dir;
use memlane::{
    Bool, Condvar, Error, Event, Layout, Mutex, Options, OwnerId, Placed, Region, RegionMut, Segment, Shareable,
    SharedMemory,
};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

#[derive(Debug, Shareable)]
#[repr(C)]
struct Inner {
    large: u128,
    small: u8,
}

/// Every kind of field, with padding between most of them.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Mixed {
    byte: u8,
    ready: Bool,
    word: i64,
    atomic: AtomicU8,
    inner: [Inner; 2],
    single: Inner,
    after: u8,
    changed: Condvar,
    event: Event,
    owner: OwnerId,
    lock: Mutex<u16>,
    factor: f32,
    tail: [u32],
}

/// The same with an empty array for the tail: the compiler tells the offsets of nothing that has no size.
#[repr(C)]
struct Shadow<const N: usize> {
    byte: u8,
    ready: Bool,
    word: i64,
    atomic: AtomicU8,
    inner: [Inner; 2],
    single: Inner,
    after: u8,
    changed: Condvar,
    event: Event,
    owner: OwnerId,
    lock: Mutex<u16>,
    factor: f32,
    tail: [u32; N],
}

/// Fields that end in padding: what follows them starts after it.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Locked {
    lock: Mutex<u16>,
    after: u8,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Nested {
    locked: Locked,
    after: u8,
    inner: Inner,
    last: u8,
}

fn raw(dir: &Dir, size: u64) -> RegionMut {
    SharedMemory::create(dir.name("raw"), size, &Options::new()).expect("fresh").map_mut().expect("mapped")
}

/// The message that an object of raw bytes is not a `T`: it shows all of `T`.
fn shown<T: Shareable + ?Sized>() -> String {
    let dir = Dir::new();
    let _raw = raw(&dir, 10);
    Segment::<T>::open(dir.name("raw")).map(drop).expect_err("raw bytes").to_string()
}

#[test]
fn a_schema_has_the_compilers_offsets_and_sizes() {
    let text = shown::<Mixed>();
    let fields: [(&str, &str, usize, usize); 17] = [
        ("byte", "u8", offset_of!(Shadow<0>, byte), 1),
        ("ready", "bool", offset_of!(Shadow<0>, ready), 1),
        ("word", "i64", offset_of!(Shadow<0>, word), 8),
        ("atomic", "atomic u8", offset_of!(Shadow<0>, atomic), 1),
        ("inner", "array of 2", offset_of!(Shadow<0>, inner), 2 * size_of::<Inner>()),
        ("inner.[]", "Inner", offset_of!(Shadow<0>, inner), size_of::<Inner>()),
        ("inner.[].large", "u128", offset_of!(Shadow<0>, inner) + offset_of!(Inner, large), 16),
        ("single", "Inner", offset_of!(Shadow<0>, single), size_of::<Inner>()),
        ("after", "u8", offset_of!(Shadow<0>, after), 1),
        ("changed", "condvar", offset_of!(Shadow<0>, changed), 4),
        ("event", "event", offset_of!(Shadow<0>, event), 4),
        ("owner", "owner id", offset_of!(Shadow<0>, owner), 8),
        ("lock", "mutex", offset_of!(Shadow<0>, lock), 8),
        ("lock.data", "u16", offset_of!(Shadow<0>, lock) + 8, 2),
        ("factor", "f32", offset_of!(Shadow<0>, factor), 4),
        ("tail", "flexible tail", offset_of!(Shadow<0>, tail), 0),
        ("tail.[]", "u32", offset_of!(Shadow<0>, tail), 4),
    ];
    assert!(text.contains("the object holds raw bytes"), "{text}");
    for (path, kind, offset, size) in fields {
        let line = format!("field `{path}`: only in this program, {kind} at {offset}, {size} bytes\n");
        assert!(format!("{text}\n").contains(&line), "{line} in {text}");
    }
    assert!(text.contains(&format!("the type: only in this program, Mixed at 0, {} bytes", size_of::<Shadow<0>>())));
}

#[test]
fn a_layout_has_the_compilers_sizes() {
    const LAYOUT: Layout = Mixed::LAYOUT;
    assert_eq!(LAYOUT.align(), align_of::<Shadow<0>>());
    assert_eq!(LAYOUT.size(0), Some(size_of::<Shadow<0>>()));
    assert_eq!(LAYOUT.size(1), Some(size_of::<Shadow<1>>()));
    assert_eq!(LAYOUT.size(3), Some(size_of::<Shadow<3>>()));
    assert_eq!(LAYOUT.size(4), Some(size_of::<Shadow<4>>()));
    assert_eq!(LAYOUT.size(1001), Some(size_of::<Shadow<1001>>()));
    assert_eq!(<Locked as Shareable>::LAYOUT.size(0), Some(size_of::<Locked>()));
    assert_eq!(<Nested as Shareable>::LAYOUT.size(0), Some(size_of::<Nested>()));
    assert_eq!(<Inner as Shareable>::LAYOUT.size(0), Some(size_of::<Inner>()));
    assert!(LAYOUT.has_tail() && Layout::of_tail::<u8>().has_tail() && !Layout::of::<u8>().has_tail());
}

#[test]
fn a_layout_larger_than_the_address_space_is_none() {
    let most = (1..16).fold(Layout::EMPTY, |layout, _| layout.with(Layout::of::<[u8; 1 << 60]>()));
    assert_eq!(most.size(0), None);
    let all = most.with(Layout::of::<[u8; (1 << 60) - 1]>()); // 2^64 - 1 bytes
    for field in [Layout::of::<u8>(), Layout::of::<u64>()] {
        assert!(std::panic::catch_unwind(|| all.with(field)).is_err());
    }
    assert_eq!(Layout::of_tail::<u64>().size(u64::MAX), None);
}

#[test]
fn a_value_lies_where_the_compiler_looks_for_it() {
    let dir = Dir::new();
    let mixed = Segment::<Mixed>::create(dir.name("mixed"), 5, &Options::new(), |mixed| {
        mixed.word = -7;
        mixed.inner[1].large = u128::MAX;
        mixed.factor = 0.5;
        mixed.tail.copy_from_slice(&[1, 2, 3, 4, 5]);
        *mixed.lock.get_mut() = 9;
    });
    let mixed = mixed.expect("a fresh object");
    let base = mixed.region().as_ptr().addr();
    assert_eq!((&raw const mixed.word).addr() - base, offset_of!(Shadow<5>, word));
    assert_eq!((&raw const mixed.inner).addr() - base, offset_of!(Shadow<5>, inner));
    assert_eq!((&raw const mixed.after).addr() - base, offset_of!(Shadow<5>, after));
    assert_eq!((&raw const mixed.lock).addr() - base, offset_of!(Shadow<5>, lock));
    assert_eq!((&raw const mixed.tail).addr() - base, offset_of!(Shadow<5>, tail));
    assert_eq!((size_of_val(&*mixed), mixed.region().len()), (size_of::<Shadow<5>>(), size_of::<Shadow<5>>()));

    let mut tail = [0; 20];
    let bytes = Region::open(dir.name("mixed")).expect("it is there");
    bytes.read_at(offset_of!(Shadow<5>, tail), &mut tail).expect("inside");
    assert_eq!(tail, [1_u32, 2, 3, 4, 5].map(u32::to_ne_bytes).concat()[..]);
    let other = Segment::<Mixed>::open(dir.name("mixed")).expect("the same type");
    assert_eq!((other.word, other.inner[1].large, other.factor, other.tail.len()), (-7, u128::MAX, 0.5, 5));
    assert_eq!(*other.lock.lock(&other).expect("the lock").or_repair(|_| ()), 9);
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Bytes {
    kind: u16,
    bytes: [u8],
}

/// Aligned to more than its tail and what is around it.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Aligned {
    large: u128,
    small: u8,
    bytes: Mutex<Bytes>,
}

#[test]
fn a_tail_inside_of_other_types_ends_where_the_compiler_ends_it() {
    let dir = Dir::new();
    for tail in 0..40 {
        let aligned = Segment::<Aligned>::create(dir.name("aligned"), tail, &Options::new(), |_| ()).expect("fresh");
        assert_eq!(size_of_val(&*aligned), aligned.region().len(), "{tail} bytes");
        let mut bytes = aligned.bytes.lock(&aligned).expect("the lock").or_repair(|_| ());
        assert_eq!(bytes.bytes.len(), tail);
        bytes.bytes.fill(0xff);
    }
}

/// Versions of one struct, as two programs may have them.
mod version {
    use memlane::{Mutex, Shareable};

    macro_rules! frame {
        ($module:ident: $($field:ident: $type:ty),*) => {
            pub(crate) mod $module {
                #[allow(unused_imports, reason = "not every version has a lock")]
                use super::*;

                #[derive(Debug, Shareable)]
                #[repr(C)]
                pub(crate) struct Frame { $($field: $type),* }
            }
        };
    }

    frame!(first: width: u32, height: u32, pixels: [u8]);
    frame!(same: width: u32, height: u32, pixels: [u8]);
    frame!(other_type: width: u32, height: i32, pixels: [u8]);
    frame!(other_name: width: u32, rows: u32, pixels: [u8]);
    frame!(other_order: height: u32, width: u32, pixels: [u8]);
    frame!(other_element: width: u32, height: u32, pixels: [u16]);
    frame!(locked_tail: width: u32, height: u32, pixels: Mutex<[u8]>);
    frame!(longer: width: u32, height: u32, depth: u32, pixels: [u8]);
    frame!(without_tail: width: u32, height: u32);
}

/// The differences between the first version in an object and a program that expects a `T`.
fn difference<T: Shareable + ?Sized>() -> Vec<String> {
    let dir = Dir::new();
    let frame = Segment::<version::first::Frame>::create(dir.name("cam"), 100, &Options::new(), |_| ());
    let _frame = frame.expect("a fresh object");
    match Segment::<T>::open(dir.name("cam")).map(drop) {
        Err(Error::TypeMismatch { name, difference }) => {
            assert_eq!(name, "cam");
            difference.lines().map(|line| line.trim().to_owned()).collect()
        }
        other => panic!("not the same type: {other:?}"),
    }
}

#[test]
fn two_types_that_differ_are_shown_field_by_field() {
    use version::*;
    assert_eq!(
        difference::<other_type::Frame>(),
        ["field `height`: the object has u32 at 4, 4 bytes, this program i32 at 4, 4 bytes"]
    );
    assert_eq!(
        difference::<other_name::Frame>(),
        [
            "field `height`: only in the object, u32 at 4, 4 bytes",
            "field `rows`: only in this program, u32 at 4, 4 bytes"
        ]
    );
    assert_eq!(
        difference::<other_order::Frame>(),
        [
            "field `width`: at 0, 4 bytes in the object, at 4, 4 bytes in this program",
            "field `height`: at 4, 4 bytes in the object, at 0, 4 bytes in this program",
        ]
    );
    assert_eq!(
        difference::<other_element::Frame>(),
        ["field `pixels.[]`: the object has u8 at 8, 1 bytes, this program u16 at 8, 2 bytes"]
    );
    assert_eq!(
        difference::<longer::Frame>(),
        [
            "field `depth`: only in this program, u32 at 8, 4 bytes",
            "the type: at 0, 8 bytes in the object, at 0, 12 bytes in this program",
            "field `pixels`: at 8, 0 bytes in the object, at 12, 0 bytes in this program",
            "field `pixels.[]`: at 8, 1 bytes in the object, at 12, 1 bytes in this program",
        ]
    );
    assert_eq!(
        difference::<without_tail::Frame>(),
        [
            "field `pixels`: only in the object, flexible tail at 8, 0 bytes",
            "field `pixels.[]`: only in the object, u8 at 8, 1 bytes"
        ]
    );
    let locked = difference::<locked_tail::Frame>();
    let expected = "field `pixels`: the object has flexible tail at 8, 0 bytes, this program mutex at 8, 8 bytes";
    assert!(locked.iter().any(|line| line == expected), "{locked:?}");
    let another = difference::<Inner>();
    assert!(another[0].starts_with("the type: the object has Frame at 0, 8 bytes, this program Inner"), "{another:?}");
}

/// A type that has more to say of itself than an object may.
#[derive(Debug)]
#[repr(transparent)]
struct Wordy(u8);

// SAFETY: as its one byte; what it says of itself is of no consequence to its layout.
unsafe impl Shareable for Wordy {
    type Tail = ();
    const LAYOUT: Layout = Layout::of::<Self>();
    const PLAIN: bool = true;

    fn describe(schema: &mut memlane::Schema, _: &str, offset: usize) {
        schema.line(&"x".repeat(1 << 20), "u8", offset, 1);
    }

    fn from_base(base: *mut u8, (): ()) -> *mut Self {
        base.cast()
    }
}

#[test]
fn a_type_whose_description_is_too_long_is_an_error() {
    let dir = Dir::new();
    let created = Segment::<Wordy>::create(dir.name("cam"), (), &Options::new(), |_| ());
    assert!(matches!(created, Err(Error::TooLarge { .. })), "{created:?}");
}

#[test]
fn two_types_that_differ_everywhere_are_not_shown_without_end() {
    #[derive(Shareable)]
    #[repr(C)]
    struct Five {
        a: [u8; 3],
        b: [u8; 3],
        c: [u8; 3],
        d: [u8; 3],
        e: [u8; 3],
    }
    #[derive(Shareable)]
    #[repr(C)]
    struct Many {
        a: [Five; 2],
        b: Five,
        c: Five,
        d: Five,
        e: Five,
        f: Five,
        g: Five,
        h: Five,
        i: Five,
        j: Five,
    }
    let shown = difference::<Many>();
    assert_eq!(shown.len(), 101);
    assert!(shown[100].starts_with("and ") && shown[100].ends_with(" more"), "{}", shown[100]);
}

#[test]
fn a_value_is_destroyed_when_it_is_asked_for_and_at_no_other_time() {
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    #[derive(Shareable)]
    #[repr(C)]
    struct Counted {
        value: u64,
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            assert_eq!(self.value, 7);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dir = Dir::new();
    let mut value = Segment::<Counted>::create(dir.name("cam"), (), &Options::new(), |it| it.value = 7).expect("new");
    drop(Segment::<Counted>::open(dir.name("cam")).expect("it is there"));
    assert_eq!(DROPPED.load(Ordering::Relaxed), 0, "closing is not destroying");
    // SAFETY: nobody uses the value again.
    unsafe { value.drop_in_place() };
    drop(value);
    assert_eq!(DROPPED.load(Ordering::Relaxed), 1);
}

#[test]
fn two_types_that_agree_open_each_other() {
    let dir = Dir::new();
    let frame = Segment::<version::first::Frame>::create(dir.name("cam"), 100, &Options::new(), |_| ());
    let frame = frame.expect("a fresh object");
    let same = Segment::<version::same::Frame>::open(dir.name("cam")).expect("the same fields");
    assert_eq!(same.region().id(), frame.region().id());
    assert_eq!(size_of_val(&*same), size_of_val(&*frame));
}

#[test]
fn a_value_is_placed_in_raw_bytes_and_found_again() {
    let dir = Dir::new();
    let mut region = raw(&dir, 4096);
    region.write_at(0, &[0xff; 4096]).expect("inside");
    {
        let placed = place::<Mixed>(&mut region, 1024, 3, |mixed| mixed.tail[2] = 7).expect("it fits");
        assert_eq!((placed.byte, placed.word, &placed.tail), (0, 0, &[0, 0, 7][..]), "zeroed, then built");
        *placed.lock.lock(&placed).expect("a lock in place").or_repair(|_| ()) = 5;
    }
    let mut around = [0; 1];
    for outside in [1023, 1024 + size_of::<Shadow<3>>()] {
        region.read_at(outside, &mut around).expect("inside");
        assert_eq!(around, [0xff], "a byte at {outside} that is not its own");
    }
    let mut second = SharedMemory::open(dir.name("raw")).and_then(SharedMemory::map_mut).expect("it is there");
    let found = at::<Mixed>(&second, 1024, 3).expect("it is there");
    assert_eq!((found.tail[2], *found.lock.lock(&second).expect("its lock").or_repair(|_| ())), (7, 5));
    place::<AtomicU32>(&mut second, 0, (), |_| ()).expect("it fits").store(3, Ordering::Relaxed);
    assert_eq!(at::<AtomicU32>(&region, 0, ()).expect("it is there").load(Ordering::Relaxed), 3);
}

#[test]
fn what_does_not_fit_is_not_placed() {
    let dir = Dir::new();
    let mut region = raw(&dir, 100);
    let size = region.len();
    assert_eq!(size, 100);
    for (offset, tail) in [(0, 101), (1, 100), (100, 1), (101, 0), (usize::MAX, 0), (usize::MAX, 1), (50, 51)] {
        let result = place::<[u8]>(&mut region, offset, tail, |_| panic!("not built")).map(drop);
        assert!(matches!(result, Err(Error::OutOfBounds { size: 100, .. })), "{offset} {tail}: {result:?}");
        assert!(at::<[u8]>(&region, offset, tail).is_err());
    }
    for offset in [1, 2, 3, 4, 5, 6, 7, 12] {
        let result = at::<u64>(&region, offset, ()).map(drop);
        assert!(matches!(result, Err(Error::OutOfBounds { align: 8, .. })), "{offset}: {result:?}");
    }
    for tail in [usize::MAX, usize::MAX / 4, isize::MAX as usize, isize::MAX as usize / 4 + 1] {
        let result = at::<[u32]>(&region, 0, tail).map(drop);
        assert!(matches!(result, Err(Error::TooLarge { .. } | Error::OutOfBounds { .. })), "{tail}: {result:?}");
        let created = Segment::<[u32]>::create(dir.name("large"), tail, &Options::new(), |_| ()).map(drop);
        assert!(matches!(created, Err(Error::TooLarge { .. } | Error::NoSpace { .. })), "{tail}: {created:?}");
    }
    place::<[u8]>(&mut region, 100, 0, |_| ()).expect("nothing fits everywhere");
    place::<[u8]>(&mut region, 0, 100, |bytes| bytes.fill(1)).expect("exactly");
    for (offset, len) in [(100, 1), (0, 101), (usize::MAX, 2), (99, 2)] {
        assert!(matches!(region.write_at(offset, &vec![0; len]), Err(Error::OutOfBounds { .. })));
        assert!(matches!(region.read_at(offset, &mut vec![0; len]), Err(Error::OutOfBounds { .. })));
        let read_only = Region::open(dir.name("raw")).expect("it is there");
        assert!(matches!(read_only.read_at(offset, &mut vec![0; len]), Err(Error::OutOfBounds { .. })));
    }
}

#[test]
fn a_bool_that_is_garbage_is_no_bool() {
    let dir = Dir::new();
    let mut region = raw(&dir, 256);
    let all: Vec<u8> = (0..=255).collect();
    region.write_at(0, &all).expect("inside");
    for value in 0..256 {
        let expected = [Some(false), Some(true)].get(value).copied().flatten();
        assert_eq!(at::<Bool>(&region, value, ()).expect("inside").get(), expected, "{value}");
    }
    assert_eq!([true, false].map(|value| Bool::from(value).get()), [Some(true), Some(false)]);
}

#[test]
fn a_panic_in_init_leaves_nothing() {
    let dir = Dir::new();
    let panicked = std::panic::catch_unwind(|| {
        Segment::<Inner>::create(dir.name("cam"), (), &Options::new(), |_| std::panic::resume_unwind(Box::new(())))
    });
    assert!(panicked.is_err() && dir.files().is_empty());
    Segment::<Inner>::create(dir.name("cam"), (), &Options::new(), |_| ()).expect("the name is free");
}

/// As [`RegionMut::place`], in regions that each test has to itself.
fn place<T: Shareable + ?Sized>(
    region: &mut RegionMut,
    offset: usize,
    tail: T::Tail,
    init: impl FnOnce(&mut T),
) -> Result<Placed<'_, T>, Error> {
    // SAFETY: a test uses the bytes of its own region in one way at a time.
    unsafe { region.place(offset, tail, init) }
}

/// As [`RegionMut::at`], likewise.
fn at<T: Shareable + ?Sized>(region: &RegionMut, offset: usize, tail: T::Tail) -> Result<&T, Error> {
    // SAFETY: as above.
    unsafe { region.at(offset, tail) }
}
