//! Two operations on one name, the first stopped at each of its points while the second runs.

use crate::MORE;
use crate::aftermath::{Expected, next_user, works_or_is_retired};
use crate::common::{Dir, times};
use crate::meet::Outcome::{self, Closed, Created, Exists, Missing, Opened, Removed, TakenOver};
use crate::meet::{Meeting, Pair, assert_allowed, meet};
use crate::peek::directory_is_locked;
use crate::scenarios::{Run, make_dead, orphan};
use crate::victim::{OBJECT, Shared, create, table};
use memlane::{Error, Listed, Name, Options, Origin, Persistence, Segment, gc, list, remove, retire};
use std::path::Path;
use std::time::Duration;

/// What is there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    Nothing,
    /// An object that nobody uses.
    Dead,
    /// An object that we created and use.
    Ours,
    /// An object that we use, and whose creator is gone.
    Orphan,
}
use World::{Dead, Nothing, Orphan, Ours};

const PAIRS: &[(World, &str, &str, &[Pair])] = &[
    (Nothing, "create", "create", &[(Created, Exists), (Exists, Created)]),
    (Nothing, "create", "open", &[(Created, Opened), (Created, Missing)]),
    (Nothing, "create", "open or create", &[(Created, Opened), (Exists, Created)]),
    (Nothing, "create", "remove", &[(Created, Removed), (Created, Missing)]),
    (Nothing, "create", "retire", &[(Created, Removed), (Created, Missing)]),
    (Nothing, "create", "gc", &[(Created, Missing)]),
    (Dead, "create", "create", &[(Created, Exists), (Exists, Created)]),
    (Dead, "create", "open", &[(Created, Opened), (Created, Missing)]),
    (Dead, "create", "gc", &[(Created, Removed), (Created, Missing)]),
    (Orphan, "create", "create", &[(TakenOver, Exists), (Exists, TakenOver)]),
    (Orphan, "create", "open", &[(TakenOver, Opened)]),
    (Orphan, "create", "close", &[(TakenOver, Closed), (Created, Closed)]),
    (Orphan, "create", "remove", &[(TakenOver, Removed), (Created, Removed)]),
    (Orphan, "create", "retire", &[(TakenOver, Removed), (Created, Removed)]),
    (Orphan, "create", "gc", &[(TakenOver, Missing)]),
    (Nothing, "open", "create", &[(Opened, Created), (Missing, Created)]),
    (Dead, "open", "create", &[(Opened, Created), (Missing, Created)]),
    (Dead, "open", "gc", &[(Missing, Removed), (Missing, Missing)]),
    (Ours, "open", "remove", &[(Opened, Removed), (Missing, Removed)]),
    (Ours, "open", "retire", &[(Opened, Removed), (Missing, Removed)]),
    (Ours, "open", "close", &[(Opened, Closed), (Missing, Closed)]),
    (Ours, "open", "gc", &[(Opened, Missing)]),
    (Orphan, "open", "create", &[(Opened, TakenOver)]),
    (Nothing, "open or create", "open or create", &[(Created, Opened), (Opened, Created)]),
    (Ours, "open or create", "close", &[(Opened, Closed), (Created, Closed)]),
    (Nothing, "wait for", "create", &[(Opened, Created), (Missing, Created)]),
    (Ours, "close", "close", &[(Closed, Closed)]),
    (Ours, "close", "create", &[(Closed, Exists)]),
    (Nothing, "close the last", "open", &[(Closed, Opened), (Closed, Missing)]),
    (Nothing, "close the last", "create", &[(Closed, Exists), (Closed, Created)]),
    (Nothing, "close the last", "remove", &[(Closed, Removed), (Closed, Missing)]),
    (Nothing, "close the last", "retire", &[(Closed, Removed), (Closed, Missing)]),
    (Nothing, "close the last", "gc", &[(Closed, Missing)]),
    (Nothing, "close the last", "replace", &[(Closed, Created)]),
    (Ours, "remove", "replace", &[(Removed, Created)]),
    (Ours, "remove", "remove", &[(Removed, Missing), (Missing, Removed)]),
    (Ours, "remove", "create", &[(Removed, Exists), (Removed, Created)]),
    (Ours, "remove", "open", &[(Removed, Opened), (Removed, Missing)]),
    (Ours, "remove", "retire", &[(Removed, Missing), (Missing, Removed)]),
    (Ours, "remove", "close", &[(Removed, Closed), (Missing, Closed)]),
    (Ours, "retire", "retire", &[(Removed, Missing), (Missing, Removed)]),
    (Ours, "retire", "create", &[(Removed, Exists), (Removed, Created)]),
    (Ours, "retire", "open", &[(Removed, Opened), (Removed, Missing)]),
    (Ours, "retire", "gc", &[(Removed, Missing)]),
    (Dead, "gc", "create", &[(Removed, Created), (Missing, Created)]),
    (Dead, "gc", "open", &[(Removed, Missing), (Missing, Missing)]),
    (Dead, "gc", "gc", &[(Removed, Missing), (Missing, Removed)]),
    (Ours, "gc", "close", &[(Missing, Closed)]),
];

/// One operation on the name, as both sides do it; `handle` is what it closes.
pub fn attempt(
    directory: &Path,
    operation: &str,
    handle: Option<Segment<Shared>>,
) -> (Outcome, Option<Segment<Shared>>) {
    let name = Name::new(OBJECT).expect("a name").in_directory(directory);
    let until_last_user = Options::new().persistence(Persistence::UntilLastUser);
    let taken_away = |result| match result {
        Ok(()) => (Removed, None),
        Err(Error::NotFound { .. }) => (Missing, None),
        Err(error) => panic!("{operation}: {error}"),
    };
    let segment = match operation {
        "create" => create(name, Persistence::UntilLastUser),
        "open" => Segment::open(name),
        "open or create" => {
            Segment::open_or_create(name, (), &until_last_user, |shared: &mut Shared| shared.table = table())
        }
        "replace" => {
            let _ = remove(&name);
            create(name, Persistence::UntilLastUser)
        }
        "wait for" => Segment::wait_for(name, Some(Duration::from_millis(3))),
        "remove" => return taken_away(remove(name)),
        "retire" => return taken_away(retire(name)),
        "gc" => return taken_away(collect(directory, &name)),
        "close" | "close the last" => {
            drop(handle);
            return (Closed, None);
        }
        other => panic!("no operation {other}"),
    };
    match segment {
        Ok(segment) => match segment.origin() {
            Origin::Created => (Created, Some(segment)),
            Origin::TakenOver => (TakenOver, Some(segment)),
            Origin::Opened => (Opened, Some(segment)),
        },
        Err(Error::AlreadyExists { .. }) => (Exists, None),
        Err(Error::NotFound { .. } | Error::TimedOut { .. }) => (Missing, None),
        Err(error) => panic!("{operation}: {error}"),
    }
}

fn collect(directory: &Path, name: &Name) -> Result<(), Error> {
    let reclaimed = gc(Some(directory), false)?;
    if reclaimed.is_empty() { Err(Error::NotFound { name: name.to_string() }) } else { Ok(()) }
}

pub fn meetings() -> impl Iterator<Item = Meeting> {
    PAIRS.iter().map(|&(world, a, b, allowed)| Meeting {
        first: format!("{a}, {world:?}").to_lowercase(),
        title: format!("{a} | {b} ({world:?})").to_lowercase(),
        before: times(0, 16),
        further: times(0, MORE),
        run: Box::new(move |dir, run| run_pair(world, a, b, allowed, dir, run)),
    })
}

fn run_pair(world: World, a: &str, b: &str, allowed: &[Pair], dir: &Dir, run: &mut Run) {
    let mut ours = match world {
        Nothing => None,
        Dead => {
            make_dead(dir);
            None
        }
        Ours => Some(create(dir.name(OBJECT), Persistence::UntilLastUser).expect("a fresh object")),
        Orphan => Some(orphan::<Shared>(dir, |shared| shared.table = table())),
    };
    let closes = if b == "close" { ours.take() } else { None };
    let mut seen = Vec::new();
    let waits = || directory_is_locked(dir);
    let other = || attempt(dir.path(), b, closes);
    let mut look = || seen = list(Some(dir.path())).expect("a list");
    let (first, (second, theirs)) = meet(dir, run, a, &|| false, &waits, other, &mut look);
    assert_allowed(allowed, (first, second));
    let handles: Vec<_> = ours.into_iter().chain(theirs).collect();
    names_lead_to_the_living([(a, first), (b, second)], &handles, &seen);
    for handle in &handles {
        works_or_is_retired(handle);
    }
    drop(handles);
    assert_eq!(dir.files(), Vec::<String>::new(), "the last user leaves the name");
    next_user(dir, Expected::ObjectOrNothing, 0, run.number % 2 == 1);
}

/// `seen` was listed when both had done, and still held what they had got; `ours` is what this process holds.
fn names_lead_to_the_living(done: [(&str, Outcome); 2], ours: &[Segment<Shared>], seen: &[Listed]) {
    let this_process = std::process::id();
    let users = |mine: bool| {
        let users = seen.iter().flat_map(|object| &object.users);
        users.filter(|user| (user.pid == this_process) == mine).count()
    };
    let theirs = usize::from(matches!(done[0].1, Created | TakenOver | Opened));
    let took = |act| done.contains(&(act, Removed));
    assert!(seen.len() <= 1 && seen.iter().all(|object| object.in_use && object.problem.is_none()), "{seen:?}");
    if took("remove") || took("retire") {
        assert!(users(true) <= ours.len() && users(false) <= theirs, "{seen:?}");
    } else {
        assert_eq!((users(true), users(false)), (ours.len(), theirs), "a user's object lost its name: {seen:?}");
    }
    if took("retire") {
        let living = ours.iter().filter(|handle| !handle.region().is_retired()).count();
        assert_eq!(living, users(true), "whose name is gone is told so: {seen:?}");
    }
}
