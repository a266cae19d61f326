//! The model's objects: a name is the object itself, which is memory and a participant table.

use crate::error::Error;
use crate::owner::Table;
use crate::prim;
use crate::region::table;
use crate::sys::Access;
use std::cell::OnceCell;
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

pub use memlane::{Options, Origin};

/// The name of an object that is there once somebody has drafted it.
#[derive(Clone)]
pub struct Name(Rc<Memory>);

struct Memory {
    table: Rc<Table>,
    data: OnceCell<(Header, NonNull<Page>)>,
}

/// As mappings are aligned.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

pub trait ToName {
    fn to_name(self) -> Result<Name, Error>;
}

impl ToName for &Name {
    fn to_name(self) -> Result<Name, Error> {
        Ok(self.clone())
    }
}

impl Name {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Memory { table: table(), data: OnceCell::new() }))
    }

    pub(crate) fn as_str(&self) -> &str {
        "model"
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some((header, data)) = self.data.take() {
            let pages = std::ptr::slice_from_raw_parts_mut(data.as_ptr(), pages(&header));
            // SAFETY: `draft` leaked a box of that many, and nobody has a reference to it any more.
            drop(unsafe { Box::from_raw(pages) });
        }
    }
}

fn pages(header: &Header) -> usize {
    (header.data_len as usize).div_ceil(size_of::<Page>())
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) schema: String,
    pub(crate) data_len: u64,
    pub(crate) id: u128,
}

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) name: Name,
    pub(crate) header: Header,
    pub(crate) origin: Origin,
}

impl Object {
    pub(crate) fn draft(name: Name, header: Header, _: &Options) -> Result<Self, Error> {
        /// How many words of a channel its largest model touches.
        const WORDS: usize = 150;
        prim::reserve(WORDS);
        let data = Box::leak(vec![Page([0; 4096]); pages(&header)].into_boxed_slice());
        let data = NonNull::from(data).cast();
        assert!(name.0.data.set((header.clone(), data)).is_ok(), "one creates it");
        Ok(Self { name, header, origin: Origin::Created })
    }

    pub(crate) fn open(name: Name, _: Access) -> Result<Self, Error> {
        let header = name.0.data.get().expect("it was created").0.clone();
        Ok(Self { name, header, origin: Origin::Opened })
    }

    pub(crate) fn wait_for(name: &Name, access: Access, _: Option<Duration>) -> Result<Self, Error> {
        Self::open(name.clone(), access)
    }

    /// Names stay.
    pub(crate) fn remove_name(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn table(&self) -> &Rc<Table> {
        &self.name.0.table
    }

    pub(crate) fn data(&self) -> NonNull<u8> {
        self.name.0.data.get().expect("it was created").1.cast()
    }
}
