//! A lock, or something like it, by itself under a name of its own.

use super::{Barrier, Event, Mutex, Once, ReentrantMutex, RwLock, Semaphore, SeqCell, Versioned};
use crate::error::Error;
use crate::object::{Options, ToName};
use crate::segment::{Segment, Shareable};

/// Gives types of which zeroed bytes are a sound value a constructor of an object that holds one and nothing else.
macro_rules! named {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> $type {
            /// Opens the object of that name, or creates it: it holds this and nothing else, zeroed at first, until its
            /// last user goes. It is passed to what locks or waits. What becomes of it when processes die is what
            /// becomes of any [`Segment`].
            ///
            /// # Errors
            ///
            /// As [`Segment::open_or_create`].
            pub fn named(name: impl ToName) -> Result<Segment<Self>, Error> {
                Segment::open_or_create(name, (), &Options::new(), |_| ())
            }
        }
    )*};
}

named! {
    [T: Shareable<Tail = ()>] Mutex<T>;
    [T: Shareable<Tail = ()>] ReentrantMutex<T>;
    [T: Shareable<Tail = ()>, const READERS: usize] RwLock<T, READERS>;
    [] Event;
    [const PERMITS: usize] Semaphore<PERMITS>;
    [const PARTIES: usize] Barrier<PARTIES>;
    [T: Shareable<Tail = ()>] Once<T>;
    [T: Shareable<Tail = ()> + Copy] Versioned<T>;
    [T: Shareable<Tail = ()> + Copy] SeqCell<T>;
}
