//! `memlane ls`, `rm`, `gc`, help and completions.

use crate::common::{Place, Running};
use memlane::{Name, Options, Persistence, RegionMut, SharedMemory};
use serde_json::Value;

fn listed(place: &Place) -> Vec<Value> {
    serde_json::from_str(&place.run(&["ls", "--json"]).ok()).expect("one JSON array")
}

/// An object that this process uses.
fn object(place: &Place, name: &str, options: &Options) -> RegionMut {
    let name = Name::new(name).expect("a name").in_directory(place.objects());
    SharedMemory::create(&name, 5000, options).and_then(SharedMemory::map_mut).expect("an object")
}

fn sender(place: &Place, name: &str) -> Running {
    place.gray("a.png", 16, 16);
    let sender = place.start(&["send", name, "a.png"]);
    place.await_user(name, sender.pid());
    sender
}

#[test]
fn ls_shows_who_uses_what() {
    let place = Place::new();
    assert!(listed(&place).is_empty());
    assert!(place.run(&["ls"]).ok().lines().nth(1).is_some_and(|line| line.starts_with("0 objects in /dev/shm/")));
    let _bytes = object(&place, "bytes", &Options::new());
    let sender = sender(&place, "cam");
    let objects = listed(&place);
    assert_eq!(objects.len(), 2);
    let (bytes, cam) = (&objects[0], &objects[1]);
    assert_eq!((&bytes["name"], &bytes["type"], &bytes["stale"]), (&"bytes".into(), &Value::Null, &false.into()));
    assert_eq!(bytes["users"][0]["pid"], std::process::id());
    assert_eq!((&cam["name"], &cam["stale"], &cam["state"]), (&"cam".into(), &false.into(), &"in use".into()));
    assert!(cam["type"].as_str().is_some_and(|kind| kind == "channel"), "{cam}");
    assert_eq!((&cam["users"][0]["pid"], &cam["users"][0]["name"]), (&sender.pid().into(), &"memlane".into()));
    let size = std::fs::metadata(place.objects().join("cam")).expect("the object").len();
    assert_eq!(cam["size"], size);
    let table = place.run(&["ls"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAME ") && lines[0].ends_with(" USERS"), "{table}");
    assert!(lines[1].starts_with("bytes ") && lines[1].contains(&format!("pid {} (", std::process::id())), "{table}");
    assert!(lines[2].starts_with("cam ") && lines[2].contains(&format!("pid {} (memlane)", sender.pid())), "{table}");
    assert!(lines[3].starts_with("2 objects in ") && lines[3].ends_with(" free"), "{table}");
    sender.signal("INT");
    sender.end().failed(1, &["interrupted"]);
}

#[test]
fn what_a_crash_left_is_stale_and_gc_takes_it_alone() {
    let place = Place::new();
    let _used = object(&place, "used", &Options::new());
    drop(object(&place, "kept", &Options::new().persistence(Persistence::Keep)));
    let mut sender = sender(&place, "cam");
    assert_eq!(place.run(&["gc"]).ok(), "nothing to remove\n");
    sender.kill();
    let states = |objects: Vec<Value>| {
        objects.iter().map(|object| (object["name"].to_string(), object["stale"] == true)).collect::<Vec<_>>()
    };
    let all = [("\"cam\"", true), ("\"kept\"", false), ("\"used\"", false)].map(|(name, stale)| (name.into(), stale));
    assert_eq!(states(listed(&place)), all);
    assert!(place.run(&["ls"]).ok().lines().any(|line| line.starts_with("cam ") && line.contains(" stale ")));

    let would: Value = serde_json::from_str(&place.run(&["gc", "--dry-run", "--json"]).ok()).expect("a JSON array");
    assert_eq!((would.as_array().map(Vec::len), &would[0]["name"]), (Some(1), &"cam".into()));
    let would = place.run(&["gc", "--dry-run"]).ok();
    assert!(would.starts_with("would remove cam, ") && would.contains("\n1 dead object, "), "{would}");
    assert_eq!(states(listed(&place)), all, "nothing was removed");
    let did = place.run(&["gc"]).ok();
    assert!(did.starts_with("removed cam, ") && did.ends_with(" freed\n"), "{did}");
    assert_eq!(states(listed(&place)), all[1..]);
    place.run(&["rm", "kept"]).ok();
}

#[test]
fn rm_takes_the_name_and_leaves_the_users_alone() {
    let place = Place::new();
    place.run(&["rm", "cam"]).failed(4, &["there is no object 'cam'"]);
    place.run(&["rm", "--force", "cam"]).failed(4, &["there is no object 'cam'"]);
    place.gray("big.png", 1024, 512);
    let mut hold = place.hold(1);
    let receiver = place.start(&["recv", "cam", "--out", "."]);
    let sender = place.start(&["send", "cam", "big.png", "big.png"]);
    hold.reached();
    place.run(&["rm", "cam"]).ok();
    assert!(place.names().is_empty());
    hold.release();
    assert_eq!(sender.end().ok().lines().count(), 2, "they go on undisturbed");
    assert_eq!(receiver.end().ok().lines().count(), 2);
}

#[test]
fn rm_by_force_tells_the_users() {
    let place = Place::new();
    let sender = sender(&place, "cam");
    place.run(&["rm", "cam", "--force"]).ok();
    sender.end().failed(1, &["'cam' was removed by force"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let place = Place::new();
    let mut command = place.command(&["ls"]);
    command.env("MEMLANE_DIR", place.folder().join("missing"));
    Running::start(command).end().failed(1, &["missing", "it does not exist", "MEMLANE_DIR"]);
}

#[test]
fn help_names_every_option() {
    let place = Place::new();
    let options: [(&str, &[&str]); 7] = [
        ("demo", &["[IMAGES]...", "--count <N>", "--json"]),
        (
            "send",
            &[
                "<NAME>",
                "<FILE>...",
                "--raw",
                "--receivers <N>",
                "--room <N>",
                "--policy <POLICY>",
                "lossless",
                "newest",
                "queue",
                "--slots <N>",
                "--rate <HZ>",
                "--keep",
                "--max-message <BYTES>",
                "16777216",
                "--timeout <DURATION>",
                "--json",
                "eight bytes",
            ],
        ),
        (
            "recv",
            &["<NAME>", "[-]", "--out <DIR>", "--raw", "--count <N>", "--timeout <DURATION>", "--json", "eight bytes"],
        ),
        ("ls", &["--json"]),
        ("rm", &["<NAME>", "--force"]),
        ("gc", &["--dry-run", "--json"]),
        ("completions", &["<SHELL>"]),
    ];
    let overview = place.run(&["--help"]).ok();
    assert!(overview.contains("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out, 4 no such object"));
    assert!(!overview.contains("demo-receiver"), "it is nobody's business");
    for (command, options) in options {
        assert!(overview.contains(&format!("\n  {command} ")), "{command} in {overview}");
        let help = place.run(&[command, "--help"]).ok();
        for option in options {
            assert!(help.contains(option), "{option} in {help}");
        }
    }
    assert!(place.run(&["--version"]).ok().starts_with("memlane 0."));
}

#[test]
fn completions_know_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).ok();
        assert!(
            ["demo", "send", "recv", "timeout", "policy", "newest"].iter().all(|word| script.contains(word)),
            "{shell}"
        );
    }
}
