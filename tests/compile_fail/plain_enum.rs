#[derive(memlane::Shareable)]
#[repr(u8)]
enum Mode {
    Off,
    On,
}

enum Plain {
    Off,
    On,
}

#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    mode: Plain,
}

fn main() {}
