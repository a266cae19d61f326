//! `memlane inspect`.

use crate::by_hand::by_hand;
use crate::channel::{create, named, start, stop};
use crate::common::{Place, wait_for};
use memlane::{Bool, ChannelOptions, Event, Locked, Mutex, Options, OwnerId, Segment, Shareable, SharedMemory};
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicI16;

#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
pub(crate) struct Pose {
    x: f64,
    frame: i32,
    good: Bool,
    padding: [u8; 3],
}

#[derive(Debug, Shareable)]
#[repr(C)]
pub(crate) struct Everything {
    pub(crate) value: Mutex<u64>,
    title: [u8; 16],
    level: AtomicI16,
    ready: Event,
    owner: OwnerId,
    poses: [Pose; 6],
    locks: [Mutex<u32>; 3],
    rest: [u32],
}

fn build(all: &mut Everything) {
    *all.value.get_mut() = 17;
    all.title[..6].copy_from_slice(b"camera");
    *all.level.get_mut() = -3;
    (all.poses[1].x, all.poses[1].frame, all.poses[1].good) = (0.5, -7, Bool::new(true));
    *all.locks[2].get_mut() = 99;
    all.rest[1] = 5;
}

fn inspected(place: &Place, arguments: &[&str]) -> Value {
    let printed = place.run(&[&["inspect", "--json"], arguments].concat()).ok();
    serde_json::from_str(&printed).expect("one JSON object")
}

fn value<'a>(object: &'a Value, path: &str) -> &'a Value {
    let fields = object["fields"].as_array().expect("an array");
    &fields.iter().find(|field| field["path"] == path).unwrap_or_else(|| panic!("no {path} in {object}"))["value"]
}

/// The line of the table about a field.
fn line(table: &str, path: &str) -> String {
    let line = table.lines().find(|line| line.split_whitespace().nth(2) == Some(path));
    line.unwrap_or_else(|| panic!("no {path} in {table}")).to_owned()
}

#[test]
fn every_part_is_shown_with_what_is_in_it() {
    let place = Place::new();
    let all = Segment::<Everything>::create(named(&place, "all"), 3, &Options::new(), build).expect("a fresh object");
    all.ready.set();
    let _held = all.locks[1].lock(&all).expect("the lock");
    let object = inspected(&place, &["all", "--elements", "3"]);
    assert_eq!(
        (&object["name"], &object["type"], &object["state"]),
        (&json!("all"), &json!("Everything"), &json!("in use"))
    );
    assert_eq!((&object["tail"], &object["mode"], &object["kept"]), (&json!(3), &json!("0600"), &json!(false)));
    assert_eq!((&object["channel"], object["id"].as_str().map(str::len)), (&Value::Null, Some(32)));
    assert_eq!(object["data_size"], all.region().len());
    let expected = [
        ("", json!(null)),
        ("value.data", json!(17)),
        ("level", json!(-3)),
        ("owner", json!(null)),
        ("poses", json!({ "elements": 6 })),
        ("poses[1].x", json!(0.5)),
        ("poses[1].frame", json!(-7)),
        ("poses[1].good", json!(true)),
        ("locks[0].data", json!(0)),
        ("locks[2].data", json!(99)),
        ("rest", json!({ "elements": 3 })),
        ("rest[1]", json!(5)),
    ];
    for (path, expected) in expected {
        assert_eq!(value(&object, path), &expected, "{path}");
    }
    assert_eq!((&value(&object, "title")["bytes"], &value(&object, "ready")["state"]), (&json!(16), &json!("set")));
    let states = [0, 1, 2].map(|number| value(&object, &format!("locks[{number}]"))["state"].clone());
    assert_eq!(states, ["free", "held", "free"]);
    assert_eq!(value(&object, "locks[1]")["holders"][0]["who"]["pid"], std::process::id());
    let paths = object["fields"].as_array().expect("an array").iter().filter_map(|field| field["path"].as_str());
    assert_eq!(paths.filter(|path| path.starts_with("poses[3]")).count(), 0, "more elements than were asked for");

    let table = place.run(&["inspect", "all"]).ok();
    assert!(table.starts_with("all: Everything, in use\n"), "{table}");
    assert!(line(&table, "title").ends_with("16 bytes: \"camera\""), "{table}");
    assert!(line(&table, "poses[1].x").ends_with(" 0.5") && line(&table, "ready").ends_with(" set"), "{table}");
    assert!(table.contains(&format!("1 participant\n  pid {} (", std::process::id())), "{table}");
}

#[test]
fn a_lock_has_its_holder_for_how_long_and_who_waits() {
    let place = Place::new();
    let all = Segment::<Everything>::create(named(&place, "map"), 3, &Options::new(), build).expect("a fresh object");
    let held = all.value.lock(&all).expect("the lock");
    let waiter = start(&place, "wait map");
    let lock = wait_for("a sleeping waiter", || {
        let lock = value(&inspected(&place, &["map", "--watch", "20ms"]), "value").clone();
        (lock["waiters"][0]["pid"] == waiter.pid()).then_some(lock)
    });
    assert_eq!((&lock["state"], &lock["holders"][0]["alive"]), (&json!("held"), &json!(true)));
    let time = lock["holders"][0]["held_at_each_look_for_ns"].as_u64().expect("a time");
    assert!((20_000_000..10_000_000_000).contains(&time), "{time}");
    let table = place.run(&["inspect", "map"]).ok();
    let own = format!("held; pid {} (", std::process::id());
    let told = line(&table, "value");
    assert!(
        told.contains(&own) && told.contains("holds it (at each look for ") && told.contains("awaited by pid "),
        "{told}"
    );
    assert!(table.contains(&format!("pid {} (", waiter.pid())) && table.contains(", sleeps on `value`"), "{table}");
    drop(held);
}

#[test]
fn a_dirty_lock_and_a_dead_holder_are_told() {
    let place = Place::new();
    let all = Segment::<Everything>::create(named(&place, "map"), 3, &Options::new(), build).expect("a fresh object");
    let mut holder = start(&place, "hold everything map");
    stop(&holder);
    assert!(line(&place.run(&["inspect", "map"]).ok(), "value").contains("stopped: `kill -CONT` lets it go on"));
    holder.kill();
    let lock = value(&inspected(&place, &["map"]), "value").clone();
    assert_eq!((&lock["holders"][0]["alive"], &lock["needs_repair"]), (&json!(false), &json!(false)));
    let told = line(&place.run(&["inspect", "map"]).ok(), "value");
    assert!(told.contains(&format!("pid {} (", holder.pid())) && told.contains("which is dead"), "{told}");
    match all.value.lock(&all).expect("the lock") {
        Locked::OwnerDied(died) => drop(died),
        Locked::Clean(_) => panic!("its holder died"),
    }
    let lock = value(&inspected(&place, &["map"]), "value").clone();
    assert_eq!((&lock["holders"], &lock["needs_repair"]), (&json!([]), &json!(true)));
    assert!(line(&place.run(&["inspect", "map"]).ok(), "value").contains("free; to be repaired"));
}

#[test]
fn a_channel_is_shown_by_who_takes_part_and_how_far_they_are() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &ChannelOptions::new());
    let receiver = start(&place, "receive cam");
    drop(sender.send_copy(b"one").expect("there is room"));
    let object = inspected(&place, &["cam"]);
    let channel = &object["channel"];
    assert_eq!(
        (&channel["policy"], &channel["sent"], &object["fields"]),
        (&json!("lossless"), &json!([1]), &json!([]))
    );
    assert_eq!(channel["receivers"][0]["who"]["pid"], receiver.pid());
    let table = place.run(&["inspect", "cam"]).ok();
    assert!(table.contains("\nlossless, 4 slots of bytes, up to 64.0 KiB each\n  lane 0: 1 sent, "), "{table}");
    assert!(table.contains(&format!("  received by pid {} (", receiver.pid())), "{table}");
}

#[test]
fn what_is_not_there_raw_damaged_or_foreign_is_told_apart() {
    let place = Place::new();
    place.run(&["inspect", "none"]).failed(4, &["there is no object 'none'"]);
    let _raw = SharedMemory::create(named(&place, "raw"), 5000, &Options::new()).expect("a fresh object");
    let object = inspected(&place, &["raw"]);
    assert_eq!((&object["type"], &object["fields"], &object["data_size"]), (&Value::Null, &json!([]), &json!(5000)));
    assert!(place.run(&["inspect", "raw"]).ok().starts_with("raw: bytes, in use\n"));
    let _bad = create::<[u8]>(&place, "bad", &ChannelOptions::new());
    let file = std::fs::OpenOptions::new().write(true).open(place.objects().join("bad")).expect("its file");
    file.write_all_at(&[1], 100).expect("a byte of its header");
    place.run(&["inspect", "bad"]).failed(1, &["'bad' is damaged"]);
    std::fs::write(place.objects().join("notes"), "not memlane's").expect("a file");
    place.run(&["inspect", "notes"]).failed(1, &["'notes'", "not"]);
    std::fs::remove_file(place.objects().join("notes")).expect("the file");
    place.run(&["rm", "bad"]).ok();
}

#[test]
fn a_description_with_endless_names_is_shown_all_the_same() {
    let place = Place::new();
    let (path, kind) = ("x".repeat(100_000), "y".repeat(100_000));
    by_hand(&place.objects().join("long"), &format!("\t{kind}\t0\t8\n{path}\t{kind}\t0\t4\ny\tu32\t4\t4\n"));
    let table = place.run(&["inspect", "long"]).ok();
    assert!(line(&table, "y").ends_with(" 0"), "the others are there");
    // Nor does one such object keep all others from being listed.
    let _other = SharedMemory::create(named(&place, "other"), 10, &Options::new()).expect("a fresh object");
    assert!(place.run(&["ls"]).ok().contains("\nother "));
    place.run(&["rm", "long"]).ok();
}
