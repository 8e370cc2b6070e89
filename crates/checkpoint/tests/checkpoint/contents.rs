//! Folders and files, as they come from the Hub: which weights are taken, what is loaded from them, and what is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, TensorData};
use kiln_backend::testing;
use kiln_checkpoint::{
    Checkpoint, CheckpointError, ConfigError, Contents, OpenOptions, Pretrained, StoredModel, config,
    save_tensors,
};
use rstest::rstest;
use serde::Deserialize;

use crate::told::told;

/// One layer, of a width that its config says, once called `dense`.
#[derive(Module, Debug)]
struct Tiny {
    layer: Linear,
}

#[derive(Deserialize)]
#[serde(default)]
struct TinyConfig {
    width: usize,
}

impl Default for TinyConfig {
    fn default() -> Self {
        Self { width: 2 }
    }
}

impl Pretrained for Tiny {
    const CLASSES: &'static [&'static str] = &["Tiny"];

    fn from_config(text: &str, device: &Device) -> Result<Self, ConfigError> {
        let config: TinyConfig = config::read(text, Self::CLASSES)?;
        Ok(Self { layer: LinearConfig::new(config.width, 1).init(device) })
    }

    fn rename(name: &str) -> Option<String> {
        name.strip_prefix("dense.").map(|rest| format!("layer.{rest}"))
    }

    fn ignores(name: &str) -> bool {
        name.starts_with("decoder.")
    }
}

const CONFIG: &str = r#"{"_class_name": "Tiny", "width": 2}"#;

type Tensors = BTreeMap<String, TensorData>;

fn tensors<const N: usize>(tensors: [(&str, TensorData); N]) -> Tensors {
    tensors.into_iter().map(|(name, data)| (name.to_owned(), data)).collect()
}

/// The weights of a `Tiny`, recognisable by `first`.
fn weights(first: f32) -> Tensors {
    tensors([
        ("layer.weight", TensorData::from([[first, 2.0f32]])),
        ("layer.bias", TensorData::from([3.0f32])),
    ])
}

fn write(path: impl AsRef<Path>, tensors: Tensors) {
    save_tensors(tensors, &BTreeMap::new(), path).unwrap();
}

/// A folder with a config and these files of weights, each recognisable by its number.
fn folder(files: &[(&str, f32)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    for (name, first) in files {
        write(folder.path().join(name), weights(*first));
    }
    folder
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn model(path: &Path) -> StoredModel {
    match Contents::open(path).unwrap() {
        Contents::Model(model) => model,
        other => panic!("{other:?}"),
    }
}

fn first(tiny: &Tiny) -> f32 {
    tiny.layer.weight.val().into_data().iter::<f32>().next().unwrap()
}

#[test]
fn a_model_folder_loads_on_every_backend() {
    let folder = folder(&[("diffusion_pytorch_model.safetensors", 1.5)]);
    let stored = model(folder.path());
    assert_eq!(stored.class().unwrap().as_deref(), Some("Tiny"));
    assert!(stored.label().ends_with("diffusion_pytorch_model.safetensors"));
    for (backend, device) in testing::devices() {
        let tiny: Tiny = stored.load(&device).unwrap();
        assert_eq!(first(&tiny), 1.5, "{backend:?}");
    }
}

/// Which file is taken where there are several: safetensors before .bin, whole precision before a variant.
#[rstest]
#[case::diffusers(&[("diffusion_pytorch_model.safetensors", 1.0), ("diffusion_pytorch_model.fp16.safetensors", 2.0)], None)]
#[case::transformers(&[("model.safetensors", 1.0), ("model.fp16.safetensors", 2.0), ("pytorch_model.bin", 3.0)], None)]
#[case::by_content_and_not_by_name(&[("pytorch_model.bin", 1.0)], None)]
#[case::bin_before_a_variant(&[("pytorch_model.bin", 1.0), ("model.fp16.safetensors", 2.0)], None)]
#[case::any_variant_where_there_is_nothing_else(&[("diffusion_pytorch_model.non_ema.safetensors", 1.0)], None)]
#[case::half_precision_before_others(&[("model.fp16.safetensors", 1.0), ("model.abc.safetensors", 2.0)], None)]
#[case::asked_for(&[("model.safetensors", 2.0), ("model.fp16.safetensors", 1.0)], Some("fp16"))]
#[case::asked_for_as_bin(&[("model.safetensors", 2.0), ("pytorch_model.fp16.bin", 1.0)], Some("fp16"))]
fn the_right_file_is_taken(#[case] files: &[(&str, f32)], #[case] variant: Option<&str>) {
    let folder = folder(files);
    let options = OpenOptions { variant: variant.map(str::to_owned) };
    let Contents::Model(model) = Contents::open_with(folder.path(), &options).unwrap() else {
        panic!("no model")
    };
    assert_eq!(first(&model.load(&Device::flex()).unwrap()), 1.0, "{}", model.label());
}

#[test]
fn a_folder_without_weights_says_what_it_lacks() {
    let folder = folder(&[]);
    let error = Contents::open(folder.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("no weights"), "{error}");
    write(folder.path().join("model.safetensors"), weights(1.0));
    let options = OpenOptions { variant: Some("fp16".to_owned()) };
    let error = Contents::open_with(folder.path(), &options).unwrap_err();
    assert!(error.to_string().contains("no weights of variant `fp16`"), "{error}");
    let error = Contents::open(tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(error.to_string().contains("model_index.json"), "{error}");
}

/// PyTorch's own file beside a config; names of an older time; one file of a folder by its own path.
#[test]
fn other_files_of_a_model() {
    let folder = folder(&[]);
    std::fs::copy(golden("in_model.pt"), folder.path().join("pytorch_model.bin")).unwrap();
    let stored = model(folder.path());
    assert_eq!(stored.weights.info("weight").unwrap().shape, [1, 2]);
    assert!(matches!(stored.load::<Tiny>(&Device::flex()), Err(CheckpointError::Missing { .. })));

    let dense = tensors([
        ("dense.weight", TensorData::from([[4.0f32, 5.0]])),
        ("dense.bias", TensorData::from([6.0f32])),
    ]);
    let path = folder.path().join("other.safetensors");
    write(&path, dense);
    assert_eq!(first(&model(&path).load(&Device::flex()).unwrap()), 4.0);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(matches!(Contents::open(&path).unwrap(), Contents::Tensors(_)));
}

/// A folder of two shards, and an index with this text in place of the second's name.
fn sharded(second: &str) -> tempfile::TempDir {
    let folder = folder(&[]);
    let [weight, bias] =
        ["layer.weight", "layer.bias"].map(|name| tensors([(name, weights(7.0)[name].clone())]));
    write(folder.path().join("model-00001-of-00002.safetensors"), weight);
    write(folder.path().join("model-00002-of-00002.safetensors"), bias);
    let index = format!(
        r#"{{"metadata": {{"total_size": 12}}, "weight_map": {{
            "layer.weight": "model-00001-of-00002.safetensors", "layer.bias": "{second}"}}}}"#
    );
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    folder
}

#[test]
fn shards_are_one_model() {
    let folder = sharded("model-00002-of-00002.safetensors");
    let stored = model(folder.path());
    assert_eq!(first(&stored.load(&Device::flex()).unwrap()), 7.0);
    assert!(stored.label().ends_with("model.safetensors.index.json"));
    // As a variant, under both names that are in use.
    for name in ["model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"] {
        let index = folder.path().join("model.safetensors.index.json");
        std::fs::rename(index, folder.path().join(name)).unwrap();
        assert!(model(folder.path()).label().ends_with(name));
        std::fs::rename(folder.path().join(name), folder.path().join("model.safetensors.index.json"))
            .unwrap();
    }
}

#[rstest]
#[case::missing("model-00003-of-00002.safetensors", "which is not in the folder")]
#[case::above("../model-00002-of-00002.safetensors", "which lies outside the folder")]
#[case::above_by_a_detour("a/../../b.safetensors", "which lies outside the folder")]
#[case::absolute("/etc/hostname", "which lies outside the folder")]
#[case::nowhere("", "which lies outside the folder")]
#[case::the_folder(".", "which lies outside the folder")]
fn an_index_that_leads_astray_names_the_tensor(#[case] second: &str, #[case] reason: &str) {
    let folder = sharded(second);
    let error = Contents::open(folder.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Index { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("index.json") && text.contains("`layer.bias`") && text.contains(reason), "{error}");
}

#[rstest]
#[case::cut("{\"weight_map\": {\"a\"", "not an index of shards")]
#[case::no_map("{}", "weight_map")]
#[case::no_name("{\"weight_map\": {\"a\": 7}}", "not an index of shards")]
#[case::a_list("[]", "not an index of shards")]
fn an_index_that_is_none_is_told(#[case] text: &str, #[case] reason: &str) {
    let folder = folder(&[]);
    std::fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
    let error = Contents::open(folder.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Index { .. }), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn a_shard_without_its_tensor_is_named() {
    let folder = sharded("model-00001-of-00002.safetensors");
    let error = Contents::open(folder.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Missing { tensor, .. } if tensor == "layer.bias"), "{error}");
    assert!(error.to_string().contains("model-00001-of-00002.safetensors"), "{error}");
}

#[test]
fn a_tensor_in_two_shards_is_named() {
    let folder = sharded("model-00002-of-00002.safetensors");
    write(folder.path().join("model-00002-of-00002.safetensors"), weights(8.0));
    let error = Contents::open(folder.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Entry { tensor, .. } if tensor == "layer.weight"), "{error}");
    assert!(error.to_string().contains("model-00001-of-00002"), "{error}");
}

/// The Hub's cache is made of links to files elsewhere.
#[cfg(unix)]
#[test]
fn a_link_may_lead_anywhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = sharded("model-00002-of-00002.safetensors");
    let shard = folder.path().join("model-00002-of-00002.safetensors");
    std::fs::rename(&shard, elsewhere.path().join("blob")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("blob"), &shard).unwrap();
    assert_eq!(first(&model(folder.path()).load(&Device::flex()).unwrap()), 7.0);
}

fn pipeline(index: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model_index.json"), index).unwrap();
    for part in ["unet", "scheduler", "tokenizer"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
    }
    std::fs::write(folder.path().join("unet/config.json"), CONFIG).unwrap();
    write(folder.path().join("unet/diffusion_pytorch_model.safetensors"), weights(9.0));
    std::fs::write(
        folder.path().join("scheduler/scheduler_config.json"),
        r#"{"_class_name": "DDIMScheduler"}"#,
    )
    .unwrap();
    folder
}

#[test]
fn a_pipeline_is_its_parts() {
    let folder = pipeline(
        r#"{"_class_name": "TinyPipeline", "_diffusers_version": "0.42.1", "_name_or_path": "a/b",
            "unet": ["diffusers", "Tiny"], "scheduler": ["diffusers", "DDIMScheduler"],
            "tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": [null, null],
            "feature_extractor": ["transformers", "CLIPImageProcessor"], "requires_safety_checker": false}"#,
    );
    let (contents, told) = told(|| Contents::open(folder.path()).unwrap());
    let Contents::Pipeline(pipeline) = contents else { panic!("no pipeline") };
    assert_eq!(pipeline.class, "TinyPipeline");
    assert_eq!(pipeline.models.keys().collect::<Vec<_>>(), ["unet"]);
    assert_eq!(pipeline.folders.keys().collect::<Vec<_>>(), ["scheduler", "tokenizer"]);
    assert_eq!(first(&pipeline.models["unet"].load(&Device::flex()).unwrap()), 9.0);
    assert!(told.contains("`feature_extractor` is not in the folder"), "{told}");
    assert!(!told.contains("safety_checker"), "{told}");
    let Contents::Scheduler(scheduler) = Contents::open(folder.path().join("scheduler")).unwrap() else {
        panic!()
    };
    assert!(scheduler.contains("DDIMScheduler"));
}

/// diffusers writes several control networks as one part, and names the first folder only.
#[test]
fn several_networks_may_be_one_part() {
    let folder = pipeline(r#"{"_class_name": "A", "unet": ["diffusers", "MultiControlNetModel"]}"#);
    for (name, first) in [("unet_1", 5.0), ("unet_2", 6.0), ("unet_4", 7.0)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("config.json"), CONFIG).unwrap();
        write(folder.path().join(name).join("diffusion_pytorch_model.safetensors"), weights(first));
    }
    let Contents::Pipeline(several) = Contents::open(folder.path()).unwrap() else { panic!("no pipeline") };
    assert_eq!(several.models.keys().collect::<Vec<_>>(), ["unet", "unet_1", "unet_2"]);
    assert_eq!(first(&several.models["unet_2"].load(&Device::flex()).unwrap()), 6.0);
}

#[rstest]
#[case::no_class(r#"{"unet": ["diffusers", "Tiny"]}"#, "_class_name")]
#[case::a_part_above(r#"{"_class_name": "A", "../unet": ["diffusers", "Tiny"]}"#, "outside the folder")]
#[case::an_absolute_part(r#"{"_class_name": "A", "/etc": ["diffusers", "Tiny"]}"#, "outside the folder")]
#[case::no_json(r#"{"_class_name": "#, "not a JSON object")]
#[case::no_object(r"[]", "not a JSON object")]
fn a_pipeline_that_is_none_is_told(#[case] index: &str, #[case] reason: &str) {
    let folder = pipeline(index);
    let error = Contents::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::Index { .. } | CheckpointError::Config { .. }), "{error}");
    assert!(error.to_string().contains("model_index.json"), "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn a_config_that_describes_nothing_names_its_file_and_field() {
    for (text, reason) in [
        (r#"{"_class_name": "Tiny", "width": "wide"}"#, "`width`"),
        (r#"{"_class_name": "Large"}"#, "`Large`"),
    ] {
        let folder = folder(&[("model.safetensors", 1.0)]);
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let error = model(folder.path()).load::<Tiny>(&Device::flex()).unwrap_err();
        assert!(matches!(error, CheckpointError::Config { .. }), "{error}");
        assert!(error.to_string().contains("config.json") && error.to_string().contains(reason), "{error}");
    }
    let folder = folder(&[("model.safetensors", 1.0)]);
    std::fs::write(folder.path().join("config.json"), b"{\"a\": \"\xff\"}").unwrap();
    assert!(matches!(Contents::open(folder.path()), Err(CheckpointError::Io { .. })), "not UTF-8");
}

/// What formats are known to carry is passed over; anything else is told by file and name.
#[test]
fn surplus_tensors_are_told() {
    let one = || TensorData::from([1.0f32]);
    let mut surplus = weights(1.0);
    let known = [
        "text_model.embeddings.position_ids",
        "norm.num_batches_tracked",
        "model_ema.layerweight",
        "alphas_cumprod",
        "betas",
        "decoder.weight",
    ];
    surplus.extend(known.map(|name| (name.to_owned(), one())));
    surplus.insert("layer.extra".to_owned(), one());
    let folder = folder(&[]);
    write(folder.path().join("model.safetensors"), surplus);
    let (tiny, told) = told(|| model(folder.path()).load::<Tiny>(&Device::flex()).unwrap());
    assert_eq!(first(&tiny), 1.0);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("model.safetensors: tensor `layer.extra`"), "{told}");
}

/// Under its old name a linear layer may be a 1 x 1 convolution; under today's it is a tensor of another shape.
#[test]
fn an_old_convolution_is_a_linear_layer() {
    let folder = folder(&[]);
    let path = folder.path().join("model.safetensors");
    let weight = TensorData::new(vec![4.0f32, 5.0], [1, 2, 1, 1]);
    let named = |name: &str| {
        let mut all = weights(1.0);
        all.remove("layer.weight");
        all.insert(name.to_owned(), weight.clone());
        all
    };
    write(&path, named("dense.weight"));
    let tiny: Tiny = model(folder.path()).load(&Device::flex()).unwrap();
    assert_eq!(tiny.layer.weight.val().into_data().iter::<f32>().collect::<Vec<_>>(), [4.0, 5.0]);
    write(&path, named("layer.weight"));
    let error = model(folder.path()).load::<Tiny>(&Device::flex()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Shape { tensor, .. } if tensor == "layer.weight"), "{error}");
}

#[rstest]
#[case(f32::NAN)]
#[case(f32::NEG_INFINITY)]
fn weights_that_are_not_finite_are_told(#[case] value: f32) {
    let folder = folder(&[("model.safetensors", value)]);
    let (tiny, told) = told(|| model(folder.path()).load::<Tiny>(&Device::flex()).unwrap());
    assert!(!first(&tiny).is_finite());
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("model.safetensors: tensor `layer.weight` holds values that are not finite"),
        "{told}"
    );
}

/// A checkpoint by itself tells of surplus tensors, and does not judge them.
#[test]
fn load_into_lists_all_surplus() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut all = weights(1.0);
    all.insert("position_ids".to_owned(), TensorData::from([1.0f32]));
    write(&path, all);
    let tiny = Tiny::from_config("{}", &Device::flex()).unwrap();
    assert_eq!(Checkpoint::open(&path).unwrap().load_into(tiny).unwrap().surplus, ["position_ids"]);
}
