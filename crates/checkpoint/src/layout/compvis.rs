//! The way down of CompVis's U-Net (latent diffusion, Stable Diffusion 1, 2, XL), which its control networks copy.
//!
//! ```text
//! input_blocks.0                     the first convolution
//! input_blocks.I.0                   a residual block, or the convolution (`op`) that ends a level
//! input_blocks.I.1                   a transformer over pixels, where the level has them
//! middle_block.{0, 1, 2}             residual block, transformer, residual block
//! ```
//!
//! How many there are, how wide and where the transformers are is read off the keys; two things are in no shape, and are as
//! published: the number of heads, and the groups of the norms.

use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::table::{Row, Translation, layer, weight};
use crate::CheckpointError;

/// A residual block: `ResBlock` there, `ResnetBlock2D` here.
pub(super) const RESNET: &[Row] = &[
    layer("in_layers.0", "norm1"),
    layer("in_layers.2", "conv1"),
    layer("emb_layers.1", "time_emb_proj"),
    layer("out_layers.0", "norm2"),
    layer("out_layers.3", "conv2"),
    layer("skip_connection", "conv_shortcut").if_there(),
];

/// Ahead of and behind the blocks of a transformer over pixels: `SpatialTransformer`, `Transformer2DModel`.
const TRANSFORMER: &[Row] =
    &[layer("norm", "norm"), layer("proj_in", "proj_in"), layer("proj_out", "proj_out")];

/// One of its blocks; the names are the same.
const TRANSFORMER_BLOCK: &[Row] = &[
    layer("norm1", "norm1"),
    weight("attn1.to_q", "attn1.to_q"),
    weight("attn1.to_k", "attn1.to_k"),
    weight("attn1.to_v", "attn1.to_v"),
    layer("attn1.to_out.0", "attn1.to_out.0"),
    layer("norm2", "norm2"),
    weight("attn2.to_q", "attn2.to_q"),
    weight("attn2.to_k", "attn2.to_k"),
    weight("attn2.to_v", "attn2.to_v"),
    layer("attn2.to_out.0", "attn2.to_out.0"),
    layer("norm3", "norm3"),
    layer("ff.net.0.proj", "ff.net.0.proj"),
    layer("ff.net.2", "ff.net.2"),
];

const DOWNSAMPLE: &[Row] = &[layer("op", "conv")];

/// Ahead of the levels.
const STEM: &[Row] = &[
    layer("time_embed.0", "time_embedding.linear_1"),
    layer("time_embed.2", "time_embedding.linear_2"),
    layer("input_blocks.0.0", "conv_in"),
];

/// A class from a table (the upscaler's noise level).
const CLASSES: &[Row] = &[weight("label_emb", "class_embedding")];
/// A vector that is a class (unCLIP's noisy image embedding).
const PROJECTED_CLASS: &[Row] =
    &[layer("label_emb.0.0", "class_embedding.linear_1"), layer("label_emb.0.2", "class_embedding.linear_2")];
/// Stable Diffusion XL's pooled prompt, sizes and crops.
const ADDED_TEXT: &[Row] =
    &[layer("label_emb.0.0", "add_embedding.linear_1"), layer("label_emb.0.2", "add_embedding.linear_2")];

/// What a label is, which keys alone do not tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Label {
    /// A class.
    Class,
    /// Stable Diffusion XL's addition; the sinusoidal embedding of each size has so many channels.
    TextTime { channels: usize },
}

/// Blocks of one resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) channels: usize,
    /// Residual blocks.
    pub(super) layers: usize,
    /// Transformer blocks after each; 0 where there is none.
    pub(super) depth: usize,
    /// Whether their first attention is to the prompt too (the upscaler), told by its keys' width.
    only_cross: bool,
}

/// What is on the way down and in the middle.
pub(super) struct Encoder {
    in_channels: usize,
    pub(super) levels: Vec<Level>,
    middle_depth: usize,
    context: usize,
    linear: bool,
}

impl Encoder {
    pub(super) fn read(keys: &Keys) -> Result<Self, CheckpointError> {
        let [_, in_channels, ..] = keys.sides::<4>("input_blocks.0.0.weight")?;
        let mut levels = Vec::new();
        let mut level: Option<Level> = None;
        for index in 1..keys.count("input_blocks") {
            let at = format!("input_blocks.{index}");
            if keys.has(&format!("{at}.0.op.weight")) {
                let whole = level.take().ok_or_else(|| keys.wrong(&format!("{at}.0.op.weight"), EMPTY))?;
                levels.push(whole);
                continue;
            }
            let name = format!("{at}.0.in_layers.2.weight");
            let (channels, depth) = (keys.side(&name, 0)?, depth(keys, &format!("{at}.1"))?);
            let attended = keys.shape(&format!("{at}.1.transformer_blocks.0.attn1.to_k.weight"));
            let only_cross = attended.and_then(|shape| shape.get(1)).is_some_and(|&width| width != channels);
            match &mut level {
                None => level = Some(Level { channels, layers: 1, depth, only_cross }),
                Some(level) if level.channels == channels && level.depth == depth => level.layers += 1,
                Some(level) => {
                    let reason = format!(
                        "{channels} channels and {depth} transformer blocks in a level that began with {} and {}",
                        level.channels, level.depth
                    );
                    return Err(keys.wrong(&name, reason));
                }
            }
        }
        levels.push(level.ok_or_else(|| keys.missing("input_blocks.1.0.in_layers.2.weight"))?);
        let middle = "middle_block.1";
        let middle_depth = depth(keys, middle)?;
        if middle_depth == 0 {
            return Err(keys.missing("middle_block.1.transformer_blocks.0.norm1.weight"));
        }
        let last = levels[levels.len() - 1];
        if last.depth != 0 && last.depth != middle_depth {
            let reason =
                format!("{middle_depth} blocks in the middle, {} in the level before it", last.depth);
            return Err(keys.wrong("middle_block.1.proj_in.weight", reason));
        }
        let [_, context] = keys.sides("middle_block.1.transformer_blocks.0.attn2.to_k.weight")?;
        let linear = keys.shape("middle_block.1.proj_in.weight").is_some_and(|shape| shape.len() == 2);
        Ok(Self { in_channels, levels, middle_depth, context, linear })
    }

    /// Channels of the sample.
    pub(super) fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of the prompt's states.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// Whether the transformers' first and last layers are linear: those of Stable Diffusion 2 and XL.
    pub(super) fn linear(&self) -> bool {
        self.linear
    }

    /// The fields of a config that the two classes share.
    pub(super) fn config(&self, keys: &Keys, label: Label) -> Result<Map<String, Value>, CheckpointError> {
        let widths: Vec<_> = self.levels.iter().map(|level| level.channels).collect();
        let layers: Vec<_> = self.levels.iter().map(|level| level.layers).collect();
        let down: Vec<_> = self
            .levels
            .iter()
            .map(|level| if level.depth == 0 { "DownBlock2D" } else { "CrossAttnDownBlock2D" })
            .collect();
        let fields = json!({
            "in_channels": self.in_channels,
            "flip_sin_to_cos": true,
            "freq_shift": 0,
            "down_block_types": down,
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "only_cross_attention": self.only_cross(),
            "block_out_channels": widths,
            "layers_per_block": one_or_each(&layers),
            "downsample_padding": 1,
            "mid_block_scale_factor": 1,
            "act_fn": "silu",
            "norm_num_groups": groups(keys, &widths),
            "norm_eps": 1e-5,
            "cross_attention_dim": self.context,
            "transformer_layers_per_block": self.depths(),
            "attention_head_dim": self.heads(keys, &widths),
            "use_linear_projection": self.linear,
            "upcast_attention": false,
            "resnet_time_scale_shift": "default",
            "class_embed_type": null,
            "num_class_embeds": null,
            "addition_embed_type": null,
            "addition_time_embed_dim": null,
            "projection_class_embeddings_input_dim": null,
        });
        let Value::Object(mut fields) = fields else { return Ok(Map::new()) };
        if let Some(shape) = keys.shape("label_emb.weight") {
            fields["num_class_embeds"] = json!(shape.first());
        } else if keys.has("label_emb.0.0.weight") {
            let [_, width] = keys.sides("label_emb.0.0.weight")?;
            fields["projection_class_embeddings_input_dim"] = json!(width);
            match label {
                Label::Class => fields["class_embed_type"] = json!("projection"),
                Label::TextTime { channels } => {
                    fields["addition_embed_type"] = json!("text_time");
                    fields["addition_time_embed_dim"] = json!(channels);
                }
            }
        }
        Ok(fields)
    }

    /// Stable Diffusion 1 has 8 heads at every level, 2 and XL (whose projections are linear) heads of 64 channels, 2's upscaler
    /// (which has classes) 8 again. Where 64 does not divide the widths, two heads at the outermost level give their width.
    fn heads(&self, keys: &Keys, widths: &[usize]) -> Value {
        if !self.linear || keys.has("label_emb.weight") {
            return json!(keys.note("num_heads").unwrap_or(8));
        }
        let whole = |width: usize| width > 0 && widths.iter().all(|channels| channels.is_multiple_of(width));
        let width = keys
            .note("num_head_channels")
            .filter(|&width| whole(width))
            .unwrap_or_else(|| if whole(64) { 64 } else { (widths[0] / 2).max(1) });
        json!(widths.iter().map(|channels| (channels / width).max(1)).collect::<Vec<_>>())
    }

    fn only_cross(&self) -> Value {
        if self.levels.iter().any(|level| level.only_cross) {
            return json!(self.levels.iter().map(|level| level.only_cross).collect::<Vec<_>>());
        }
        json!(false)
    }

    /// Transformer blocks of each level, in which the middle counts with the last.
    fn depths(&self) -> Value {
        let middle = self.middle_depth;
        if self.levels.iter().all(|level| level.depth == 0 || level.depth == middle) {
            return json!(middle);
        }
        let last = self.levels.len() - 1;
        let depth = |(i, level): (usize, &Level)| if i == last { middle } else { level.depth.max(1) };
        json!(self.levels.iter().enumerate().map(depth).collect::<Vec<_>>())
    }

    /// The tables of the way down and the middle.
    pub(super) fn translate(&self, names: &mut Translation, keys: &Keys, label: Label) {
        names.block("", "", STEM);
        if keys.has("label_emb.weight") {
            names.block("", "", CLASSES);
        } else if keys.any("label_emb.") {
            names.block("", "", if label == Label::Class { PROJECTED_CLASS } else { ADDED_TEXT });
        }
        let mut index = 1;
        for (i, level) in self.levels.iter().enumerate() {
            for layer in 0..level.layers {
                let from = format!("input_blocks.{index}");
                names.block(&format!("{from}.0"), &format!("down_blocks.{i}.resnets.{layer}"), RESNET);
                let to = format!("down_blocks.{i}.attentions.{layer}");
                transformer(names, &format!("{from}.1"), &to, level.depth);
                index += 1;
            }
            if i + 1 < self.levels.len() {
                let (from, to) =
                    (format!("input_blocks.{index}.0"), format!("down_blocks.{i}.downsamplers.0"));
                names.block(&from, &to, DOWNSAMPLE);
                index += 1;
            }
        }
        names.block("middle_block.0", "mid_block.resnets.0", RESNET);
        transformer(names, "middle_block.1", "mid_block.attentions.0", self.middle_depth);
        names.block("middle_block.2", "mid_block.resnets.1", RESNET);
    }
}

const EMPTY: &str = "ends a level that has no residual block";

/// A transformer over pixels of `depth` blocks, if any.
pub(super) fn transformer(names: &mut Translation, from: &str, to: &str, depth: usize) {
    if depth == 0 {
        return;
    }
    names.block(from, to, TRANSFORMER);
    for block in 0..depth {
        let (from, to) =
            (format!("{from}.transformer_blocks.{block}"), format!("{to}.transformer_blocks.{block}"));
        names.block(&from, &to, TRANSFORMER_BLOCK);
    }
}

/// The transformer blocks at `at`; 0 where there is no transformer.
fn depth(keys: &Keys, at: &str) -> Result<usize, CheckpointError> {
    let depth = keys.count(&format!("{at}.transformer_blocks"));
    if depth == 0 && keys.has(&format!("{at}.qkv.weight")) {
        let reason = "is attention without a prompt, which Stable Diffusion's networks don't have";
        return Err(keys.wrong(&format!("{at}.qkv.weight"), reason));
    }
    Ok(depth)
}

/// The groups of the norms, which no shape tells: 32 in every published network. Narrower networks than those can have are
/// taken to have 8, or as many as divide all widths; a note `norm_num_groups` in the file settles it.
pub(super) fn groups(keys: &Keys, widths: &[usize]) -> usize {
    let whole = |groups: &usize| *groups > 0 && widths.iter().all(|width| width.is_multiple_of(*groups));
    if let Some(groups) = keys.note("norm_num_groups").filter(whole) {
        return groups;
    }
    let groups = [32, 8, 4, 2].into_iter().find(whole).unwrap_or(1);
    if groups != 32 {
        let file = keys.file().label();
        tracing::warn!("{file}: norms of 32 groups don't fit widths {widths:?}; taken to have {groups}");
    }
    groups
}

fn one_or_each(values: &[usize]) -> Value {
    match values {
        [first, others @ ..] if others.iter().all(|other| other == first) => json!(first),
        _ => json!(values),
    }
}
