use memlane::Region;

fn main() {
    let mut region = Region::open("frame").unwrap();
    region.write_at(0, b"no").unwrap();
    region.place::<u32>(0, (), |_| ()).unwrap();
    let _: *mut u8 = region.as_ptr();
}
