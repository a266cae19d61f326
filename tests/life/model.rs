//! What the documents promise of the life of names, as plainly as it can be said: names, objects and handles of this
//! test's own, no files and no locks. It foretells what each call answers and which names there are afterwards.

use std::collections::{BTreeMap, BTreeSet};

/// What a create makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    SmallNote,
    LargeNote,
    Ticket,
    SmallRaw,
    LargeRaw,
}

/// What a handle is to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Note,
    Ticket,
    /// Raw bytes, mapped for writing.
    Raw,
    /// Mapped for reading.
    Reader,
    /// Not mapped.
    Bare,
}

impl Shape {
    /// The user's bytes.
    fn size(self) -> u64 {
        match self {
            Self::SmallNote => 24 + 8,
            Self::LargeNote => 24 + 5000,
            Self::Ticket => 32,
            Self::SmallRaw => 64,
            Self::LargeRaw => 9000,
        }
    }

    /// The type's name, for a list.
    fn type_name(self) -> &'static str {
        match self {
            Self::SmallNote | Self::LargeNote => "Note",
            Self::Ticket => "Ticket",
            Self::SmallRaw | Self::LargeRaw => "-",
        }
    }

    /// What its creator gets.
    pub fn view(self) -> View {
        match self {
            Self::SmallNote | Self::LargeNote => View::Note,
            Self::Ticket => View::Ticket,
            Self::SmallRaw | Self::LargeRaw => View::Bare,
        }
    }

    fn can_be_opened_as(self, view: View) -> bool {
        matches!(view, View::Reader | View::Bare) || self.view() == view
    }
}

impl View {
    pub fn has_lock(self) -> bool {
        matches!(self, Self::Note | Self::Ticket)
    }

    /// Whether it is named in a list.
    fn takes_part(self) -> bool {
        self.has_lock() || self == Self::Raw
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Free,
    /// By this handle.
    Held(u32),
    /// Its last holder died, and nobody has declared the data complete since.
    Dirty,
}

#[derive(Debug)]
pub struct Object {
    pub id: u128,
    name: String,
    shape: Shape,
    keep: bool,
    stamp: u64,
    value: u64,
    retired: bool,
    lock: Lock,
    /// The handle of its creator, or of who took it over, while that lives.
    role: Option<u32>,
    /// The process that created it or took it over last, if it took part: it may be dead.
    creator: u32,
}

impl Object {
    pub fn size(&self) -> u64 {
        self.shape.size()
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Handle {
    pub key: u32,
    pub worker: usize,
    pid: u32,
    object: usize,
    pub view: View,
}

/// What is to be said of an object that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Created,
    Orphaned,
    Idle,
    Dead,
}

/// What a call that attaches comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Attached {
    /// A new object, which stands at this index and learns its id from the answer.
    Created(usize),
    TakenOver(usize),
    Opened(usize),
    /// The error says one of these creators (0: unknown).
    AlreadyExists(Vec<u32>),
    NotFound,
    TypeMismatch,
}

/// Who calls: a worker, its process, and the key of the handle that it gets.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub worker: usize,
    pub pid: u32,
    pub key: u32,
}

#[derive(Debug, Default)]
pub struct Model {
    pub objects: Vec<Object>,
    /// In the order in which they were opened.
    pub handles: Vec<Handle>,
    pub names: BTreeMap<String, usize>,
}

impl Model {
    fn users(&self, object: usize) -> impl Iterator<Item = &Handle> {
        self.handles.iter().filter(move |handle| handle.object == object)
    }

    fn condition(&self, object: usize) -> Condition {
        let it = &self.objects[object];
        match (self.users(object).next(), it.role) {
            _ if it.retired => Condition::Dead,
            (Some(_), Some(_)) => Condition::Created,
            (Some(_), None) => Condition::Orphaned,
            (None, _) if it.keep => Condition::Idle,
            (None, _) => Condition::Dead,
        }
    }

    fn found(&self, name: &str) -> Option<(usize, Condition)> {
        self.names.get(name).map(|object| (*object, self.condition(*object)))
    }

    /// Whether a name leads to something that can be opened.
    pub fn is_there(&self, name: &str) -> bool {
        self.found(name).is_some_and(|(_, condition)| condition != Condition::Dead)
    }

    pub fn dead_names(&self) -> BTreeSet<String> {
        self.names.keys().filter(|name| !self.is_there(name)).cloned().collect()
    }

    fn attach(&mut self, by: Caller, object: usize, view: View) {
        self.handles.push(Handle { key: by.key, worker: by.worker, pid: by.pid, object, view });
    }

    pub fn open(&mut self, by: Caller, name: &str, view: View) -> Attached {
        let Some((object, condition)) = self.found(name) else { return Attached::NotFound };
        if condition == Condition::Dead {
            self.names.remove(name); // an open of the name reclaims what a death left
            return Attached::NotFound;
        }
        if !self.objects[object].shape.can_be_opened_as(view) {
            return Attached::TypeMismatch;
        }
        self.attach(by, object, view);
        Attached::Opened(object)
    }

    pub fn create(&mut self, by: Caller, name: &str, shape: Shape, keep: bool, stamp: u64) -> Attached {
        match self.found(name) {
            None | Some((_, Condition::Dead)) => {}
            Some((old, Condition::Orphaned)) if !self.objects[old].keep => {
                if self.objects[old].shape == shape {
                    return self.take_over(by, old, shape.view());
                }
                self.objects[old].retired = true;
            }
            Some((old, condition)) => {
                let creator = self.objects[old].creator;
                let lives = condition == Condition::Created;
                return Attached::AlreadyExists(if lives { vec![creator] } else { vec![creator, 0] });
            }
        }
        let view = shape.view();
        let stamp = if view.has_lock() { stamp } else { 0 };
        let creator = if view.takes_part() { by.pid } else { 0 };
        let (value, retired, lock, role) = (0, false, Lock::Free, Some(by.key));
        let name = name.to_owned();
        self.names.insert(name.clone(), self.objects.len());
        self.objects.push(Object { id: 0, name, shape, keep, stamp, value, retired, lock, role, creator });
        self.attach(by, self.objects.len() - 1, view);
        Attached::Created(self.objects.len() - 1)
    }

    fn take_over(&mut self, by: Caller, object: usize, view: View) -> Attached {
        let it = &mut self.objects[object];
        it.role = Some(by.key);
        it.creator = if view.takes_part() { by.pid } else { 0 };
        self.attach(by, object, view);
        Attached::TakenOver(object)
    }

    pub fn open_or_create(&mut self, by: Caller, name: &str, shape: Shape, keep: bool, stamp: u64) -> Attached {
        match self.open(by, name, shape.view()) {
            Attached::NotFound => self.create(by, name, shape, keep, stamp),
            opened => opened,
        }
    }

    /// What was reclaimed in passing.
    pub fn forget_names(&mut self, gone: &BTreeSet<String>) {
        self.names.retain(|name, _| !gone.contains(name));
    }

    /// Maps a handle that is not mapped yet; closes it if the type forbids.
    pub fn map(&mut self, handle: Handle, view: View) -> &'static str {
        let object = &mut self.objects[handle.object];
        if view == View::Raw && object.shape.type_name() != "-" {
            self.close(handle);
            return "TypeMismatch";
        }
        if view == View::Raw && object.role == Some(handle.key) {
            object.creator = handle.pid;
        }
        self.handles.iter_mut().filter(|other| other.key == handle.key).for_each(|other| other.view = view);
        "Done"
    }

    /// What becomes of an object when a handle is gone, however.
    fn leave(&mut self, handle: Handle) {
        self.handles.retain(|other| other.key != handle.key);
        let object = &mut self.objects[handle.object];
        object.role = object.role.filter(|role| *role != handle.key);
        if object.lock == Lock::Held(handle.key) {
            object.lock = Lock::Dirty;
        }
    }

    pub fn close(&mut self, handle: Handle) {
        self.leave(handle);
        let (name, keep) = (self.objects[handle.object].name.clone(), self.objects[handle.object].keep);
        let last = self.users(handle.object).next().is_none();
        if last && !keep && self.names.get(&name) == Some(&handle.object) {
            self.names.remove(&name);
        }
    }

    /// The handles of a worker that were opened by a name, in the order in which they were.
    pub fn handles_of(&self, worker: usize, name: &str) -> impl Iterator<Item = Handle> {
        let objects = &self.objects;
        let of_name = move |handle: &&Handle| handle.worker == worker && objects[handle.object].name == name;
        self.handles.iter().filter(of_name).copied()
    }

    fn all_of(&self, worker: usize) -> Vec<Handle> {
        self.handles.iter().filter(|handle| handle.worker == worker).copied().collect()
    }

    pub fn close_all(&mut self, worker: usize) {
        self.all_of(worker).into_iter().for_each(|handle| self.close(handle));
    }

    /// A process that dies takes no name away.
    pub fn kill(&mut self, worker: usize) {
        self.all_of(worker).into_iter().for_each(|handle| self.leave(handle));
    }

    pub fn remove(&mut self, name: &str) -> &'static str {
        if self.names.remove(name).is_some() { "Done" } else { "NotFound" }
    }

    pub fn retire(&mut self, name: &str) -> &'static str {
        if let Some(object) = self.names.get(name) {
            self.objects[*object].retired = true;
        }
        self.remove(name)
    }

    /// Takes the name away if it still leads to the handle's object.
    pub fn remove_name(&mut self, handle: Handle) {
        let name = &self.objects[handle.object].name;
        if self.names.get(name) == Some(&handle.object) {
            self.names.remove(&name.clone());
        }
    }

    /// The memory that the object of a name takes: a header of three pages, as every schema here is short, and the
    /// user's bytes.
    fn total(&self, name: &str) -> u64 {
        12288 + self.objects[self.names[name]].shape.size()
    }

    pub fn gc(&mut self, dry: bool) -> String {
        let dead = self.dead_names();
        let said = dead.iter().map(|name| format!("{name} {};", self.total(name))).collect();
        if !dry {
            self.forget_names(&dead);
        }
        said
    }

    pub fn list(&self) -> String {
        let line = |(name, object): (&String, &usize)| {
            let (it, condition) = (&self.objects[*object], self.condition(*object));
            let mut users: Vec<u32> =
                self.users(*object).filter(|user| user.view.takes_part()).map(|user| user.pid).collect();
            users.sort_unstable();
            let creator = if condition == Condition::Created { it.creator } else { 0 };
            format!(
                "{name} {} {} kept: {} stale: {} creator: {creator} users: {users:?} used: {} sound: true;",
                self.total(name),
                it.shape.type_name(),
                it.keep,
                condition == Condition::Dead,
                matches!(condition, Condition::Created | Condition::Orphaned),
            )
        };
        self.names.iter().map(line).collect()
    }

    /// Why a handle does not get the lock just now.
    fn refusal(&self, handle: Handle) -> Option<String> {
        let object = &self.objects[handle.object];
        match object.lock {
            _ if object.retired => Some("Retired".into()),
            Lock::Held(key) => {
                let holder = self.handles.iter().find(|other| other.key == key)?;
                let same = holder.worker == handle.worker;
                Some(if same { "AlreadyLocked".into() } else { format!("TimedOut {}", holder.pid) })
            }
            Lock::Free | Lock::Dirty => None,
        }
    }

    /// Adds one to the value, unless the last holder died and nobody is to repair.
    pub fn add(&mut self, handle: Handle, repair: bool) -> String {
        match handle.view {
            View::Reader | View::Bare => return "ReadOnly".into(),
            View::Raw => {}
            View::Note | View::Ticket => {
                if let Some(refusal) = self.refusal(handle) {
                    return refusal;
                }
            }
        }
        let object = &mut self.objects[handle.object];
        let dirty = object.lock == Lock::Dirty;
        if !dirty || repair {
            object.value += 1;
            object.lock = Lock::Free;
        }
        format!("{} {}", if dirty { "OwnerDied" } else { "Clean" }, object.value)
    }

    pub fn hold(&mut self, handle: Handle) -> String {
        if !handle.view.has_lock() {
            return "NoLock".into();
        }
        if let Some(refusal) = self.refusal(handle) {
            return refusal;
        }
        let lock = std::mem::replace(&mut self.objects[handle.object].lock, Lock::Held(handle.key));
        if lock == Lock::Dirty { "OwnerDied" } else { "Clean" }.into()
    }

    pub fn look(&self, handle: Handle) -> String {
        let it = &self.objects[handle.object];
        match handle.view {
            View::Note | View::Ticket => format!("{} retired: {}", it.stamp, it.retired),
            View::Raw => format!("{} {} retired: {}", it.stamp, it.value, it.retired),
            View::Reader => format!("{} {} retired: false", it.stamp, it.value),
            View::Bare => it.shape.size().to_string(),
        }
    }
}
