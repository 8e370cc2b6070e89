//! DETR as its authors publish it (github.com/facebookresearch/detr), of boxes and of masks.
//!
//! ```text
//! backbone.0.body.layerS.L.convN, bnN        torchvision's ResNet       backbone.1.row_embed, col_embed   learned positions
//! transformer.encoder.layers.I.self_attn.in_proj_weight                 queries, keys and values in one
//! query_embed, input_proj, class_embed, bbox_embed.layers.I
//! detr. ahead of all these, bbox_attention., mask_head.                 with masks; the last two are called so here too
//! ```
//!
//! In no shape: heads (8 as published; the note `num_heads`), and whether the last stage dilates (DC5; the note `dilation`, `true`). The
//! decoder's norm does not act between its layers, which is `auxiliary_loss` false in transformers, though all were trained with it.

use serde_json::{Value, json};

use super::keys::Keys;
use super::table::{Row, Translation, bare_thirds, batch_norm, layer, weight};
use crate::{CheckpointError, StoredModel};

const WHOLE: &[Row] = &[
    weight("query_embed", "model.query_position_embeddings"),
    layer("input_proj", "model.input_projection"),
    layer("transformer.decoder.norm", "model.decoder.layernorm"),
    layer("class_embed", "class_labels_classifier"),
    layer("bbox_embed.layers.0", "bbox_predictor.layers.0"),
    layer("bbox_embed.layers.1", "bbox_predictor.layers.1"),
    layer("bbox_embed.layers.2", "bbox_predictor.layers.2"),
    weight("backbone.1.row_embed", "model.position_embedding.row_embeddings").if_there(),
    weight("backbone.1.col_embed", "model.position_embedding.column_embeddings").if_there(),
];

const SELF_ATTENTION: &[Row] = &[
    bare_thirds(
        "self_attn.in_proj_weight",
        ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
    ),
    bare_thirds(
        "self_attn.in_proj_bias",
        ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
    ),
    layer("self_attn.out_proj", "self_attn.out_proj"),
    layer("linear1", "fc1"),
    layer("linear2", "fc2"),
    layer("norm1", "self_attn_layer_norm"),
];

const ENCODER_LAYER: &[Row] = &[layer("norm2", "final_layer_norm")];

const DECODER_LAYER: &[Row] = &[
    bare_thirds(
        "multihead_attn.in_proj_weight",
        ["encoder_attn.q_proj.weight", "encoder_attn.k_proj.weight", "encoder_attn.v_proj.weight"],
    ),
    bare_thirds(
        "multihead_attn.in_proj_bias",
        ["encoder_attn.q_proj.bias", "encoder_attn.k_proj.bias", "encoder_attn.v_proj.bias"],
    ),
    layer("multihead_attn.out_proj", "encoder_attn.out_proj"),
    layer("norm2", "encoder_attn_layer_norm"),
    layer("norm3", "final_layer_norm"),
];

const STEM: &[Row] =
    &[weight("conv1", "embedder.embedder.convolution"), batch_norm("bn1", "embedder.embedder.normalization")];

const BASIC: &[Row] = &[
    weight("conv1", "layer.0.convolution"),
    batch_norm("bn1", "layer.0.normalization"),
    weight("conv2", "layer.1.convolution"),
    batch_norm("bn2", "layer.1.normalization"),
];

const THIRD: &[Row] = &[weight("conv3", "layer.2.convolution"), batch_norm("bn3", "layer.2.normalization")];

const SHORTCUT: &[Row] = &[
    weight("downsample.0", "shortcut.convolution").if_there(),
    batch_norm("downsample.1", "shortcut.normalization").if_there(),
];

/// Where the detector stands: alone, or in one that has masks too.
fn stem(keys: &Keys<'_>) -> &'static str {
    if keys.any("detr.transformer.") { "detr." } else { "" }
}

pub(super) fn is_one(keys: &Keys<'_>) -> bool {
    let stem = stem(keys);
    keys.has(&format!("{stem}query_embed.weight"))
        && keys.has(&format!("{stem}class_embed.weight"))
        && keys.has(&format!("{stem}input_proj.weight"))
        && keys.any(&format!("{stem}backbone.0.body."))
        && keys.any(&format!("{stem}transformer.decoder.layers.0.multihead_attn."))
}

pub(super) fn read(keys: &Keys<'_>) -> Result<StoredModel, CheckpointError> {
    let stem = stem(keys);
    let masks = keys.any("mask_head.");
    let mut names = Translation::new(keys);
    // Tables speak of the detector; what has none of its own is named in full.
    let within = |name: &str| format!("{stem}{name}");
    let block = |names: &mut Translation<'_>, from: &str, to: &str, table: &[Row]| {
        names.block(&within(from), &within(to), table);
    };
    let outer = stem.trim_end_matches('.');
    names.block(outer, outer, WHOLE);
    let encoder = keys.count(&within("transformer.encoder.layers"));
    for index in 0..encoder {
        let (from, to) =
            (format!("transformer.encoder.layers.{index}"), format!("model.encoder.layers.{index}"));
        block(&mut names, &from, &to, SELF_ATTENTION);
        block(&mut names, &from, &to, ENCODER_LAYER);
    }
    let decoder = keys.count(&within("transformer.decoder.layers"));
    for index in 0..decoder {
        let (from, to) =
            (format!("transformer.decoder.layers.{index}"), format!("model.decoder.layers.{index}"));
        block(&mut names, &from, &to, SELF_ATTENTION);
        block(&mut names, &from, &to, DECODER_LAYER);
    }
    let body = "backbone.0.body";
    let backbone = "model.backbone.conv_encoder.model";
    block(&mut names, body, backbone, STEM);
    let bottleneck = keys.has(&within(&format!("{body}.layer1.0.conv3.weight")));
    let (mut depths, mut widths) = (Vec::new(), Vec::new());
    for stage in 0..4 {
        let from = format!("{body}.layer{}", stage + 1);
        let depth = keys.count(&within(&from));
        for index in 0..depth {
            let (from, to) =
                (format!("{from}.{index}"), format!("{backbone}.encoder.stages.{stage}.layers.{index}"));
            block(&mut names, &from, &to, BASIC);
            if bottleneck {
                block(&mut names, &from, &to, THIRD);
            }
            block(&mut names, &from, &to, SHORTCUT);
        }
        let last = if bottleneck { "conv3" } else { "conv2" };
        widths.push(keys.side(&within(&format!("{from}.0.{last}.weight")), 0)?);
        depths.push(depth);
    }
    let [queries, width] = keys.sides(&within("query_embed.weight"))?;
    let classes = keys.side(&within("class_embed.weight"), 0)?.saturating_sub(1);
    let [stem_width, channels, ..] = keys.sides::<4>(&within(&format!("{body}.conv1.weight")))?;
    let heads = keys.note("num_heads").unwrap_or(8);
    let mut config = json!({
        "architectures": [if masks { "DetrForSegmentation" } else { "DetrForObjectDetection" }],
        "model_type": "detr",
        "num_channels": channels,
        "num_queries": queries,
        "d_model": width,
        "encoder_layers": encoder,
        "decoder_layers": decoder,
        "encoder_ffn_dim": layer_width(keys, &within("transformer.encoder.layers.0.linear1.weight"), encoder)?,
        "decoder_ffn_dim": keys.side(&within("transformer.decoder.layers.0.linear1.weight"), 0)?,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "auxiliary_loss": false,
        "position_embedding_type": if keys.has(&within("backbone.1.row_embed.weight")) { "learned" } else { "sine" },
        "num_labels": classes,
    });
    match keys.note::<bool>("dilation") {
        // Only timm's network dilates in transformers.
        Some(true) => {
            config["use_timm_backbone"] = true.into();
            config["dilation"] = true.into();
            config["backbone"] = published(bottleneck, &depths).into();
        }
        _ => {
            config["use_timm_backbone"] = false.into();
            config["backbone_config"] = json!({
                "model_type": "resnet",
                "layer_type": if bottleneck { "bottleneck" } else { "basic" },
                "num_channels": channels,
                "embedding_size": stem_width,
                "hidden_sizes": widths,
                "depths": depths,
                "out_features": outputs(masks),
            });
        }
    }
    Ok(StoredModel::new(format!("{config:#}"), names.finish()?))
}

/// Width of the feed-forward layers, of a network that may have none.
fn layer_width(keys: &Keys<'_>, name: &str, layers: usize) -> Result<usize, CheckpointError> {
    if layers == 0 { Ok(2048) } else { keys.side(name, 0) }
}

/// The stages that are looked at.
fn outputs(masks: bool) -> Value {
    if masks { json!(["stage1", "stage2", "stage3", "stage4"]) } else { json!(["stage4"]) }
}

/// timm's name of a ResNet.
fn published(bottleneck: bool, depths: &[usize]) -> &'static str {
    match (bottleneck, depths) {
        (false, [2, 2, 2, 2]) => "resnet18",
        (false, _) => "resnet34",
        (true, [3, 4, 23, 3]) => "resnet101",
        (true, [3, 8, 36, 3]) => "resnet152",
        (true, _) => "resnet50",
    }
}
