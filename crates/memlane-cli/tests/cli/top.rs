//! `memlane top` for scripts; tests/cli/terminal.rs has the live view.

use crate::channel::{Shared, create, named, start, stop};
use crate::common::{Place, Running, wait_for};
use memlane::{ChannelOptions, Options, Policy, Segment};
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;

fn snapshot(place: &Place) -> Value {
    serde_json::from_str(&place.run(&["top", "--json"]).ok()).expect("one JSON object")
}

/// The fields of the line of a table that has all `words`.
fn row(table: &str, words: &[&str]) -> Vec<String> {
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let has_all = |line: &Vec<String>| words.iter().all(|word| line.iter().any(|field| field == word));
    table.lines().map(fields).find(has_all).unwrap_or_else(|| panic!("{words:?} in\n{table}"))
}

#[test]
fn json_has_all_that_is_known_of_a_channel() {
    let place = Place::new();
    let options = ChannelOptions::new().slots(3).max_message(500).senders(2);
    let sender = create::<[u8]>(&place, "cam", &options);
    let receivers = [start(&place, "receive cam"), start(&place, "receive cam")];
    stop(&receivers[0]);
    for _ in 0..3 {
        sender.send_copy(&[7; 200]).expect("there is room");
    }
    wait_for("the receiver that is not stopped", || {
        let others = sender.receivers();
        let its = others.iter().find(|it| it.who.as_ref().is_some_and(|who| who.pid == receivers[1].pid()))?;
        (its.lag == 0 && its.claims == 0).then_some(())
    });
    let snapshot = snapshot(&place);
    assert_eq!((&snapshot["directory"], &snapshot["locks"]), (&json!(place.objects()), &json!([])));
    let [cam] = &snapshot["channels"].as_array().expect("an array")[..] else { panic!("{snapshot}") };
    for (field, expected) in [
        ("name", json!("cam")),
        ("state", json!("in use")),
        ("problem", Value::Null),
        ("type", json!("bytes")),
        ("policy", json!("lossless")),
        ("messages_per_second", json!(0.0)),
        ("max_message", json!(500)),
        ("slots", json!(3)),
        ("slots_used", json!([3, 0])),
        ("sent", json!([3, 0])),
        ("max_senders", json!(2)),
        ("max_receivers", json!(4)),
        ("dead_senders", json!([])),
    ] {
        assert_eq!(cam[field], expected, "{field} in {cam}");
    }
    assert_eq!((&cam["senders"][0]["who"]["pid"], &cam["senders"][0]["lane"]), (&json!(std::process::id()), &json!(0)));
    for (running, stopped) in [(&receivers[0], true), (&receivers[1], false)] {
        let its = |receiver: &&Value| receiver["who"]["pid"] == running.pid();
        let receiver = cam["receivers"].as_array().and_then(|all| all.iter().find(its)).expect("the receiver");
        let expected = (json!(if stopped { 3 } else { 0 }), json!(stopped), json!(0), json!(0));
        let [lag, missed, holds] = ["lag", "missed", "holds"].map(|field| receiver[field].clone());
        assert_eq!((lag, receiver["who"]["stopped"].clone(), missed, holds), expected, "{receiver}");
        assert_eq!((receiver["latency_ns"].is_null(), &receiver["lag_grows"]), (stopped, &json!(false)), "{receiver}");
    }
}

#[test]
fn once_prints_the_same_as_a_table() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &ChannelOptions::new().policy(Policy::Newest));
    let _idle = create::<[u8]>(&place, "idle", &ChannelOptions::new().policy(Policy::Queue));
    let receiver = start(&place, "receive cam");
    stop(&receiver);
    (0..9).for_each(|_| drop(sender.send_copy(&[7; 200]).expect("it never waits")));
    // Without a terminal it needs no asking.
    for arguments in [&["top", "--once"][..], &["top"]] {
        let table = place.run(arguments).ok();
        assert!(
            table.starts_with("CHANNEL  TYPE   POLICY  MSG/S  SENT  SLOTS  SEND  RECV  LAG  MISSED  LATENCY  NOTE\n")
        );
        let cam = ["cam", "bytes", "newest", "0.0", "9", "4/4", "1/1", "1/4", "9", "0", "-", "1", "stopped"];
        assert_eq!(row(&table, &["cam", "newest"]), cam, "{table}");
        assert_eq!(row(&table, &["idle", "queue"])[3..], ["0.0", "0", "0/4", "1/1", "0/4", "-", "-", "-"], "{table}");
        let own = std::process::id().to_string();
        let of_sender = row(&table, &["cam", "sender", &own]);
        assert_eq!(of_sender[4..], ["0", "9", "4/4", "-", "-", "-", "-"], "{table}");
        let of_receiver = row(&table, &["cam", "receiver", &receiver.pid().to_string()]);
        assert_eq!(of_receiver[4..], ["-", "-", "-", "9", "0", "0", "-", "stopped"], "{table}");
    }
}

#[test]
fn messages_are_counted_between_two_looks() {
    let place = Place::new();
    let sender = create::<[u8]>(&place, "cam", &ChannelOptions::new().policy(Policy::Newest));
    let receiver = start(&place, "receive cam");
    stop(&receiver);
    let mut top = place.start(&["top", "--json", "--count", "3", "--interval", "300ms"]);
    let mut sent = 0;
    while top.is_running() {
        sender.send_copy(b"again").expect("it never waits");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let snapshots: Vec<Value> = top.end().ok().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(snapshots.len(), 3);
    for snapshot in snapshots {
        let cam = &snapshot["channels"][0];
        let (before, rate) = (sent, cam["messages_per_second"].as_f64().expect("a number"));
        sent = cam["sent"][0].as_u64().expect("a number");
        assert!(sent > before && (1.0..=1000.0).contains(&rate), "{cam}");
        assert_eq!((&cam["receivers"][0]["lag_grows"], &cam["receivers"][0]["lag"]), (&json!(true), &json!(sent)));
    }
}

#[test]
fn held_locks_are_shown_with_their_holders() {
    let place = Place::new();
    let shared = Segment::<Shared>::create(named(&place, "map"), (), &Options::new(), |_| ()).expect("a fresh object");
    assert_eq!(snapshot(&place)["locks"], json!([]));
    let mut holder = start(&place, "hold map");
    let lock = &snapshot(&place)["locks"][0];
    assert_eq!((&lock["object"], &lock["lock"], &lock["alive"]), (&json!("map"), &json!("value"), &json!(true)));
    assert_eq!(lock["holder"]["pid"], holder.pid());
    let pid = holder.pid().to_string();
    assert_eq!(row(&place.run(&["top", "--once"]).ok(), &["map", &pid])[..3], ["map", "value", &pid]);
    holder.kill();
    assert_eq!(snapshot(&place)["locks"][0]["alive"], false);
    assert!(row(&place.run(&["top", "--once"]).ok(), &["map", &pid]).contains(&"dead:".into()));
    drop(shared);
}

#[test]
fn what_is_damaged_dead_or_no_channel_is_told_apart() {
    let place = Place::new();
    std::fs::write(place.objects().join("notes"), "not memlane's").expect("a file");
    let _sound = create::<[u8]>(&place, "sound", &ChannelOptions::new());
    let _bad = create::<[u8]>(&place, "bad", &ChannelOptions::new());
    let file = std::fs::OpenOptions::new().write(true).open(place.objects().join("bad")).expect("its file");
    file.write_all_at(&[1], 100).expect("a byte of its header");
    let mut sender = start(&place, "send dead hello");
    sender.kill();
    let snapshot = snapshot(&place);
    let states: Vec<_> = snapshot["channels"].as_array().expect("an array").iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["damaged", "stale", "in use"], "bad, dead and sound: {snapshot}");
    let (bad, dead) = (&snapshot["channels"][0], &snapshot["channels"][1]);
    assert!(bad["problem"].as_str().is_some_and(|problem| problem.contains("'bad' is damaged")), "{bad}");
    assert_eq!((&dead["senders"], &dead["dead_senders"][0]["who"]["pid"]), (&json!([]), &json!(sender.pid())));
    let table = place.run(&["top", "--once"]).ok();
    assert!(row(&table, &["bad", "-"]).contains(&"damaged:".into()), "{table}");
    assert!(row(&table, &["dead", "bytes"]).contains(&"stale:".into()), "{table}");
    assert_eq!(row(&table, &["dead", "sender"]).last(), Some(&"dead".to_owned()), "{table}");
    place.run(&["gc"]).ok();
    place.run(&["rm", "bad"]).ok();
    std::fs::remove_file(place.objects().join("notes")).expect("the file");
}

#[test]
fn where_there_is_nothing_it_says_how_to_begin() {
    let place = Place::new();
    let told = place.run(&["top", "--once"]).ok();
    let expected = format!("no channels in {}: start one with `memlane send", place.objects().display());
    assert!(told.starts_with(&expected), "{told}");
    assert_eq!(snapshot(&place)["channels"], json!([]));
    let mut command = place.command(&["top"]);
    command.env("MEMLANE_DIR", place.folder().join("missing"));
    Running::start(command).end().failed(1, &["missing", "it does not exist", "MEMLANE_DIR"]);
}

#[test]
fn wrong_options_are_refused_and_help_names_the_right_ones() {
    let place = Place::new();
    for wrong in [&["--interval", "1ms"][..], &["--interval", "5"], &["--once", "--json"], &["--json", "--count", "0"]]
    {
        assert_eq!(place.run(&[&["top"], wrong].concat()).code, Some(2), "{wrong:?}");
    }
    let help = place.run(&["top", "--help"]).ok();
    for option in ["--once", "--json", "--count <N>", "--interval <DURATION>", "MISSED "] {
        assert!(help.contains(option), "{option} in {help}");
    }
}
