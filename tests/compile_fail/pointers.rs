#[derive(memlane::Shareable)]
#[repr(C)]
struct Frame {
    pixels: *const std::ffi::c_void,
}

fn main() {}
