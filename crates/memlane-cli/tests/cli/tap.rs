//! `memlane tap` for scripts; tests/cli/terminal.rs has the pictures.

use crate::channel::{Shared, create, named, start, stop};
use crate::common::{Place, Running, names_in};
use memlane::{
    ChannelOptions, Dtype, Image, Options, PixelFormat, Policy, Receiver, Segment, Sender, Shareable, Tensor,
};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
struct Pose {
    at: [f64; 3],
}

fn newest() -> ChannelOptions {
    ChannelOptions::new().policy(Policy::Newest).max_message(1000)
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// A tap that has seen the first message, `text`.
fn tapped(place: &Place, sender: &Sender, arguments: &[&str]) -> Running {
    let mut tap = place.start(&[&["tap", "cam", "--json", "--timeout", "50s"], arguments].concat());
    sender.send_copy(b"first").expect("it never waits");
    assert_eq!(parsed(&tap.line())["sequence"], 1);
    tap
}

#[test]
fn a_line_says_what_a_message_is() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &newest());
    let mut loan = sender.loan(20).expect("a buffer");
    loan.copy_from_slice(b"hello\x1b[2J, are there");
    loan.set_metadata(b"left").expect("it fits");
    loan.set_schema_id(0x77).expect("it fits");
    loan.send().expect("it never waits");
    let out = place.run(&["tap", "cam", "--count", "1", "--hex"]).ok();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("0:000001       20 B  age "), "{out}");
    assert!(lines[0].ends_with("  bytes  schema 0x77  metadata \"left\""), "{out}");
    assert_eq!(lines[1], "  00000000  68 65 6c 6c 6f 1b 5b 32  4a 2c 20 61 72 65 20 74  |hello.[2J, are t|");
    assert_eq!(lines[2], "  00000010  68 65 72 65                                       |here|");
    assert_eq!(place.run(&["tap", "cam", "--count", "1", "--hex", "16"]).ok().lines().count(), 2);
    assert_eq!(place.run(&["tap", "cam", "--count", "1"]).ok().lines().count(), 1);
    let line = parsed(&place.run(&["tap", "cam", "--count", "1", "--json", "--hex", "3"]).ok());
    for (field, expected) in [
        ("lane", json!(0)),
        ("sequence", json!(1)),
        ("bytes", json!(20)),
        ("missed", json!(0)),
        ("type", json!("bytes")),
        ("schema_id", json!(0x77)),
        ("metadata_hex", json!("6c656674")),
        ("hex", json!("68656c")),
        ("file", Value::Null),
    ] {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    assert!(line["age_ns"].as_u64().is_some_and(|age| age > 0), "{line}");
}

#[test]
fn images_tensors_and_types_of_ones_own_are_named() {
    let place = Place::new();
    let images = create::<Image>(&place, "images", &newest());
    images.loan_image(7, 3, PixelFormat::Bgra8).expect("a buffer").send().expect("it never waits");
    let tensors = create::<Tensor>(&place, "tensors", &newest());
    tensors.loan_tensor(&[2, 3, 4], Dtype::F32).expect("a buffer").send().expect("it never waits");
    let poses = create::<Pose>(&place, "poses", &ChannelOptions::new());
    poses.send_copy(&Pose { at: [1.0, 2.0, 3.0] }).expect("there is room");
    let text = |name| place.run(&["tap", name, "--count", "1"]).ok();
    let json = |name| parsed(&place.run(&["tap", name, "--count", "1", "--json"]).ok());
    assert!(text("images").ends_with("  image 7x3 bgra8\n"), "{}", text("images"));
    let line = json("images");
    assert_eq!((&line["type"], &line["format"]), (&json!("image"), &json!("bgra8")));
    assert_eq!((&line["width"], &line["height"]), (&json!(7), &json!(3)));
    assert!(text("tensors").ends_with("  tensor f32 [2, 3, 4]\n"), "{}", text("tensors"));
    let line = json("tensors");
    assert_eq!((&line["type"], &line["dtype"], &line["shape"]), (&json!("tensor"), &json!("f32"), &json!([2, 3, 4])));
    assert!(text("poses").ends_with("  Pose\n"), "{}", text("poses"));
    assert_eq!(json("poses")["type"], "Pose");
}

#[test]
fn what_is_saved_is_what_was_sent() {
    let place = Place::new();
    let images = create::<Image>(&place, "images", &newest().max_message(10_000));
    let pixels: Vec<u8> = (0..5 * 3 * 4).map(|index| index * 3).collect();
    for format in [PixelFormat::Rgba8, PixelFormat::Bgra8] {
        let mut image = images.loan_image(5, 3, format).expect("a buffer");
        image.pixels.copy_from_slice(&pixels);
        image.send().expect("it never waits");
    }
    let mut gaps = images.loan(3 * 10).expect("a buffer");
    (gaps.width, gaps.height, gaps.stride, gaps.format) = (3, 3, 10, PixelFormat::Rgb8.number());
    gaps.pixels.copy_from_slice(&pixels[..30]);
    gaps.send().expect("it never waits");
    let mut wrong = images.loan(4).expect("a buffer");
    (wrong.width, wrong.height, wrong.stride, wrong.format) = (3, 3, 10, PixelFormat::Rgb8.number());
    wrong.pixels.copy_from_slice(b"none");
    wrong.send().expect("it never waits");
    let out = place.run(&["tap", "images", "--all", "--count", "4", "--save", "kept"]).ok();
    assert!(out.lines().next().is_some_and(|line| line.ends_with("  image 5x3 rgba8  kept/000001.png")), "{out}");
    let kept = place.folder().join("kept");
    assert_eq!(names_in(&kept), ["000001.png", "000002.png", "000003.png", "000004.bin"]);
    let saved = |name: &str| image::open(kept.join(name)).expect("a PNG file");
    assert_eq!(saved("000001.png").into_rgba8().into_raw(), pixels);
    let red_first: Vec<u8> = pixels.chunks(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0], pixel[3]]).collect();
    assert_eq!(saved("000002.png").into_rgba8().into_raw(), red_first);
    let dense: Vec<u8> = pixels[..30].chunks(10).flat_map(|row| &row[..9]).copied().collect();
    assert_eq!(saved("000003.png").into_rgb8().into_raw(), dense);
    assert_eq!(fs::read(kept.join("000004.bin")).expect("a file")[64..68], *b"none");
}

#[test]
fn bytes_are_saved_by_lane_and_number() {
    let place = Place::new();
    let first = create::<[u8]>(&place, "cam", &newest().senders(2));
    let second = Sender::<[u8]>::open(named(&place, "cam")).expect("a second lane");
    let large: Vec<u8> = (0..=255).cycle().take(999).collect();
    first.send_copy(&large).expect("it never waits");
    second.send_copy(b"small").expect("it never waits");
    second.send_copy(b"").expect("it never waits");
    let out = place.run(&["tap", "cam", "--all", "--count", "3", "--save", ".", "--json"]).ok();
    let files: Vec<_> = out.lines().map(|line| parsed(line)["file"].clone()).collect();
    assert_eq!(files, ["./0-000001.bin", "./1-000001.bin", "./1-000002.bin"], "each lane has its turn");
    let saved = |name: &str| fs::read(place.folder().join(name)).expect("a file");
    assert_eq!((saved("0-000001.bin"), saved("1-000001.bin"), saved("1-000002.bin")), (large, b"small".into(), vec![]));
    fs::remove_file(place.folder().join("0-000001.bin")).expect("the file");
    fs::create_dir(place.folder().join("0-000001.bin")).expect("a folder in the way");
    let failed = place.run(&["tap", "cam", "--all", "--save", "."]);
    failed.failed(1, &["cannot write './0-000001.bin'"]);
}

#[test]
fn it_begins_with_the_newest_or_with_all_that_are_kept() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &newest().slots(3));
    (1..=5).for_each(|number| drop(sender.send_copy(&[number]).expect("it never waits")));
    let seen = |arguments: &[&str]| {
        let out = place.run(&[&["tap", "cam", "--json", "--hex", "--count"], arguments].concat()).ok();
        out.lines().map(parsed).map(|line| (line["sequence"].clone(), line["hex"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(seen(&["1"]), [(json!(5), json!("05"))]);
    assert_eq!(seen(&["2", "--all"]), [(json!(3), json!("03")), (json!(4), json!("04"))]);
}

#[test]
fn what_it_has_missed_it_says() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &newest().slots(2));
    let mut tap = tapped(&place, &sender, &[]);
    stop(&tap);
    (0..10).for_each(|_| drop(sender.send_copy(b"more").expect("it never waits")));
    tap.signal("CONT");
    let lines = [parsed(&tap.line()), parsed(&tap.line())];
    assert_eq!((&lines[0]["sequence"], &lines[0]["missed"]), (&json!(10), &json!(8)), "2 to 9 are overwritten");
    assert_eq!((&lines[1]["sequence"], &lines[1]["missed"]), (&json!(11), &json!(0)));
    tap.signal("INT");
    tap.expect_told(&["interrupted, 3 messages seen, 8 missed"]);
    assert_eq!(tap.end().code, Some(0));
    let all = place.run(&["tap", "cam", "--all", "--count", "1"]).ok();
    assert!(
        all.starts_with("0:000010 ") && !all.contains("missed"),
        "what was before it came it has not missed: {all}"
    );
}

#[test]
fn nobody_waits_for_it() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &ChannelOptions::new());
    let mut receiver = Receiver::<[u8]>::open(named(&place, "cam")).expect("it is there");
    let tap = tapped(&place, &sender, &[]);
    stop(&tap);
    assert_eq!(sender.receivers().len(), 1, "it is no receiver");
    assert_eq!(&receiver.recv().expect("a message")[..], b"first");
    for number in 0..100 {
        let sent = sender.loan(200).expect("a buffer").send_timeout(Duration::from_secs(10)).expect("there is room");
        assert_eq!(receiver.recv().expect("a message").sequence(), sent.sequence(), "{number}");
    }
}

#[test]
fn it_tells_of_a_killed_sender_and_goes_on_with_the_next() {
    let place = Place::new();
    let mut sender = start(&place, "send cam one");
    let mut tap = place.start(&["tap", "cam", "--json", "--hex"]);
    assert_eq!(parsed(&tap.line())["hex"], "6f6e65");
    let _keeps_the_channel = Receiver::<[u8]>::open(named(&place, "cam")).expect("it is there");
    sender.kill();
    tap.expect_told(&[&format!("pid {} (", sender.pid()), "which sent to 'cam', is dead"]);
    tap.expect_told(&["nobody sends to 'cam' now; waiting for the next sender"]);
    let next = start(&place, "send cam two");
    let line = parsed(&tap.line());
    assert_eq!((&line["sequence"], &line["hex"], &line["missed"]), (&json!(2), &json!("74776f"), &json!(0)));
    tap.expect_told(&[&format!("pid {} (", next.pid()), "sends to 'cam' now"]);
    tap.signal("INT");
    tap.expect_told(&["interrupted, 2 messages seen, 0 missed"]);
}

#[test]
fn it_waits_for_the_channel_and_for_it_to_be_there_again() {
    let place = Place::new();
    let mut tap = place.start(&["tap", "cam", "--json"]);
    tap.expect_told(&["there is no channel 'cam' yet; waiting for it"]);
    for round in 0..2 {
        let sender = create::<[u8]>(&place, "cam", &newest());
        (0..2).for_each(|_| drop(sender.send_copy(b"here").expect("it never waits")));
        for sequence in [1, 2] {
            assert_eq!(parsed(&tap.line())["sequence"], sequence, "from its first message on, round {round}");
        }
        drop(sender);
        tap.expect_told(&["'cam' is there"]);
        tap.expect_told(&[&format!("pid {} (", std::process::id()), "which sent to 'cam', has ended"]);
        tap.expect_told(&["nobody sends to 'cam' now"]);
        tap.expect_told(&["'cam' is gone; waiting until it is there again"]);
    }
    tap.signal("TERM");
    tap.expect_told(&["interrupted, 4 messages seen"]);
    assert_eq!(tap.end().code, Some(0));
}

#[test]
fn a_channel_in_the_place_of_another_is_a_new_one() {
    let place = Place::new();
    let old = create::<[u8]>(&place, "cam", &newest());
    let mut tap = tapped(&place, &old, &[]);
    memlane::remove(named(&place, "cam")).expect("the name");
    let new = create::<Tensor>(&place, "cam", &newest());
    tap.expect_told(&["'cam' was created again"]);
    new.loan_tensor(&[4], Dtype::U8).expect("a buffer").send().expect("it never waits");
    let line = parsed(&tap.line());
    assert_eq!((&line["sequence"], &line["type"]), (&json!(1), &json!("tensor")));
}

#[test]
fn a_timeout_says_who_sent_nothing() {
    let place = Place::new();
    let tap = || place.run(&["tap", "cam", "--timeout", "200ms"]);
    let none = tap();
    assert!(none.code == Some(3) && none.err.ends_with("look with `memlane top`\n"), "{none:?}");
    assert!(none.err.contains("there was no channel 'cam' for 200ms, 0 messages seen"), "{none:?}");
    let sender = create::<[u8]>(&place, "cam", &newest());
    tap().failed(3, &[&format!("pid {} (", std::process::id()), "sent nothing to 'cam' for 200ms"]);
    let _receiver = Receiver::<[u8]>::open(named(&place, "cam")).expect("it is there");
    drop(sender);
    let nobody = tap();
    assert!(nobody.code == Some(3) && nobody.err.starts_with("memlane: nobody sends to 'cam'"), "{nobody:?}");
    assert!(nobody.err.contains("nobody sent to 'cam' for 200ms"), "{nobody:?}");
}

#[test]
fn what_is_no_channel_is_refused() {
    let place = Place::new();
    let _other = Segment::<Shared>::create(named(&place, "map"), (), &Options::new(), |_| ()).expect("a fresh object");
    place.run(&["tap", "map"]).failed(1, &["'map' holds another type", "wants a channel"]);
    place.run(&["tap", "a/b"]).failed(2, &["is no object name"]);
    let help = place.run(&["tap", "--help"]).ok();
    let options =
        ["<NAME>", "--all", "--hex", "--no-picture", "--save <DIR>", "--count <N>", "--timeout <DURATION>", "--json"];
    assert!(options.iter().all(|option| help.contains(option)), "{help}");
}
