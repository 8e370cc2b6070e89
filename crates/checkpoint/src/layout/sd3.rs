//! The transformer of Stable Diffusion 3 and 3.5 by its authors' names.
//!
//! ```text
//! joint_blocks.I.x_block         the picture's half of a block: attn.qkv, attn2.qkv (3.5 medium), adaLN_modulation.1, mlp
//! joint_blocks.I.context_block   the prompt's; in the last block only what attention needs
//! final_layer                    its modulation gives (shift, scale), where diffusers has (scale, shift)
//! ```

use std::ops::Range;

use serde_json::json;

use super::keys::Keys;
use super::table::{Row, Translation, bare, layer, swapped, thirds, weight};
use crate::{CheckpointError, StoredModel};

const STEM_AND_HEAD: &[Row] = &[
    bare("pos_embed", "pos_embed.pos_embed"),
    layer("x_embedder.proj", "pos_embed.proj"),
    layer("t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    layer("t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    layer("y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"),
    layer("y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"),
    layer("context_embedder", "context_embedder"),
    swapped("final_layer.adaLN_modulation.1", "norm_out.linear"),
    layer("final_layer.linear", "proj_out"),
];

const BLOCK: &[Row] = &[
    layer("x_block.adaLN_modulation.1", "norm1.linear"),
    thirds("x_block.attn.qkv", ["attn.to_q", "attn.to_k", "attn.to_v"]),
    layer("x_block.attn.proj", "attn.to_out.0"),
    layer("x_block.mlp.fc1", "ff.net.0.proj"),
    layer("x_block.mlp.fc2", "ff.net.2"),
    thirds("context_block.attn.qkv", ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
];

/// The norms of queries and keys: all of them, or none.
const QK_NORM: &[Row] = &[
    weight("x_block.attn.ln_q", "attn.norm_q"),
    weight("x_block.attn.ln_k", "attn.norm_k"),
    weight("context_block.attn.ln_q", "attn.norm_added_q"),
    weight("context_block.attn.ln_k", "attn.norm_added_k"),
];

/// A second attention, of the picture to itself.
const DUAL: &[Row] = &[
    thirds("x_block.attn2.qkv", ["attn2.to_q", "attn2.to_k", "attn2.to_v"]),
    layer("x_block.attn2.proj", "attn2.to_out.0"),
];

const DUAL_QK_NORM: &[Row] =
    &[weight("x_block.attn2.ln_q", "attn2.norm_q"), weight("x_block.attn2.ln_k", "attn2.norm_k")];

/// What the prompt's half has but in the last block.
const CONTEXT: &[Row] = &[
    layer("context_block.adaLN_modulation.1", "norm1_context.linear"),
    layer("context_block.attn.proj", "attn.to_add_out"),
    layer("context_block.mlp.fc1", "ff_context.net.0.proj"),
    layer("context_block.mlp.fc2", "ff_context.net.2"),
];

const LAST_CONTEXT: &[Row] = &[swapped("context_block.adaLN_modulation.1", "norm1_context.linear")];

/// The layers here that the layer of this name there is, where underscores stand for points, and which of its `rows` rows each has; empty for all,
/// and no layers for a name that is none. `is_block` says which blocks there are.
pub(crate) fn layers(
    name: &str,
    rows: usize,
    is_block: impl Fn(usize) -> bool,
) -> Vec<(String, Vec<Range<usize>>)> {
    let block = name.strip_prefix("joint_blocks_").and_then(|rest| {
        let (block, layer) = rest.split_once('_')?;
        Some((block.parse::<usize>().ok()?, layer))
    });
    let Some((block, layer)) = block else { return found(&[STEM_AND_HEAD], name, rows, "") };
    let context = if is_block(block.saturating_add(1)) { CONTEXT } else { LAST_CONTEXT };
    found(&[BLOCK, DUAL, context], layer, rows, &format!("transformer_blocks_{block}_"))
}

fn found(tables: &[&[Row]], name: &str, rows: usize, stem: &str) -> Vec<(String, Vec<Range<usize>>)> {
    let row = tables.iter().copied().flatten().find(|row| row.from().replace('.', "_") == name);
    let layers = row.into_iter().flat_map(|row| row.to(rows));
    layers.map(|(layer, rows)| (format!("{stem}{}", layer.replace('.', "_")), rows)).collect()
}

/// The transformer under `keys`.
pub(super) fn read(keys: &Keys) -> Result<StoredModel, CheckpointError> {
    let blocks = keys.count("joint_blocks");
    let normed = keys.has("joint_blocks.0.x_block.attn.ln_q.weight");
    let mut dual = Vec::new();
    let mut names = Translation::new(keys);
    names.block("", "", STEM_AND_HEAD);
    for block in 0..blocks {
        let (from, to) = (format!("joint_blocks.{block}"), format!("transformer_blocks.{block}"));
        names.block(&from, &to, BLOCK);
        names.block(&from, &to, if block + 1 == blocks { LAST_CONTEXT } else { CONTEXT });
        if normed {
            names.block(&from, &to, QK_NORM);
        }
        if keys.any(&format!("{from}.x_block.attn2.")) {
            dual.push(block);
            names.block(&from, &to, DUAL);
            if normed {
                names.block(&from, &to, DUAL_QK_NORM);
            }
        }
    }
    let weights = names.finish()?;

    let [channels, in_channels, patch, _] = keys.sides("x_embedder.proj.weight")?;
    let [_, positions, _] = keys.sides("pos_embed")?;
    let side = positions.isqrt();
    if side * side != positions {
        return Err(keys.wrong("pos_embed", format!("has {positions} positions, no square")));
    }
    let outputs = keys.side("final_layer.linear.weight", 0)?;
    let area = patch.saturating_mul(patch).max(1);
    let head = head_channels(keys, channels)?;
    let [_, joint] = keys.sides("context_embedder.weight")?;
    let [_, pooled] = keys.sides("y_embedder.mlp.0.weight")?;
    let config = json!({
        "_class_name": "SD3Transformer2DModel",
        // A table of positions is cut to the sample, whatever this says.
        "sample_size": if side >= 96 { 128 } else { side.saturating_mul(patch) },
        "patch_size": patch,
        "in_channels": in_channels,
        "out_channels": outputs / area,
        "num_layers": blocks,
        "attention_head_dim": head,
        "num_attention_heads": channels / head,
        "joint_attention_dim": joint,
        "caption_projection_dim": keys.side("context_embedder.weight", 0)?,
        "pooled_projection_dim": pooled,
        "pos_embed_max_size": side,
        "dual_attention_layers": dual,
        "qk_norm": normed.then_some("rms_norm"),
    });
    Ok(StoredModel::new(format!("{config:#}"), weights))
}

/// Channels of a head: those of the norm of the queries if there is one; else 64 as in every published network, or 8 where
/// that does not divide the width.
fn head_channels(keys: &Keys, channels: usize) -> Result<usize, CheckpointError> {
    let name = "joint_blocks.0.x_block.attn.ln_q.weight";
    if keys.has(name) {
        let [width] = keys.sides(name)?;
        if width == 0 || !channels.is_multiple_of(width) {
            return Err(keys.wrong(name, format!("has {width} channels, which do not divide {channels}")));
        }
        return Ok(width);
    }
    let whole = |width: &usize| *width > 0 && channels.is_multiple_of(*width);
    Ok(keys.note("num_head_channels").into_iter().chain([64, 8]).find(whole).unwrap_or(channels.max(1)))
}
