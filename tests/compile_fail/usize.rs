#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    width: usize,
}

fn main() {}
