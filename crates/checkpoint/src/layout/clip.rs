//! CLIP's text encoders: by the names of transformers, which whole files keep under a prefix, and by OpenCLIP's.
//!
//! ```text
//! transformers   text_model.encoder.layers.I.self_attn.{q_proj, k_proj, v_proj, out_proj}, .mlp.{fc1, fc2}
//! OpenCLIP       transformer.resblocks.I.attn.{in_proj, out_proj}, .mlp.{c_fc, c_proj}
//! ```
//!
//! In no shape, and as published: heads of 64 channels, and the activation.

use std::collections::BTreeMap;

use burn::tensor::{DType, TensorData};
use serde_json::{Value, json};

use super::keys::Keys;
use super::table::{Row, Translation, bare, bare_thirds, layer, transposed, weight};
use crate::{Checkpoint, CheckpointError, Dtype, StoredModel, tensors_to_bytes};

const OPEN_CLIP: &[Row] = &[
    bare("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    weight("token_embedding", "text_model.embeddings.token_embedding"),
    layer("ln_final", "text_model.final_layer_norm"),
];

const OPEN_CLIP_PROJECTION: &[Row] = &[transposed("text_projection", "text_projection.weight")];

const OPEN_CLIP_BLOCK: &[Row] = &[
    layer("ln_1", "layer_norm1"),
    bare_thirds(
        "attn.in_proj_weight",
        ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"],
    ),
    bare_thirds(
        "attn.in_proj_bias",
        ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
    ),
    layer("attn.out_proj", "self_attn.out_proj"),
    layer("ln_2", "layer_norm2"),
    layer("mlp.c_fc", "mlp.fc1"),
    layer("mlp.c_proj", "mlp.fc2"),
];

/// The activation of an encoder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// OpenAI's CLIP.
    QuickGelu,
    /// OpenCLIP.
    Gelu,
}

/// Whether an encoder's pooled state is projected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pooled {
    /// `CLIPTextModel`.
    AsItIs,
    /// `CLIPTextModelWithProjection`.
    Projected,
}

/// Which of an OpenCLIP encoder's layers are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layers {
    /// All: the prompt's states are taken where the pipeline says (Stable Diffusion XL).
    All,
    /// All but the last, so that the states ahead of it are the last ones (Stable Diffusion 2). Files that were written from
    /// diffusers' folders lack it, and the projection too.
    ButLast,
}

/// An encoder by transformers' names.
pub(super) fn read(keys: &Keys, act: Act, pooled: Pooled) -> Result<StoredModel, CheckpointError> {
    // Some files were saved from the inner module.
    let stem = if keys.any("text_model.") { "text_model." } else { "" };
    let mut weights = keys.file().part(keys.prefix());
    let tokens = keys.sides(&format!("{stem}embeddings.token_embedding.weight"))?;
    let mut projection = tokens[1];
    if pooled == Pooled::Projected {
        match keys.shape("text_projection.weight") {
            Some(shape) => projection = shape.first().copied().unwrap_or(projection),
            None => {
                // A matrix of this size is in the file: what is made here is no larger than what was read.
                let name = format!("{stem}encoder.layers.0.self_attn.q_proj.weight");
                let found: [usize; 2] = keys.sides(&name)?;
                if found != [tokens[1]; 2] {
                    return Err(keys.wrong(&name, format!("has shape {found:?}, for {} channels", tokens[1])));
                }
                weights = with_identity(&weights, tokens[1])?;
            }
        }
    }
    let config = config(
        keys,
        &Outline {
            tokens,
            positions: keys.side(&format!("{stem}embeddings.position_embedding.weight"), 0)?,
            layers: keys.count(&format!("{stem}encoder.layers")),
            intermediate: keys.side(&format!("{stem}encoder.layers.0.mlp.fc1.weight"), 0)?,
            projection,
        },
        act,
        pooled,
    );
    Ok(StoredModel::new(config, weights))
}

/// An encoder by OpenCLIP's names.
pub(super) fn read_open(keys: &Keys, pooled: Pooled, used: Layers) -> Result<StoredModel, CheckpointError> {
    let all = keys.count("transformer.resblocks");
    let whole = keys.has("text_projection") || all == 24;
    let layers = if used == Layers::ButLast && whole { all.saturating_sub(1) } else { all };
    let mut names = Translation::new(keys);
    names.block("", "", OPEN_CLIP);
    for layer in 0..layers {
        let (from, to) =
            (format!("transformer.resblocks.{layer}"), format!("text_model.encoder.layers.{layer}"));
        names.block(&from, &to, OPEN_CLIP_BLOCK);
    }
    if layers < all {
        names.skip(&format!("transformer.resblocks.{layers}."));
    }
    let tokens = keys.sides("token_embedding.weight")?;
    let mut projection = tokens[1];
    if pooled == Pooled::Projected {
        names.block("", "", OPEN_CLIP_PROJECTION);
        projection = keys.side("text_projection", 1)?;
    } else {
        names.skip("text_projection");
    }
    // The temperature of its training, and the mask of its attention.
    names.skip("logit_scale");
    names.skip("attn_mask");
    let weights = names.finish()?;
    let outline = Outline {
        tokens,
        positions: keys.side("positional_embedding", 0)?,
        layers,
        intermediate: keys.side("transformer.resblocks.0.mlp.c_fc.weight", 0)?,
        projection,
    };
    Ok(StoredModel::new(config(keys, &outline, Act::Gelu, pooled), weights))
}

/// What the shapes tell of an encoder.
struct Outline {
    /// Rows and columns of the table of tokens.
    tokens: [usize; 2],
    positions: usize,
    layers: usize,
    intermediate: usize,
    projection: usize,
}

fn config(keys: &Keys, outline: &Outline, act: Act, pooled: Pooled) -> String {
    let [vocabulary, channels] = outline.tokens;
    let whole = |width: &usize| *width > 0 && channels.is_multiple_of(*width);
    let width =
        keys.note("num_head_channels").into_iter().chain([64, 8]).find(whole).unwrap_or(channels.max(1));
    let class = match pooled {
        Pooled::AsItIs => "CLIPTextModel",
        Pooled::Projected => "CLIPTextModelWithProjection",
    };
    let config: Value = json!({
        "architectures": [class],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": channels,
        "intermediate_size": outline.intermediate,
        "projection_dim": outline.projection,
        "num_hidden_layers": outline.layers,
        "num_attention_heads": channels / width,
        "max_position_embeddings": outline.positions,
        "hidden_act": match act { Act::QuickGelu => "quick_gelu", Act::Gelu => "gelu" },
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        // As published: it stands for "the largest token of the prompt", which the end of text is.
        "eos_token_id": 2,
        "pad_token_id": 1,
    });
    format!("{config:#}")
}

/// The first encoder of Stable Diffusion 3 comes without a projection where there is none to do.
fn with_identity(weights: &Checkpoint, channels: usize) -> Result<Checkpoint, CheckpointError> {
    let half = weights.tensors().any(|(name, info)| name.ends_with("weight") && info.dtype == Dtype::F16);
    let data: Vec<f32> =
        (0..channels * channels).map(|i| f32::from(u8::from(i % (channels + 1) == 0))).collect();
    let identity = TensorData::new(data, [channels, channels]);
    let identity = if half { identity.convert_dtype(DType::F16) } else { identity };
    let tensors = BTreeMap::from([("text_projection.weight".to_owned(), identity)]);
    let identity = Checkpoint::from_bytes(tensors_to_bytes(tensors, &BTreeMap::new())?)?;
    Checkpoint::merge(weights.label().to_owned(), [weights.clone(), identity])
}
