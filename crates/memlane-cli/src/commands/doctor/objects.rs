//! The objects in the directory, and the locks in them.

use super::Finding;
use crate::report::{Bytes, Counted, called, listed};
use memlane::{FieldValue, Holder, Inspection, Listed, LockState};

/// How many are named one by one.
const NAMED: usize = 5;

pub(super) fn look() -> Vec<Finding> {
    let objects = match memlane::list(None) {
        Ok(objects) => objects,
        Err(error) => return vec![Finding::failed("objects", error)],
    };
    let (foreign, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.foreign);
    let (damaged, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.problem.is_some());
    let (stale, sound): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.stale);
    let size = |objects: &[Listed]| Bytes(objects.iter().map(|object| object.size).sum());
    let mut findings = vec![Finding::ok(
        "objects",
        format!("{} in use or kept, {}", Counted(sound.len() as u64, "object"), size(&sound)),
    )];
    if !stale.is_empty() {
        let found = format!("{}, {}: {}", Counted(stale.len() as u64, "dead object"), size(&stale), names(&stale));
        findings.push(Finding::warning("stale", found, "`memlane gc`"));
    }
    for object in damaged.iter().take(NAMED) {
        let problem = object.problem.clone().unwrap_or_default();
        findings.push(Finding::problem("damaged", problem, format!("`memlane rm {}`", object.name)));
    }
    if !foreign.is_empty() {
        let files = Counted(foreign.len() as u64, "file");
        let found = format!("{files} that memlane did not make: {}", names(&foreign));
        findings.push(Finding::warning(
            "foreign",
            found,
            "see whether MEMLANE_DIR names the right directory, or move them",
        ));
    }
    findings.extend(stopped(&sound));
    findings.extend(sound.iter().flat_map(locks));
    findings
}

fn names(objects: &[Listed]) -> String {
    let mut names = objects.iter().take(NAMED).map(|object| object.name.as_str()).collect::<Vec<_>>().join(", ");
    if objects.len() > NAMED {
        names.push_str(&format!(" and {} more", objects.len() - NAMED));
    }
    names
}

/// Who uses an object and was stopped: it lives, and others wait for it.
fn stopped(objects: &[Listed]) -> Option<Finding> {
    let mut users: Vec<_> =
        objects.iter().flat_map(|object| &object.users).filter(|user| user.stopped).cloned().collect();
    users.sort_by_key(|user| user.pid);
    users.dedup();
    let pids = users.iter().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(" ");
    let (count, are) = (users.len(), if users.len() == 1 { "user is" } else { "users are" });
    let found = format!("{count} {are} a process that was stopped, and keeps what it holds: {}", listed(&users));
    (!users.is_empty()).then(|| Finding::warning("stopped", found, format!("`kill -CONT {pids}`")))
}

/// The locks of an object that somebody died with.
fn locks(object: &Listed) -> Vec<Finding> {
    let Ok(Inspection { fields, .. }) = memlane::inspect(object.name.as_str(), 64) else { return Vec::new() };
    let finding = |path: &str, sync: &LockState| {
        let lock = format!("`{path}` of {}", object.name);
        let fix = format!(
            "lock it: who does so next is told, and repairs the data; `memlane inspect {}` shows it",
            object.name
        );
        // A dead reader, and a permit of the dead, are in nobody's way.
        let changes = |holder: &&Holder| ["holds it", "writes"].contains(&holder.role);
        let dead = sync.holders.iter().filter(changes).find(|holder| !holder.alive);
        match dead {
            Some(holder) => {
                let who = called(holder.who.clone(), "an unknown process");
                Some(Finding::warning("lock", format!("{lock} is held by {who}, which is dead"), fix))
            }
            None if sync.needs_repair => {
                let found = format!("{lock} guards data that somebody left half-changed, by dying or a panic");
                Some(Finding::warning("lock", found, fix))
            }
            None => None,
        }
    };
    let found = fields.iter().filter_map(|field| match &field.value {
        FieldValue::Lock(sync) => finding(&field.path, sync),
        _ => None,
    });
    found.take(NAMED).collect()
}
