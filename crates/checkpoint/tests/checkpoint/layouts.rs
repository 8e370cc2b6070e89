//! Files in the layouts of their first authors against diffusers' and transformers' own of the same models.

#[path = "layouts/guided.rs"]
mod guided;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use kiln_checkpoint::{Checkpoint, CheckpointError, Contents, StoredModel, layout, tensors_to_bytes};
use rstest::rstest;
use serde_json::{Value, json};

pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layouts").join(case)
}

fn original(case: &str) -> Checkpoint {
    Checkpoint::open(golden(case).join("original.safetensors")).unwrap()
}

/// CRC-32 as zlib's.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// Fields that say how a folder came about, or that only training or other tasks look at.
const BESIDE_THE_POINT: &[&str] = &[
    "dtype",
    "id2label",
    "label2id",
    "chunk_size_feed_forward",
    "problem_type",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "initializer_factor",
    "initializer_range",
    "classifier_dropout",
    "is_decoder",
    "num_decoder_layers",
    "scale_decoder_outputs",
    "_name_or_path",
    // Sides trained on: no tensor tells.
    "sample_size",
    // Of Stable Diffusion 2 as published; the numbers are the same in f32.
    "upcast_attention",
];

/// Fields whose default, where the config read off the keys has none, is the golden's value.
fn is_default(field: &str, value: &Value) -> bool {
    let ones = ["resnet_out_scale_factor"];
    let threes = ["conv_in_kernel", "conv_out_kernel"];
    match field {
        "time_embedding_type" => value == "positional",
        "attention_type" => value == "default",
        "addition_embed_type_num_heads" => value == 64,
        field if ones.contains(&field) => value.as_f64() == Some(1.0),
        field if threes.contains(&field) => value == 3,
        "dropout" => value.as_f64() == Some(0.0),
        _ => value.is_null() || value == false,
    }
}

/// One value for all stages may be written out.
fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => found.as_f64() == expected.as_f64(),
        _ => found == expected,
    }
}

fn assert_config(part: &str, found: &str, expected: &Value) {
    let found: Value = serde_json::from_str(found).unwrap();
    for (field, expected) in expected.as_object().unwrap() {
        if BESIDE_THE_POINT.contains(&field.as_str()) {
            continue;
        }
        match found.get(field) {
            Some(found) => {
                assert!(same(found, expected), "{part}: `{field}` is {found}, expected {expected}");
            }
            None => assert!(is_default(field, expected), "{part}: `{field}` is absent, expected {expected}"),
        }
    }
}

/// Nothing missing, nothing left over, each tensor bit for bit.
fn assert_tensors(part: &str, found: &Checkpoint, expected: &Value) {
    let expected = expected.as_object().unwrap();
    // transformers saves this one class without the prefix that published files have.
    let stem = if expected.contains_key("final_layer_norm.weight") { "text_model." } else { "" };
    let expected: BTreeMap<String, &Value> =
        expected.iter().map(|(name, value)| (format!("{stem}{name}"), value)).collect();
    let surplus = |name: &&str| !name.ends_with("position_ids");
    let names: BTreeSet<&str> = found.tensors().map(|(name, _)| name).filter(surplus).collect();
    let wanted: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    let missing: Vec<_> = wanted.difference(&names).collect();
    let unused: Vec<_> = names.difference(&wanted).collect();
    assert!(missing.is_empty() && unused.is_empty(), "{part}: missing {missing:?}, unused {unused:?}");
    for (name, expected) in expected {
        let tensor = found.tensor(&name).unwrap();
        let found = json!([tensor.shape().to_vec(), crc32(tensor.as_bytes())]);
        assert_eq!(&found, expected, "{part}: {name}");
    }
}

fn assert_part(case: &str, part: &str, model: &StoredModel) {
    let golden = std::fs::read(golden(case).join(format!("{part}.json"))).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let label = format!("{case}/{part}");
    assert_tensors(&label, &model.weights, &golden["tensors"]);
    assert_config(&label, &model.config, &golden["config"]);
}

#[rstest]
#[case("stable_diffusion_1", "StableDiffusionPipeline", "PNDMScheduler")]
#[case("stable_diffusion_2", "StableDiffusionPipeline", "DDIMScheduler")]
#[case("stable_diffusion_xl", "StableDiffusionXLPipeline", "EulerDiscreteScheduler")]
#[case("stable_diffusion_3", "StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler")]
fn whole_models(#[case] case: &str, #[case] class: &str, #[case] scheduler: &str) {
    let Contents::Pipeline(pipeline) = Contents::open(golden(case).join("original.safetensors")).unwrap()
    else {
        panic!("{case} is a pipeline");
    };
    assert_eq!(pipeline.class, class);
    let parts: BTreeSet<String> = golden(case)
        .read_dir()
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    assert_eq!(pipeline.models.keys().cloned().collect::<BTreeSet<_>>(), parts);
    for (part, model) in &pipeline.models {
        assert_part(case, part, model);
    }
    let config: Value = serde_json::from_str(&pipeline.configs["scheduler"]).unwrap();
    assert_eq!(config["_class_name"], scheduler);
    assert!(
        config.get("trained_betas").is_none_or(Value::is_null),
        "the file's betas are the published ones"
    );
    let v = case == "stable_diffusion_2";
    assert_eq!(config["prediction_type"] == "v_prediction", v);
}

#[rstest]
#[case("stable_diffusion_35", "transformer")]
#[case("control_1", "controlnet")]
#[case("control_2", "controlnet")]
#[case("autoencoder", "vae")]
fn models_alone(#[case] case: &str, #[case] part: &str) {
    let Some(Contents::Model(model)) = layout::recognise(&original(case)).unwrap() else {
        panic!("{case} is a model");
    };
    assert_part(case, part, &model);
}

/// Files by their names and shapes alone: all tensors are zeros.
fn outline(tensors: &[(String, Vec<usize>)]) -> Checkpoint {
    let zeros = |shape: &Vec<usize>| TensorData::new(vec![0f32; shape.iter().product()], shape.clone());
    let tensors = tensors.iter().map(|(name, shape)| (name.clone(), zeros(shape))).collect();
    Checkpoint::from_bytes(tensors_to_bytes(tensors, &BTreeMap::new()).unwrap()).unwrap()
}

/// `file` without the tensors that `drop` names.
fn without(file: &Checkpoint, drop: impl Fn(&str) -> bool) -> Checkpoint {
    let kept = file
        .tensors()
        .filter(|(name, _)| !drop(name))
        .map(|(name, info)| (name.to_owned(), info.shape.to_vec()));
    outline(&kept.collect::<Vec<_>>())
}

/// Whatever one tensor a file lacks, the error names it, or a tensor that only makes sense with it.
#[rstest]
#[case("stable_diffusion_1")]
#[case("stable_diffusion_3")]
#[case("stable_diffusion_35")]
#[case("control_2")]
#[case("autoencoder")]
fn a_missing_tensor_is_named(#[case] case: &str) {
    let file = original(case);
    // Of transformers' names none is translated: loading finds what is missing there.
    let translated = |name: &str| !name.contains("transformer.") && !name.starts_with("cond_stage_model.");
    let names: Vec<_> =
        file.tensors().map(|(name, _)| name.to_owned()).filter(|name| translated(name)).collect();
    let optional = ["model_ema.", "betas", "alphas", "logit_scale"];
    for name in names.iter().step_by(5).filter(|name| !optional.iter().any(|other| name.contains(other))) {
        let found = layout::recognise(&without(&file, |other| other == name));
        match found {
            Err(CheckpointError::Missing { tensor, .. }) if tensor == *name => {}
            // What tells of a level or a kind of norm: then other tensors contradict the rest.
            Err(CheckpointError::Missing { .. } | CheckpointError::Entry { .. }) => {}
            // A layer that networks of the layout may lack leaves its tensors' names, or none of them.
            other => panic!("{case} without {name}: {other:?}"),
        }
    }
}

#[test]
fn half_a_layer_is_missing_the_other_half() {
    let name = "model.diffusion_model.middle_block.0.out_layers.3.bias";
    let error =
        layout::recognise(&without(&original("stable_diffusion_1"), |other| other == name)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Missing { tensor, others: 0, .. } if tensor == name),
        "{error}"
    );
}

#[test]
fn parts_of_a_whole_model_are_what_is_there() {
    let file = original("stable_diffusion_1");
    let vae = without(&file, |name| !name.starts_with("first_stage_model."));
    let Some(Contents::Model(model)) = layout::recognise(&vae).unwrap() else { panic!("a model alone") };
    assert_eq!(model.class().unwrap().as_deref(), Some("AutoencoderKL"));
    let no_text = without(&file, |name| name.starts_with("cond_stage_model."));
    let Some(Contents::Pipeline(pipeline)) = layout::recognise(&no_text).unwrap() else {
        panic!("two models")
    };
    assert_eq!(pipeline.models.keys().collect::<Vec<_>>(), ["unet", "vae"]);
    // The U-Net alone, without its prefix, is told from OpenAI's by its transformers.
    let Some(Contents::Model(unet)) = layout::recognise(&file.part("model.diffusion_model.")).unwrap() else {
        panic!("a U-Net alone");
    };
    assert_part("stable_diffusion_1", "unet", &unet);
}

#[test]
fn control_beside_a_whole_model_is_a_pipeline() {
    let label = "joined";
    let parts = [original("stable_diffusion_1"), original("control_1")];
    let file = Checkpoint::merge(label, parts).unwrap();
    let Some(Contents::Pipeline(pipeline)) = layout::recognise(&file).unwrap() else { panic!("a pipeline") };
    assert_eq!(pipeline.class, "StableDiffusionControlNetPipeline");
    assert_part("control_1", "controlnet", &pipeline.models["controlnet"]);
}

/// Files of Stable Diffusion 2 that were written from diffusers' folders lack the layer that is not used, and the projection.
#[test]
fn an_open_clip_encoder_may_come_without_its_last_layer() {
    let file = original("stable_diffusion_2");
    let file = without(&file, |name| name.contains("resblocks.2.") || name.ends_with("text_projection"));
    let Some(Contents::Pipeline(pipeline)) = layout::recognise(&file).unwrap() else { panic!("a pipeline") };
    let config: Value = serde_json::from_str(&pipeline.models["text_encoder"].config).unwrap();
    assert_eq!(config["num_hidden_layers"], 2);
}

#[test]
fn a_schedule_unlike_the_published_ones_is_kept() {
    let file = original("stable_diffusion_1").part("model.diffusion_model.");
    let names: Vec<_> = file.tensors().map(|(name, info)| (name.to_owned(), info.shape.to_vec())).collect();
    let names: Vec<_> =
        names.into_iter().map(|(name, shape)| (format!("model.diffusion_model.{name}"), shape)).collect();
    let betas = TensorData::new(vec![0.1f32, 0.2, 0.4], [3]);
    let tensors = BTreeMap::from([
        ("betas".to_owned(), betas),
        ("v_pred".to_owned(), TensorData::new(vec![1f32], [1])),
    ]);
    let schedule = Checkpoint::from_bytes(tensors_to_bytes(tensors, &BTreeMap::new()).unwrap()).unwrap();
    let vae = without(&original("stable_diffusion_1"), |name| !name.starts_with("first_stage_model."));
    let file = Checkpoint::merge("joined", [outline(&names), vae, schedule]).unwrap();
    let Some(Contents::Pipeline(pipeline)) = layout::recognise(&file).unwrap() else { panic!("a pipeline") };
    let config: Value = serde_json::from_str(&pipeline.configs["scheduler"]).unwrap();
    assert_eq!(config["num_train_timesteps"], 3);
    assert_eq!(config["trained_betas"].as_array().unwrap().len(), 3);
    assert_eq!(config["prediction_type"], "v_prediction");
}

/// The upscaler of Stable Diffusion 2: classes, and attention to the prompt alone where the keys are as wide as it.
#[test]
fn the_upscaler_is_told_from_its_shapes() {
    let file = original("stable_diffusion_2");
    let unet = "model.diffusion_model.";
    let mut tensors: BTreeMap<_, _> =
        file.tensors().map(|(name, info)| (name.to_owned(), info.shape.to_vec())).collect();
    tensors.insert(format!("{unet}input_blocks.0.0.weight"), vec![8, 7, 3, 3]);
    tensors.insert(format!("{unet}label_emb.weight"), vec![11, 32]);
    for layer in ["to_k", "to_v"] {
        let name = format!("{unet}input_blocks.1.1.transformer_blocks.0.attn1.{layer}.weight");
        assert_eq!(tensors.insert(name, vec![8, 16]), Some(vec![8, 8]));
    }
    let file = outline(&tensors.into_iter().collect::<Vec<_>>());
    let Some(Contents::Pipeline(pipeline)) = layout::recognise(&file).unwrap() else { panic!("a pipeline") };
    assert_eq!(pipeline.class, "StableDiffusionUpscalePipeline");
    assert!(pipeline.configs.contains_key("low_res_scheduler"));
    let config: Value = serde_json::from_str(&pipeline.models["unet"].config).unwrap();
    assert_eq!(config["only_cross_attention"], json!([true, false]));
    assert_eq!(config["num_class_embeds"], 11);
    assert_eq!(config["attention_head_dim"], 8);
    assert!(pipeline.models["unet"].weights.info("class_embedding.weight").is_some());
    let config: Value = serde_json::from_str(&pipeline.models["vae"].config).unwrap();
    assert_eq!(config["scaling_factor"], 0.08333);
}

#[test]
fn models_of_another_noise_are_refused() {
    let xl = original("stable_diffusion_xl");
    let mut tensors: Vec<_> =
        xl.tensors().map(|(name, info)| (name.to_owned(), info.shape.to_vec())).collect();
    tensors.push(("edm_mean".to_owned(), vec![1, 4, 1, 1]));
    let error = layout::recognise(&outline(&tensors)).unwrap_err();
    assert!(matches!(&error, CheckpointError::Entry { tensor, .. } if tensor == "edm_mean"), "{error}");
}

#[test]
fn other_files_are_tensors() {
    let file = outline(&[("weight".to_owned(), vec![2, 2])]);
    assert!(layout::recognise(&file).unwrap().is_none());
    // A classifier of OpenAI's has no way up.
    let mut names = original("stable_diffusion_1").part("model.diffusion_model.");
    names = without(&names, |name| name.starts_with("output_blocks.") || name.contains("transformer_blocks"));
    assert!(layout::recognise(&names).unwrap().is_none());
}

/// Whatever shapes and names a file claims, the answer is a value or an error, soon, and takes no memory of its own.
#[rstest]
#[case("stable_diffusion_1")]
#[case("stable_diffusion_2")]
#[case("stable_diffusion_xl")]
#[case("stable_diffusion_3")]
#[case("stable_diffusion_35")]
#[case("control_1")]
#[case("autoencoder")]
fn claims_are_not_believed(#[case] case: &str) {
    let file = original(case);
    let renumbered = |name: &str, number: &str| {
        let parts = name.split('.').map(|part| if part.parse::<u8>().is_ok() { number } else { part });
        parts.collect::<Vec<_>>().join(".")
    };
    let names: Vec<_> = file.tensors().map(|(name, info)| (name.to_owned(), info.shape.len())).collect();
    // Tensors without elements may claim sides of any length.
    for side in [0, 1 << 40, usize::MAX] {
        let shape = |sides: usize| match sides {
            0 => vec![0],
            1 => vec![0],
            sides => std::iter::once(side).chain(vec![0; sides - 1]).collect(),
        };
        let turned = |sides: usize| shape(sides).into_iter().rev().collect::<Vec<_>>();
        let claims = |shape: &dyn Fn(usize) -> Vec<usize>| {
            names.iter().map(|(name, sides)| (name.clone(), shape(*sides))).collect::<Vec<_>>()
        };
        for claims in [claims(&shape), claims(&turned)] {
            let _ = layout::recognise(&claimed(&claims));
        }
    }
    for number in ["0", "1", "18446744073709551615", "4000000000"] {
        let extra = names.iter().map(|(name, _)| (renumbered(name, number), vec![0]));
        let mut all: BTreeMap<String, Vec<usize>> = extra.collect();
        let _ = layout::recognise(&claimed(&all.clone().into_iter().collect::<Vec<_>>()));
        all.extend(file.tensors().map(|(name, info)| {
            let mut shape = info.shape.to_vec();
            if let Some(last) = shape.last_mut() {
                *last = 0;
            }
            (name.to_owned(), shape)
        }));
        let _ = layout::recognise(&claimed(&all.into_iter().collect::<Vec<_>>()));
    }
}

/// A file of tensors without elements.
fn claimed(tensors: &[(String, Vec<usize>)]) -> Checkpoint {
    let entries: serde_json::Map<String, Value> = tensors
        .iter()
        .map(|(name, shape)| {
            let shape = if shape.is_empty() { vec![0] } else { shape.clone() };
            (name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, 0] }))
        })
        .collect();
    let header = Value::Object(entries).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    Checkpoint::from_bytes(bytes).unwrap()
}
