//! A pickle, in the zip that `torch.save` puts around it with two storages beside it.
#![no_main]

use kiln_checkpoint::{Checkpoint, layout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pickle: &[u8]| {
    let bytes = zip(&[("a/data.pkl", pickle), ("a/data/0", &[0; 64]), ("a/data/1", &[1; 16])]);
    let length = bytes.len();
    let Ok(checkpoint) = Checkpoint::from_bytes(bytes) else { return };
    for (name, _) in checkpoint.tensors() {
        if let Ok(data) = checkpoint.tensor(name) {
            assert!(data.as_bytes().len() <= length, "more was read than there is");
        }
    }
    let _ = layout::recognise(&checkpoint);
});

/// Entries stored as they are.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (start, size, name_size) = (file.len() as u32, data.len() as u32, name.len() as u16);
        // Version and flags, method, time and date, checksum; both sizes; lengths of the name and of nothing.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        common.extend([name_size.to_le_bytes(), [0; 2]].concat());
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), data].concat());
        directory.extend(
            [b"PK\x01\x02\x14\0", &common[..], &[0; 10], &start.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let (start, size, count) = (file.len() as u32, directory.len() as u32, entries.len() as u16);
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    file.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    file.extend([0; 2]);
    file
}
