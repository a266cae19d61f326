//! The real command, in real processes, each test with a directory of its own that must be empty at the end.
#![allow(missing_docs)]

#[path = "../../../../tests/common/by_hand.rs"]
mod by_hand;
mod channel;
mod common;
mod deaths;
mod demo;
mod doctor;
mod images;
mod inspect;
mod objects;
mod options;
mod soak;
mod streams;
mod tap;
mod terminal;
mod top;
