//! What the system's files say: of limits, of the container, of who removes what when a user logs out.

use super::Finding;
use std::fs;
use std::path::{Path, PathBuf};

/// The descriptors that a program with some channels needs.
const DESCRIPTORS: u64 = 256;

/// A system, by its files.
pub(super) struct System {
    root: PathBuf,
}

impl System {
    pub(super) fn real() -> Self {
        Self { root: "/".into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    pub(super) fn look(&self) -> Vec<Finding> {
        let Some(limits) = self.read("proc/self/limits") else {
            let fix = "mount it (`mount -t proc proc /proc`): locks and descriptors are reached through it";
            return vec![Finding::problem("proc", "/proc is not mounted", fix)];
        };
        let mut findings = vec![descriptors(&limits)];
        findings.extend(file_size(&limits));
        findings.push(locked_memory(&limits));
        findings.extend(self.container());
        findings.extend(self.logout());
        findings
    }

    /// What kind of file system a path is on, and where that is mounted.
    pub(super) fn mount_of(&self, path: &Path) -> Option<(String, String)> {
        let mounts = self.read("proc/self/mountinfo")?;
        let mount = mounts.lines().filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            // Blanks and the like are written as octal numbers.
            let point = place.split(' ').nth(4)?.replace("\\040", " ");
            path.starts_with(&point).then(|| (kind.split(' ').next().unwrap_or("?").to_owned(), point))
        });
        // Of several at the same place, the last one is on top.
        mount.max_by_key(|(_, point)| point.len())
    }

    fn container(&self) -> Option<Finding> {
        let marks = [
            (".dockerenv", "Docker"),
            ("run/.containerenv", "Podman"),
            ("var/run/secrets/kubernetes.io", "Kubernetes"),
        ];
        let (_, kind) = marks.into_iter().find(|(mark, _)| self.path(mark).exists())?;
        let found = format!(
            "in a container ({kind}): programs outside it, or in another one, see these objects only if they share the \
             directory, and pids are those of the container"
        );
        Some(Finding {
            fix: Some("share it: `docker run -v DIRECTORY:DIRECTORY -e MEMLANE_DIR=DIRECTORY`, or `--ipc=host`".into()),
            ..Finding::note("container", found)
        })
    }

    /// Whether systemd removes what a user has in /dev/shm at its last logout.
    fn logout(&self) -> Option<Finding> {
        self.path("run/systemd/seats").exists().then_some(())?;
        let user = rustix::process::getuid().as_raw();
        let value = self.logind("RemoveIPC").unwrap_or_else(|| "yes".into());
        let removes = !matches!(value.as_str(), "no" | "false" | "0" | "off");
        Some(if user < 1000 || !removes {
            Finding::ok(
                "logout",
                if removes {
                    "system users keep their objects at logout"
                } else {
                    "logind removes nothing (RemoveIPC=no)"
                },
            )
        } else {
            let fix = "`RemoveIPC=no` in /etc/systemd/logind.conf and `systemctl restart systemd-logind`, or \
                       `loginctl enable-linger`, or run it as a service";
            let found = "logind removes this user's objects in /dev/shm when the last session ends (RemoveIPC), under \
                         programs that go on";
            Finding::warning("logout", found, fix)
        })
    }

    /// The last value of a setting of logind.
    fn logind(&self, key: &str) -> Option<String> {
        let folders = ["usr/lib/systemd", "etc/systemd"];
        let mut files = Vec::new();
        for folder in folders {
            files.push(self.path(&format!("{folder}/logind.conf")));
        }
        for folder in folders {
            let parts = fs::read_dir(self.path(&format!("{folder}/logind.conf.d"))).ok().into_iter().flatten();
            let mut parts: Vec<PathBuf> = parts.filter_map(|part| Some(part.ok()?.path())).collect();
            parts.sort();
            files.extend(parts);
        }
        let texts: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
        let mut values = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().split_once('='));
        values.rfind(|(its, _)| its.trim() == key).map(|(_, value)| value.trim().to_lowercase())
    }
}

/// The soft limit called `name`: `None` if it is not known or there is none.
fn limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn descriptors(limits: &str) -> Finding {
    match limit(limits, "Max open files") {
        Some(most) if most < DESCRIPTORS => {
            let found = format!("{most} descriptors at most, and each object takes three");
            Finding::warning("limits", found, "`ulimit -n 4096`")
        }
        Some(most) => Finding::ok("limits", format!("{most} descriptors, three for each object")),
        None => Finding::ok("limits", "any number of descriptors"),
    }
}

fn file_size(limits: &str) -> Option<Finding> {
    let most = limit(limits, "Max file size")?;
    let found = format!("no object can be larger than {} (file size limit)", crate::report::Bytes(most));
    Some(Finding::warning("limits", found, "`ulimit -f unlimited`"))
}

fn locked_memory(limits: &str) -> Finding {
    match limit(limits, "Max locked memory") {
        Some(most) => {
            Finding::note("limits", format!("{} can be locked in memory (`ulimit -l`)", crate::report::Bytes(most)))
        }
        None => Finding::ok("limits", "any amount can be locked in memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    fn system(files: &[(&str, &str)]) -> System {
        let name = memlane::Name::unique("doctor").expect("a name");
        let root = Path::new("/dev/shm").join(name.as_str());
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        System { root }
    }

    impl Drop for System {
        fn drop(&mut self) {
            if self.root != Path::new("/") {
                let _ = fs::remove_dir_all(&self.root);
            }
        }
    }

    const LIMITS: &str = "Limit Soft Hard Units\nMax file size             unlimited            unlimited            bytes\n\
                          Max open files            20                   4096                 files\n\
                          Max locked memory         65536                65536                bytes\n";

    #[test]
    fn limits_that_are_low_are_warned_of() {
        let findings = system(&[("proc/self/limits", LIMITS)]).look();
        let found: Vec<_> = findings.iter().map(|finding| (finding.level, finding.found.as_str())).collect();
        let expected = [
            (Level::Warning, "20 descriptors at most, and each object takes three"),
            (Level::Note, "64.0 KiB can be locked in memory (`ulimit -l`)"),
        ];
        assert_eq!(found, expected);
        let small = LIMITS.replace("size             unlimited", "size             4096");
        let findings = system(&[("proc/self/limits", &small)]).look();
        assert!(findings.iter().any(|finding| finding.found.contains("larger than 4.0 KiB")), "{findings:?}");
        assert_eq!(system(&[("etc/x", "")]).look()[0].check, "proc");
    }

    #[test]
    fn a_container_is_told_by_its_mark() {
        assert_eq!(system(&[("proc/x", "")]).container(), None);
        let found = system(&[(".dockerenv", "")]).container().expect("a container");
        assert!(found.level == Level::Note && found.found.contains("Docker") && found.fix.is_some(), "{found:?}");
    }

    #[test]
    fn the_last_setting_of_logind_counts() {
        let set = |value: &str| format!("[Login]\n#RemoveIPC=yes\nRemoveIPC = {value}\n");
        let files = [("etc/systemd/logind.conf", set("yes")), ("etc/systemd/logind.conf.d/9.conf", set("No"))];
        let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
        assert_eq!(system(&files).logind("RemoveIPC").as_deref(), Some("no"));
        assert_eq!(system(&files[..1]).logind("RemoveIPC").as_deref(), Some("yes"));
        assert_eq!(system(&[("etc/systemd/logind.conf", "#RemoveIPC=no")]).logind("RemoveIPC"), None);
        assert_eq!(system(&files).logout(), None, "without systemd");
    }

    #[test]
    fn the_innermost_mount_is_named() {
        let mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw,size=1k\n\
                      26 24 0:24 / /dev/shm/a\\040b rw shared:1 - ramfs none rw\n";
        let system = system(&[("proc/self/mountinfo", mounts)]);
        for (path, kind, point) in [
            ("/dev/shm/x", "tmpfs", "/dev/shm"),
            ("/dev/shm/a b/c", "ramfs", "/dev/shm/a b"),
            ("/dev/shmem", "ext4", "/"),
        ] {
            assert_eq!(system.mount_of(Path::new(path)), Some((kind.into(), point.into())));
        }
    }
}
