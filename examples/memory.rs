//! Memory without a name that goes to another process over a socket, and a file that both map: `cargo run --example memory`.

use memlane::{Memory, Name};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

const SIZE: u64 = 8 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        Some(directory) => other(Path::new(&directory)),
        None => {
            let directory = std::env::temp_dir().join(Name::unique("memory")?.as_str());
            std::fs::create_dir(&directory)?;
            let result = first(&directory);
            std::fs::remove_dir_all(&directory)?;
            result
        }
    }
}

fn first(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let listener = UnixListener::bind(directory.join("socket"))?;
    let file = Memory::create(directory.join("file"), 1000)?;
    let mut child = Command::new(std::env::current_exe()?).arg(directory).spawn()?;

    let memory = Memory::anonymous(SIZE)?;
    let mut region = memory.map_mut(..)?;
    region.write_at(SIZE as usize - 5, b"hello")?;
    println!("{} of {SIZE} bytes lie in huge pages", region.request_huge_pages()?);
    memory.send_over(&listener.accept()?.0)?;
    assert!(child.wait()?.success(), "the other process ended well");

    let mut answer = [0; 5];
    region.read_at(0, &mut answer)?;
    println!("the other process wrote {:?} into the memory", String::from_utf8_lossy(&answer));
    file.map(900..905)?.read_at(0, &mut answer)?;
    println!("and {:?} into the file", String::from_utf8_lossy(&answer));
    Ok(())
}

fn other(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let memory = Memory::receive_from(&UnixStream::connect(directory.join("socket"))?)?;
    let mut hello = [0; 5];
    memory.map(SIZE - 5..)?.read_at(0, &mut hello)?;
    assert_eq!(&hello, b"hello");

    // What is tried out in a copy, nobody sees.
    let mut copy = memory.map_copy(..4096)?;
    copy.write_at(0, b"no!!!")?;
    memory.map_mut(..4096)?.write_at(0, b"world")?;

    let mut end = Memory::open(directory.join("file"))?.map_mut(900..)?;
    end.write_at(0, b"again")?;
    Ok(end.flush(..)?)
}
