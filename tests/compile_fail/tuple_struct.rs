#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame(u32, u32);

fn main() {}
