//! The life of a name, as users of Boost.Interprocess know it, and what a death changes about it.
#![allow(missing_docs)]

mod common;

use common::{Child, Dir, hear, role, say, spawn, spawn_under};
use memlane::{
    Condvar, Error, Listed, LockError, Mutex, Name, Options, Origin, OwnerId, Persistence, Segment, Shareable,
    SharedMemory, Until, WaitError, gc, list, remove, retire,
};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

#[derive(Debug, Shareable)]
#[repr(C)]
struct Counter {
    changed: Condvar,
    value: Mutex<u64>,
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Other {
    value: u64,
}

fn counter(name: &Name, options: Options) -> Result<Segment<Counter>, Error> {
    Segment::create(name, (), &options, |_| ())
}

fn keep() -> Options {
    Options::new().persistence(Persistence::Keep)
}

fn add(counter: &Segment<Counter>) -> Result<u64, LockError> {
    let mut value = counter.value.lock(counter)?.or_repair(|_| ());
    *value += 1;
    Ok(*value)
}

/// Says the object's id, and adds one whenever the parent says so, until the parent is gone.
fn serve(counter: &Segment<Counter>) {
    say(&format!("{:032x} {:?}", counter.region().id(), counter.origin()));
    while hear().is_some() {
        say(&format!("{:?}", add(counter)));
    }
}

#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Some((role, arguments)) = role() else { return };
    let name = || Name::new(&arguments[0]).expect("a name");
    match role.as_str() {
        "create" => serve(&counter(&name(), Options::new()).expect("created")),
        "open" => serve(&Segment::open(name()).expect("it is there")),
        "open or create" => {
            say("ready");
            while hear().is_some() {
                let counter = Segment::<Counter>::open_or_create(name(), (), &Options::new(), |_| ()).expect("one");
                say(&format!("{:032x} {:?}", counter.region().id(), counter.origin()));
                hear();
                drop(counter);
                say("closed");
            }
        }
        "wait for" => {
            say("waiting");
            serve(&Segment::wait_for(name(), Some(PATIENCE)).expect("it appears"));
        }
        "sleep in the lock" => {
            let counter = Segment::<Counter>::open(name()).expect("it is there");
            say("here");
            say(&format!("{:?}", counter.value.lock_timeout(&counter, PATIENCE).map(drop)));
        }
        "sleep in the condition" => {
            let counter = Segment::<Counter>::open(name()).expect("it is there");
            let held = counter.value.lock(&counter).expect("the lock").or_repair(|_| ());
            say("here");
            say(&format!("{:?}", counter.changed.wait_while(held, Until::timeout(PATIENCE), |_| true).map(drop)));
        }
        "modes" => modes(),
        "free memory" => free_memory(),
        "hold the directory" => {
            let directory = File::open(std::env::var_os("MEMLANE_DIR").expect("it is set")).expect("the directory");
            directory.lock().expect("its lock");
            say("held");
            hear();
        }
        other => panic!("no role {other}"),
    }
}

/// The id that a child said.
fn id(child: &mut Child) -> (u128, String) {
    let said = child.hear().expect("an id");
    let (id, origin) = said.split_once(' ').expect("an id and an origin");
    (u128::from_str_radix(id, 16).expect("an id"), origin.to_owned())
}

#[test]
fn a_removed_object_lives_on_for_its_users_and_the_name_leads_to_another() {
    let dir = Dir::new();
    for options in [Options::new(), keep()] {
        let name = dir.name("cam");
        let first = counter(&name, options).expect("a fresh object");
        let mut user = spawn(dir.path(), "open", &["cam"]);
        assert_eq!(id(&mut user), (first.region().id(), "Opened".into()));
        remove(&name).expect("it is there");
        assert!(matches!(Segment::<Counter>::open(&name), Err(Error::NotFound { .. })));
        assert!(matches!(remove(&name), Err(Error::NotFound { .. })));
        assert_eq!(add(&first).expect("undisturbed"), 1);
        user.say("add");
        user.expect("Ok(2)");

        let second = counter(&name, options).expect("the name is free");
        assert_eq!(second.origin(), Origin::Created);
        assert_ne!(second.region().id(), first.region().id());
        assert_eq!(add(&second).expect("alone in it"), 1);
        user.say("add");
        user.expect("Ok(3)");
        drop(first);
        assert!(user.finish().success());
        assert_eq!(dir.files(), ["cam"], "the last user of the removed object did not take the other's name away");
        remove(&name).expect("it is there");
    }
    assert!(dir.files().is_empty());
}

#[test]
fn memory_is_free_again_at_the_last_unmap_and_not_before() {
    let Some(wrapper) = common::small_file_system("size=16m") else { return };
    let dir = Dir::new();
    let mut child = spawn_under(&wrapper, dir.path(), "free memory", &[]);
    child.expect("right");
    assert!(child.finish().success());
}

/// In a file system of its own, where nobody else takes or gives memory.
fn free_memory() {
    const SIZE: u64 = 4 << 20;
    let free = || memlane::space(None).expect("a directory").free;
    let before = free();
    for options in [Options::new(), keep()] {
        let mine = SharedMemory::create("cam", SIZE, &options).expect("it fits").map_mut().expect("mapped");
        let taken = before - free();
        assert!((SIZE..SIZE + 65_536).contains(&taken), "{taken} bytes for {SIZE}");
        let reader = SharedMemory::open("cam").expect("it is there").map().expect("mapped");
        remove("cam").expect("it is there");
        assert_eq!(before - free(), taken, "two users");
        drop(mine);
        assert_eq!(before - free(), taken, "the reader still uses it");
        drop(reader);
        assert_eq!(free(), before, "nobody uses it");
    }
    say("right");
}

#[test]
fn a_kept_object_survives_its_last_user_and_no_other_does() {
    let dir = Dir::new();
    let (kept, other) = (dir.name("kept"), dir.name("other"));
    let counter_id = {
        let (kept, other) = (counter(&kept, keep()).expect("fresh"), counter(&other, Options::new()).expect("fresh"));
        add(&kept).and_then(|_| add(&other)).expect("undisturbed");
        kept.region().id()
    };
    assert_eq!(dir.files(), ["kept"]);
    assert!(matches!(Segment::<Counter>::open(&other), Err(Error::NotFound { .. })));
    assert!(gc(Some(dir.path()), false).expect("a directory").is_empty(), "kept is not dead");
    assert!(matches!(counter(&kept, keep()), Err(Error::AlreadyExists { .. })));
    let again = Segment::<Counter>::open(&kept).expect("it is kept");
    assert_eq!((again.region().id(), add(&again).expect("undisturbed")), (counter_id, 2));
    // `again` has the slot that was the creator's, and is not the creator.
    assert!(matches!(counter(&kept, keep()), Err(Error::AlreadyExists { creator: None, .. })));
}

#[test]
fn a_kept_object_is_neither_taken_over_nor_replaced() {
    let dir = Dir::new();
    let name = dir.name("kept");
    let creator = counter(&name, keep()).expect("fresh");
    let user = Segment::<Counter>::open(&name).expect("it is there");
    drop(creator);
    for options in [keep(), Options::new()] {
        assert!(matches!(counter(&name, options), Err(Error::AlreadyExists { .. })));
    }
    let another_type = Segment::<Other>::create(&name, (), &Options::new(), |_| ());
    assert!(matches!(another_type, Err(Error::AlreadyExists { .. })), "{another_type:?}");
    assert_eq!(add(&user).expect("undisturbed"), 1);
}

#[test]
fn a_kept_object_survives_a_kill() {
    let dir = Dir::new();
    let kept = counter(&dir.name("kept"), keep()).expect("fresh");
    let mut user = spawn(dir.path(), "open", &["kept"]);
    id(&mut user);
    drop(kept);
    user.kill();
    assert!(gc(Some(dir.path()), false).expect("a directory").is_empty());
    Segment::<Counter>::open(dir.name("kept")).expect("it is kept");
}

#[test]
fn what_a_kill_leaves_is_not_found_and_its_name_is_free() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let killed = |name: &str| {
        let mut creator = spawn(dir.path(), "create", &[name]);
        let (id, _) = id(&mut creator);
        creator.kill();
        id
    };
    killed("cam");
    assert_eq!(dir.files(), ["cam"], "the kill left it");
    assert!(matches!(Segment::<Counter>::open(&name), Err(Error::NotFound { .. })));
    assert!(dir.files().is_empty(), "open took the dead name away");

    let dead = killed("cam");
    let new = counter(&name, Options::new()).expect("the name is free");
    assert_eq!(new.origin(), Origin::Created);
    assert_ne!(new.region().id(), dead);
    drop(new);

    killed("cam");
    let other = counter(&dir.name("other"), Options::new()).expect("a fresh object");
    assert_eq!(dir.files(), ["other"], "a create of another name swept the dead one away");
    killed("cam");
    let dead = gc(Some(dir.path()), true).expect("a directory");
    assert_eq!(dead.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["cam"]);
    assert_eq!(dir.files().len(), 2, "a dry run takes nothing");
    assert_eq!(gc(Some(dir.path()), false).expect("a directory"), dead);
    assert_eq!(dir.files(), ["other"]);
    drop(other);
}

#[test]
fn create_takes_over_an_object_whose_creator_was_killed_while_others_use_it() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mut creator = spawn(dir.path(), "create", &["cam"]);
    let (first, _) = id(&mut creator);
    let user = Segment::<Counter>::open(&name).expect("it is there");
    assert_eq!(add(&user).expect("undisturbed"), 1);
    creator.kill();

    let taken = counter(&name, Options::new()).expect("taken over");
    assert_eq!((taken.origin(), taken.region().id()), (Origin::TakenOver, first));
    assert_eq!(add(&taken).expect("the same object"), 2, "what is in it stayed");
    assert_eq!(add(&user).expect("undisturbed"), 3);
    match counter(&name, Options::new()) {
        Err(Error::AlreadyExists { creator: Some(who), .. }) => assert_eq!(who.pid, std::process::id()),
        other => panic!("the new creator lives, got {other:?}"),
    }
    drop(taken);
    let mut next = spawn(dir.path(), "create", &["cam"]);
    assert_eq!(id(&mut next), (first, "TakenOver".into()), "a creator that closed it gave the role up, too");
    next.say("add");
    next.expect("Ok(4)");
}

#[test]
fn create_takes_over_without_building_again() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let creator = Segment::<Other>::create(&name, (), &Options::new(), |other| other.value = 1).expect("fresh");
    let _user = Segment::<Other>::open(&name).expect("it is there");
    drop(creator);
    let taken = Segment::<Other>::create(&name, (), &Options::new(), |_| panic!("there is nothing to build"));
    let taken = taken.expect("taken over");
    assert_eq!((taken.origin(), taken.value), (Origin::TakenOver, 1));
}

#[derive(Debug, Shareable)]
#[repr(C)]
struct Tailed {
    value: u64,
    tail: [u8],
}

#[test]
fn create_retires_an_orphan_that_only_looks_alike() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let tailed = |tail| Segment::<Tailed>::create(&name, tail, &Options::new(), |_| ()).expect("fresh, or replaced");
    let creator = tailed(1);
    let user = Segment::<Tailed>::open(&name).expect("it is there");
    drop(creator);
    let longer = tailed(2); // of the same size, because of the padding
    assert_eq!((longer.origin(), longer.tail.len()), (Origin::Created, 2));
    assert_eq!(user.region().len(), longer.region().len());
    assert!(user.region().is_retired());

    drop((user, longer));
    let creator = Segment::<Other>::create(&name, (), &Options::new(), |_| ()).expect("fresh");
    let user = Segment::<Other>::open(&name).expect("it is there");
    drop(creator);
    let raw = SharedMemory::create(&name, user.region().len() as u64, &Options::new()).expect("replaced");
    assert_eq!(raw.origin(), Origin::Created, "of another type, although it has the same size");
    assert!(user.region().is_retired());
}

#[test]
fn create_retires_an_orphan_of_another_type_or_size() {
    let dir = Dir::new();
    let name = dir.name("cam");
    for another_type in [true, false] {
        let mut creator = spawn(dir.path(), "create", &["cam"]);
        let (first, _) = id(&mut creator);
        let user = Segment::<Counter>::open(&name).expect("it is there");
        creator.kill();
        let new = if another_type {
            let new = Segment::<Other>::create(&name, (), &Options::new(), |other| other.value = 7).expect("replaced");
            assert_eq!((new.origin(), new.value), (Origin::Created, 7));
            new.region().id()
        } else {
            let new = SharedMemory::create(&name, 64, &Options::new()).expect("replaced");
            assert_eq!((new.origin(), new.size()), (Origin::Created, 64));
            new.id()
        };
        assert_ne!(new, first);
        assert!(user.region().is_retired());
        assert!(matches!(add(&user), Err(LockError::Retired { .. })));
    }
    let mut creator = spawn(dir.path(), "create", &["cam"]);
    id(&mut creator);
    let raw = || SharedMemory::create(dir.name("raw"), 100, &Options::new()).expect("fresh").map_mut().expect("mapped");
    let (first, user) = (raw(), SharedMemory::open(dir.name("raw")).expect("there").map_mut().expect("mapped"));
    drop(first);
    let bigger = SharedMemory::create(dir.name("raw"), 101, &Options::new()).expect("replaced");
    assert!(user.is_retired() && bigger.id() != user.id());
}

#[test]
fn what_takes_the_name_while_a_value_is_built_is_respected() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mut first = None;
    let late = Segment::create(&name, (), &Options::new(), |_: &mut Counter| {
        first = Some(counter(&name, Options::new()).expect("the name is free"));
    });
    assert!(matches!(late, Err(Error::AlreadyExists { .. })), "{late:?}");
    assert!(first.is_some_and(|first| matches!(add(&first), Ok(1))), "undisturbed");

    let mut user = None;
    let late = Segment::create(&name, (), &Options::new(), |_: &mut Counter| {
        let creator = counter(&name, Options::new()).expect("the name is free");
        user = Some(Segment::<Counter>::open(&name).expect("it is there"));
        drop(creator);
    });
    let (late, user) = (late.expect("taken over"), user.expect("opened"));
    assert_eq!((late.origin(), late.region().id()), (Origin::TakenOver, user.region().id()));
    drop((late, user));

    let directory = File::open(dir.path()).expect("the directory");
    let late = Segment::create(&name, (), &Options::new(), |_: &mut Counter| directory.lock().expect("nobody has it"));
    assert!(matches!(late, Err(Error::Busy { .. })), "{late:?}");
    assert!(dir.files().is_empty());
}

#[test]
fn an_object_that_exists_names_its_living_creator() {
    let dir = Dir::new();
    let mut creator = spawn(dir.path(), "create", &["cam"]);
    let (first, _) = id(&mut creator);
    let error = counter(&dir.name("cam"), Options::new()).expect_err("its creator lives");
    let text = error.to_string();
    assert!(text.contains("'cam'") && text.contains(&format!("pid {}", creator.pid())), "{text}");
    assert!(text.contains("memlane rm cam"), "{text}");
    assert!(matches!(error, Error::AlreadyExists { creator: Some(who), .. } if who.pid == creator.pid()));
    let opened = Segment::<Counter>::open(dir.name("cam")).expect("undisturbed");
    assert_eq!(opened.region().id(), first);
    creator.say("add");
    creator.expect("Ok(1)");
}

#[test]
fn retiring_ends_users_in_other_processes_and_frees_the_name() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let mine = counter(&name, keep()).expect("a fresh object");
    let mut in_condition = spawn(dir.path(), "sleep in the condition", &["cam"]);
    in_condition.expect("here");
    let held = mine.value.lock(&mine).expect("free once the child sleeps").or_repair(|_| ());
    let mut in_lock = spawn(dir.path(), "sleep in the lock", &["cam"]);
    in_lock.expect("here");
    retire(&name).expect("it is there");
    assert!(dir.files().is_empty());
    in_condition.expect(r#"Err(Lock(Retired { object: "cam" }))"#);
    in_lock.expect(r#"Err(Retired { object: "cam" })"#);
    drop(held);
    assert!(matches!(mine.value.try_lock(&mine), Err(LockError::Retired { .. })));
    assert!(matches!(retire(&name), Err(Error::NotFound { .. })));
    assert_eq!(counter(&name, Options::new()).expect("the name is free").origin(), Origin::Created);
}

#[test]
fn a_race_to_open_or_create_ends_with_one_object() {
    const RACERS: usize = 8;
    let dir = Dir::new();
    let mut racers: Vec<Child> = (0..RACERS).map(|_| spawn(dir.path(), "open or create", &["cam"])).collect();
    racers.iter_mut().for_each(|racer| racer.expect("ready"));
    let mut last = 0;
    for _ in 0..25 {
        racers.iter_mut().for_each(|racer| racer.say("go"));
        let answers: Vec<_> = racers.iter_mut().map(id).collect();
        assert!(answers.iter().all(|(id, _)| *id == answers[0].0 && *id != last), "{answers:?}");
        let creators = answers.iter().filter(|(_, origin)| origin == "Created").count();
        assert_eq!(creators, 1, "{answers:?}");
        last = answers[0].0;
        racers.iter_mut().for_each(|racer| racer.say("close"));
        racers.iter_mut().for_each(|racer| racer.expect("closed"));
        assert!(dir.files().is_empty(), "the last of them took the name away");
    }
}

#[test]
fn whoever_waits_for_an_object_gets_it_or_a_timeout() {
    let dir = Dir::new();
    let mut waiter = spawn(dir.path(), "wait for", &["cam"]);
    waiter.expect("waiting");
    let created = counter(&dir.name("cam"), Options::new()).expect("a fresh object");
    assert_eq!(id(&mut waiter), (created.region().id(), "Opened".into()));
    let start = Instant::now();
    match Segment::<Counter>::wait_for(dir.name("never"), Some(SHORT)) {
        Err(Error::TimedOut { name, waited }) => assert!(name == "never" && waited >= SHORT),
        other => panic!("expected a timeout, got {other:?}"),
    }
    assert!(start.elapsed() >= SHORT);
    let another_type = Segment::<Other>::wait_for(dir.name("cam"), Some(PATIENCE));
    assert!(matches!(another_type, Err(Error::TypeMismatch { .. })), "an error does not wait for the timeout");
}

#[test]
fn only_names_that_are_names_are_accepted() {
    let longest = "x".repeat(200);
    for good in ["a", "cam0", "A-Z_0.9", "..a", "-", ".hidden", &longest] {
        assert_eq!(Name::new(good).expect("a name").as_str(), good);
    }
    let too_long = "x".repeat(201);
    for bad in ["", ".", "..", "a/b", "/a", "a b", "a\0b", "ü", "a\n", "../x", "a:b", &too_long] {
        let error = Name::new(bad).expect_err("no name");
        assert!(matches!(&error, Error::InvalidName { name } if name == bad), "{error:?}");
        assert!(error.to_string().contains("use 1 to 200 of A-Z a-z 0-9 _ . -"), "{error}");
        assert!(matches!(SharedMemory::open(bad), Err(Error::InvalidName { .. })));
        assert!(matches!(remove(bad), Err(Error::InvalidName { .. })));
    }
    let unique = || Name::unique("cam").expect("random numbers");
    assert_ne!(unique(), unique());
    assert!(unique().as_str().starts_with("cam-"));
    assert!(matches!(Name::unique("a/b"), Err(Error::InvalidName { .. })));
}

#[test]
fn the_mode_is_exactly_as_given_whatever_the_umask() {
    let dir = Dir::new();
    for umask in ["000", "077", "777"] {
        let shell = format!("umask {umask}; exec \"$@\"");
        let mut child = spawn_under(&["sh", "-c", &shell, "sh"], dir.path(), "modes", &[]);
        child.expect("right");
        assert!(child.finish().success());
    }
}

fn modes() {
    let directory = std::path::PathBuf::from(std::env::var_os("MEMLANE_DIR").expect("it is set"));
    for mode in [0o600, 0o640, 0o660, 0o664, 0o755] {
        let object = SharedMemory::create("cam", 10, &Options::new().mode(mode)).expect("created");
        let permissions = std::fs::metadata(directory.join("cam")).expect("the file").permissions();
        assert_eq!(permissions.mode() & 0o7777, mode);
        SharedMemory::open("cam").expect("it can be opened");
        drop(object);
    }
    let object = SharedMemory::create("cam", 10, &Options::new().mode(0o6640)).expect("created");
    let permissions = std::fs::metadata(directory.join("cam")).expect("the file").permissions();
    assert_eq!(permissions.mode() & 0o7777, 0o640, "the lowest nine bits");
    drop(object);
    let object = SharedMemory::create("cam", 10, &Options::new()).expect("created");
    let permissions = std::fs::metadata(directory.join("cam")).expect("the file").permissions();
    assert_eq!(permissions.mode() & 0o7777, 0o600, "the default");
    drop(object);
    say("right");
}

#[test]
fn an_object_that_strangers_could_write_is_not_created() {
    let dir = Dir::new();
    let error = SharedMemory::create(dir.name("cam"), 10, &Options::new().mode(0o666)).expect_err("0002");
    assert!(matches!(error, Error::UnsafeMode { mode: 0o666, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("'cam'") && text.contains("0666") && text.contains("0664"), "{text}");
    assert!(dir.files().is_empty());
}

fn listed(dir: &Dir) -> Vec<Listed> {
    list(Some(dir.path())).expect("a directory")
}

#[test]
fn a_list_shows_what_there_is_and_who_uses_it() {
    let dir = Dir::new();
    assert!(listed(&dir).is_empty());
    let mut creator = spawn(dir.path(), "create", &["cam"]);
    id(&mut creator);
    let user = Segment::<Counter>::open(dir.name("cam")).expect("it is there");
    let raw = SharedMemory::create(dir.name("raw"), 5000, &keep()).expect("fresh").map().expect("mapped");
    std::fs::write(dir.path().join("stray"), "not an object").expect("a file");

    let [cam, raw_listed, stray] = <[Listed; 3]>::try_from(listed(&dir)).expect("three names");
    assert_eq!((cam.name.as_str(), cam.type_name.as_deref()), ("cam", Some("Counter")));
    assert_eq!(cam.size, std::fs::metadata(dir.path().join("cam")).expect("the file").len());
    let mut pids: Vec<u32> = cam.users.iter().map(|who| who.pid).collect();
    pids.sort_unstable();
    let mut expected = [std::process::id(), creator.pid()];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert_eq!(cam.creator.as_ref().map(|who| who.pid), Some(creator.pid()));
    assert!(cam.creator.is_some_and(|who| who.name.starts_with("names")), "the program's name");
    assert_eq!((cam.persistence, cam.stale, cam.in_use), (Some(Persistence::UntilLastUser), false, true));
    assert_eq!((raw_listed.name.as_str(), raw_listed.type_name), ("raw", None));
    assert!(raw_listed.users.is_empty() && raw_listed.in_use, "a reader uses it and takes no part");
    assert_eq!((raw_listed.persistence, raw_listed.stale), (Some(Persistence::Keep), false));
    assert!(stray.name == "stray" && stray.problem.is_some_and(|problem| problem.contains("no memlane object")));

    creator.kill();
    drop(raw);
    let [cam, raw_listed, _] = <[Listed; 3]>::try_from(listed(&dir)).expect("three names");
    assert_eq!((cam.creator, cam.users.len(), cam.stale, cam.in_use), (None, 1, false, true));
    assert_eq!((raw_listed.in_use, raw_listed.stale), (false, false), "kept");
    let mut last = spawn(dir.path(), "open", &["cam"]);
    id(&mut last);
    drop(user);
    last.kill();
    let [cam, ..] = <[Listed; 3]>::try_from(listed(&dir)).expect("three names");
    assert_eq!((cam.users.len(), cam.stale, cam.in_use), (0, true, false), "dead, and still there");
}

#[test]
fn a_directory_that_is_held_names_its_holder() {
    let dir = Dir::new();
    let mut holder = spawn(dir.path(), "hold the directory", &[]);
    holder.expect("held");
    let start = Instant::now();
    match SharedMemory::create(dir.name("cam"), 10, &Options::new()) {
        Err(error @ Error::Busy { holder: Some(pid), waited, .. }) => {
            assert_eq!(pid, holder.pid());
            assert!(start.elapsed() < waited * 2, "giving up does not wait for the directory again");
            assert!(error.to_string().contains(&format!("pid {pid}")), "{error}");
        }
        other => panic!("the directory is held, got {other:?}"),
    }
    holder.kill();
    SharedMemory::create(dir.name("cam"), 10, &Options::new()).expect("a dead holder holds nothing");
}

#[test]
fn nothing_is_decided_about_a_name_while_another_has_the_directory() {
    let dir = Dir::new();
    let [mine, creator, last] =
        ["cam", "orphan", "last"].map(|name| counter(&dir.name(name), Options::new()).expect("a fresh object"));
    let _user = Segment::<Counter>::open(dir.name("orphan")).expect("it is there");
    drop(creator);
    let directory = File::open(dir.path()).expect("the directory");
    directory.lock_shared().expect("nobody has it");
    let calls: [&(dyn Fn() -> Result<(), Error> + Sync); 7] = [
        &|| Segment::<Counter>::open(dir.name("cam")).map(drop),
        &|| counter(&dir.name("orphan"), Options::new()).map(drop),
        &|| remove(dir.name("cam")),
        &|| retire(dir.name("cam")),
        &|| mine.region().remove_name(),
        &|| gc(Some(dir.path()), false).map(drop),
        &|| list(Some(dir.path())).map(drop),
    ];
    std::thread::scope(|scope| {
        scope.spawn(move || drop(last));
        let calls = calls.map(|call| scope.spawn(call));
        for (number, call) in calls.into_iter().enumerate() {
            let result = call.join().expect("no panic");
            assert!(matches!(result, Err(Error::Busy { .. })), "call {number}: {result:?}");
        }
    });
    assert_eq!((dir.files().len(), mine.region().is_retired()), (3, false));
}

#[test]
fn a_name_that_leads_to_another_object_by_now_stays() {
    let dir = Dir::new();
    let name = dir.name("cam");
    let first = counter(&name, Options::new()).expect("a fresh object");
    remove(&name).expect("it is there");
    let second = counter(&name, Options::new()).expect("the name is free");
    first.region().remove_name().expect("there is nothing to do");
    assert_eq!(dir.files(), ["cam"]);
    second.region().remove_name().expect("it is there");
    assert!(dir.files().is_empty());
}

#[test]
fn attachments_are_limited_and_given_back() {
    const LIMIT: usize = 128;
    let dir = Dir::new();
    let first = counter(&dir.name("cam"), Options::new()).expect("a fresh object");
    let mut others: Vec<Segment<Counter>> =
        (1..LIMIT).map(|_| Segment::open(dir.name("cam")).expect("there is room")).collect();
    let full = Segment::<Counter>::open(dir.name("cam"));
    assert!(matches!(full, Err(Error::TooManyParticipants { limit: LIMIT, .. })), "{full:?}");
    let gone = others.pop().map(|other| other.region().owner()).expect("one of them");
    let next = Segment::<Counter>::open(dir.name("cam")).expect("there is room again");
    assert!(next.region().owner() != gone && !first.region().is_alive(gone), "an OwnerId is never used again");
    assert!(first.region().is_alive(next.region().owner()));
    assert_eq!(first.region().who(gone), None, "whoever has its slot now is another");
    assert!(!first.region().is_alive(OwnerId::NOBODY));
}

#[test]
fn a_wait_on_a_peer_that_closed_the_object_ends() {
    let dir = Dir::new();
    let mine = counter(&dir.name("cam"), Options::new()).expect("a fresh object");
    let peer = Segment::<Counter>::open(dir.name("cam")).expect("it is there");
    let until = Until::timeout(PATIENCE).or_peer_lost(peer.region().owner());
    drop(peer);
    let held = mine.value.lock(&mine).expect("the lock").or_repair(|_| ());
    assert!(matches!(mine.changed.wait_while(held, until, |_| true), Err(WaitError::PeerLost { .. })));
}
