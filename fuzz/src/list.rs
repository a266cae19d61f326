//! A directory with anything in it: listed, collected and emptied.

use super::open::{Kind, Object, Users};
use super::{Input, Place, listed, plant, show};
use memlane::{Error, Listed, Name, Persistence, gc, inspect, remove, retire};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

const NAMES: [&[u8]; 8] = [b"a", b"b", b".c", b"-d", b"e f", b"\xff", b"\x1b[2J", b"..."];

/// Puts something under a name; an object with its users is given back.
fn put_there(input: &mut Input<'_>, place: &Place, name: &[u8]) -> Option<Object> {
    let path = place.path().join(OsStr::from_bytes(name));
    let text = std::str::from_utf8(name).ok().filter(|text| Name::new(text).is_ok());
    match (input.byte() % 12, text) {
        (0, _) => plant(&path, &vec![input.byte(); usize::from(input.byte())]),
        (1, _) => std::fs::create_dir(&path).expect("a directory"),
        (2, _) => symlink(input.pick(&["a", "/", "/dev/zero", "."]), &path).expect("a link"),
        (3, _) => drop(UnixListener::bind(&path).expect("a socket")),
        // Another name of something that is there, if that can be.
        (4, _) => drop(std::fs::hard_link(place.file(input.pick(&["a", "b"])), &path)),
        (5, Some(_)) => {
            plant(&path, b"memlane\0");
            let mode = input.pick(&[0o666, 0o000, 0o400, 0o602]);
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        }
        (_, Some(text)) => {
            let kind = input.pick(&[Kind::Victim, Kind::Slice, Kind::Raw]);
            let users = input.pick(&[Users::Nobody, Users::Creator, Users::Opener, Users::Reader, Users::Both]);
            let persistence = input.pick(&[Persistence::UntilLastUser, Persistence::Keep]);
            let object = Object::new(place, text, kind, users, persistence);
            object.edit(input);
            return Some(object);
        }
        (_, None) => plant(&path, input.pick(&[b"", b"memlane\0"])),
    }
    None
}

/// The names in the directory that could be objects' names.
fn names(place: &Place) -> BTreeSet<String> {
    let entries = std::fs::read_dir(place.path()).expect("the directory").map(|entry| entry.expect("an entry"));
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| Name::new(name).is_ok()).collect()
}

fn names_of<'a>(listed: impl IntoIterator<Item = &'a Listed>) -> BTreeSet<String> {
    listed.into_iter().map(|object| object.name.clone()).collect()
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let place = Place::new();
    let count = 1 + usize::from(input.byte()) % NAMES.len();
    let objects: Vec<_> = NAMES[..count].iter().filter_map(|name| put_there(&mut input, &place, name)).collect();

    let all = listed(&place);
    assert_eq!(names_of(&all), names(&place));
    assert!(all.is_sorted_by(|one, next| one.name < next.name));
    for object in &all {
        assert!(object.problem.is_some() || !object.foreign);
        assert!(object.problem.is_none() || !(object.stale || object.in_use || object.size > 0));
        // Whatever it says of itself, there is an end of it.
        let inspected = inspect(place.name(&object.name), 3);
        assert!(inspected.is_err() == object.problem.is_some(), "{inspected:?} of {object:?}");
        assert!(object.in_use || (object.users.is_empty() && object.creator.is_none()) || object.stale, "{object:?}");
    }
    // What is listed as stale goes, all else stays.
    let stale = names_of(all.iter().filter(|object| object.stale));
    for dry_run in [true, false, false] {
        let dead = gc(Some(place.path()), dry_run).expect("one bad file is no reason");
        let dead: BTreeSet<String> = dead.into_iter().map(|object| object.name).collect();
        let gone: BTreeSet<String> = names_of(&all).difference(&names(&place)).cloned().collect();
        assert!(if dry_run { dead == stale && gone.is_empty() } else { gone == stale });
    }
    assert_eq!(names_of(&listed(&place)), names(&place));
    empty(&mut input, &place, &all);
    drop(objects);
}

/// Removes or retires everything: what is no object of memlane stays.
fn empty(input: &mut Input<'_>, place: &Place, all: &[Listed]) {
    for object in all {
        let name = place.name(&object.name);
        let there = place.path().join(&object.name).symlink_metadata().is_ok();
        let result = if input.byte() & 1 == 0 { remove(&name) } else { retire(&name) };
        let left = place.path().join(&object.name).symlink_metadata().is_ok();
        match result {
            Ok(()) => assert!(there && !left),
            Err(Error::NotFound { .. }) => assert!(!there),
            Err(error) => {
                show(&error);
                assert!(left && object.problem.is_some(), "{error:?} of {object:?}");
            }
        }
    }
}
