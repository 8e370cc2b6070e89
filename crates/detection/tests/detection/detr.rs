//! The network: timm's dilated ResNet, names of other files, and what padding and batches must not change.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use kiln_backend::testing::devices;
use kiln_checkpoint::{Checkpoint, Contents, StoredModel, module_tensors, tensors_to_bytes};
use kiln_detection::{ConfigError, Detr, DetrConfig, DetrSegmentation};

const SMALL: &str = r#""d_model": 16, "num_queries": 4, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28, "num_labels": 3"#;

fn tiny(more: &str) -> String {
    format!(
        r#"{{{SMALL}, {more} "backbone_config": {{"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 6, 8, 12],
            "depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage1", "stage2", "stage3", "stage4"]}}}}"#
    )
}

/// Numbers that depend on the tensor's name and the place in it alone, as tests/reference/detr.py makes them.
fn by_formula(name: &str, shape: &[usize]) -> TensorData {
    let seed =
        name.bytes().fold(2_166_136_261_u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    let fan_in: usize = shape.iter().skip(1).product();
    let scale = if shape.len() > 1 { (3.0 / fan_in as f64).sqrt() as f32 } else { 0.2 };
    let ones = ["running_var", "norm.weight", "bn1.weight", "bn2.weight", "downsample.1.weight"];
    let centre = if shape.len() == 1 && ones.iter().any(|end| name.ends_with(end)) { 1.0 } else { 0.0 };
    let values: Vec<f32> = (0..shape.iter().product::<usize>() as u32)
        .map(|place| {
            let mut x = place.wrapping_mul(2_654_435_761).wrapping_add(seed);
            x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
            x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
            x ^= x >> 16;
            centre + scale * ((f64::from(x) / 4_294_967_296.0 * 2.0 - 1.0) as f32)
        })
        .collect();
    TensorData::new(values, shape.to_vec())
}

/// The name that published files with timm's backbone have for a tensor.
fn published(name: &str) -> String {
    let Some(inner) = name.strip_prefix("model.backbone.conv_encoder.model.") else { return name.to_owned() };
    let fields: Vec<&str> = inner.split('.').collect();
    let inner = match fields[..] {
        ["embedder", "embedder", "convolution", last] => format!("conv1.{last}"),
        ["embedder", "embedder", "normalization", last] => format!("bn1.{last}"),
        ["encoder", "stages", stage, "layers", layer, "shortcut", kind, last] => {
            let kind = if kind == "convolution" { 0 } else { 1 };
            format!("layer{}.{layer}.downsample.{kind}.{last}", stage.parse::<usize>().unwrap() + 1)
        }
        ["encoder", "stages", stage, "layers", layer, "layer", number, kind, last] => {
            let kind = if kind == "convolution" { "conv" } else { "bn" };
            let (stage, number) = (stage.parse::<usize>().unwrap() + 1, number.parse::<usize>().unwrap() + 1);
            format!("layer{stage}.{layer}.{kind}{number}.{last}")
        }
        _ => panic!("{name}"),
    };
    format!("model.backbone.conv_encoder.model.{inner}")
}

fn stored(config: &str, tensors: BTreeMap<String, TensorData>) -> StoredModel {
    let bytes = tensors_to_bytes(tensors, &BTreeMap::new()).unwrap();
    StoredModel::new(config.to_owned(), Checkpoint::from_bytes(bytes).unwrap())
}

fn worst<const D: usize>(found: Tensor<D>, expected: &TensorData) -> f64 {
    let scale = expected.iter::<f64>().fold(0.0, |most: f64, value| most.max(value.abs()));
    let pairs = found.into_data();
    assert_eq!(pairs.shape(), expected.shape());
    pairs.iter::<f64>().zip(expected.iter::<f64>()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / scale
}

#[test]
fn a_dilated_resnet_of_timms_is_transformers() {
    let config =
        format!(r#"{{{SMALL}, "use_timm_backbone": true, "backbone": "resnet18", "dilation": true}}"#);
    let golden = Checkpoint::from_bytes(include_bytes!("golden/dilated.safetensors").to_vec()).unwrap();
    let empty = DetrConfig::from_json(&config).unwrap().init(&Device::flex()).unwrap();
    let tensors = kiln_checkpoint::parameters(&empty)
        .into_iter()
        .map(|parameter| {
            let name = published(&parameter.name);
            let data = by_formula(&name, &parameter.shape);
            (name, data)
        })
        .collect();
    let stored = stored(&config, tensors);
    for (backend, device) in devices() {
        let network: Detr = stored.load(&device).unwrap();
        let found = network.forward(Tensor::from_data(golden.tensor("pixel_values").unwrap(), &device), None);
        for (name, found) in [
            ("encoder_last_hidden_state", found.encoder_last_hidden_state),
            ("logits", found.predictions.logits),
            ("pred_boxes", found.predictions.boxes),
        ] {
            let error = worst(found, &golden.tensor(name).unwrap());
            assert!(error < 1e-4, "{backend}: {name} is off by {error:e}");
        }
    }
}

/// What transformers 5 calls its parameters within.
fn within(name: &str) -> String {
    let pieces = [
        ("backbone.conv_encoder.", "backbone."),
        ("out_proj", "o_proj"),
        (".fc1.", ".mlp.fc1."),
        (".fc2.", ".mlp.fc2."),
        ("_linear.", "_proj."),
        ("mask_head.lay1", "mask_head.conv1.conv"),
        ("mask_head.gn1", "mask_head.conv1.norm"),
        ("mask_head.lay2", "mask_head.conv2.conv"),
        ("mask_head.gn2", "mask_head.conv2.norm"),
        ("mask_head.adapter1", "mask_head.fpn_stages.0.fpn_adapter"),
        ("mask_head.lay3", "mask_head.fpn_stages.0.refine.conv"),
        ("mask_head.gn3", "mask_head.fpn_stages.0.refine.norm"),
        ("mask_head.adapter2", "mask_head.fpn_stages.1.fpn_adapter"),
        ("mask_head.lay4", "mask_head.fpn_stages.1.refine.conv"),
        ("mask_head.gn4", "mask_head.fpn_stages.1.refine.norm"),
        ("mask_head.adapter3", "mask_head.fpn_stages.2.fpn_adapter"),
        ("mask_head.lay5", "mask_head.fpn_stages.2.refine.conv"),
        ("mask_head.gn5", "mask_head.fpn_stages.2.refine.norm"),
        ("mask_head.out_lay", "mask_head.output_conv"),
    ];
    pieces.iter().fold(name.to_owned(), |name, (ours, theirs)| name.replace(ours, theirs))
}

#[test]
fn names_of_transformers_5_load() {
    let config = tiny(r#""encoder_attention_heads": 8, "position_embedding_type": "learned", "#).replacen(
        r#""encoder_attention_heads": 2,"#,
        "",
        1,
    );
    let device = Device::flex();
    let network = DetrConfig::from_json(&config).unwrap().init_segmentation(&device).unwrap();
    let tensors = module_tensors(&network).unwrap();
    let renamed: BTreeMap<_, _> = tensors.iter().map(|(name, data)| (within(name), data.clone())).collect();
    assert!(renamed.keys().filter(|name| !tensors.contains_key(*name)).count() > 80);
    let loaded: DetrSegmentation = stored(&config, renamed).load(&device).unwrap();
    let pictures = Tensor::<4>::random([1, 3, 40, 64], Distribution::Normal(0.0, 1.0), &device);
    let (a, b) = (network.forward(pictures.clone(), None), loaded.forward(pictures, None));
    a.masks.into_data().assert_eq(&b.masks.into_data(), true);
}

/// A picture alone, among others, and whatever lies in the padding beside it gives the same.
#[test]
fn batches_change_nothing() {
    for (backend, device) in devices() {
        let network = DetrConfig::from_json(&tiny("")).unwrap().init(&device).unwrap();
        let pictures = Tensor::<4>::random([3, 3, 45, 70], Distribution::Normal(0.0, 1.0), &device);
        let mask =
            Tensor::<3>::ones([3, 45, 70], &device).slice_fill([1..2, 30..45, 0..70], 0.0).greater_elem(0.5);
        let together = network.forward(pictures.clone(), Some(mask.clone())).predictions;
        for index in 0..3 {
            let alone = network
                .forward(pictures.clone().narrow(0, index, 1), Some(mask.clone().narrow(0, index, 1)))
                .predictions;
            let logits = together.logits.clone().narrow(0, index, 1).into_data();
            let boxes = together.boxes.clone().narrow(0, index, 1).into_data();
            assert!(worst(alone.logits, &logits) < 1e-5, "{backend}: logits of picture {index}");
            assert!(worst(alone.boxes, &boxes) < 1e-5, "{backend}: boxes of picture {index}");
        }
    }
}

#[test]
fn what_is_not_computed_is_named() {
    let field = |more: &str| match DetrConfig::from_json(&tiny(more)) {
        Err(ConfigError::Field { field, .. }) => field,
        Err(ConfigError::Inconsistent { field, .. }) => field.to_owned(),
        other => panic!("{more}: {other:?}"),
    };
    assert_eq!(field(r#""position_embedding_type": "spiral", "#), "position_embedding_type");
    assert_eq!(field(r#""activation_function": "maxout", "#), "activation_function");
    assert_eq!(field(r#""decoder_layerdrop": 0.1, "#), "decoder_layerdrop");
    assert_eq!(field(r#""eos_coefficient": -1, "#), "eos_coefficient");
    let other = tiny("").replace(r#""model_type": "resnet""#, r#""model_type": "swin""#);
    let error = DetrConfig::from_json(&other).unwrap_err();
    assert!(error.to_string().contains("backbone_config") && error.to_string().contains("swin"), "{error}");
    let error = DetrConfig::from_json(r#"{"backbone": "resnet50d"}"#).unwrap_err();
    assert!(error.to_string().contains("`backbone`"), "{error}");
}

/// Where the decoder looks is what transformers says with `output_attentions`.
#[test]
fn attention_is_transformers() {
    let golden = Checkpoint::from_bytes(include_bytes!("golden/attention.safetensors").to_vec()).unwrap();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    for case in ["detr_learned", "detr_padded", "detr_conditional"] {
        let Contents::Model(stored) = Contents::open(cases.join(case).join("checkpoint")).unwrap() else {
            panic!("{case} is no model");
        };
        let inputs = Checkpoint::open(cases.join(case).join("reference.safetensors")).unwrap();
        for (backend, device) in devices() {
            let network: Detr = stored.load(&device).unwrap();
            let pixels = inputs.tensor("input.pixel_values").unwrap().convert_dtype(DType::F32);
            let pixels = Tensor::<4>::from_data(pixels, &device);
            let [batch, _, height, width] = pixels.dims();
            let mask = inputs.tensor("input.pixel_mask").ok().map(|mask| {
                let mask: Vec<bool> = mask.iter::<u8>().map(|pixel| pixel > 0).collect();
                Tensor::from_data(TensorData::new(mask, [batch, height, width]), &device)
            });
            let (output, found) = network.forward_with_attention(pixels.clone(), mask.clone());
            let alone = network.forward(pixels, mask).predictions.logits;
            assert!(worst(output.predictions.logits, &alone.into_data()) < 1e-6, "{backend}: {case}");
            // [batch, queries, heads, rows, columns] to [batch, heads, queries, places].
            let [batch, queries, heads, rows, columns] = found.dims();
            let found = found.reshape([batch, queries, heads, rows * columns]).swap_dims(1, 2);
            let error = worst(found, &golden.tensor(case).unwrap());
            assert!(error < 1e-4, "{backend}: {case} is off by {error:e}");
        }
    }
}
