//! What the operating system knows: processors, processor time, page faults.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The processor time this process has used, in all its threads.
pub(crate) fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The pages that had to be mapped since this process began.
pub(crate) fn faults() -> u64 {
    // SAFETY: all-zero bytes are a valid `rusage`, and the call fills it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0, "every process can ask for its own usage");
        (usage.ru_minflt + usage.ru_majflt) as u64
    }
}

/// The processors that this process may use.
pub(crate) fn processors() -> Vec<usize> {
    // SAFETY: all-zero bytes are a valid `cpu_set_t`, the call gets its size, and the macro stays within it.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(
            libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed),
            0,
            "a set of that size is enough"
        );
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed)).collect()
    }
}

/// The bytes of all files in a directory, as they are long and as they take memory.
pub(crate) fn size_of_files(directory: &Path) -> io::Result<(u64, u64)> {
    let (mut reserved, mut resident) = (0, 0);
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.metadata()?;
        reserved += file.len();
        resident += file.blocks() * 512;
    }
    Ok((reserved, resident))
}

/// Keeps the process that a command starts on the processor of that number among those this one may use, or on the
/// last, and lets it die with this one.
pub(crate) fn tie(command: &mut Command, number: usize) {
    let usable = processors();
    let processor = usable[number.min(usable.len() - 1)];
    let before = move || {
        // SAFETY: all-zero bytes are a valid `cpu_set_t`, the call gets its size, and the macro stays within it.
        let pinned = unsafe {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(processor, &mut one);
            libc::sched_setaffinity(0, size_of_val(&one), &raw const one)
        };
        // SAFETY: the call takes no address.
        let tied = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if pinned == 0 && tied == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: `before` makes two system calls and nothing else, which is allowed between fork and exec.
    unsafe { command.pre_exec(before) };
}

/// The machine and the date, in one line.
pub(crate) fn description() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = processors().len();
    let kernel = read("/proc/sys/kernel/osrelease");
    let (kernel, rustc) = (kernel.trim(), env!("BENCH_RUSTC"));
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = now.split_once('T').map_or("", |(date, _)| date);
    format!("{model}, {count} processors, Linux {kernel}, {rustc}, {date}")
}
