//! The directory, what it is mounted on, and the room in it.

use super::Finding;
use super::system::System;
use crate::report::Bytes;
use memlane::{Error, Space};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The least room that is not called little.
const LITTLE: u64 = 64 << 20;

pub(super) fn look(system: &System) -> Vec<Finding> {
    let space = match memlane::space(None) {
        Ok(space) => space,
        Err(error) => return vec![Finding::failed("directory", refused(&error))],
    };
    let mut findings = vec![directory(&space.directory), mount(&space, system)];
    findings.push(room(&space, system));
    findings.extend(files(&space.directory));
    findings
}

fn refused(error: &Error) -> String {
    let named = if std::env::var_os("MEMLANE_DIR").is_some() { "MEMLANE_DIR names it; " } else { "" };
    format!("{named}{error}")
}

fn directory(path: &Path) -> Finding {
    let named = if std::env::var_os("MEMLANE_DIR").is_some() { "named by MEMLANE_DIR" } else { "the default one" };
    let Ok(meta) = path.metadata() else {
        return Finding::failed("directory", format!("cannot look at {}", path.display()));
    };
    let mode = meta.permissions().mode() & 0o7777;
    let shared = match mode & 0o2070 {
        0o2070 => format!(", shared by group {}", meta.gid()),
        _ => String::new(),
    };
    Finding::ok("directory", format!("{}, {named}, of user {}, mode {mode:04o}{shared}", path.display(), meta.uid()))
}

fn mount(space: &Space, system: &System) -> Finding {
    let on = system.mount_of(&space.directory).map_or(String::new(), |mount| format!("{mount}, "));
    let size = format!("{on}{}", Bytes(space.total));
    if space.in_memory {
        Finding::ok("mount", size)
    } else {
        let fix = "name a directory in memory (tmpfs) with MEMLANE_DIR, such as one in /dev/shm";
        Finding::warning("mount", format!("{size}, not in memory: everything works, but is written to a disk"), fix)
    }
}

fn room(space: &Space, system: &System) -> Finding {
    let on = system.mount_of(&space.directory);
    let mount = on.as_deref().and_then(|on| on.split_once(" on ")).map_or("/dev/shm", |(_, point)| point);
    let enlarge = format!(
        "`memlane gc`, or `mount -o remount,size=SIZE {mount}`; in a container `docker run --shm-size=SIZE`, in a \
         Kubernetes pod an emptyDir with `medium: Memory`"
    );
    let free = format!("{} of {} free", Bytes(space.free), Bytes(space.total));
    let limited = space.memory_left.filter(|left| *left < space.free);
    match limited {
        _ if space.total > 0 && space.free < 1 << 20 => {
            Finding::problem("space", format!("{free}: it is full"), enlarge)
        }
        _ if space.total > 0 && space.free < LITTLE.min(space.total / 10) => {
            Finding::warning("space", format!("{free}: little is left"), enlarge)
        }
        Some(left) => {
            let found = format!("{free}, but the container's memory limit leaves {}", Bytes(left));
            Finding::warning("space", found, "give the container more memory")
        }
        None if space.total > 0 && space.total <= LITTLE => {
            Finding::warning("space", format!("{free}: as little as a container has if nothing else is said"), enlarge)
        }
        None => Finding::ok("space", free),
    }
}

/// The number of files that there can be.
fn files(directory: &Path) -> Option<Finding> {
    let stat = rustix::fs::statvfs(directory).ok().filter(|stat| stat.f_files > 0)?;
    let found = format!("room for {} more objects, as files go", stat.f_favail);
    let fix = "`memlane gc`, or `mount -o remount,nr_inodes=NUMBER` on its mount";
    Some(match stat.f_favail {
        0 => Finding::problem("files", "not one more object can be made, as files go", fix),
        1..100 => Finding::warning("files", found, fix),
        _ => Finding::ok("files", found),
    })
}

#[cfg(test)]
mod tests {
    use super::room;
    use crate::commands::doctor::{Level, system::System};
    use memlane::Space;

    #[test]
    fn room_is_judged_by_what_is_free_and_by_the_limit_of_memory() {
        let real = memlane::space(Some("/dev/shm".as_ref())).expect("a directory");
        let judged = |free, total, memory_left| {
            let mut space: Space = real.clone();
            (space.free, space.total, space.memory_left) = (free, total, memory_left);
            room(&space, &System::real()).level
        };
        let (mib, gib) = (1 << 20, 1 << 30);
        assert_eq!(judged(gib, 2 * gib, None), Level::Ok);
        assert_eq!(judged(gib, 2 * gib, Some(3 * gib)), Level::Ok);
        assert_eq!(judged(gib, 2 * gib, Some(gib / 2)), Level::Warning);
        assert_eq!(judged(50 * mib, 2 * gib, None), Level::Warning);
        assert_eq!(judged(60 * mib, 64 * mib, None), Level::Warning);
        assert_eq!(judged(mib - 1, 2 * gib, None), Level::Problem);
        assert_eq!(judged(0, 0, None), Level::Ok, "without a limit");
    }
}
