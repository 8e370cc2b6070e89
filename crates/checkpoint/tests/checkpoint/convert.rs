//! Folders written of what a path holds, read again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use kiln_checkpoint::{
    Checkpoint, CheckpointError, Contents, Dtype, FolderOptions, StoredDType, StoredModel, save_tensors,
    tensors_to_bytes, write_folder, write_folder_with,
};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::layouts::golden;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn assert_same_tensors(found: &Checkpoint, expected: &Checkpoint) {
    let kept = |(name, _): &(&str, _)| !name.ends_with("position_ids");
    assert_eq!(found.tensors().collect::<Vec<_>>(), expected.tensors().filter(kept).collect::<Vec<_>>());
    for (name, _) in found.tensors() {
        assert_eq!(found.tensor(name).unwrap(), expected.tensor(name).unwrap(), "{name}");
    }
}

/// A folder written from a file with a whole model holds the same networks, tensor by tensor, and the same configs.
#[rstest]
#[case("stable_diffusion_1", &["diffusers", "transformers"])]
#[case("stable_diffusion_2", &["diffusers", "transformers"])]
#[case("stable_diffusion_xl", &["diffusers", "transformers"])]
#[case("stable_diffusion_3", &["diffusers", "transformers"])]
fn a_whole_model_becomes_a_pipelines_folder(#[case] case: &str, #[case] libraries: &[&str]) {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out");
    let contents = Contents::open(golden(case).join("original.safetensors")).unwrap();
    write_folder(&contents, &out, None).unwrap();
    let (Contents::Pipeline(expected), Contents::Pipeline(found)) = (contents, Contents::open(&out).unwrap())
    else {
        panic!("pipelines");
    };
    assert_eq!(found.class, expected.class);
    assert_eq!(found.models.keys().collect::<Vec<_>>(), expected.models.keys().collect::<Vec<_>>());
    assert!(found.folders.contains_key("scheduler"));
    let index = json(&out.join("model_index.json"));
    for (part, model) in &found.models {
        assert_same_tensors(&model.weights, &expected.models[part].weights);
        assert_eq!(model.config.trim_end(), expected.models[part].config);
        assert!(libraries.contains(&index[part][0].as_str().unwrap()));
        assert_eq!(index[part][1].as_str(), model.class().unwrap().as_deref());
        assert_eq!(model.weights.metadata()["format"], "pt");
    }
    assert_eq!(index["tokenizer"], json!([null, null]), "the file holds none");
    let scheduler = json(&out.join("scheduler/scheduler_config.json"));
    assert_eq!(index["scheduler"], json!(["diffusers", scheduler["_class_name"]]));
    // Nothing unfinished is left beside it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

fn sample(class: &str, tensors: &[(&str, Vec<f32>)]) -> StoredModel {
    let tensors = tensors
        .iter()
        .map(|(name, values)| ((*name).to_owned(), TensorData::new(values.clone(), [values.len()])));
    let bytes = tensors_to_bytes(tensors.collect(), &BTreeMap::new()).unwrap();
    let config = if class.starts_with("CLIP") {
        json!({ "architectures": [class], "torch_dtype": "float32" })
    } else {
        json!({ "_class_name": class })
    };
    StoredModel::new(config.to_string(), Checkpoint::from_bytes(bytes).unwrap())
}

#[rstest]
#[case("AutoencoderKL", "diffusion_pytorch_model")]
#[case("CLIPTextModel", "model")]
fn shards_and_their_index(#[case] class: &str, #[case] stem: &str) {
    let folder = tempdir().unwrap();
    let values = |n: usize| (0..n).map(|i| i as f32).collect::<Vec<_>>();
    let model = sample(
        class,
        &[("a", values(3)), ("b", values(2)), ("c", values(9)), ("d", values(1)), ("e", values(4))],
    );
    let weights = model.weights.clone();
    let out = folder.path().join("sharded");
    let options = FolderOptions { dtype: None, shard_bytes: Some(20) };
    write_folder_with(&Contents::Model(model), &out, &options).unwrap();
    // a and b are 20 bytes; c alone is more than a file may hold; d and e are 20.
    let index = json(&out.join(format!("{stem}.safetensors.index.json")));
    let shard = |i| format!("{stem}-0000{i}-of-00003.safetensors");
    let map = json!({ "a": shard(1), "b": shard(1), "c": shard(2), "d": shard(3), "e": shard(3) });
    assert_eq!(index, json!({ "metadata": { "total_size": 76 }, "weight_map": map }));
    assert!(!out.join(format!("{stem}.safetensors")).exists());
    let Contents::Model(found) = Contents::open(&out).unwrap() else { panic!("a model") };
    assert_same_tensors(&found.weights, &weights);
}

#[rstest]
#[case(StoredDType::F16, Dtype::F16, "float16")]
#[case(StoredDType::Bf16, Dtype::BF16, "bfloat16")]
#[case(StoredDType::F32, Dtype::F32, "float32")]
fn floats_in_another_type(#[case] dtype: StoredDType, #[case] stored: Dtype, #[case] python: &str) {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out");
    let values = vec![0.5f32, -3.0, 1024.0, f32::INFINITY];
    let model = sample("CLIPTextModel", &[("weight", values.clone())]);
    write_folder(&Contents::Model(model), &out, Some(dtype)).unwrap();
    let Contents::Model(found) = Contents::open(&out).unwrap() else { panic!("a model") };
    assert_eq!(found.weights.info("weight").unwrap().dtype, stored);
    let read: Vec<f32> = found.weights.tensor("weight").unwrap().iter().collect();
    assert_eq!(read, values, "these have a place in each type");
    let config: Value = serde_json::from_str(&found.config).unwrap();
    assert_eq!(config["dtype"], python);
    assert!(config.get("torch_dtype").is_none(), "the older name would contradict it");
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out");
    let model = sample("AutoencoderKL", &[("fits", vec![1.0]), ("large", vec![1e6])]);
    let error = write_folder(&Contents::Model(model), &out, Some(StoredDType::F16)).unwrap_err();
    let CheckpointError::Overflow { file, tensor, .. } = &error else { panic!("{error}") };
    assert_eq!(tensor, "large");
    assert!(file.starts_with(out.to_str().unwrap()), "{file}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "not even a part");
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    let folder = tempdir().unwrap();
    let contents = Contents::Model(sample("AutoencoderKL", &[("weight", vec![1.0])]));
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("note"), "mine").unwrap();
    let file = full.join("note");
    for out in [&full, &file] {
        let error = write_folder(&contents, out, None).unwrap_err();
        assert!(matches!(error, CheckpointError::Folder { .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    // An empty folder is a place.
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    write_folder(&contents, &empty, None).unwrap();
    assert!(empty.join("config.json").is_file());
    // And a folder that is not there can't be written into.
    let error = write_folder(&contents, folder.path().join("no/such"), None).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
}

#[test]
fn tensors_without_a_layout_are_refused() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file.safetensors");
    let tensors = BTreeMap::from([("weight".to_owned(), TensorData::new(vec![1f32], [1]))]);
    save_tensors(tensors, &BTreeMap::new(), &file).unwrap();
    let out = folder.path().join("out");
    let error = write_folder(&Contents::open(&file).unwrap(), &out, None).unwrap_err();
    assert!(error.to_string().contains("file.safetensors"), "{error}");
    assert!(!out.exists());
}

/// From folder to folder, tokenizers and options of the pipeline come along; parts that the folder lacks are not claimed.
#[test]
fn a_pipelines_folder_in_another_type() {
    let folder = tempdir().unwrap();
    let (from, out) = (folder.path().join("from"), folder.path().join("out"));
    let contents = Contents::open(golden("stable_diffusion_1").join("original.safetensors")).unwrap();
    write_folder(&contents, &from, Some(StoredDType::F32)).unwrap();
    fs::create_dir(from.join("tokenizer")).unwrap();
    fs::write(from.join("tokenizer/merges.txt"), "#version: 0.2\n").unwrap();
    let mut index = json(&from.join("model_index.json"));
    index["tokenizer"] = json!(["transformers", "CLIPTokenizer"]);
    index["feature_extractor"] = json!(["transformers", "CLIPImageProcessor"]);
    index["requires_safety_checker"] = json!(true);
    fs::write(from.join("model_index.json"), index.to_string()).unwrap();

    write_folder(&Contents::open(&from).unwrap(), &out, Some(StoredDType::F16)).unwrap();
    assert_eq!(fs::read_to_string(out.join("tokenizer/merges.txt")).unwrap(), "#version: 0.2\n");
    let written = json(&out.join("model_index.json"));
    assert_eq!(written["tokenizer"], index["tokenizer"]);
    assert_eq!(written["requires_safety_checker"], true);
    assert_eq!(written["feature_extractor"], json!([null, null]), "it is not there");
    assert_eq!(json(&out.join("scheduler/scheduler_config.json"))["_class_name"], "PNDMScheduler");
    let (Contents::Pipeline(expected), Contents::Pipeline(found)) = (contents, Contents::open(&out).unwrap())
    else {
        panic!("pipelines");
    };
    // The file's numbers are halves: through f32 and back nothing is lost.
    for (part, model) in &found.models {
        assert_same_tensors(&model.weights, &expected.models[part].weights);
    }
}

#[test]
fn a_scheduler_alone() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("out");
    let config = r#"{"_class_name": "DDIMScheduler"}"#;
    write_folder(&Contents::Scheduler(config.to_owned()), &out, None).unwrap();
    let Contents::Scheduler(text) = Contents::open(&out).unwrap() else { panic!("a scheduler") };
    assert_eq!(text.trim_end(), config);
}
