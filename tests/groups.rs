//! Directories that a group shares, with real other users; and who is kept out, each time with whose it is and what to do.
//!
//! Only root may become other users: anybody else is told that this is skipped.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{Child, Dir, hear, role, say, spawn};
use memlane::{
    ChannelOptions, Error, LockError, Locked, Mutex, Name, Options, Outcome, Receiver, Region, Segment, Sender,
    SharedMemory, gc, list, remove,
};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(300);
const ANN: [u32; 2] = [65_501, 65_510];
const BEN: [u32; 2] = [65_502, 65_510];
/// In no group of the others.
const EVE: [u32; 2] = [65_503, 65_503];
const GROUP: u32 = ANN[1];

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    assert_eq!(role, "user");
    become_user(arguments[0].parse().expect("a user"), arguments[1].parse().expect("a group"));
    say("ready");
    act();
}

/// The process acts for that user from now on, whose own group is its number; in the other one it is a member.
fn become_user(user: u32, group: u32) {
    // SAFETY: the list has one element and outlives the call.
    let done = unsafe {
        libc::umask(0o077); // what a mode says holds whatever this is
        libc::setgroups(1, &raw const group) | libc::setresgid(user, user, user) | libc::setresuid(user, user, user)
    };
    assert_eq!(done, 0, "root may");
}

type State = Segment<Mutex<u64>>;

/// Does what it hears, with all that it has opened.
fn act() {
    let mut sender = None::<Sender<[u8]>>;
    let mut receiver = None::<Receiver<[u8]>>;
    let mut state = None::<State>;
    while let Some(wish) = hear() {
        let (wish, mode) = wish.split_once(' ').unwrap_or((&wish, "660"));
        let mode = u32::from_str_radix(mode, 8).expect("a mode");
        let said = match wish {
            "create" => {
                let options = ChannelOptions::new().max_message(100).senders(2).mode(mode);
                let made = Sender::create("frames", &options)
                    .and_then(|made| Ok((made, State::create("state", (), &Options::new().mode(mode), |_| ())?)));
                answer(made, |(made, its)| {
                    let origin = made.origin();
                    (sender, state) = (Some(made), Some(its));
                    format!("{origin:?}")
                })
            }
            "open" => answer(Receiver::open("frames").and_then(|it| Ok((it, State::open("state")?))), |(it, its)| {
                (receiver, state) = (Some(it), Some(its));
                "opened".into()
            }),
            "read" => answer(Region::open("state"), |region| format!("{} bytes", region.len())),
            "remove" => answer(remove("frames"), |()| "removed".into()),
            "gc" => answer(gc(None, false), |dead| format!("{} dead", dead.len())),
            "list" => answer(list(None), |all| {
                let problems = all.iter().filter_map(|object| object.problem.clone()).collect::<Vec<_>>();
                format!("{} objects {}", all.len(), problems.join(" "))
            }),
            "send" => {
                let ticket = sender.as_ref().expect("created").send_copy(&[7; 50]).expect("there is room");
                let handled = ticket.wait(Some(PATIENCE)).expect("it was dealt with");
                assert!(handled.iter().all(|handled| handled.outcome == Outcome::Processed), "{handled:?}");
                format!("to {}", handled.len())
            }
            "receive" => match receiver.as_mut().expect("opened").recv_timeout(PATIENCE) {
                Ok(message) => format!("{} bytes", message.len()),
                Err(error) => error.to_string(),
            },
            "hold" => {
                let state = state.as_ref().expect("opened");
                std::mem::forget(state.lock(state).expect("the lock").or_repair(|_| ()));
                "held".into()
            }
            "lock" => match state.as_ref().map(|state| state.lock_timeout(state, MOMENT)).expect("opened") {
                Ok(Locked::Clean(_)) => "clean".into(),
                Ok(Locked::OwnerDied(died)) => {
                    drop(died.mark_consistent());
                    "owner died".into()
                }
                Err(LockError::TimedOut { holder: Some(who), .. }) => format!("held by {}", who.pid),
                Err(error) => error.to_string(),
            },
            other => panic!("no wish {other}"),
        };
        say(&said);
    }
}

fn answer<T>(result: Result<T, Error>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(error @ Error::Denied { .. }) => format!("denied: {error}"),
        Err(error @ Error::Directory { .. }) => format!("directory: {error}"),
        Err(error @ Error::Foreign { .. }) => format!("foreign: {error}"),
        Err(error @ Error::AlreadyExists { .. }) => format!("exists: {error}"),
        Err(error) => format!("another error: {error:?}"),
    }
}

/// A directory of this owner, group and mode; `None`, and a reason on stderr, if this user may not make one.
fn shared(owner: u32, group: u32, mode: u32) -> Option<Dir> {
    let dir = Dir::new();
    if let Err(error) = chown(dir.path(), Some(owner), Some(group)) {
        // Not `eprintln`: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED, only root can act for other users: {error}");
        return None;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("root may");
    Some(dir)
}

fn user(dir: &Dir, [user, group]: [u32; 2]) -> Child {
    let mut child = spawn(dir.path(), "user", &[&user.to_string(), &group.to_string()]);
    assert_eq!(child.hear_or_kill().as_deref(), Some("ready"));
    child
}

#[track_caller]
fn ask(child: &mut Child, wish: &str, expected: &str) {
    child.say(wish);
    assert_eq!(child.hear_or_kill().as_deref(), Some(expected), "{wish}");
}

/// It is refused, and the message has these parts.
#[track_caller]
fn ask_in_vain(child: &mut Child, wish: &str, parts: &[&str]) {
    child.say(wish);
    let said = child.hear_or_kill().expect("an answer");
    for part in parts {
        assert!(said.contains(part), "{wish}: {part} in {said}");
    }
}

#[test]
fn members_of_a_group_share_objects_and_see_each_other_die() {
    let Some(dir) = shared(0, GROUP, 0o2770) else { return };
    let (mut ann, mut ben) = (user(&dir, ANN), user(&dir, BEN));
    ask(&mut ann, "create", "Created");
    for name in ["frames", "state"] {
        let meta = fs::metadata(dir.path().join(name)).expect("it is there");
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (ANN[0], GROUP, 0o660), "{name}");
    }
    ask(&mut ben, "open", "opened");
    ask(&mut ben, "list", "2 objects");
    ann.say("send");
    ask(&mut ben, "receive", "50 bytes");
    ask(&mut ben, "lock", "clean"); // the message was dropped
    ann.expect("to 1");
    ask(&mut ben, "hold", "held");
    ask(&mut ann, "lock", &format!("held by {}", ben.pid()));
    ask_in_vain(&mut ben, "create", &["exists", &format!("created by pid {}", ann.pid())]);
    ben.kill();
    ask(&mut ann, "lock", "owner died");

    // Whoever dies leaves what the other takes over, or collects.
    let mut ben = user(&dir, BEN);
    ask(&mut ben, "open", "opened");
    ann.kill();
    ask_in_vain(&mut ben, "receive", &["died"]);
    ask(&mut ben, "create", "TakenOver");
    ask(&mut ben, "remove", "removed");
    ben.kill();
    let mut ann = user(&dir, ANN);
    ask(&mut ann, "gc", "1 dead");
    ask(&mut ann, "create", "Created");
    let mut ben = user(&dir, BEN);
    ask(&mut ben, "remove", "removed");
    drop((ann, ben));
}

#[test]
fn what_is_not_for_the_group_says_whose_it_is_and_what_to_do() {
    let Some(dir) = shared(0, GROUP, 0o2770) else { return };
    let path = dir.path().display().to_string();
    let (mut ann, mut ben) = (user(&dir, ANN), user(&dir, BEN));
    ask(&mut ann, "create 600", "Created");
    let denied = |mode: &str| {
        let whose = format!("belongs to user 65501 and group 65510 with mode {mode}");
        [
            "denied: cannot open".to_owned(),
            format!(" in {path}"),
            whose,
            "acts for user 65502".into(),
            "mode 0660".into(),
        ]
    };
    for wish in ["open", "read", "create", "remove"] {
        ask_in_vain(&mut ben, wish, &denied("0600").each_ref().map(String::as_str));
    }
    ask(&mut ben, "gc", "0 dead");
    ask_in_vain(&mut ben, "list", &["2 objects", "user 65501", "mode 0660"]);
    drop(ann);
    ask(&mut ben, "gc", "0 dead");

    // For the group to read.
    let mut ann = user(&dir, ANN);
    ask(&mut ann, "gc", "2 dead");
    ask(&mut ann, "create 640", "Created");
    ask(&mut ben, "read", "16 bytes");
    ask_in_vain(&mut ben, "open", &denied("0640").each_ref().map(String::as_str));
}

#[test]
fn who_is_not_in_the_group_is_kept_out() {
    let Some(dir) = shared(0, GROUP, 0o2770) else { return };
    let path = dir.path().display().to_string();
    let mut eve = user(&dir, EVE);
    let whose = "belongs to user 0 and group 65510 with mode 2770";
    let parts = ["directory", &path, whose, "acts for user 65503", "usermod -aG 65510", "MEMLANE_DIR"];
    for wish in ["create", "open", "read", "remove", "gc", "list"] {
        ask_in_vain(&mut eve, wish, &parts);
    }
    // Who may look, but not make anything.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2775)).expect("root may");
    ask(&mut eve, "list", "0 objects");
    ask_in_vain(&mut eve, "create", &["directory", &path, "mode 2775", "usermod -aG 65510"]);
    let mut ann = user(&dir, ANN);
    ask(&mut ann, "create", "Created");
    ask_in_vain(&mut eve, "open", &["denied: cannot open 'frames'", "user 65501", "be in group 65510"]);
}

#[test]
fn a_directory_that_is_not_shared_as_it_should_be_says_so() {
    // Not set-group-id: what is made in it is of its maker's own group.
    let Some(dir) = shared(0, GROUP, 0o770) else { return };
    let (mut ann, mut ben) = (user(&dir, ANN), user(&dir, BEN));
    ask(&mut ann, "create", "Created");
    ask_in_vain(
        &mut ben,
        "open",
        &["denied", "group 65501", "for group 65510 to share the directory, `chmod 2770` it"],
    );
    let root = || SharedMemory::open(dir.name("state")).map(drop);
    let error = root().expect_err("not the group's").to_string();
    for part in ["user 65501", "not to be trusted", "`chmod 2770` it"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).expect("root may");
    ask_in_vain(&mut ben, "open", &["denied", "before the directory was shared", "`chgrp 65510` it"]);
    assert!(root().expect_err("still of another group").to_string().contains("`chgrp 65510` it"));
    for name in ["frames", "state"] {
        chown(dir.path().join(name), None, Some(GROUP)).expect("root may");
    }
    root().expect("now it is the group's");
    ask(&mut ben, "open", "opened");
    drop((ann, ben));

    // A member's own directory is not the group's.
    let Some(dir) = shared(ANN[0], GROUP, 0o2770) else { return };
    let (mut ann, mut ben) = (user(&dir, ANN), user(&dir, BEN));
    ask(&mut ann, "create", "Created");
    ask_in_vain(&mut ben, "open", &["directory", "belongs to user 65501", "MEMLANE_DIR", "`chown root` it"]);

    // In a sticky one only who made an object takes its name away.
    let Some(dir) = shared(0, GROUP, 0o3770) else { return };
    let (mut ann, mut ben) = (user(&dir, ANN), user(&dir, BEN));
    ask(&mut ann, "create", "Created");
    ask(&mut ben, "open", "opened");
    ask_in_vain(&mut ben, "remove", &["denied: cannot remove 'frames'", "not sticky"]);
}

#[test]
fn other_users_get_no_object_by_its_descriptor() {
    use std::os::fd::AsFd;
    let Some(dir) = shared(0, GROUP, 0o2770) else { return };
    let mut ann = user(&dir, ANN);
    ask(&mut ann, "create", "Created");
    let file = fs::File::open(dir.path().join("state")).expect("root may");
    let error = Name::from_fd("state", file.as_fd().try_clone_to_owned().expect("a descriptor")).expect_err("not ours");
    for part in ["user 65501", "share a directory with a group"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
}
