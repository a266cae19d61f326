use memlane::{Mutex, MutexGuard, Segment, Shareable};

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    width: Mutex<u32>,
}

fn escape(frame: Segment<Frame>) -> MutexGuard<'static, u32> {
    frame.width.lock(&frame).unwrap().or_repair(|_| ())
}

fn main() {}
