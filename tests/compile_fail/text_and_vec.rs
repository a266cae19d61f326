#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    literal: &'static str,
    text: String,
    pixels: Vec<u8>,
}

fn main() {}
