//! docs/PROOF.md speaks of every public operation, and of none that is not there.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The type that an inherent `impl` block is for.
fn implemented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl").filter(|rest| !rest.contains(" for "))?;
    let mut depth = 0;
    let start = rest.find(|letter: char| {
        depth += i32::from(letter == '<') - i32::from(letter == '>');
        depth == 0 && letter.is_alphabetic()
    })?;
    rest[start..].split(|letter: char| !letter.is_alphanumeric()).next()
}

/// The name of the public function that a line begins.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = ["const ", "unsafe "].iter().fold(rest, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    rest.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// Every public function as `Type::function`, or `function`, in the files below `folder`. What `sys` and `prim` have is
/// for tests, if it is public at all.
fn public_functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("sys") {
            public_functions(&path, found);
        }
        if path.is_dir() || path.ends_with("prim.rs") {
            continue;
        }
        let (text, mut of) = (fs::read_to_string(&path).expect("text"), None);
        for line in text.lines() {
            of = if line.starts_with("impl") { implemented(line) } else { of.filter(|_| line != "}") };
            if let Some(function) = declared(line) {
                found.insert(of.map_or(function.to_owned(), |of| format!("{of}::{function}")));
            }
        }
    }
}

#[test]
fn every_public_operation_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut functions = BTreeSet::new();
    public_functions(&root.join("src"), &mut functions);
    assert!(functions.len() > 60 && functions.contains("Mutex::lock") && functions.contains("gc"), "{functions:?}");

    let text = fs::read_to_string(root.join("docs/PROOF.md")).expect("text");
    let table = text.split("## Every public operation\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = table.expect("the table").lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let named: BTreeSet<String> =
        rows.flat_map(|cell| cell.split(", ")).map(|operation| operation.trim_matches('`').to_owned()).collect();
    assert_eq!(functions.difference(&named).collect::<Vec<_>>(), [""; 0], "are not in the table");
    assert_eq!(
        named.difference(&functions).filter(|operation| *operation != "drop").collect::<Vec<_>>(),
        [""; 0],
        "are in the table, and do not exist"
    );
}
