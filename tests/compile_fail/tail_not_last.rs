#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    pixels: [u8],
    width: u32,
}

fn main() {}
