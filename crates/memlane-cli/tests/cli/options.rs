//! Several receivers, policies, a pace, a window, kept channels.

use crate::common::{Place, Running, decoded_size, names_in, wait_for};
use memlane::{ChannelOptions, Image, Name, Observer, PixelFormat, Sender};
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, Instant};

fn values(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn numbers(lines: &str) -> Vec<u64> {
    values(lines).iter().map(|line| line["sequence"].as_u64().expect("a number")).collect()
}

fn name(place: &Place, name: &str) -> Name {
    Name::new(name).expect("a name").in_directory(place.objects())
}

/// Waits until so many messages were sent to 'cam'.
fn await_sent(place: &Place, count: u64) {
    wait_for("a message", || {
        let info = Observer::open(name(place, "cam")).ok()?.look().ok()?;
        (info.sent[0] >= count).then_some(())
    });
}

#[test]
fn two_receivers_both_get_every_image() {
    let place = Place::new();
    let images = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"].map(|file| place.gray(file, 64, 64));
    let files = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"];
    let sender = place.start(&[&["send", "cam", "--receivers", "2", "--slots", "2"][..], &files].concat());
    let receivers = ["one", "two"].map(|folder| place.start(&["recv", "cam", "--out", folder]));
    assert_eq!(sender.end().ok().lines().count(), 6);
    for (receiver, folder) in receivers.into_iter().zip(["one", "two"]) {
        assert_eq!(receiver.end().ok().lines().count(), 6);
        for (number, image) in (1..).zip(&images) {
            crate::common::assert_same_pixels(&place.folder().join(format!("{folder}/{number:06}.png")), image);
        }
    }
}

#[test]
fn nothing_is_sent_before_all_receivers_are_there() {
    let place = Place::new();
    place.gray("a.png", 8, 8);
    let receiver = place.start(&["recv", "cam"]);
    let sent = place.run(&["send", "cam", "a.png", "--receivers", "2", "--timeout", "3s"]);
    let who = format!("pid {} (memlane)", receiver.pid());
    sent.failed(3, &["only 1 of 2 receivers of 'cam' came", &who, "start more"]);
    assert_eq!(receiver.end().ok(), "");
}

#[test]
fn a_late_receiver_has_room() {
    let place = Place::new();
    place.gray("a.png", 512, 512);
    let mut hold = place.hold(1);
    let first = place.start(&["recv", "cam", "--out", "."]);
    let sender = place.start(&["send", "cam", "a.png", "a.png"]);
    hold.reached();
    // What nobody has processed yet it gets as well.
    let late = place.start(&["recv", "cam", "--out", "late"]);
    wait_for("the late one's images", || place.folder().join("late/000002.png").exists().then_some(()));
    hold.release();
    assert_eq!(sender.end().ok().lines().count(), 2);
    for receiver in [first, late] {
        assert_eq!(receiver.end().ok().lines().count(), 2);
    }
}

#[test]
fn of_two_receivers_one_is_killed_and_the_other_goes_on() {
    let place = Place::new();
    for file in ["a.png", "b.png", "c.png"] {
        place.gray(file, 1024, 512);
    }
    let mut hold = place.hold(2);
    let mut victim = place.start(&["recv", "cam", "--out", "."]);
    let other = place.start(&["recv", "cam", "--out", "other"]);
    let mut sender = place.start(&["send", "cam", "a.png", "b.png", "c.png", "--receivers", "2"]);
    hold.reached();
    victim.kill();
    let who = format!("pid {} (memlane) died before", victim.pid());
    sender.expect_told(&[&who, "'b.png'", "others have processed it"]);
    assert_eq!(sender.end().ok().lines().count(), 3);
    assert_eq!(other.end().ok().lines().count(), 3);
}

#[test]
fn successors_that_die_over_the_same_image_are_all_told() {
    let place = Place::new();
    let image = place.gray("a.png", 1024, 512);
    let mut sender = place.start(&["send", "cam", "a.png"]);
    for _ in 0..3 {
        let mut hold = place.hold(1);
        let mut receiver = place.start(&["recv", "cam", "--out", "."]);
        hold.reached();
        receiver.kill();
        sender.expect_told(&[&format!("pid {} (memlane) died before", receiver.pid()), "'a.png'", "offering it again"]);
    }
    place.run(&["recv", "cam", "--out", "."]).ok();
    sender.end().ok();
    place.assert_received(1, &image);
}

#[test]
fn a_full_window_blocks_until_the_time_is_over() {
    let place = Place::new();
    place.gray("a.png", 1024, 512);
    let mut hold = place.hold(1);
    let receiver = place.start(&["recv", "cam", "--out", "."]);
    let sender = place.start(&["send", "cam", "a.png", "a.png", "a.png", "--slots", "2", "--timeout", "500ms"]);
    hold.reached();
    let who = format!("pid {} (memlane)", receiver.pid());
    sender.end().failed(3, &[&who, "has not processed 'a.png' in time"]);
    hold.release();
    assert_eq!(receiver.end().ok().lines().count(), 2, "there was no room for the third");
}

#[test]
fn the_newest_do_not_wait_for_a_slow_receiver() {
    let place = Place::new();
    let (from, mut to) = std::io::pipe().expect("a pipe");
    let mut command = place.command(&["send", "cam", "--raw", "-", "--policy", "newest", "--slots", "2"]);
    command.stdin(from);
    let mut sender = Running::start(command);
    let mut hold = place.hold_file("000001.bin");
    let receiver = place.start(&["recv", "cam", "--raw", "--out", ".", "--json"]);
    let mut send = |number: u64| {
        let message = [number as u8; 1 << 17];
        to.write_all(&(message.len() as u64).to_le_bytes()).and_then(|()| to.write_all(&message)).expect("it reads");
        assert!(
            sender.line().starts_with(&format!("{number:06}  message {number} of standard input  128.0 KiB  sent"))
        );
    };
    send(1);
    hold.reached();
    (2..=20).for_each(&mut send);
    hold.release();
    drop(to);
    sender.end().ok();
    let received = values(&receiver.end().ok());
    let missed: u64 = received.iter().map(|line| line["missed"].as_u64().expect("a number")).sum();
    assert_eq!((received.len() as u64 + missed, received[0]["sequence"].as_u64()), (20, Some(1)));
    assert!(missed >= 17, "two were kept, and one is in its hands");
    assert_eq!(received.last().map(|line| line["sequence"].clone()), Some(20.into()), "the last is not missed");
    assert!(std::fs::read(place.folder().join("000020.bin")).expect("a file") == [20; 1 << 17]);
}

#[test]
fn in_a_queue_each_image_goes_to_one_and_after_a_death_to_another() {
    let place = Place::new();
    place.gray("a.png", 1024, 512);
    let mut hold = place.hold(1);
    let files = ["a.png"; 8];
    let sender = place.start(&[&["send", "cam", "--policy", "queue", "--room", "3", "--json"][..], &files].concat());
    let mut victim = place.start(&["recv", "cam", "--out", "."]);
    hold.reached();
    let others = [1, 2].map(|_| place.start(&["recv", "cam", "--json"]));
    victim.kill();
    assert_eq!(numbers(&sender.end().ok()), [1, 2, 3, 4, 5, 6, 7, 8]);
    let received = others.map(|receiver| receiver.end().ok()).concat();
    let mut got = numbers(&received);
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3, 4, 5, 6, 7, 8]);
    let first = values(&received).into_iter().find(|line| line["sequence"] == 1).expect("it is there");
    assert_eq!(first["deliveries"], 2);
}

#[test]
fn a_rate_is_kept() {
    let place = Place::new();
    place.gray("a.png", 8, 8);
    let receiver = place.start(&["recv", "cam"]);
    let start = Instant::now();
    place.run(&[&["send", "cam", "--rate", "20"][..], &["a.png"; 6]].concat()).ok();
    assert!(start.elapsed() >= Duration::from_millis(5 * 50), "{:?}", start.elapsed());
    assert_eq!(receiver.end().ok().lines().count(), 6);
    for wrong in ["0", "-1", "nan", "inf", "fast"] {
        assert_eq!(place.run(&["send", "cam", "a.png", "--rate", wrong]).code, Some(2), "{wrong}");
    }
}

#[test]
fn what_nobody_processed_is_kept_when_everybody_was_killed() {
    let place = Place::new();
    let images = ["a.png", "b.png"].map(|file| place.gray(file, 1024, 512));
    let mut hold = place.hold(1);
    let mut sender = place.start(&["send", "cam", "a.png", "b.png", "--keep"]);
    let mut receiver = place.start(&["recv", "cam", "--out", "."]);
    hold.reached();
    await_sent(&place, 2);
    sender.kill();
    receiver.kill();
    drop(hold);
    let listed = place.run(&["ls", "--json"]).ok();
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"cam".into(), &"kept".into()));
    assert_eq!(place.run(&["gc"]).ok(), "nothing to remove\n");

    let received = place.run(&["recv", "cam", "--out", ".", "--count", "2"]).ok();
    assert_eq!(received.lines().count(), 2);
    for (number, image) in (1..).zip(&images) {
        place.assert_received(number, image);
    }
    place.run(&["rm", "cam"]).ok();
}

#[test]
fn a_kept_channel_keeps_its_options_and_its_numbers() {
    let place = Place::new();
    place.gray("a.png", 64, 64);
    place.gray("larger.png", 65, 64);
    for number in ["000001", "000002"] {
        let receiver = place.start(&["recv", "cam"]);
        let sent = place.run(&["send", "cam", "a.png", "--keep"]).ok();
        assert!(sent.starts_with(number), "{sent}");
        receiver.end().ok();
        assert_eq!(place.names(), ["cam"]);
    }
    // Whoever comes between two senders waits for the next one.
    place.run(&["recv", "cam", "--timeout", "200ms"]).failed(3, &["nobody sent to 'cam'"]);
    let sender = place.start(&["send", "cam", "a.png"]);
    place.await_user("cam", sender.pid());
    assert!(place.run(&["ls"]).ok().contains("  in use, kept  "));
    place.run(&["recv", "cam"]).ok();
    sender.end().ok();
    for other in [&["larger.png"][..], &["a.png", "--policy", "newest"], &["a.png", "--slots", "3"]] {
        let sent = place.run(&[&["send", "cam"], other].concat());
        sent.failed(
            1,
            &["'cam' is there with other options", "--policy lossless --slots 4 --room 2", "memlane rm cam"],
        );
    }
    let listed = place.run(&["ls"]).ok();
    assert!(listed.lines().any(|line| line.starts_with("cam ") && line.contains(" kept ")), "{listed}");
    place.run(&["rm", "cam"]).ok();
}

#[test]
fn images_of_other_programs_are_written_as_they_look() {
    let place = Place::new();
    let size = Image::size(5, 2, PixelFormat::Bgra8);
    let options = ChannelOptions::new().max_message(size);
    let sender = Sender::<Image>::create(name(&place, "cam"), &options).expect("a channel");
    let receiver: Running = place.start(&["recv", "cam", "--out", "."]);
    sender.wait_for_receivers(1, None).expect("it comes");
    let mut image = sender.loan_image(5, 2, PixelFormat::Bgra8).expect("a buffer");
    image.pixels.copy_from_slice(&[1, 2, 3, 4].repeat(10));
    image.send().expect("there is room");
    let mut image = sender.loan_image(5, 2, PixelFormat::Rgb8).expect("a buffer");
    image.pixels.copy_from_slice(&[&[7; 9][..], &[0; 6], &[7; 9], &[0; 6]].concat());
    image.width = 3; // what is beyond belongs to nobody
    image.send().expect("there is room").wait(None).expect("it is received");
    let mut image = sender.loan_image(5, 2, PixelFormat::Rgb8).expect("a buffer");
    image.height = 3;
    image.send().expect("there is room");
    receiver.end().failed(1, &["message 3 is no image"]);
    let bgra = image::open(place.received(1)).expect("an image").into_rgba8();
    assert!(bgra.dimensions() == (5, 2) && bgra.pixels().all(|pixel| pixel.0 == [3, 2, 1, 4]));
    let cut = image::open(place.received(2)).expect("an image").into_rgb8();
    assert!(cut.dimensions() == (3, 2) && cut.pixels().all(|pixel| pixel.0 == [7; 3]));
    assert_eq!(decoded_size(&place.received(2)), 18);
    assert_eq!(names_in(place.folder()), ["000001.png", "000002.png"]);
}
