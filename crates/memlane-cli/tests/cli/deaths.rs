//! `kill -9`, signals and closed pipes: whoever is left says so and goes on, and nothing stays behind.

use crate::common::{Place, Running, closed_pipe, orphan, wait_for};
use std::process::Stdio;

#[test]
fn an_image_of_a_killed_receiver_is_offered_to_the_next() {
    let place = Place::new();
    let images = ["a.png", "b.png", "c.png"].map(|file| place.gray(file, 1024, 512));
    let mut sender = place.start(&["send", "cam", "a.png", "b.png", "c.png"]);
    let mut hold = place.hold(2);
    let mut first = place.start(&["recv", "cam", "--out", "."]);
    hold.reached();
    first.kill();
    drop(hold);
    sender.expect_told(&[&format!("pid {} (memlane) died before", first.pid()), "'b.png'", "offering it again"]);
    assert_eq!(place.run(&["recv", "cam", "--out", "."]).ok().lines().count(), 2);
    assert_eq!(sender.end().out.lines().count(), 3);
    for (sequence, image) in (1..).zip(&images) {
        place.assert_received(sequence, image);
    }
}

#[test]
fn a_sender_of_the_same_size_takes_over_and_the_numbers_go_on() {
    let place = Place::new();
    let receiver = orphan(&place);
    let image = place.gray("next.png", 512, 1024);
    let sent = place.run(&["send", "cam", "next.png", "--slots", "1", "--room", "1"]);
    assert!(sent.code == Some(0) && sent.err.contains("took 'cam' over"), "{sent:?}");
    assert!(sent.out.starts_with("000002"), "{sent:?}");
    receiver.end().ok();
    place.assert_received(2, &image);
}

#[test]
fn a_sender_of_smaller_images_takes_over_too() {
    let place = Place::new();
    let receiver = orphan(&place);
    let image = place.gray("next.png", 64, 64);
    let sent = place.run(&["send", "cam", "next.png", "--slots", "1", "--room", "1", "--keep"]);
    assert!(sent.err.contains("took 'cam' over") && sent.out.starts_with("000002"), "{sent:?}");
    assert!(sent.err.contains("'cam' was made without --keep"), "{sent:?}");
    receiver.end().ok();
    place.assert_received(2, &image);
}

#[test]
fn a_sender_of_larger_images_replaces_and_the_numbers_go_on() {
    let place = Place::new();
    let mut receiver = orphan(&place);
    for (number, size) in [(2, 1025), (3, 1026)] {
        place.gray("next.png", size, 512);
        let mut hold = place.hold(number);
        let mut sender = place.start(&["send", "cam", "next.png", "next.png", "--slots", "1"]);
        receiver.expect_told(&["'cam' was replaced", "waiting for it again"]);
        hold.reached();
        sender.kill();
        hold.release();
        receiver.expect_told(&["is dead"]);
        assert!(receiver.line().starts_with(&format!("{number:06}")));
    }
    let image = place.gray("last.png", 1027, 512);
    let sent = place.run(&["send", "cam", "last.png"]).ok();
    assert!(sent.starts_with("000004"), "{sent}");
    receiver.expect_told(&["'cam' was replaced", "waiting for it again"]);
    receiver.end().ok();
    place.assert_received(4, &image);
}

#[test]
fn a_sender_with_other_options_replaces_as_well() {
    let place = Place::new();
    let mut receiver = orphan(&place);
    let sent = place.run(&["send", "cam", "first.png", "--policy", "newest"]).ok();
    assert!(sent.starts_with("000002"), "{sent}");
    receiver.expect_told(&["'cam' was replaced", "waiting for it again"]);
    receiver.end().ok();
}

#[test]
fn a_receiver_finds_the_next_sender_also_when_the_name_was_removed() {
    let place = Place::new();
    let mut receiver = orphan(&place);
    place.run(&["rm", "cam"]).ok();
    let image = place.gray("next.png", 1024, 512);
    place.run(&["send", "cam", "next.png"]).ok();
    receiver.expect_told(&["'cam' was replaced or removed", "waiting for it again"]);
    receiver.end().ok();
    place.assert_received(1, &image);
}

#[test]
fn a_receiver_waits_for_the_next_sender_no_longer_than_it_was_told() {
    let place = Place::new();
    place.gray("first.png", 1024, 512);
    let mut hold = place.hold(1);
    let mut receiver = place.start(&["recv", "cam", "--out", ".", "--timeout", "1s"]);
    let mut sender = place.start(&["send", "cam", "first.png", "first.png", "--slots", "1"]);
    hold.reached();
    sender.kill();
    hold.release();
    receiver.expect_told(&["is dead"]);
    receiver.end().failed(3, &["nobody sent to 'cam' in time, 1 image received"]);
}

#[test]
fn when_both_are_killed_the_next_pair_needs_no_cleaning() {
    let place = Place::new();
    let image = place.gray("a.png", 1024, 512);
    for _ in 0..3 {
        let mut hold = place.hold(1);
        let mut sender = place.start(&["send", "cam", "a.png"]);
        let mut receiver = place.start(&["recv", "cam", "--out", "."]);
        hold.reached();
        receiver.kill();
        sender.kill();
        assert_eq!(place.names(), ["cam"], "what the dead left");
    }
    let receiver = place.start(&["recv", "cam", "--out", "."]);
    place.run(&["send", "cam", "a.png"]).ok();
    receiver.end().ok();
    place.assert_received(1, &image);
}

#[test]
fn a_sender_that_ends_beside_a_stuck_receiver_does_not_wait_for_it() {
    let place = Place::new();
    place.gray("a.png", 1024, 512);
    let mut hold = place.hold(1);
    let receiver = place.start(&["recv", "cam", "--out", "."]);
    let sender = place.start(&["send", "cam", "a.png"]);
    hold.reached();
    sender.signal("INT");
    sender.end().failed(1, &["interrupted"]);
    assert!(place.names().is_empty());
    hold.release();
    assert_eq!(receiver.end().ok().lines().count(), 1, "the end of the sender is no death");
}

#[test]
fn ctrl_c_and_termination_end_in_good_order() {
    for signal in ["INT", "TERM", "HUP"] {
        let place = Place::new();
        place.gray("a.png", 16, 16);

        let sender = place.start(&["send", "cam", "a.png"]);
        place.await_user("cam", sender.pid());
        await_handler(&sender);
        sender.signal(signal);
        sender.end().failed(1, &["interrupted", "'cam'"]);
        assert!(place.names().is_empty(), "{signal}");

        let receiver = place.start(&["recv", "cam"]);
        await_handler(&receiver);
        receiver.signal(signal);
        let ended = receiver.end();
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), "memlane: interrupted, 0 images received\n"));

        let mut demo = place.start(&["demo", "--count", "1000000", "--json"]);
        crate::demo::receiver_of(&mut demo);
        demo.signal(signal);
        let ended = demo.end();
        assert!(ended.code == Some(0) && ended.err.contains("interrupted"), "{ended:?}");
        assert!(place.names().is_empty(), "{signal}");
    }
}

#[test]
fn an_attached_receiver_ends_in_good_order_too() {
    let place = Place::new();
    let receiver = orphan(&place);
    receiver.signal("INT");
    let ended = receiver.end();
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), "memlane: interrupted, 1 image received\n"));
}

/// Waits until the process catches the signals: before that they just end it.
fn await_handler(process: &Running) {
    wait_for("a signal handler", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 0b10 != 0 && caught & 1 << 14 != 0 && caught & 1 != 0).then_some(())
    });
}

#[test]
fn whoever_stops_listening_does_no_harm() {
    let place = Place::new();
    place.gray("a.png", 16, 16);
    let kept = memlane::Name::new("kept").expect("a name").in_directory(place.objects());
    let _object = memlane::SharedMemory::create(&kept, 64, &memlane::Options::new()).expect("an object");
    let unheard = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.stdout(closed_pipe());
        Running::start(command)
    };
    for arguments in [
        &["ls"][..],
        &["ls", "--json"],
        &["gc"],
        &["gc", "--json", "--dry-run"],
        &["completions", "bash"],
        &["--help"],
        &["send", "--help"],
        &["demo", "--count", "3"],
        &["demo", "--count", "3", "--json"],
    ] {
        assert_eq!(unheard(arguments).end().ok(), "", "{arguments:?}");
    }
    let sender = unheard(&["send", "cam", "a.png", "a.png"]);
    place.run(&["recv", "cam"]).ok();
    sender.end().ok();
    let receiver = unheard(&["recv", "cam"]);
    let sender = place.start(&["send", "cam", "a.png", "a.png"]);
    receiver.end().ok();
    place.run(&["recv", "cam"]).ok();
    sender.end().ok();
}

#[test]
fn whoever_does_not_hear_errors_does_no_harm() {
    let place = Place::new();
    let mut command = place.command(&["recv", "cam", "--timeout", "100ms"]);
    command.stderr(closed_pipe()).stdout(Stdio::null());
    assert_eq!(Running::start(command).end().code, Some(3), "and not the code of a panic");
}
