#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    ready: bool,
}

fn main() {}
