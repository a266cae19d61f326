//! Says which compiler made the program: the figures depend on it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets it");
    let version = Command::new(rustc).arg("--version").output().expect("the compiler that cargo uses").stdout;
    let version = String::from_utf8_lossy(&version);
    println!("cargo::rustc-env=BENCH_RUSTC={}", version.split(" (").next().unwrap_or_default().trim());
}
