//! Images arrive as they were sent, and whatever keeps them from it has a name.

use crate::common::{Place, assert_same_pixels, decoded_size, names_in, orphan};
use image::ExtendedColorType::{self, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
use std::fs;
use std::path::PathBuf;

/// From 1 byte to 24.9 million, in every format.
fn images(place: &Place) -> Vec<PathBuf> {
    let gray = [(1, 1), (8, 8), (256, 256), (1024, 1024), (4096, 2048)];
    let mut images: Vec<_> =
        gray.iter().map(|(width, height)| place.gray(&format!("gray{width}.png"), *width, *height)).collect();
    let colored: [(ExtendedColorType, u32, u32); 8] = [
        (Rgb8, 1920, 1080),
        (Rgb8, 3840, 2160),
        (La8, 61, 37),
        (Rgba8, 61, 37),
        (L16, 61, 37),
        (La16, 61, 37),
        (Rgb16, 61, 37),
        (Rgba16, 61, 37),
    ];
    for (color, width, height) in colored {
        images.push(place.png(&format!("{color:?}-{width}.png"), width, height, color));
    }
    let jpeg = place.folder().join("photo.jpg");
    image::open(&images[6]).expect("an image").thumbnail(640, 360).save(&jpeg).expect("a JPEG file");
    images.push(jpeg);
    images
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn every_size_and_format_arrives_byte_for_byte_in_two_processes() {
    let place = Place::new();
    let images = images(&place);
    let receiver = place.start(&["recv", "cam", "--out", "received", "--json", "--timeout", "50s"]);
    let mut arguments = vec!["send", "cam", "--json", "--timeout", "50s"];
    arguments.extend(images.iter().map(|path| text(path)));
    let sent = place.run(&arguments).ok();
    let received = receiver.end().ok();
    assert_eq!((sent.lines().count(), received.lines().count()), (images.len(), images.len()));
    let lines = sent.lines().zip(received.lines());
    for ((number, image), (sent, received)) in (1_u64..).zip(&images).zip(lines) {
        let sent: serde_json::Value = serde_json::from_str(sent).expect("JSON");
        let received: serde_json::Value = serde_json::from_str(received).expect("JSON");
        let file = format!("received/{number:06}.png");
        assert_same_pixels(&place.folder().join(&file), image);
        assert_eq!((&sent["sequence"], &received["sequence"]), (&number.into(), &number.into()));
        assert_eq!((&sent["file"], &received["file"]), (&text(image).into(), &file.as_str().into()));
        for line in [&sent, &received] {
            assert_eq!(line["bytes"], decoded_size(image));
        }
        assert_eq!([&sent["width"], &sent["height"], &sent["format"]].map(ToString::to_string), {
            [&received["width"], &received["height"], &received["format"]].map(ToString::to_string)
        });
    }
    assert_eq!(names_in(&place.folder().join("received")).len(), images.len(), "and no drafts");
}

#[test]
fn every_size_and_format_is_verified_by_the_demo() {
    let place = Place::new();
    let images = images(&place);
    let mut arguments = vec!["demo", "--json"];
    arguments.extend(images.iter().map(|path| text(path)));
    let summary: serde_json::Value = serde_json::from_str(&place.run(&arguments).ok()).expect("one JSON object");
    assert_eq!(summary["verified"], true);
    assert_eq!(summary["frames"], images.len());
    assert_eq!(summary["bytes"], images.iter().map(|image| decoded_size(image)).sum::<usize>());
}

#[test]
fn the_sender_may_start_first() {
    let place = Place::new();
    let image = place.gray("a.png", 16, 16);
    let sender = place.start(&["send", "cam", "a.png"]);
    place.await_user("cam", sender.pid());
    let received = place.run(&["recv", "cam", "--out", "."]).ok();
    assert!(received.starts_with("000001  ./000001.png  16x16 gray8  256 B  from pid "), "{received}");
    let sent = sender.end().ok();
    assert!(sent.starts_with("000001  a.png  16x16 gray8  256 B  processed after "), "{sent}");
    place.assert_received(1, &image);
}

#[test]
fn a_receiver_that_has_enough_leaves_the_rest_to_the_next() {
    let place = Place::new();
    let images = ["a.png", "b.png", "c.png"].map(|file| place.gray(file, 16, 16));
    let sender = place.start(&["send", "cam", "a.png", "b.png", "c.png"]);
    assert_eq!(place.run(&["recv", "cam", "--out", ".", "--count", "2"]).ok().lines().count(), 2);
    assert_eq!(place.run(&["recv", "cam", "--out", "."]).ok().lines().count(), 1);
    assert_eq!(sender.end().ok().lines().count(), 3);
    for (sequence, image) in (1..).zip(&images) {
        place.assert_received(sequence, image);
    }
}

#[test]
fn without_a_folder_nothing_is_written() {
    let place = Place::new();
    place.gray("a.png", 16, 16);
    let sender = place.start(&["send", "cam", "a.png"]);
    assert!(place.run(&["recv", "cam"]).ok().contains("not kept"));
    sender.end().ok();
    assert_eq!(names_in(place.folder()), ["a.png"]);
}

#[test]
fn a_timeout_says_that_nobody_came() {
    let place = Place::new();
    place.gray("a.png", 16, 16);
    place.run(&["recv", "cam", "--timeout", "200ms"]).failed(3, &["nobody sent to 'cam'", "memlane send cam"]);
    let sent = place.run(&["send", "cam", "a.png", "--timeout", "200ms"]);
    sent.failed(3, &["nobody received from 'cam'", "memlane recv cam"]);
}

#[test]
fn a_timeout_names_the_sender_that_sends_nothing() {
    let place = Place::new();
    place.gray("big.png", 1024, 1024);
    let mut hold = place.hold(1);
    let sender = place.start(&["send", "cam", "big.png"]);
    let first = place.start(&["recv", "cam", "--out", ".", "--count", "1"]);
    hold.reached();
    sender.signal("STOP"); // its only image is about to be processed
    hold.release();
    first.end().ok();
    let culprit = format!("pid {} (memlane, stopped: `kill -CONT`", sender.pid());
    place.run(&["recv", "cam", "--timeout", "300ms"]).failed(3, &[&culprit, "sent no image to 'cam'"]);
    sender.signal("CONT");
    sender.end().ok();
}

#[test]
fn a_timeout_names_the_receiver_that_does_not_process() {
    let place = Place::new();
    place.gray("big.png", 1024, 1024);
    let mut hold = place.hold(1);
    let receiver = place.start(&["recv", "cam", "--out", "."]);
    let sender = place.start(&["send", "cam", "big.png", "--timeout", "3s"]);
    hold.reached();
    receiver.signal("STOP"); // while it has the image
    let culprit = format!("pid {} (memlane, stopped: `kill -CONT`", receiver.pid());
    sender.end().failed(3, &[&culprit, "has not processed"]);
    assert!(place.names().is_empty(), "the name went with the sender");
    drop(receiver);
}

#[test]
fn a_timeout_names_the_receiver_that_sleeps() {
    let place = Place::new();
    let image = place.gray("big.png", 1024, 1024);
    let mut hold = place.hold(1);
    let mut receiver = place.start(&["recv", "cam", "--out", "."]);
    let mut sender = place.start(&["send", "cam", "big.png"]);
    hold.reached();
    sender.kill();
    hold.release();
    assert!(receiver.line().starts_with("000001"));
    receiver.expect_told(&["is dead", "waiting for the next sender"]);
    receiver.signal("STOP"); // while it has none
    let culprit = format!("pid {} (memlane, stopped: `kill -CONT`", receiver.pid());
    let sent = place.run(&["send", "cam", "big.png", "--timeout", "300ms"]);
    assert_eq!(sent.code, Some(3), "{sent:?}");
    assert!(sent.err.contains(&culprit) && sent.err.contains("has not processed"), "{sent:?}");
    receiver.signal("CONT");
    // What that sender offered is complete, and is received although it gave up.
    assert_eq!(receiver.end().out.lines().count(), 1);
    place.assert_received(2, &image);
}

#[test]
fn a_second_sender_is_told_of_the_first() {
    let place = Place::new();
    place.gray("a.png", 16, 16);
    let sender = place.start(&["send", "cam", "a.png"]);
    place.await_user("cam", sender.pid());
    let culprit = format!("pid {} (memlane) sends to 'cam' already", sender.pid());
    place.run(&["send", "cam", "a.png"]).failed(1, &[&culprit, "end it"]);
    place.run(&["recv", "cam"]).ok();
    sender.end().ok();
}

#[test]
fn a_second_receiver_is_told_of_the_first() {
    let place = Place::new();
    let receiver = orphan(&place);
    let culprit = format!("pid {} (memlane) receives from 'cam' already", receiver.pid());
    place.run(&["recv", "cam"]).failed(1, &[&culprit, "end it", "--room 2"]);
    place.run(&["send", "cam", "first.png", "--slots", "1", "--room", "1"]);
    receiver.end().ok();
}

#[test]
fn what_cannot_be_written_stays_for_another_receiver() {
    let place = Place::new();
    let image = place.gray("a.png", 16, 16);
    let sender = place.start(&["send", "cam", "a.png"]);
    fs::create_dir(place.folder().join(".000001.png.part")).expect("a folder in the way");
    place.run(&["recv", "cam", "--out", "."]).failed(1, &["cannot write './000001.png'"]);
    fs::remove_dir(place.folder().join(".000001.png.part")).expect("it is empty");
    place.run(&["recv", "cam", "--out", "."]).ok();
    sender.end().ok();
    place.assert_received(1, &image);
}

#[test]
fn what_is_no_image_is_refused() {
    let place = Place::new();
    place.run(&["send", "cam", "missing.png"]).failed(1, &["cannot read the image 'missing.png'"]);
    fs::write(place.folder().join("text.png"), "no image").expect("a file");
    place.run(&["send", "cam", "text.png"]).failed(1, &["cannot read the image 'text.png'"]);
    place.run(&["demo", "text.png"]).failed(1, &["cannot read the image 'text.png'"]);
    let whole = fs::read(place.gray("whole.png", 64, 64)).expect("a file");
    fs::write(place.folder().join("cut.png"), &whole[..whole.len() / 2]).expect("a file");
    let receiver = place.start(&["recv", "cam"]);
    let sent = place.run(&["send", "cam", "whole.png", "cut.png"]);
    sent.failed(1, &["cannot decode the image 'cut.png'"]);
    assert_eq!(receiver.end().ok().lines().count(), 1, "and the end of the sender is no death");
    place.run(&["demo", "cut.png"]).failed(1, &["cannot decode the image 'cut.png'"]);
}

#[test]
fn wrong_usage_is_told_apart() {
    let place = Place::new();
    place.gray("a.png", 1, 1);
    for wrong in [&["send", "cam"][..], &["recv", "cam", "--timeout", "5"], &["demo", "--count", "0"], &["fly"], &[]] {
        assert_eq!(place.run(wrong).code, Some(2), "{wrong:?}");
    }
    for wrong in [&["send", "../cam", "a.png"][..], &["recv", "a/b"], &["rm", ""]] {
        place.run(wrong).failed(2, &["is no object name"]);
    }
}

#[test]
fn an_object_of_another_type_is_refused_in_one_line() {
    let place = Place::new();
    place.gray("a.png", 1, 1);
    let name = memlane::Name::new("cam").expect("a name").in_directory(place.objects());
    let _other = memlane::SharedMemory::create(&name, 64, &memlane::Options::new())
        .and_then(memlane::SharedMemory::map_mut)
        .expect("an object of raw bytes");
    place.run(&["recv", "cam"]).failed(1, &["'cam' holds another type"]);
    place.run(&["send", "cam", "a.png"]).failed(1, &["'cam' holds another type"]);
}
