//! Stops and kills a process at every instruction that matters, and asks whether all is still well: for code whose
//! data outlives it, in shared memory or in files.
//!
//! A program that is killed leaves what it had written so far. Whether its data can always be used again depends on
//! the order of its writes, and a test that kills it at random finds the wrong ones rarely. This crate finds them all:
//!
//! - **Deaths** ([`Explore::deaths`]). A child process, the *victim*, does one operation and is single-stepped through
//!   it. Wherever an instruction has changed bytes of the watched files, or a system call has ended, the files are
//!   copied, and your closure recovers and checks the copy. Then, for each of these *points*, a fresh victim is really
//!   killed there (SIGKILL), and your scenario looks at what is left: locks given back by the system included.
//! - **Schedules** ([`Explore::schedules`]). A victim is stopped at each point of its operation, another operation runs
//!   meanwhile, the victim goes on to its end, and your scenario checks what came of both.
//! - **Failpoints** ([`Explore::failpoints`]), where ptrace is not permitted: a program that counts its own steps kills
//!   itself at the first, the second, and so on.
//!
//! A [`Report`] says how much was explored and, of what was not well: what your check said, the instruction, its source
//! line and its callers, and the bytes that had changed.
//!
//! # How it is used
//!
//! The victim is any program that calls [`operate`] around its operation; mostly it is the test binary itself, started
//! again with an argument. A *scenario* is called for each run: it makes a fresh world, starts a victim with
//! [`Run::victim`], and checks what is left. `examples/counter.rs` is the whole of it:
//!
//! ```no_run
//! use memlane_crash::{Explore, Files, Run, operate};
//! use std::process::Command;
//!
//! # fn save(_: &std::path::Path) {}
//! # fn check(_: &std::path::Path) -> memlane_crash::Verdict { Ok(()) }
//! if let Some(directory) = std::env::args_os().nth(1) {
//!     operate(|| save(directory.as_ref())); // the victim
//!     return;
//! }
//! memlane_crash::may_trace().expect("ptrace");
//! let scenario = |run: &mut Run| {
//!     let directory = std::env::temp_dir().join(format!("saved-{}", run.number()));
//!     std::fs::create_dir(&directory)?;
//!     let mut victim = Command::new(std::env::current_exe()?);
//!     victim.arg(&directory);
//!     run.victim(victim, &Files::In(directory.clone()), &mut |_| ())?;
//!     let verdict = check(&directory);
//!     std::fs::remove_dir_all(&directory)?;
//!     verdict
//! };
//! let report = Explore::new("save").deaths(&scenario, &check);
//! println!("{report}");
//! assert!(report.violations.is_empty());
//! ```
//!
//! # How it works
//!
//! The victim is traced with ptrace from its first instruction; between the two stops of [`operate`] it is stepped. The
//! files are mapped by the tracer and compared with what they were after each instruction, so a point is where others
//! would see a difference, however it came about: a store to shared memory, a `write`, a rename. A point is a number of
//! system calls and then a number of instructions, so that it can be found again in a fresh victim. It need not be the
//! same moment, if the operation depends on time or chance: then another moment is explored, which is as good.
//!
//! Source lines come from the debug information of the victim's files; callers from their unwinding tables. Frames of
//! the standard library and of crates from a registry are left out.
//!
//! # What it needs
//!
//! Linux on x86-64, and ptrace of one's own children: [`may_trace`] says whether it is permitted and, if not, why. Say
//! so in the output of a test that is skipped for it. Without debug information the report has no source lines.
//!
//! # Limits
//!
//! - A victim has one thread while it operates, and starts no processes.
//! - It shows sequential consistency only. Whether another processor sees the writes in another order is for a model
//!   checker such as loom; a process that is killed has its stores completed in program order.
//! - A killed process, not a machine without power: what was written and not synced is there.
//! - Copies have no locks, no openings, no mappings: in a copy everybody is dead. The real kills have all of them.
//! - Watched are files that lie directly in one directory. A file must not be cut off by others while it is watched.
//! - Of two operations the first one is stopped once: there is one switch to the other and one back.
//! - A victim that does not come to its next stop within 30 s is killed and said to hang. The other operation of a
//!   schedule has to come back by itself.

mod explore;
mod place;
mod report;
mod victim;
mod watch;

pub use explore::{End, Event, Explore, Point, Problem, Run, Verdict};
pub use place::Frame;
pub use report::{Moment, Report, Violation};
pub use victim::{may_trace, operate};
pub use watch::{Change, Files};
