//! An entry of a window: whoever reads it while it is overwritten has a message whole, or knows that he has none.

use super::lane::{Content, Place, Seen};
use super::memory::{Entry, SMALL};
use crate::{explore, explore_deaths, join, prim};
use loom::thread;
use std::mem::MaybeUninit;
use std::rc::Rc;

pub(super) fn entry() -> Rc<Entry> {
    // SAFETY: an entry is made of the model's atomics, which are transparent around integers: zero is a value.
    let entry = Rc::new(unsafe { MaybeUninit::<Entry>::zeroed().assume_init() });
    let address = std::ptr::from_ref(&*entry).addr();
    prim::plain(address..address + size_of::<Entry>());
    entry
}

/// What is said of a message in buffer `buffer`; all of it follows from `content`.
pub(super) fn content_of(content: u64, buffer: Option<u16>) -> Content {
    let place = Place {
        len: content,
        small: buffer.is_none(),
        labelled: content.is_multiple_of(2),
        buffer: buffer.unwrap_or(0),
    };
    Content { place, tail: content, stamp: content, about: content }
}

/// Puts in message `sequence`, a small one of two words, of which all follows from `content`.
fn publish(entry: &Entry, sequence: u64, content: u64) {
    entry.publish(sequence, content_of(content, None), &[content; 2]);
}

/// The content of message `sequence`, if it is there, whole.
fn read(entry: &Entry, sequence: u64) -> Option<u64> {
    if entry.look(sequence) != Seen::There {
        return None;
    }
    let content = entry.content(sequence)?;
    let mut words = [0; SMALL / 8];
    let is_there = entry.copy_small(sequence, 16, &mut words);
    assert_eq!(content, content_of(content.tail, None), "what is said of a message is of one");
    is_there.then(|| {
        assert_eq!(words[..2], [content.tail; 2], "a small message is whole, and the one that is spoken of");
        content.tail
    })
}

#[test]
fn a_message_that_is_overwritten_is_whole_or_gone() {
    explore("1 sends 2 messages to one place, 1 reads", (Some(2), None), || {
        let entry = entry();
        publish(&entry, 1, 1);
        let reader = thread::spawn({
            let entry = Rc::clone(&entry);
            move || {
                for sequence in [1, 2] {
                    assert!(read(&entry, sequence).is_none_or(|content| content == sequence));
                }
            }
        });
        publish(&entry, 2, 2);
        join([reader]);
        assert_eq!((read(&entry, 1), read(&entry, 2), entry.look(1)), (None, Some(2), Seen::Later));
    });
    explore("1 sends 2 messages to one place, 2 read", (Some(1), Some(2)), || {
        let entry = entry();
        publish(&entry, 1, 1);
        let readers = [1, 2].map(|sequence| {
            let entry = Rc::clone(&entry);
            thread::spawn(move || assert!(read(&entry, sequence).is_none_or(|content| content == sequence)))
        });
        publish(&entry, 2, 2);
        join(readers);
    });
}

/// A sender dies at any step; its successor sends in its place what has no message there. Readers see one of the two.
#[test]
fn a_death_leaves_a_message_or_none() {
    explore_deaths("1 dies sending, its successor sends, 1 reads", (Some(1), Some(2)), |steps| {
        let entry = entry();
        publish(&entry, 1, 1);
        let reader = thread::spawn({
            let entry = Rc::clone(&entry);
            move || {
                let first = read(&entry, 1);
                (first, read(&entry, 2))
            }
        });
        prim::mortal(steps, || publish(&entry, 2, 2));
        let sent = match entry.sequence() {
            2 => 2,
            left => {
                assert!(left <= 1, "nothing was sent that nobody sent");
                publish(&entry, 2, 3);
                3
            }
        };
        let (first, second) = join([reader])[0];
        assert!(first.is_none_or(|content| content == 1) && second.is_none_or(|content| content == sent));
        assert_eq!(read(&entry, 2), Some(sent));
    });
}
