//! A file as it is: a safetensors header most of the time, or whatever else its first bytes make of it.
#![no_main]

use kiln_checkpoint::{Checkpoint, layout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_bytes(bytes.to_vec()) else { return };
    for (name, _) in checkpoint.tensors() {
        if let Ok(data) = checkpoint.tensor(name) {
            assert!(data.as_bytes().len() <= bytes.len(), "more was read than there is");
        }
    }
    let _ = layout::recognise(&checkpoint);
});
