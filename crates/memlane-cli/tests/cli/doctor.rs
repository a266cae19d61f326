//! `memlane doctor`.

use crate::channel::{Shared, create, named, start, stop};
use crate::common::{Place, Running};
use memlane::{ChannelOptions, Locked, Options, Segment};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// What it found, and its exit code.
fn examined(command: std::process::Command) -> (Vec<Value>, Option<i32>) {
    let ended = Running::start(command).end();
    let findings: Vec<Value> = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    for finding in &findings {
        let level = finding["level"].as_str().expect("a level");
        assert!(["ok", "note", "warning", "problem"].contains(&level), "{finding}");
        assert!(finding["check"].is_string() && finding["found"].is_string(), "{finding}");
        assert!(level != "warning" || finding["fix"].is_string(), "a warning says what to do: {finding}");
    }
    let problem = findings.iter().any(|finding| finding["level"] == "problem");
    assert_eq!(ended.code, Some(problem.into()), "{ended:?}");
    (findings, ended.code)
}

fn findings(place: &Place) -> Vec<Value> {
    examined(place.command(&["doctor", "--json"])).0
}

/// The findings of a check, as their level and what was found.
fn about(findings: &[Value], check: &str) -> Vec<(String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("text").to_owned();
    let its = findings.iter().filter(|finding| finding["check"] == check);
    its.map(|finding| (text(finding, "level"), text(finding, "found"))).collect()
}

#[test]
fn a_healthy_directory_has_no_problem_and_a_death_is_seen_in_it() {
    let place = Place::new();
    let _sender = create::<[u8]>(&place, "cam", &ChannelOptions::new());
    let findings = findings(&place);
    for check in ["directory", "mount", "objects", "trial"] {
        let [(level, _)] = &about(&findings, check)[..] else { panic!("{check} once in {findings:?}") };
        assert_eq!(level, "ok", "{check}: {findings:?}");
    }
    for absent in ["stale", "damaged", "foreign", "stopped", "lock"] {
        assert!(about(&findings, absent).is_empty(), "{absent}: {findings:?}");
    }
    assert!(about(&findings, "trial")[0].1.starts_with("a process was killed with a lock in its hand: seen after "));
    let printed = place.run(&["doctor"]).ok();
    let directory = format!("ok       directory  {}, named by MEMLANE_DIR, of user ", place.objects().display());
    assert!(printed.starts_with(&directory), "{printed}");
    assert!(printed.contains("\nok       objects    1 object in use or kept, "), "{printed}");
}

#[test]
fn what_the_dead_left_what_is_damaged_and_what_is_foreign_has_a_fix() {
    let place = Place::new();
    std::fs::write(place.objects().join("notes"), "not memlane's").expect("a file");
    let _bad = create::<[u8]>(&place, "bad", &ChannelOptions::new());
    let file = std::fs::OpenOptions::new().write(true).open(place.objects().join("bad")).expect("its file");
    file.write_all_at(&[1], 100).expect("a byte of its header");
    let mut sender = start(&place, "send dead hello");
    sender.kill();
    let findings = findings(&place);
    let fix = |check: &str| findings.iter().find(|finding| finding["check"] == check).map(|finding| &finding["fix"]);
    let [(level, found)] = &about(&findings, "stale")[..] else { panic!("{findings:?}") };
    assert!(level == "warning" && found.starts_with("1 dead object, ") && found.ends_with(": dead"), "{found}");
    assert_eq!(fix("stale").and_then(Value::as_str), Some("`memlane gc`"));
    assert!(about(&findings, "damaged")[0].1.contains("'bad' is damaged"), "{findings:?}");
    assert_eq!(fix("damaged").and_then(Value::as_str), Some("`memlane rm bad`"));
    assert_eq!(about(&findings, "foreign"), [("warning".into(), "1 file that memlane did not make: notes".into())]);
    // As it says.
    place.run(&["gc"]);
    place.run(&["rm", "bad"]).ok();
    std::fs::remove_file(place.objects().join("notes")).expect("the file");
    let findings = self::findings(&place);
    assert!(
        findings
            .iter()
            .all(|finding| !["stale", "damaged", "foreign"].contains(&finding["check"].as_str().unwrap_or_default()))
    );
}

#[test]
fn a_lock_of_the_dead_a_dirty_one_and_a_stopped_holder_are_named() {
    let place = Place::new();
    let shared = Segment::<Shared>::create(named(&place, "map"), (), &Options::new(), |_| ()).expect("a fresh object");
    let mut holder = start(&place, "hold map");
    stop(&holder);
    let pid = holder.pid();
    let stopped = about(&findings(&place), "stopped");
    assert!(matches!(&stopped[..], [(level, found)] if level == "warning" && found.contains(&format!("pid {pid} ("))));
    holder.kill();
    let dead = format!("`value` of map is held by pid {pid} (");
    let found = about(&findings(&place), "lock");
    assert!(
        matches!(&found[..], [(_, found)] if found.starts_with(&dead) && found.ends_with("which is dead")),
        "{found:?}"
    );
    match shared.value.lock(&shared).expect("the lock") {
        Locked::OwnerDied(died) => drop(died),
        Locked::Clean(_) => panic!("its holder died"),
    }
    let found = about(&findings(&place), "lock");
    assert!(
        matches!(&found[..], [(level, found)] if level == "warning" && found.contains("left half-changed")),
        "{found:?}"
    );
    shared.value.lock(&shared).expect("the lock").or_repair(|_| ()).unlock();
    assert!(about(&findings(&place), "lock").is_empty());
}

#[test]
fn a_directory_that_cannot_be_used_is_a_problem() {
    let place = Place::new();
    let missing = place.folder().join("missing");
    let mut command = place.command(&["doctor", "--json"]);
    command.env("MEMLANE_DIR", &missing);
    let (found, code) = examined(command);
    assert!(about(&found, "directory")[0].1.contains("it does not exist"), "{found:?}");
    assert_eq!((code, about(&found, "trial").len()), (Some(1), 0));
    let open = place.folder().join("open");
    std::fs::create_dir(&open).expect("a folder");
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).expect("its mode");
    let mut command = place.command(&["doctor"]);
    command.env("MEMLANE_DIR", &open);
    let ended = Running::start(command).end();
    ended.failed(1, &["problem"]);
    assert!(ended.out.contains("lets anybody remove objects: chmod it to 0700 or 2770"), "{ended:?}");
}

/// Needs a file system of its own, and says so where it may not have one.
#[test]
fn a_full_mount_is_a_problem_that_says_how_to_get_room() {
    const SCRIPT: &str = r#"mount -t tmpfs -o mode=0700,size=1m tmpfs "$MEMLANE_DIR" && exec "$@""#;
    let place = Place::new();
    let mut problem = String::new();
    for unshare in [&["unshare", "--mount"][..], &["unshare", "--mount", "--user", "--map-root-user"]] {
        let run = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(unshare[0]);
            command.args(&unshare[1..]).args(["sh", "-c", SCRIPT, "sh", program]).args(arguments);
            command.env("MEMLANE_DIR", place.objects()).stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command
        };
        match run("true", &[]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                problem = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                continue;
            }
            Err(error) => {
                problem = error.to_string();
                continue;
            }
        }
        let fill = r#"head -c 1040000 /dev/zero > "$MEMLANE_DIR/filler"; exec "$0" doctor --json"#;
        let (findings, code) = examined(run("sh", &["-c", fill, env!("CARGO_BIN_EXE_memlane")]));
        let space = findings.iter().find(|finding| finding["check"] == "space").expect("the space");
        assert_eq!((code, &space["level"]), (Some(1), &"problem".into()), "{findings:?}");
        let remount = format!("remount,size=SIZE {}`", place.objects().display());
        assert!(space["fix"].as_str().is_some_and(|fix| fix.contains(&remount) && fix.contains("--shm-size")));
        let trial = about(&findings, "trial");
        assert!(matches!(&trial[..], [(level, found)] if level == "problem" && found.contains("needs")), "{trial:?}");
        return;
    }
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED, no file system of its own: {problem}");
}
