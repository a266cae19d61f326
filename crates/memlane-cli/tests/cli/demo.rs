//! `memlane demo`.

use crate::common::{Place, Running, signal, wait_for};
use serde_json::Value;
use std::time::Duration;

/// The pid of the demo's other process.
pub(crate) fn receiver_of(demo: &mut Running) -> u32 {
    wait_for("a receiver", || {
        let child = children(demo).first().copied();
        assert!(
            child.is_some() || demo.is_running(),
            "{}",
            std::iter::repeat_with(|| demo.told()).take(30).collect::<String>()
        );
        child
    })
}

fn children(demo: &Running) -> Vec<u32> {
    let pid = demo.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

fn summary(line: &str) -> Value {
    assert_eq!(line.lines().count(), 1);
    serde_json::from_str(line).expect("one JSON object")
}

#[test]
fn drawn_pictures_are_verified_and_measured() {
    let place = Place::new();
    let summary = summary(&place.run(&["demo", "--count", "30", "--json"]).ok());
    assert_eq!((&summary["frames"], &summary["verified"]), (&30.into(), &true.into()));
    assert_eq!(summary["bytes"], 30 * 1920 * 1080 * 3);
    let number = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"));
    assert!(0 < number("p50_ns") && number("p50_ns") <= number("p99_ns") && number("p99_ns") <= number("max_ns"));
    assert!(number("bytes_per_second") > 0);
    assert_eq!(number("receivers_lost"), 0);
}

#[test]
fn people_get_it_in_words() {
    let place = Place::new();
    place.gray("a.png", 8, 8);
    let words = place.run(&["demo", "a.png", "--count", "5"]).ok();
    assert!(words.starts_with("5 frames, 320 B, every byte verified\nlatency     p50 "), "{words}");
}

#[test]
fn killed_receivers_are_replaced_and_every_frame_is_verified() {
    let place = Place::new();
    let mut demo = place.start(&["demo", "--count", "1200", "--json"]);
    let mut kills = 0;
    // From before the receiver is attached to the midst of its work: each time a little later.
    for delay in (0..60).step_by(3) {
        let victim = receiver_of(&mut demo);
        std::thread::sleep(Duration::from_millis(delay));
        if children(&demo).contains(&victim) {
            signal(victim, "KILL");
            kills += 1;
        }
        wait_for("another receiver", || (!children(&demo).contains(&victim)).then_some(()));
    }
    let ended = demo.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = summary(&ended.out);
    assert_eq!((&summary["frames"], &summary["verified"]), (&1200.into(), &true.into()), "{ended:?}");
    assert_eq!(summary["receivers_lost"], kills);
    assert_eq!(ended.err.lines().filter(|line| line.contains("is dead; pid")).count(), kills, "{ended:?}");
}

#[test]
fn the_receiver_of_a_killed_demo_ends_and_nothing_is_left() {
    for delay in [0, 1, 2, 5, 10, 30, 100] {
        let place = Place::new();
        let mut demo = place.start(&["demo", "--count", "1000000"]);
        let receiver = receiver_of(&mut demo);
        std::thread::sleep(Duration::from_millis(delay));
        demo.kill();
        wait_for("the end of the receiver", || {
            (!std::path::Path::new(&format!("/proc/{receiver}")).exists()).then_some(())
        });
        assert!(place.names().is_empty(), "after {delay} ms: {:?}", place.names());
    }
}

#[test]
fn a_receiver_that_is_stopped_does_not_keep_the_demo_from_ending() {
    let place = Place::new();
    let mut demo = place.start(&["demo", "--count", "1000000"]);
    let receiver = receiver_of(&mut demo);
    place.await_user(&place.names()[0], receiver);
    signal(receiver, "STOP");
    demo.signal("INT");
    let ended = demo.end();
    assert!(ended.code == Some(0) && ended.err.contains("interrupted"), "{ended:?}");
}
