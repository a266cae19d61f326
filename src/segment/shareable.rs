//! What may live in shared memory: a closed set of types, and structs made of them.
#![allow(unsafe_code)]

use super::layout::Layout;
use super::schema::{Schema, field_path};
use crate::owner::OwnerId;
use core::sync::atomic::{AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// A type that may live in shared memory. Write `#[derive(Shareable)]` on a `#[repr(C)]` struct.
///
/// Its fields are fixed-width integers, floats, atomics, [`Bool`], [`OwnerId`], arrays of these, locks, and other such
/// structs. The last field may be a slice: a flexible tail, whose length is given when the object is created.
///
/// A plain field is constant once the object has its name; what changes later is atomic or inside a
/// [`Mutex`](crate::Mutex).
///
/// ```
/// use memlane::{Mutex, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Frame {
///     width: u32,
///     height: u32,
///     pixels: [u8],
/// }
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Camera {
///     serial: u64,
///     frame: Mutex<Frame>,
/// }
/// ```
///
/// # Safety
///
/// Every byte pattern is a value of the type; it holds no pointer, reference, handle or padding-dependent state; its
/// layout is fixed (`repr(C)` or `repr(transparent)`) and is what `LAYOUT` says; changing it through `&Self` is
/// atomic or guarded by a lock that works between processes, and impossible if `PLAIN`. `from_base` returns exactly `base`, with `tail` as its
/// metadata. The derive sees to all of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not live in shared memory",
    label = "not `Shareable`",
    note = "instead of `bool` use `memlane::Bool`, of `char` use `u32`, of `usize` use `u64`, of an enum its number",
    note = "instead of `String`, `Vec` or a reference use an array, or a slice as the last field (a flexible tail)",
    note = "a struct of your own needs `#[derive(memlane::Shareable)]` and `#[repr(C)]`"
)]
pub unsafe trait Shareable: Send + Sync {
    /// `()` for a type of fixed size, `usize` (a number of elements) for one with a flexible tail.
    type Tail: Tail;

    /// Size, alignment and tail.
    const LAYOUT: Layout;

    /// Whether nothing in it can change through a shared reference, as atomics and locks can: only then can it be a
    /// message.
    const PLAIN: bool;

    /// Adds the lines that describe the thing of this type at `path` and `offset`.
    fn describe(schema: &mut Schema, path: &str, offset: usize);

    /// The pointer to the thing of this type at `base` with `tail` elements.
    fn from_base(base: *mut u8, tail: Self::Tail) -> *mut Self;
}

/// The length of a flexible tail: `()` where there is none, `usize` elements where there is one.
pub trait Tail: Copy + private::Sealed {
    /// As a number; 0 for none.
    fn to_len(self) -> u64;
    /// Back from a number, if it is possible.
    fn from_len(len: u64) -> Option<Self>;

    /// How many elements a message says that it has.
    #[doc(hidden)]
    fn elements(self) -> u64 {
        self.to_len()
    }

    /// Back from what a message says: its elements, and its length in bytes.
    #[doc(hidden)]
    fn of_message(elements: u64, _len: u64) -> Option<Self> {
        Self::from_len(elements)
    }

    /// Whether a message that is so long may lie in its entry.
    #[doc(hidden)]
    fn may_be_small(self) -> bool {
        true
    }
}

/// `usize` if `HAS`, else `()`: how the derive says [`Shareable::Tail`] without naming a private type.
#[doc(hidden)]
#[derive(Debug)]
pub struct TailIf<const HAS: bool>;

#[doc(hidden)]
pub trait PickTail {
    type Tail: Tail;
}

impl PickTail for TailIf<true> {
    type Tail = usize;
}

impl PickTail for TailIf<false> {
    type Tail = ();
}

pub(crate) mod private {
    /// Keeps `Tail` to the two types that Rust has, and what stands for either.
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for usize {}
}

impl Tail for () {
    fn to_len(self) -> u64 {
        0
    }

    fn from_len(len: u64) -> Option<Self> {
        (len == 0).then_some(())
    }
}

impl Tail for usize {
    fn to_len(self) -> u64 {
        self as u64
    }

    fn from_len(len: u64) -> Option<Self> {
        Self::try_from(len).ok()
    }
}

macro_rules! shareable {
    (PLAIN = $plain:literal; $($type:ty: $name:literal),* $(,)?) => {$(
        // SAFETY: a fixed-width number, atomic or not, or a transparent wrapper of one: every byte pattern is a
        // value, it holds no pointer, and `from_base` is a cast.
        unsafe impl Shareable for $type {
            type Tail = ();
            const LAYOUT: Layout = Layout::of::<Self>();
            const PLAIN: bool = $plain;

            fn describe(schema: &mut Schema, path: &str, offset: usize) {
                schema.line(path, $name, offset, size_of::<Self>());
            }

            fn from_base(base: *mut u8, (): ()) -> *mut Self {
                base.cast()
            }
        }
    )*};
}

shareable! {
    PLAIN = true;
    u8: "u8", u16: "u16", u32: "u32", u64: "u64", u128: "u128",
    i8: "i8", i16: "i16", i32: "i32", i64: "i64", i128: "i128",
    f32: "f32", f64: "f64", Bool: "bool", OwnerId: "owner id",
}

shareable! {
    PLAIN = false;
    AtomicU8: "atomic u8", AtomicU16: "atomic u16", AtomicU32: "atomic u32", AtomicU64: "atomic u64",
    AtomicI8: "atomic i8", AtomicI16: "atomic i16", AtomicI32: "atomic i32", AtomicI64: "atomic i64",
}

// SAFETY: an array is its elements one after the other, and each of them may live in shared memory.
unsafe impl<T: Shareable<Tail = ()>, const N: usize> Shareable for [T; N] {
    type Tail = ();
    const LAYOUT: Layout = Layout::of::<Self>().of_elements(T::LAYOUT);
    const PLAIN: bool = T::PLAIN;

    fn describe(schema: &mut Schema, path: &str, offset: usize) {
        schema.line(path, &format!("array of {N}"), offset, size_of::<Self>());
        T::describe(schema, &field_path(path, "[]"), offset);
    }

    fn from_base(base: *mut u8, (): ()) -> *mut Self {
        base.cast()
    }
}

// SAFETY: a slice is its elements one after the other, and each of them may live in shared memory.
unsafe impl<T: Shareable<Tail = ()>> Shareable for [T] {
    type Tail = usize;
    const LAYOUT: Layout = Layout::of_tail::<T>().of_elements(T::LAYOUT);
    const PLAIN: bool = T::PLAIN;

    fn describe(schema: &mut Schema, path: &str, offset: usize) {
        schema.line(path, Schema::TAIL, offset, 0);
        T::describe(schema, &field_path(path, "[]"), offset);
    }

    fn from_base(base: *mut u8, tail: usize) -> *mut Self {
        std::ptr::slice_from_raw_parts_mut(base.cast(), tail)
    }
}

/// A `bool` for shared memory: one byte, of which 0 is false and 1 is true.
///
/// A plain `bool` there would be undefined behaviour as soon as any process writes a 2.
///
/// ```
/// let ready = memlane::Bool::new(true);
/// assert_eq!(ready.get(), Some(true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// True.
    pub const TRUE: Self = Self::new(true);
    /// False.
    pub const FALSE: Self = Self::new(false);

    /// From a `bool`.
    #[must_use]
    pub const fn new(value: bool) -> Self {
        Self(value as u8)
    }

    /// Whether it is true; a byte that is neither 0 nor 1 is not.
    #[must_use]
    pub const fn is_true(self) -> bool {
        self.0 == 1
    }

    /// The value, or `None` if the byte is neither 0 nor 1: something else wrote there.
    #[must_use]
    pub const fn get(self) -> Option<bool> {
        match self.0 {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self::new(value)
    }
}
