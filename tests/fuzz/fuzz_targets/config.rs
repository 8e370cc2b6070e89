//! A text as each of the JSON files of a folder: a config, an index of shards, a pipeline's parts.
#![no_main]

use kiln_checkpoint::{Contents, config};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    in_channels: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    norm_eps: f64,
    flip_sin_to_cos: bool,
}

fuzz_target!(|text: &str| {
    let _ = config::class_of(text);
    if let Ok(options) = config::read::<Options>(text, &["UNet2DModel"]) {
        std::hint::black_box((
            options.in_channels,
            options.block_out_channels,
            options.down_block_types,
            options.norm_eps,
            options.flip_sin_to_cos,
        ));
    }
    for name in ["config.json", "model.safetensors.index.json", "model_index.json", "scheduler_config.json"] {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file in it");
        write("config.json", "{}");
        write(name, text);
        if let Ok(Contents::Model(model)) = Contents::open(folder.path()) {
            let _ = model.class();
        }
    }
});
