//! Values that are read while they may be written: one place, or two in turns, and a sequence that says which is
//! complete.
//!
//! Sequence: version (63 bits) | the write of the next version has begun (1 bit). Version v lies at place v mod
//! `PLACES`, so the write of version v + `PLACES` is the next one into the place of v. Method: sequence locks, with the
//! fences of Boehm, "Can seqlocks get along with programming language memory models?" (2012). The words of a value are
//! relaxed atomics: a read that a write disturbs reads some old and some new words, which is no race, and is thrown
//! away.
#![allow(unsafe_code)]

use super::seqcell::SeqCell;
use super::versioned::Versioned;
use crate::prim::{self, AtomicU8, AtomicU64, Ordering};
use crate::segment::{Layout, Schema, Shareable, field_path};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// A value as words, of which each is read and written for itself.
#[repr(C, align(8))]
struct Words<T>(UnsafeCell<T>);

// SAFETY: through a shared reference the value is accessed by atomics only; a copy of it goes to any thread.
unsafe impl<T: Send> Sync for Words<T> {}

impl<T: Shareable<Tail = ()> + Copy> Words<T> {
    /// How many words of 8 bytes there are; what is left is read and written byte by byte.
    const WHOLE: usize = size_of::<T>() / 8;

    const fn new(value: T) -> Self {
        const {
            assert!(T::PLAIN, "a value that is copied holds no atomics and no locks");
            assert!(!T::LAYOUT.is_padded(), "a value that is copied has no padding: add fields that fill it");
        }
        Self(UnsafeCell::new(value))
    }

    /// The word at `index`.
    fn word(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < Self::WHOLE);
        // SAFETY: it lies in the value, aligned to 8 as all of it is; while there are shared references, this word is
        // accessed as this atomic only, by this process and by all that keep to the protocol.
        unsafe { &*self.0.get().cast::<AtomicU64>().add(index) }
    }

    /// The byte at `index`, behind the last word.
    fn byte(&self, index: usize) -> &AtomicU8 {
        debug_assert!((Self::WHOLE * 8..size_of::<T>()).contains(&index));
        // SAFETY: as in `word`.
        unsafe { &*self.0.get().cast::<AtomicU8>().add(index) }
    }

    fn load(&self) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let bytes = value.as_mut_ptr().cast::<u8>();
        for index in 0..Self::WHOLE {
            let word = self.word(index).load(Ordering::Relaxed);
            // SAFETY: the 8 bytes lie in `value`; nothing is said of their alignment.
            unsafe { bytes.cast::<u64>().add(index).write_unaligned(word) };
        }
        for index in Self::WHOLE * 8..size_of::<T>() {
            // SAFETY: the byte lies in `value`.
            unsafe { bytes.add(index).write(self.byte(index).load(Ordering::Relaxed)) };
        }
        // SAFETY: all bytes are written, and every byte pattern is a value of a `Shareable`.
        unsafe { value.assume_init() }
    }

    fn store(&self, value: &T) {
        let bytes = std::ptr::from_ref(value).cast::<u8>();
        for index in 0..Self::WHOLE {
            // SAFETY: the 8 bytes lie in `value`, and all are initialised: `new` and `LAYOUT` have seen that there is
            // no padding. Nothing is said of their alignment.
            let word = unsafe { bytes.cast::<u64>().add(index).read_unaligned() };
            self.word(index).store(word, Ordering::Relaxed);
        }
        for index in Self::WHOLE * 8..size_of::<T>() {
            // SAFETY: as above, of one byte.
            self.byte(index).store(unsafe { bytes.add(index).read() }, Ordering::Relaxed);
        }
    }
}

/// See the module. Zeroed, it is a complete value whose bytes are zero.
#[repr(C)]
pub(super) struct Copies<T, const PLACES: usize> {
    sequence: AtomicU64,
    places: [Words<T>; PLACES],
}

/// A write of the next version has begun.
const BEGUN: u64 = 1;

impl<T: Shareable<Tail = ()> + Copy, const PLACES: usize> Copies<T, PLACES> {
    pub(super) fn new(value: T) -> Self {
        Self { sequence: AtomicU64::new(0), places: std::array::from_fn(|_| Words::new(value)) }
    }

    /// The place of the version that a sequence says is complete, or of the one after that.
    fn place(&self, sequence: u64, next: u64) -> &Words<T> {
        &self.places[((sequence >> 1).wrapping_add(next) % PLACES as u64) as usize]
    }

    /// The last complete value, unless a write into its place began before it was read whole.
    pub(super) fn read(&self) -> Option<T> {
        // ORDERING: Acquire pairs with both Release stores in `write`, of whichever version: its value is complete.
        let seen = self.sequence.load(Ordering::Acquire);
        let value = self.place(seen, 0).load();
        // ORDERING: pairs with the fence in `write`: if any word read above is of a later write, that one's beginning,
        // or what came after it, is seen below.
        prim::fence(Ordering::Acquire);
        let gone = self.sequence.load(Ordering::Relaxed).wrapping_sub(seen & !BEGUN);
        (gone < 2 * PLACES as u64 - 1).then_some(value)
    }

    /// Makes `value` the next version. Whoever calls this holds the writers' lock.
    pub(super) fn write(&self, value: &T) {
        let seen = self.sequence.load(Ordering::Relaxed);
        // Set already, if a writer died: then the value in this place is none, and nobody reads it.
        let begun = seen | BEGUN;
        // ORDERING: Release pairs with the Acquire in `read`: who finds this also finds the value of the version
        // before, which the writers' lock has brought here. The fence pairs with the one in `read`.
        self.sequence.store(begun, Ordering::Release);
        prim::fence(Ordering::Release);
        self.place(seen, 1).store(value);
        // ORDERING: Release pairs with the Acquire in `read`.
        self.sequence.store(begun.wrapping_add(1), Ordering::Release);
    }
}

macro_rules! copied {
    ($($type:ident: $kind:literal, $places:literal),*) => {$(
        // SAFETY: `repr(C)` of a lock, an atomic word and copies of a `Shareable` value that change by atomics only,
        // and are not given out by reference; every byte pattern is a value, and `from_base` is a cast.
        unsafe impl<T: Shareable<Tail = ()> + Copy> Shareable for $type<T> {
            type Tail = ();
            const LAYOUT: Layout = {
                assert!(T::PLAIN && !T::LAYOUT.is_padded(), "a value that is copied is plain, and has no padding");
                Layout::of::<Self>()
            };
            const PLAIN: bool = false;

            fn describe(schema: &mut Schema, path: &str, offset: usize) {
                schema.line(path, $kind, offset, size_of::<Self>());
                schema.line(&field_path(path, "writer"), "mutex", offset, size_of::<u64>());
                let copies = offset + std::mem::offset_of!(Self, copies);
                schema.line(&field_path(path, "sequence"), "atomic u64", copies, size_of::<u64>());
                let places = copies + std::mem::offset_of!(Copies<T, $places>, places);
                let (path, kind) = (field_path(path, "values"), concat!("array of ", $places));
                schema.line(&path, kind, places, $places * size_of::<Words<T>>());
                T::describe(schema, &field_path(&path, "[]"), places);
            }

            fn from_base(base: *mut u8, (): ()) -> *mut Self {
                base.cast()
            }
        }
    )*};
}

copied!(SeqCell: "seqcell", 1, Versioned: "versioned", 2);
