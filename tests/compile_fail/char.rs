#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    letter: char,
}

fn main() {}
