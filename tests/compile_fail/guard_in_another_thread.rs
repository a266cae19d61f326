use memlane::{Mutex, Segment, Shareable};

#[derive(Shareable)]
#[repr(C)]
struct Frame {
    width: Mutex<u32>,
}

fn main() {
    let frame = Segment::<Frame>::open("frame").unwrap();
    let guard = frame.width.lock(&frame).unwrap().or_repair(|_| ());
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
}
