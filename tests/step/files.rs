//! Deaths in what makes plain files, and in what maps parts of objects.

use crate::MORE;
use crate::aftermath::{Expected, next_user};
use crate::common::{Dir, times};
use crate::meet::{Meeting, meet_at};
use crate::scenarios::{Run, quietly};
use crate::victim::{OBJECT, PLACE, find, place};
use memlane::{Locked, Memory, Options, SharedMemory};
use memlane_crash::operate;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy)]
pub struct Row {
    pub title: &'static str,
    act: &'static str,
    /// The sizes that a death may leave; `None` for no file.
    sizes: &'static [Option<u64>],
}

const FILE: &str = "file";
const SIZE: u64 = 10_000;
const LONGER: u64 = 50_000;

pub fn rows() -> Vec<Row> {
    vec![
        Row { title: "create a file", act: "file create", sizes: &[None, Some(SIZE)] },
        Row { title: "grow a file", act: "file grow", sizes: &[Some(SIZE), Some(LONGER)] },
        Row { title: "map parts, shrink, lock", act: "file parts", sizes: &[None] },
    ]
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

pub fn act(operation: &str) {
    let directory = PathBuf::from(std::env::var_os("MEMLANE_DIR").expect("the parent says where"));
    match operation {
        "create" => drop(operate(|| Memory::create(path(&directory), SIZE).expect("a new file"))),
        "grow" => operate(|| Memory::open(path(&directory)).and_then(|file| file.grow(LONGER)).expect("there is room")),
        "parts" => {
            let mut part = None;
            operate(|| {
                let open = || SharedMemory::open(OBJECT).expect("the parent's object");
                let part = part.insert(open().map_mut_range(3 * PARTS..).expect("mapped"));
                place(part);
                *find(part).value.lock(part).expect("the lock").or_repair(|_| ()) = 1;
                part.shrink_to(..PLACE).expect("the front is left");
                open().map_copy(PARTS..).and_then(|mut copy| copy.write_at(0, &[1; PLACE])).expect("bytes");
            });
        }
        other => panic!("no operation {other}"),
    }
}

const PARTS: u64 = 5000;

impl Row {
    pub fn run(&self, dir: &Dir, run: &mut Run) {
        match self.act {
            "file grow" => {
                let file = Memory::create(path(dir.path()), SIZE).expect("a new file");
                file.map_mut(..).and_then(|mut bytes| bytes.write_at(0, &[7; SIZE as usize])).expect("bytes");
            }
            "file parts" => return parts(dir, run, self.act),
            _ => {}
        }
        run.die(dir, self.act, &mut quietly);
        self.look(dir);
    }

    /// The file is whole, or not there; whoever comes next can use and grow it, or make it.
    pub fn look(&self, dir: &Dir) {
        if self.act == "file parts" {
            return next_user(dir, Expected::ObjectOrOther, 0, false);
        }
        let file = Memory::open(path(dir.path())).ok();
        let size = file.as_ref().map(|file| file.size().expect("its size"));
        assert!(self.sizes.contains(&size), "{size:?}");
        let file = file.unwrap_or_else(|| Memory::create(path(dir.path()), SIZE).expect("a new file"));
        file.grow(LONGER).expect("there is room");
        let mut bytes = vec![0xee; LONGER as usize];
        file.map_mut(..).and_then(|region| region.read_at(0, &mut bytes)).expect("bytes");
        let (old, new) = bytes.split_at(SIZE as usize);
        let expected = if self.act == "file grow" { 7 } else { 0 };
        assert!(old.iter().all(|byte| *byte == expected) && new.iter().all(|byte| *byte == 0));
        std::fs::remove_file(path(dir.path())).expect("it is there");
        assert!(dir.files().is_empty(), "{:?}", dir.files());
    }
}

/// We make the file longer while it is made longer, by less and by more: it ends as long as the longer one wanted.
pub fn meetings() -> impl Iterator<Item = Meeting> {
    [("less", LONGER - 5000), ("more", LONGER + 5000)].into_iter().map(|(title, size)| Meeting {
        first: "grow a file".into(),
        title: format!("grow a file | grow it {title}"),
        before: times(0, 16),
        further: times(0, MORE),
        run: Box::new(move |dir, run| grow_both(size, dir, run)),
    })
}

fn grow_both(size: u64, dir: &Dir, run: &mut Run) {
    let file = Memory::create(path(dir.path()), SIZE).expect("a new file");
    let grow = || file.grow(size).map(|()| file.size().expect("its size"));
    let (code, grown) = meet_at(dir, run, "file grow", &|| false, &|| false, grow, &mut || {});
    assert_eq!((code, grown.expect("there is room") >= size), (0, true));
    assert_eq!(file.size().expect("its size"), LONGER.max(size));
    std::fs::remove_file(path(dir.path())).expect("it is there");
}

/// Beside us, who have the whole object mapped.
fn parts(dir: &Dir, run: &mut Run, act: &str) {
    let ours = SharedMemory::create(dir.name(OBJECT), 4 * PARTS, &Options::new()).expect("a fresh object");
    let mut ours = ours.map_mut().expect("raw bytes");
    run.die(dir, act, &mut quietly);
    let mut bytes = vec![0; 3 * PARTS as usize + PLACE];
    ours.read_at(0, &mut bytes).expect("bytes");
    assert!(bytes.iter().all(|byte| *byte == 0), "what was not mapped, or a copy, was written");
    ours.shrink_to(3 * PARTS as usize..).expect("the same part");
    let placed = place(&mut ours);
    assert!(matches!(placed.value.try_lock(&placed), Ok(Locked::Clean(value)) if *value == 7));
    next_user(dir, Expected::ObjectOrOther, 1, run.number % 2 == 1);
}
