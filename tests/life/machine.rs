//! Plays steps in real processes and in the model at once, and compares.

use crate::common::{Child, say, spawn};
use crate::model::{Attached, Caller, Handle, Model, Shape, View};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub const WORKERS: usize = 3;
pub const NAMES: [&str; 2] = ["a", "b"];
/// As many names as a create looks at in passing (docs/DESIGN.md, "Create").
const SWEEP: usize = 16;

/// The oldest or the newest handle of a worker that was opened by a name; if there is none, nothing is done. (If handles
/// were counted, leaving out one step would give others a new meaning, and what fails could not be made short.)
#[derive(Debug, Clone, Copy)]
pub struct One {
    pub worker: usize,
    pub name: &'static str,
    pub oldest: bool,
}

#[derive(Debug, Clone)]
pub enum Step {
    Create {
        worker: usize,
        name: &'static str,
        shape: Shape,
        keep: bool,
    },
    Open {
        worker: usize,
        name: &'static str,
        view: View,
    },
    OpenOrCreate {
        worker: usize,
        name: &'static str,
        shape: Shape,
        keep: bool,
    },
    WaitFor {
        worker: usize,
        name: &'static str,
        view: View,
    },
    /// One waits for a name, and another creates it.
    Await {
        waiter: usize,
        creator: usize,
        name: &'static str,
    },
    Map {
        one: One,
        view: View,
    },
    Close {
        one: One,
    },
    Remove {
        worker: usize,
        name: &'static str,
    },
    Retire {
        worker: usize,
        name: &'static str,
    },
    RemoveName {
        one: One,
    },
    Gc {
        worker: usize,
        dry: bool,
    },
    List {
        worker: usize,
    },
    Add {
        one: One,
        repair: bool,
    },
    /// Takes the lock for as long as the handle lives.
    Hold {
        one: One,
    },
    Look {
        one: One,
    },
    Kill {
        worker: usize,
    },
    /// Creates more names than a create looks at in passing, and dies.
    Litter {
        worker: usize,
    },
}

/// What differs from the model, in words.
pub type Outcome = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, foretold: T) -> Outcome {
    if found == foretold { Ok(()) } else { Err(format!("{what}: {found:?}, but the model says {foretold:?}")) }
}

pub struct Machine {
    directory: PathBuf,
    workers: Vec<Child>,
    model: Model,
    /// Every id there ever was.
    ids: BTreeSet<u128>,
    /// Makes keys and stamps that were not used before.
    count: u32,
    /// What is free when the directory is empty, if nobody else uses the file system.
    free: Option<u64>,
    /// How often each answer was given.
    seen: BTreeMap<String, u64>,
}

impl Machine {
    pub fn new(directory: &Path, alone: bool) -> Self {
        let workers = (0..WORKERS).map(|_| spawn(directory, "worker", &[])).collect();
        let free = alone.then(|| memlane::space(Some(directory)).expect("the directory").free);
        let (model, ids, seen) = (Model::default(), BTreeSet::new(), BTreeMap::new());
        Self { directory: directory.into(), workers, model, ids, count: 0, free, seen }
    }

    /// Starts again after a difference, in an empty directory.
    pub fn rebuild(&mut self) {
        self.workers = (0..WORKERS).map(|_| spawn(&self.directory, "worker", &[])).collect();
        self.model = Model::default();
        for name in self.files() {
            std::fs::remove_file(self.directory.join(name)).expect("a file of this test");
        }
    }

    fn files(&self) -> BTreeSet<String> {
        let list = std::fs::read_dir(&self.directory).expect("the directory");
        list.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    fn ask(&mut self, worker: usize, command: &str) -> Result<String, String> {
        self.workers[worker].say(command);
        self.hear(worker, command)
    }

    fn hear(&mut self, worker: usize, command: &str) -> Result<String, String> {
        let said = self.workers[worker].hear().ok_or_else(|| format!("worker {worker} died of `{command}`"))?;
        let verb = command.split(' ').next().unwrap_or_default();
        let kind = said.split(' ').next().filter(|kind| kind.chars().all(char::is_alphabetic)).unwrap_or_default();
        *self.seen.entry(format!("{verb} {kind}")).or_default() += 1;
        Ok(said)
    }

    /// Asks, and compares the answer.
    fn check(&mut self, worker: usize, command: &str, foretold: &str) -> Outcome {
        let said = self.ask(worker, command)?;
        same(command, said.as_str(), foretold)
    }

    fn caller(&mut self, worker: usize) -> Caller {
        self.count += 1;
        Caller { worker, pid: self.workers[worker].pid(), key: self.count }
    }

    fn pick(&self, one: One) -> Option<Handle> {
        let mut handles = self.model.handles_of(one.worker, one.name);
        if one.oldest { handles.next() } else { handles.last() }
    }

    /// Compares what came of a call that attaches.
    fn check_attached(&mut self, what: &str, said: &str, view: View, attached: &Attached) -> Outcome {
        let words: Vec<&str> = said.split(' ').collect();
        let (origin, object) = match attached {
            Attached::Created(object) => {
                let id = words.get(1).and_then(|id| id.parse().ok()).unwrap_or(0);
                self.model.objects[*object].id = id;
                let fresh = words[0] != "Created" || self.ids.insert(id);
                same(&format!("{what}: whether {id} is a new id"), fresh, true)?;
                ("Created", *object)
            }
            Attached::TakenOver(object) => ("TakenOver", *object),
            Attached::Opened(object) => ("Opened", *object),
            Attached::AlreadyExists(creators) => {
                let answers: Vec<String> = creators.iter().map(|pid| format!("AlreadyExists {pid}")).collect();
                let foretold = answers.iter().any(|answer| answer == said);
                return if foretold { Ok(()) } else { same(what, said, &answers.join(" or ")) };
            }
            Attached::NotFound => {
                return same(what, said, if what.starts_with("wait") { "TimedOut" } else { "NotFound" });
            }
            Attached::TypeMismatch => return same(what, said, "TypeMismatch"),
        };
        let object = &self.model.objects[object];
        let id = if view == View::Reader { String::new() } else { format!("{} ", object.id) };
        same(what, said, &format!("{origin} {id}{}", object.size()))
    }

    /// Compares the names that a create left: of the dead, those among as many names in a row as it looks at.
    fn check_sweep(&mut self, may_be_less: bool) -> Outcome {
        let names: Vec<&String> = self.model.names.keys().collect();
        let dead = self.model.dead_names();
        let files = self.files();
        let gone: BTreeSet<String> = dead.iter().filter(|name| !files.contains(*name)).cloned().collect();
        let swept = |start: usize| -> BTreeSet<String> {
            let row = names.iter().cycle().skip(start).take(SWEEP.min(names.len()));
            row.filter(|name| dead.contains(**name)).map(|name| (*name).clone()).collect()
        };
        let explained = may_be_less || (0..names.len()).any(|start| swept(start) == gone);
        same(&format!("whether a create would sweep {gone:?} of {dead:?} in {names:?}"), explained, true)?;
        self.model.forget_names(&gone);
        Ok(())
    }

    fn create(&mut self, worker: usize, verb: &str, name: &str, shape: Shape, keep: bool) -> Outcome {
        let by = self.caller(worker);
        let stamp = u64::from(by.key);
        let command = format!("{verb} {} {name} {shape:?} {keep} {stamp}", by.key);
        let attached = match verb {
            "create" => self.model.create(by, name, shape, keep, stamp),
            _ => self.model.open_or_create(by, name, shape, keep, stamp),
        };
        let said = self.ask(worker, &command)?;
        self.check_attached(&command, &said, shape.view(), &attached)?;
        if matches!(attached, Attached::Created(_)) { self.check_sweep(false) } else { Ok(()) }
    }

    fn open(&mut self, worker: usize, command: &str, name: &str, view: View) -> Outcome {
        let by = self.caller(worker);
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let command = format!("{verb} {} {name} {view:?} {rest}", by.key).trim_end().to_owned();
        let attached = self.model.open(by, name, view);
        let said = self.ask(worker, &command)?;
        self.check_attached(&command, &said, view, &attached)
    }

    fn wait_and_create(&mut self, waiter: usize, creator: usize, name: &str) -> Outcome {
        if waiter == creator || self.model.is_there(name) {
            return self.open(waiter, "wait 0", name, View::Note);
        }
        let (waits, creates) = (self.caller(waiter), self.caller(creator));
        let stamp = u64::from(creates.key);
        let wait = format!("wait {} {name} Note 20000", waits.key);
        let create = format!("create {} {name} SmallNote false {stamp}", creates.key);
        self.workers[waiter].say(&wait);
        let created = self.model.create(creates, name, Shape::SmallNote, false, stamp);
        let said = self.ask(creator, &create)?;
        self.check_attached(&create, &said, View::Note, &created)?;
        let opened = self.model.open(waits, name, View::Note);
        let said = self.hear(waiter, &wait)?;
        self.check_attached(&wait, &said, View::Note, &opened)?;
        // The waiter may have had the directory when the creator came to sweep.
        self.check_sweep(true)
    }

    fn kill(&mut self, worker: usize) {
        self.workers[worker].kill();
        self.workers[worker] = spawn(&self.directory, "worker", &[]);
        self.model.kill(worker);
    }

    fn step(&mut self, step: &Step) -> Outcome {
        match *step {
            Step::Create { worker, name, shape, keep } => self.create(worker, "create", name, shape, keep),
            Step::OpenOrCreate { worker, name, shape, keep } => self.create(worker, "either", name, shape, keep),
            Step::Open { worker, name, view } => self.open(worker, "open", name, view),
            Step::WaitFor { worker, name, view } => self.open(worker, "wait 0", name, view),
            Step::Await { waiter, creator, name } => self.wait_and_create(waiter, creator, name),
            Step::Remove { worker, name } => {
                let foretold = self.model.remove(name);
                self.check(worker, &format!("remove {name}"), foretold)
            }
            Step::Retire { worker, name } => {
                let foretold = self.model.retire(name);
                self.check(worker, &format!("retire {name}"), foretold)
            }
            Step::Gc { worker, dry } => {
                let foretold = self.model.gc(dry);
                self.check(worker, &format!("gc {dry}"), &foretold)
            }
            Step::List { worker } => {
                let foretold = self.model.list();
                self.check(worker, "list", &foretold)
            }
            Step::Kill { worker } => {
                self.kill(worker);
                Ok(())
            }
            Step::Litter { worker } => {
                for index in 0..SWEEP + 5 {
                    self.create(worker, "create", &format!("litter-{index}"), Shape::SmallRaw, false)?;
                }
                self.kill(worker);
                Ok(())
            }
            Step::Map { one, .. }
            | Step::Close { one }
            | Step::RemoveName { one }
            | Step::Add { one, .. }
            | Step::Hold { one }
            | Step::Look { one } => match self.pick(one) {
                Some(handle) => self.step_of_handle(step, handle),
                None => Ok(()),
            },
        }
    }

    fn step_of_handle(&mut self, step: &Step, handle: Handle) -> Outcome {
        let (verb, rest, foretold) = match *step {
            Step::Map { view, .. } if handle.view == View::Bare => {
                ("map", format!(" {view:?}"), self.model.map(handle, view).to_owned())
            }
            Step::Map { .. } => return Ok(()),
            Step::Close { .. } => {
                self.model.close(handle);
                ("close", String::new(), "Done".to_owned())
            }
            Step::RemoveName { .. } if matches!(handle.view, View::Reader | View::Bare) => return Ok(()),
            Step::RemoveName { .. } => {
                self.model.remove_name(handle);
                ("unname", String::new(), "Done".to_owned())
            }
            Step::Add { repair, .. } => ("add", format!(" {repair}"), self.model.add(handle, repair)),
            Step::Hold { .. } => ("hold", String::new(), self.model.hold(handle)),
            _ => ("look", String::new(), self.model.look(handle)),
        };
        self.check(handle.worker, &format!("{verb} {}{rest}", handle.key), &foretold)
    }

    fn check_names(&self) -> Outcome {
        same("the names in the directory", self.files(), self.model.names.keys().cloned().collect())
    }

    /// Plays a whole life, from nothing to nothing.
    pub fn play(&mut self, steps: &[Step]) -> Outcome {
        for (number, step) in steps.iter().enumerate() {
            let at = |difference| format!("step {number}, {step:?}: {difference}");
            self.step(step).map_err(at)?;
            self.check_names().map_err(at)?;
        }
        for worker in 0..WORKERS {
            self.model.close_all(worker);
            self.check(worker, "reset", "Done")?;
            self.check_names()?;
        }
        let dead = self.model.gc(false);
        self.check(0, "gc false", &dead)?;
        self.check_names()?;
        for kept in self.files() {
            let foretold = self.model.remove(&kept);
            self.check(0, &format!("remove {kept}"), foretold)?;
        }
        same("what is left", self.files(), BTreeSet::new())?;
        let free = memlane::space(Some(&self.directory)).expect("the directory").free;
        same("the free memory", free, self.free.unwrap_or(free))
    }

    /// Each answer that can be given was given, or the test is blind to it.
    pub fn assert_that_nothing_is_blind(self) {
        self.seen.iter().for_each(|(answer, count)| say(&format!("{count:7} {answer}")));
        let answers = [
            "create Created",
            "create TakenOver",
            "create AlreadyExists",
            "either Created",
            "either Opened",
            "either TypeMismatch",
            "open Opened",
            "open NotFound",
            "open TypeMismatch",
            "wait Opened",
            "wait TimedOut",
            "map TypeMismatch",
            "remove Done",
            "remove NotFound",
            "retire Done",
            "add Clean",
            "add OwnerDied",
            "add Retired",
            "add TimedOut",
            "add AlreadyLocked",
            "hold OwnerDied",
        ];
        let missing: Vec<&str> = answers.into_iter().filter(|answer| !self.seen.contains_key(*answer)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}
