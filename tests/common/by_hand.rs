//! An object as no program of memlane makes it, from what docs/DESIGN.md says of its header.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An object of 8 bytes, made by hand, that describes itself so.
pub(crate) fn by_hand(path: &Path, schema: &str) {
    let data = (8448 + schema.len() as u64).next_multiple_of(4096);
    let mut bytes = vec![0; data as usize + 8];
    let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
    put(0, b"memlane\0");
    for (offset, number) in [(8, 1), (12, 0x0102_0304), (16, 64), (20, 1), (64, schema.len() as u32), (68, 128)] {
        put(offset, &u32::to_ne_bytes(number));
    }
    put(40, &data.to_ne_bytes());
    put(48, &8_u64.to_ne_bytes());
    put(8448, schema.as_bytes());
    fs::write(path, bytes).expect("a file");
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("ours");
}
