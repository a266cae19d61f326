//! `memlane gc`.

use crate::failure::Failure;
use crate::report::{Bytes, Counted};
use serde_json::{Value, json};
use std::io::Write;

pub(crate) fn run(dry_run: bool, json: bool) -> Result<(), Failure> {
    let reclaimed = memlane::gc(None, dry_run)?;
    let mut out = std::io::stdout().lock();
    if json {
        let list = reclaimed.iter().map(|object| json!({ "name": object.name, "size": object.size }));
        return Ok(writeln!(out, "{}", Value::Array(list.collect()))?);
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    for object in &reclaimed {
        writeln!(out, "{verb} {}, {}", object.name, Bytes(object.size))?;
    }
    if reclaimed.is_empty() {
        return Ok(writeln!(out, "nothing to remove")?);
    }
    let bytes = Bytes(reclaimed.iter().map(|object| object.size).sum());
    let count = Counted(reclaimed.len() as u64, "dead object");
    writeln!(out, "{count}, {bytes}{}", if dry_run { ", nothing removed" } else { " freed" })?;
    Ok(())
}
