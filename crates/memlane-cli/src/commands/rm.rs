//! `memlane rm`.

use crate::failure::Failure;
use std::io::Write;

pub(crate) fn run(name: &str, force: bool) -> Result<(), Failure> {
    let users = memlane::list(None)?.into_iter().find(|object| object.name == name).map(|object| object.users);
    if force {
        memlane::retire(name)?;
    } else {
        memlane::remove(name)?;
    }
    let users = users.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let still = match (users.is_empty(), force) {
        (true, _) => String::new(),
        (false, true) => format!("; told to let go: {users}"),
        (false, false) => {
            format!("; still used, but not to be found any more, by {users} (--force tells them to let go)")
        }
    };
    Ok(writeln!(std::io::stdout(), "removed {name}{still}")?)
}
