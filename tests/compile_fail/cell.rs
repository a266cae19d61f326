#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    width: std::cell::Cell<u32>,
}

fn main() {}
