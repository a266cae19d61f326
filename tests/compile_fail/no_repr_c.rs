#[derive(memlane::Shareable)]
struct Frame {
    width: u32,
}

#[derive(memlane::Shareable)]
#[repr(C, packed)]
struct Packed {
    width: u32,
}

fn main() {}
