//! What other programs read of a model: `config.json` and `preprocessor_config.json`.

use anyhow::{Result, bail};
use kiln::detection::coco::Masks;
use kiln::detection::processor::TargetSize;
use kiln::detection::{DetrConfig, ModelType};
use serde_json::{Map, Value, json};

/// `config.json`, as transformers reads it.
pub fn description(config: &DetrConfig, masks: Masks) -> Result<Value> {
    let Value::Object(mut fields) = serde_json::to_value(config)? else { bail!("the network's config") };
    fields.retain(|_, value| !value.is_null());
    let family = match config.model_type {
        ModelType::Detr => "Detr",
        ModelType::ConditionalDetr => "ConditionalDetr",
    };
    let task = match masks {
        Masks::Left => "ForObjectDetection",
        Masks::Read => "ForSegmentation",
    };
    fields.insert("architectures".to_owned(), json!([format!("{family}{task}")]));
    if let Some(names) = &config.id2label {
        let numbers: Map<String, Value> =
            names.iter().map(|(id, name)| (name.clone(), json!(id.parse::<u64>().unwrap_or(0)))).collect();
        fields.insert("label2id".to_owned(), Value::Object(numbers));
    }
    Ok(Value::Object(fields))
}

fn longest(size: u32) -> u32 {
    (u64::from(size) * 1333 / 800) as u32
}

pub fn target_size(size: u32) -> TargetSize {
    TargetSize { shortest_edge: Some(size), longest_edge: Some(longest(size)), ..TargetSize::default() }
}

/// What pictures are made ready by, for other programs.
pub fn preprocessor(size: u32) -> Value {
    json!({
        "image_processor_type": "DetrImageProcessor",
        "do_resize": true,
        "size": {"shortest_edge": size, "longest_edge": longest(size)},
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_pad": true,
    })
}
