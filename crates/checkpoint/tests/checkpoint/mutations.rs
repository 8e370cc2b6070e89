//! Whole files with a few bytes changed: any outcome but a panic will do. 14,000 of them, the same ones each time.
//!
//! The fuzz targets in `tests/fuzz` start from the same files and have all the time they are given.

use std::path::Path;

use burn::tensor::Device;
use kiln_checkpoint::{Checkpoint, CheckpointError, Contents, SaveOptions, config, layout, to_bytes};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use serde::Deserialize;
use serde_json::json;

use crate::sample;

#[derive(Clone, Debug)]
enum Mutation {
    Flip {
        at: Index,
        to: u8,
    },
    Cut(Index),
    Remove {
        at: Index,
        count: usize,
    },
    Insert {
        at: Index,
        bytes: Vec<u8>,
    },
    /// Another number in place of one that is written in digits.
    Digits {
        at: Index,
        number: u64,
    },
    /// A piece of the file once more, elsewhere: what is there twice, or in the wrong place.
    Copy {
        from: Index,
        count: usize,
        to: Index,
    },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, to)| Mutation::Flip { at, to }),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), 1..40_usize).prop_map(|(at, count)| Mutation::Remove { at, count }),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Mutation::Insert { at, bytes }),
        4 => (at(), any::<u64>().prop_map(|n| n >> (n % 64))).prop_map(|(at, number)| Mutation::Digits { at, number }),
        1 => (at(), 1..60_usize, at()).prop_map(|(from, count, to)| Mutation::Copy { from, count, to }),
    ]
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop::collection::vec(mutation(), 1..4)
}

/// Mutations in a range of a file, most often that of its header; a safetensors header's length is kept right with `framed`.
fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation, framed: bool) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match mutation {
        Mutation::Flip { at, to } => bytes[at.index(len)] = *to,
        Mutation::Cut(at) => bytes.truncate(at.index(len)),
        Mutation::Remove { at, count } => {
            let at = at.index(len);
            bytes.drain(at..(at + count).min(len));
        }
        Mutation::Insert { at, bytes: new } => {
            let at = at.index(len);
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::Copy { from, count, to } => {
            let from = from.index(len);
            let piece = bytes[from..(from + count).min(len)].to_vec();
            let to = to.index(len);
            bytes.splice(to..to, piece);
        }
        Mutation::Digits { at, number } => {
            let length = bytes.first_chunk().copied().map_or(0, u64::from_le_bytes);
            let (start, end) = match framed {
                true => (8, usize::try_from(length).unwrap_or(0).saturating_add(8).min(len)),
                false => (0, len),
            };
            let digits: Vec<_> = (start..end).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if digits.is_empty() {
                return;
            }
            let start = digits[at.index(digits.len())];
            let stop = (start..end).find(|&i| !bytes[i].is_ascii_digit()).unwrap_or(end);
            let new = number.to_string();
            bytes.splice(start..stop, new.bytes());
            if framed {
                let grown = (length as usize + new.len()).saturating_sub(stop - start);
                bytes[..8].copy_from_slice(&(grown as u64).to_le_bytes());
            }
        }
    }
}

/// Open, recognise, read and load whatever is there.
fn try_all(bytes: Vec<u8>) -> Result<(), CheckpointError> {
    let length = bytes.len();
    let checkpoint = Checkpoint::from_bytes(bytes)?;
    for (name, _) in checkpoint.tensors() {
        if let Ok(data) = checkpoint.tensor(name) {
            assert!(data.as_bytes().len() <= length, "more was read than there is");
        }
    }
    match layout::recognise(&checkpoint)? {
        Some(Contents::Model(model)) => drop(model.class()?),
        Some(Contents::Pipeline(pipeline)) => {
            for model in pipeline.models.values() {
                model.class()?;
            }
        }
        _ => {}
    }
    checkpoint.load_into(sample(&Device::flex())).map(|_| ())
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// A file of this name, without numbers, whose keys are those of a known layout.
fn empty(keys: &[(&str, &[usize])]) -> Vec<u8> {
    let mut offset = 0;
    let mut header = serde_json::Map::new();
    for (key, shape) in keys {
        let start = offset;
        offset += 2 * shape.iter().product::<usize>();
        header.insert(
            (*key).to_owned(),
            json!({"dtype": "F16", "shape": shape, "data_offsets": [start, offset]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + offset, 0);
    bytes
}

fn layouts() -> Vec<Vec<u8>> {
    vec![
        empty(&[
            ("model.diffusion_model.input_blocks.0.0.weight", &[4, 4, 3, 3]),
            ("model.diffusion_model.output_blocks.0.0.in_layers.0.weight", &[4]),
            ("model.diffusion_model.time_embed.0.weight", &[16, 4]),
            ("first_stage_model.encoder.conv_in.weight", &[4, 3, 3, 3]),
            ("cond_stage_model.transformer.text_model.embeddings.position_embedding.weight", &[7, 4]),
        ]),
        empty(&[
            ("input_blocks.0.0.weight", &[4, 3, 3, 3]),
            ("input_blocks.1.0.in_layers.2.weight", &[4, 4, 3, 3]),
            ("output_blocks.0.0.in_layers.2.weight", &[4, 8, 3, 3]),
            ("time_embed.0.weight", &[16, 4]),
            ("out.2.weight", &[6, 4, 3, 3]),
        ]),
        empty(&[
            ("joint_blocks.0.x_block.attn.qkv.weight", &[24, 8]),
            ("x_embedder.proj.weight", &[8, 4, 2, 2]),
            ("pos_embed", &[1, 4, 8]),
        ]),
    ]
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(dead_code, reason = "it is read, and that is all")]
struct Options {
    in_channels: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    attention_head_dim: Option<Value>,
    norm_eps: f64,
    flip_sin_to_cos: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "it is read, and that is all")]
enum Value {
    One(u32),
    Each(Vec<u32>),
}

const CONFIG: &str = r#"{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.42.1", "in_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "attention_head_dim": [5, 10, 20, 20], "norm_eps": 1e-05, "flip_sin_to_cos": true, "upcast_attention": null}"#;
const INDEX: &str = r#"{"metadata": {"total_size": 12}, "weight_map": {"weight": "model-00001-of-00002.safetensors",
    "bias": "model-00002-of-00002.safetensors"}}"#;
const PIPELINE: &str = r#"{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": [null, null], "requires_safety_checker": false}"#;

/// A folder with this text in its place among files that are right.
fn try_folder(which: usize, text: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let unet = folder.path().join("unet");
    match which {
        0 => {
            write("config.json", text);
            write("model.safetensors", &golden("checkpoint.safetensors"));
        }
        1 => {
            write("config.json", b"{}");
            write("model.safetensors.index.json", text);
            write("model-00001-of-00002.safetensors", &golden("checkpoint.safetensors"));
        }
        2 => write("scheduler_config.json", text),
        _ => {
            write("model_index.json", text);
            std::fs::create_dir(&unet).unwrap();
            std::fs::write(unet.join("config.json"), CONFIG).unwrap();
            std::fs::write(unet.join("model.safetensors"), golden("checkpoint.safetensors")).unwrap();
        }
    }
    match Contents::open(folder.path()) {
        Ok(Contents::Model(model)) => drop(model.class()),
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x6b69_6c6e),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What is mutated is what it is meant to be: a layout is told by its keys, and then lacks most of its tensors.
#[test]
fn the_layouts_are_recognised() {
    for bytes in layouts() {
        let recognised = layout::recognise(&Checkpoint::from_bytes(bytes).unwrap());
        assert!(!matches!(recognised, Ok(None)), "{recognised:?}");
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn a_mutated_safetensors_file_never_panics(which in 0..5_usize, mutations in mutations()) {
        thread_local! {
            static WHOLE: Vec<Vec<u8>> = [
                layouts(),
                vec![to_bytes(&sample(&Device::flex()), &SaveOptions::default()).unwrap(), golden("tensors.safetensors")],
            ].concat();
        }
        let mut bytes = WHOLE.with(|whole| whole[which].clone());
        for mutation in &mutations {
            mutate(&mut bytes, mutation, true);
        }
        let _ = try_all(bytes);
    }

    #[test]
    fn a_mutated_pytorch_file_never_panics(which in 0..8_usize, mutations in mutations()) {
        const FILES: [&str; 8] = [
            "tensors.pt", "tensors_protocol_4.pt", "views.pt", "checkpoint.pt", "legacy.pt", "views_legacy.pt",
            "executes_0.pkl", "no_tensors.pkl",
        ];
        thread_local! {
            static WHOLE: Vec<Vec<u8>> = FILES.map(golden).to_vec();
        }
        let mut bytes = WHOLE.with(|whole| whole[which].clone());
        for mutation in &mutations {
            mutate(&mut bytes, mutation, false);
        }
        let _ = try_all(bytes);
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_mutated_config_never_panics(which in 0..4_usize, mutations in mutations()) {
        let mut text = [CONFIG, INDEX, CONFIG, PIPELINE][which].as_bytes().to_vec();
        for mutation in &mutations {
            mutate(&mut text, mutation, false);
        }
        try_folder(which, &text);
        if let Ok(text) = String::from_utf8(text) {
            let _ = config::class_of(&text);
            let _ = config::read::<Options>(&text, &["UNet2DConditionModel"]);
            let _ = config::refuse_others(&text, &[("in_channels", json!(4)), ("norm_eps", json!(1e-5))]);
        }
    }

    #[test]
    fn bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        header in ".{0,64}",
        length in 0..80_u64,
    ) {
        let _ = try_all(bytes.clone());
        // As a pickle, and with a header's frame.
        let _ = try_all([b"\x80\x02".as_slice(), &bytes].concat());
        let _ = try_all([&length.to_le_bytes()[..], header.as_bytes(), &bytes].concat());
    }
}
