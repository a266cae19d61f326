//! `memlane rm`.

use crate::failure::Failure;

pub(crate) fn run(name: &str, force: bool) -> Result<(), Failure> {
    if force {
        memlane::retire(name)?
    } else {
        memlane::remove(name)?
    }
    Ok(())
}
