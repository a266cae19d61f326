//! Sizes and offsets of `#[repr(C)]` structs, also of those that end in a flexible tail, with checked arithmetic.

/// Size, alignment and tail of a type that may live in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The bytes before the tail; the whole size, if there is no tail and `size` is rounded up to `align`.
    size: usize,
    align: usize,
    /// The size of one element of the tail, if there is one.
    element: Option<usize>,
    /// Whether there may be bytes that belong to no field.
    padded: bool,
}

impl Layout {
    /// The layout of a struct without fields yet.
    pub const EMPTY: Self = Self { size: 0, align: 1, element: None, padded: false };

    /// The layout of a type of fixed size.
    #[must_use]
    pub const fn of<T>() -> Self {
        Self { size: size_of::<T>(), align: align_of::<T>(), element: None, padded: false }
    }

    /// The layout of what was described by these numbers, which may be any; `size` is the offset of the tail, if there is
    /// one. It counts as padded, but for slices.
    pub(crate) fn described(size: usize, align: usize, element: Option<usize>) -> Option<Self> {
        let padded = size > 0 || element.is_none();
        size.checked_next_multiple_of(align).map(|_| Self { size, align, element, padded })
    }

    /// The layout of a slice.
    #[must_use]
    pub const fn of_tail<T>() -> Self {
        Self { size: 0, align: align_of::<T>(), element: Some(size_of::<T>()), padded: false }
    }

    /// Where a field of layout `field` would start if it came next in this `#[repr(C)]` struct.
    ///
    /// # Panics
    ///
    /// If the struct is larger than the address space; at compile time, as layouts are constants.
    #[must_use]
    pub const fn next_offset(self, field: Self) -> usize {
        match self.size.checked_next_multiple_of(field.align) {
            Some(offset) => offset,
            None => panic!("the struct is larger than the address space"),
        }
    }

    /// This struct with one more field.
    ///
    /// # Panics
    ///
    /// As [`next_offset`](Self::next_offset), and if a field follows the tail.
    #[must_use]
    pub const fn with(self, field: Self) -> Self {
        assert!(self.element.is_none(), "only the last field may be a flexible tail");
        let align = if field.align > self.align { field.align } else { self.align };
        // A field ends where its own padding ends, but for a tail, which starts before that.
        let size = if field.element.is_none() { field.base_size() } else { field.size };
        let offset = self.next_offset(field);
        let padded = self.padded || offset != self.size || field.is_padded();
        match offset.checked_add(size) {
            Some(size) => Self { size, align, element: field.element, padded },
            None => panic!("the struct is larger than the address space"),
        }
    }

    /// The same, of elements that may be padded.
    #[must_use]
    pub(crate) const fn of_elements(self, element: Self) -> Self {
        Self { padded: element.is_padded(), ..self }
    }

    /// Whether there may be bytes that belong to no field, also behind the last one.
    pub(crate) const fn is_padded(self) -> bool {
        let end = match self.element {
            Some(element) => self.size % self.align + element % self.align,
            None => self.size % self.align,
        };
        self.padded || end != 0
    }

    /// Whether it ends in a flexible tail.
    #[must_use]
    pub const fn has_tail(self) -> bool {
        self.element.is_some()
    }

    /// The alignment in bytes.
    #[must_use]
    pub const fn align(self) -> usize {
        self.align
    }

    /// The size of the type with `tail` elements, or `None` if that is more than an address space holds.
    #[must_use]
    pub fn size(self, tail: u64) -> Option<usize> {
        let tail = usize::try_from(tail).ok()?.checked_mul(self.element.unwrap_or(0))?;
        let size = self.size.checked_add(tail)?.checked_next_multiple_of(self.align)?;
        (size <= isize::MAX as usize).then_some(size)
    }

    /// The most tail elements that `len` bytes have room for, or `None` if they are too few for the rest.
    pub(crate) fn tail_in(self, len: usize) -> Option<u64> {
        let room = len.checked_sub(self.element.map_or(self.base_size(), |_| self.size))?;
        Some(self.element.map_or(0, |element| room.checked_div(element).unwrap_or(0)) as u64)
    }

    /// The size of the type without any tail elements.
    #[must_use]
    pub const fn base_size(self) -> usize {
        self.size.next_multiple_of(self.align)
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    const MIXED: Layout = Layout::EMPTY
        .with(Layout::of::<u8>())
        .with(Layout::of::<u64>())
        .with(Layout::of::<u16>())
        .with(Layout::of_tail::<u32>());

    #[test]
    fn agrees_with_the_compiler() {
        // `[u32; N]` behind the same fields is as large as `N` elements of `[u32]`.
        #[repr(C)]
        struct With<const N: usize>(u8, u64, u16, [u32; N]);
        assert_eq!(MIXED.size(0), Some(size_of::<With<0>>()));
        assert_eq!(MIXED.size(1), Some(size_of::<With<1>>()));
        assert_eq!(MIXED.size(2), Some(size_of::<With<2>>()));
        assert_eq!(MIXED.size(5), Some(size_of::<With<5>>()));
        assert_eq!(MIXED.next_offset(Layout::of::<u32>()), std::mem::offset_of!(With<1>, 3));
        assert_eq!(MIXED.align(), align_of::<u64>());
    }

    #[test]
    fn knows_padding() {
        assert!(MIXED.is_padded(), "between its fields");
        let (byte, word) = (Layout::of::<u8>(), Layout::of::<u32>());
        let (bytes, words) = (Layout::of_tail::<u8>(), Layout::of_tail::<u32>());
        let padded = |fields: &[Layout]| fields.iter().fold(Layout::EMPTY, |all, field| all.with(*field)).is_padded();
        assert!(!padded(&[word, word]) && !padded(&[byte, bytes]) && !padded(&[word, words]));
        assert!(padded(&[word, byte]), "behind the last field");
        assert!(padded(&[word, bytes]), "behind the tail, for most of its lengths");
        let element = Layout::EMPTY.with(word).with(byte);
        assert!(words.of_elements(element).is_padded() && padded(&[element, word]));
    }

    #[test]
    fn knows_how_long_a_tail_there_is_room_for() {
        // 20 bytes before the tail, in elements of 4.
        assert_eq!(
            [0, 19, 20, 23, 24, 28].map(|len| MIXED.tail_in(len)),
            [None, None, Some(0), Some(0), Some(1), Some(2)]
        );
        let padded = Layout::EMPTY.with(Layout::of::<u32>()).with(Layout::of::<u8>());
        assert_eq!([7, 8, 9].map(|len| padded.tail_in(len)), [None, Some(0), Some(0)], "it ends with its padding");
        assert_eq!(Layout::of_tail::<()>().tail_in(9), Some(0), "elements without size take no room");
    }

    #[test]
    fn refuses_what_cannot_be() {
        assert_eq!(MIXED.size(u64::MAX), None);
        assert_eq!(MIXED.size(u64::MAX / 4), None);
        assert_eq!(MIXED.size(1 << 62), None, "four times that would wrap to nothing");
        assert_eq!(MIXED.size((isize::MAX as u64) / 4), None);
        assert_eq!(Layout::of::<u8>().size(u64::MAX), Some(1), "a tail that is not there has no size");
    }
}
