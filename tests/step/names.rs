//! Two operations on one name, the first stopped at each of its points while the second runs.

use crate::aftermath::{Expected, next_user, works_or_is_retired};
use crate::common::Dir;
use crate::meet::meet;
use crate::scenarios::{Run, make_dead, orphan};
use crate::victim::{OBJECT, Shared, create, table};
use memlane::{Error, Listed, Name, Options, Origin, Persistence, Segment, gc, list, remove, retire};
use std::fs::File;
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

/// What came of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Created,
    TakenOver,
    Opened,
    Exists,
    Missing,
    Removed,
    Closed,
}
use Outcome::{Closed, Created, Exists, Missing, Opened, Removed, TakenOver};

const OUTCOMES: [Outcome; 7] = [Created, TakenOver, Opened, Exists, Missing, Removed, Closed];

impl Outcome {
    /// As an exit code.
    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    fn from_code(code: i32) -> Option<Self> {
        OUTCOMES.into_iter().find(|outcome| i32::from(outcome.code()) == code)
    }
}

/// Two operations on the name, and what may come of them: what comes of one after the other, in either order.
pub struct Pair {
    world: World,
    a: &'static str,
    b: &'static str,
    allowed: &'static [(Outcome, Outcome)],
}

const fn pair(world: World, a: &'static str, b: &'static str, allowed: &'static [(Outcome, Outcome)]) -> Pair {
    Pair { world, a, b, allowed }
}

pub const PAIRS: [Pair; 46] = [
    pair(Nothing, "create", "create", &[(Created, Exists), (Exists, Created)]),
    pair(Nothing, "create", "open", &[(Created, Opened), (Created, Missing)]),
    pair(Nothing, "create", "open or create", &[(Created, Opened), (Exists, Created)]),
    pair(Nothing, "create", "remove", &[(Created, Removed), (Created, Missing)]),
    pair(Nothing, "create", "retire", &[(Created, Removed), (Created, Missing)]),
    pair(Nothing, "create", "gc", &[(Created, Missing)]),
    pair(Dead, "create", "create", &[(Created, Exists), (Exists, Created)]),
    pair(Dead, "create", "open", &[(Created, Opened), (Created, Missing)]),
    pair(Dead, "create", "gc", &[(Created, Removed), (Created, Missing)]),
    pair(Orphan, "create", "create", &[(TakenOver, Exists), (Exists, TakenOver)]),
    pair(Orphan, "create", "open", &[(TakenOver, Opened)]),
    pair(Orphan, "create", "close", &[(TakenOver, Closed), (Created, Closed)]),
    pair(Orphan, "create", "remove", &[(TakenOver, Removed), (Created, Removed)]),
    pair(Orphan, "create", "retire", &[(TakenOver, Removed), (Created, Removed)]),
    pair(Orphan, "create", "gc", &[(TakenOver, Missing)]),
    pair(Nothing, "open", "create", &[(Opened, Created), (Missing, Created)]),
    pair(Dead, "open", "create", &[(Opened, Created), (Missing, Created)]),
    pair(Dead, "open", "gc", &[(Missing, Removed), (Missing, Missing)]),
    pair(Ours, "open", "remove", &[(Opened, Removed), (Missing, Removed)]),
    pair(Ours, "open", "retire", &[(Opened, Removed), (Missing, Removed)]),
    pair(Ours, "open", "close", &[(Opened, Closed), (Missing, Closed)]),
    pair(Ours, "open", "gc", &[(Opened, Missing)]),
    pair(Orphan, "open", "create", &[(Opened, TakenOver)]),
    pair(Nothing, "open or create", "open or create", &[(Created, Opened), (Opened, Created)]),
    pair(Ours, "open or create", "close", &[(Opened, Closed), (Created, Closed)]),
    pair(Nothing, "wait for", "create", &[(Opened, Created), (Missing, Created)]),
    pair(Ours, "close", "close", &[(Closed, Closed)]),
    pair(Ours, "close", "create", &[(Closed, Exists)]),
    pair(Nothing, "close the last", "open", &[(Closed, Opened), (Closed, Missing)]),
    pair(Nothing, "close the last", "create", &[(Closed, Exists), (Closed, Created)]),
    pair(Nothing, "close the last", "remove", &[(Closed, Removed), (Closed, Missing)]),
    pair(Nothing, "close the last", "retire", &[(Closed, Removed), (Closed, Missing)]),
    pair(Nothing, "close the last", "gc", &[(Closed, Missing)]),
    pair(Ours, "remove", "remove", &[(Removed, Missing), (Missing, Removed)]),
    pair(Ours, "remove", "create", &[(Removed, Exists), (Removed, Created)]),
    pair(Ours, "remove", "open", &[(Removed, Opened), (Removed, Missing)]),
    pair(Ours, "remove", "retire", &[(Removed, Missing), (Missing, Removed)]),
    pair(Ours, "remove", "close", &[(Removed, Closed), (Missing, Closed)]),
    pair(Ours, "retire", "retire", &[(Removed, Missing), (Missing, Removed)]),
    pair(Ours, "retire", "create", &[(Removed, Exists), (Removed, Created)]),
    pair(Ours, "retire", "open", &[(Removed, Opened), (Removed, Missing)]),
    pair(Ours, "retire", "gc", &[(Removed, Missing)]),
    pair(Dead, "gc", "create", &[(Removed, Created), (Missing, Created)]),
    pair(Dead, "gc", "open", &[(Removed, Missing), (Missing, Missing)]),
    pair(Dead, "gc", "gc", &[(Removed, Missing), (Missing, Removed)]),
    pair(Ours, "gc", "close", &[(Missing, Closed)]),
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

impl Pair {
    pub fn title(&self) -> String {
        format!("{} | {} ({:?})", self.a, self.b, self.world).to_lowercase()
    }

    pub fn run(&self, dir: &Dir, run: &mut Run) {
        let mut ours = match self.world {
            Nothing => None,
            Dead => {
                make_dead(dir);
                None
            }
            Ours => Some(create(dir.name(OBJECT), Persistence::UntilLastUser).expect("a fresh object")),
            Orphan => Some(orphan::<Shared>(dir, |shared| shared.table = table())),
        };
        let closes = if self.b == "close" { ours.take() } else { None };
        let mut seen = Vec::new();
        let waits = || File::open(dir.path()).expect("the directory").try_lock().is_err();
        let b = || attempt(dir.path(), self.b, closes);
        let mut look = || seen = list(Some(dir.path())).expect("a list");
        let (code, (b, theirs)) = meet(dir, run, &format!("attempt {}", self.a), &waits, b, &mut look);
        let a = Outcome::from_code(code).unwrap_or_else(|| panic!("the victim failed with {code}"));
        assert!(self.allowed.contains(&(a, b)), "{} came to {a:?}, {} to {b:?}", self.a, self.b);
        let handles: Vec<_> = ours.into_iter().chain(theirs).collect();
        self.names_lead_to_the_living(a, b, &handles, &seen);
        for handle in &handles {
            works_or_is_retired(handle);
        }
        drop(handles);
        assert_eq!(dir.files(), Vec::<String>::new(), "the last user leaves the name");
        next_user(dir, Expected::ObjectOrNothing, 0, run.number % 2 == 1);
    }

    /// What was listed when both had done, and still held what they had got.
    fn names_lead_to_the_living(&self, a: Outcome, b: Outcome, ours: &[Segment<Shared>], seen: &[Listed]) {
        let this_process = std::process::id();
        let users = |mine: bool| {
            let users = seen.iter().flat_map(|object| &object.users);
            users.filter(|user| (user.pid == this_process) == mine).count()
        };
        let theirs = usize::from(matches!(a, Created | TakenOver | Opened));
        let took = |outcome, act| outcome == Removed && act != "gc";
        assert!(seen.len() <= 1 && seen.iter().all(|object| object.in_use && object.problem.is_none()), "{seen:?}");
        if !took(a, self.a) && !took(b, self.b) {
            assert_eq!((users(true), users(false)), (ours.len(), theirs), "a user's object lost its name: {seen:?}");
        } else {
            assert!(users(true) <= ours.len() && users(false) <= theirs, "{seen:?}");
        }
        if (took(a, self.a) && self.a == "retire") || (took(b, self.b) && self.b == "retire") {
            let living = ours.iter().filter(|handle| !handle.region().is_retired()).count();
            assert_eq!(living, users(true), "whose name is gone is told so: {seen:?}");
        }
    }
}
