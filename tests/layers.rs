//! The layers as docs/DESIGN.md draws them: each may use those below it, never back; and who may be unsafe.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up. What stands later may use what stands earlier.
const LAYERS: [&str; 10] =
    ["error", "sys", "prim", "owner", "object", "region", "segment", "sync", "channel", "inspect"];

/// The files that may hold unsafe code.
const UNSAFE: [&str; 14] = [
    "src/channel/memory.rs",
    "src/channel/message.rs",
    "src/channel/untyped.rs",
    "src/region.rs",
    "src/region/mapping.rs",
    "src/segment/offset.rs",
    "src/segment/shareable.rs",
    "src/sync/copies.rs",
    "src/sync/guard.rs",
    "src/sys/clock.rs",
    "src/sys/handover.rs",
    "src/sys/heap.rs",
    "src/sys/linux.rs",
    "src/sys/treatment.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { sources(&path, found) } else { found.push(path) }
    }
}

fn each_source(mut check: impl FnMut(&str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 15, "the sources are where they are looked for");
    for file in files {
        let name = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        check(&name, &fs::read_to_string(&file).expect("text"));
    }
}

#[test]
fn no_layer_uses_one_above_it() {
    each_source(|name, text| {
        let layer = name.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
        if layer == "lib" {
            return;
        }
        let own = LAYERS.iter().position(|known| *known == layer).unwrap_or_else(|| panic!("{name} is in no layer"));
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in &LAYERS[own + 1..] {
                assert!(!line.contains(&format!("crate::{used}")), "{name}: {layer} may not use {used}: {line}");
            }
        }
    });
}

#[test]
fn unsafe_code_is_where_the_design_says() {
    each_source(|name, text| {
        let allowed = text.contains("allow(unsafe_code");
        assert!(!allowed || UNSAFE.contains(&name), "{name} may not be unsafe");
    });
}

#[test]
fn only_sys_names_an_operating_system() {
    each_source(|name, text| {
        // Examples in the documentation are other programs.
        let code = |word: &str| text.lines().any(|line| line.contains(word) && !line.trim_start().starts_with("///"));
        let named = ["target_os", "libc::", "std::os::", "rustix", "windows_sys"].iter().find(|word| code(word));
        assert!(name.starts_with("src/sys/") || named.is_none(), "{name} names {named:?}");
    });
}
