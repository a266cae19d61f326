//! `memlane ls`.

use crate::failure::Failure;
use crate::report::{Bytes, Counted, as_json, lines, listed, tell};
use memlane::{Listed, Persistence};
use serde_json::{Value, json};
use std::io::Write;

pub(crate) fn run(json: bool) -> Result<(), Failure> {
    let objects = memlane::list(None)?;
    let space = memlane::space(None)?;
    if !space.in_memory {
        tell(format!("{} is not in memory (tmpfs): everything works, but slowly", space.directory.display()));
    }
    let mut out = std::io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", Value::Array(objects.iter().map(object_as_json).collect()))?);
    }
    let (foreign, objects): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object.foreign);
    let heads = ["NAME", "SIZE", "TYPE", "STATE", "USERS"].map(str::to_owned);
    let rows: Vec<[String; 5]> = [heads].into_iter().chain(objects.iter().map(|object| as_row(object))).collect();
    for line in lines(&rows, &[1]) {
        writeln!(out, "{line}")?;
    }
    let (free, total) = (Bytes(space.free), Bytes(space.total));
    let count = Counted(objects.len() as u64, "object");
    writeln!(out, "{count} in {}, {free} of {total} free", space.directory.display())?;
    match foreign.len() {
        0 => {}
        1..=3 => foreign.iter().filter_map(|other| other.problem.as_ref()).for_each(tell),
        others => tell(format!("{others} other files are there, not memlane's: is MEMLANE_DIR the right directory?")),
    }
    Ok(())
}

pub(super) fn object_as_json(object: &Listed) -> Value {
    json!({
        "name": object.name,
        "size": object.size,
        "type": object.type_name,
        "state": state(object),
        "stale": object.stale,
        "creator": object.creator.as_ref().map(as_json),
        "users": object.users.iter().map(as_json).collect::<Vec<_>>(),
        "foreign": object.foreign,
        "problem": object.problem,
    })
}

/// One word on how an object stands.
pub(super) fn state(object: &Listed) -> &'static str {
    match object {
        Listed { foreign: true, .. } => "foreign",
        Listed { problem: Some(_), .. } => "damaged",
        Listed { stale: true, .. } => "stale",
        Listed { in_use: false, .. } => "kept",
        Listed { persistence: Some(Persistence::Keep), .. } => "in use, kept",
        Listed { orphaned: true, .. } => "orphaned",
        _ => "in use",
    }
}

fn as_row(object: &Listed) -> [String; 5] {
    let users = match &object.problem {
        Some(problem) => problem.clone(),
        None => listed(&object.users),
    };
    let kind = object.type_name.clone().unwrap_or_else(|| "bytes".into());
    [object.name.clone(), Bytes(object.size).to_string(), kind, state(object).into(), users]
}
