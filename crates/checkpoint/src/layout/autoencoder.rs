//! CompVis's `AutoencoderKL`, of Stable Diffusion 1, 2, XL and, without the quantising convolutions, 3.
//!
//! ```text
//! encoder.down.L.block.I, encoder.down.L.downsample    levels, outermost first
//! encoder.mid.{block_1, attn_1, block_2}
//! decoder.up.L.block.I, decoder.up.L.upsample          levels, outermost first: diffusers counts them from the inside
//! ```
//!
//! Attention is of 1 x 1 convolutions there, of linear layers here.

use serde_json::json;

use super::compvis::groups;
use super::keys::Keys;
use super::table::{Row, Translation, layer, linear};
use crate::{CheckpointError, StoredModel};

const RESNET: &[Row] = &[
    layer("norm1", "norm1"),
    layer("conv1", "conv1"),
    layer("norm2", "norm2"),
    layer("conv2", "conv2"),
    layer("nin_shortcut", "conv_shortcut").if_there(),
];

const ATTENTION: &[Row] = &[
    layer("norm", "group_norm"),
    linear("q", "to_q"),
    linear("k", "to_k"),
    linear("v", "to_v"),
    linear("proj_out", "to_out.0"),
];

/// Each half of the network, `encoder` or `decoder`.
const HALF: &[Row] =
    &[layer("conv_in", "conv_in"), layer("norm_out", "conv_norm_out"), layer("conv_out", "conv_out")];

const QUANTISING: &[Row] =
    &[layer("quant_conv", "quant_conv").if_there(), layer("post_quant_conv", "post_quant_conv").if_there()];

const DOWNSAMPLE: &[Row] = &[layer("downsample.conv", "downsamplers.0.conv").if_there()];
const UPSAMPLE: &[Row] = &[layer("upsample.conv", "upsamplers.0.conv").if_there()];

/// What no shape tells of an autoencoder: how its latents are scaled, and for what it was trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    scaling_factor: f64,
    shift_factor: Option<f64>,
    sample_size: usize,
    force_upcast: bool,
}

/// Stable Diffusion 1 and 2.
pub(super) const STABLE_DIFFUSION: Scaling =
    Scaling { scaling_factor: 0.18215, shift_factor: None, sample_size: 512, force_upcast: true };
/// Stable Diffusion 2's upscaler.
pub(super) const UPSCALER: Scaling =
    Scaling { scaling_factor: 0.08333, shift_factor: None, sample_size: 256, force_upcast: true };
/// Stable Diffusion XL.
pub(super) const STABLE_DIFFUSION_XL: Scaling =
    Scaling { scaling_factor: 0.13025, shift_factor: None, sample_size: 1024, force_upcast: true };
/// Stable Diffusion 3 and 3.5.
pub(super) const STABLE_DIFFUSION_3: Scaling =
    Scaling { scaling_factor: 1.5305, shift_factor: Some(0.0609), sample_size: 1024, force_upcast: true };

/// What an autoencoder that is alone in its file is taken for: without quantising convolutions, Stable Diffusion 3's.
pub(super) fn scaling_of(keys: &Keys) -> Scaling {
    if keys.has("quant_conv.weight") { STABLE_DIFFUSION } else { STABLE_DIFFUSION_3 }
}

/// The autoencoder under `keys`.
pub(super) fn read(keys: &Keys, scaling: Scaling) -> Result<StoredModel, CheckpointError> {
    let levels = keys.count("encoder.down");
    let layers = keys.count("encoder.down.0.block");
    if let Some(name) = keys.names().find(|name| name.contains(".attn.0.")) {
        return Err(keys.wrong(
            name,
            "is attention outside the middle, which Stable Diffusion's autoencoders don't have",
        ));
    }
    if keys.any("quantize.") {
        return Err(keys.wrong(
            "quantize.embedding.weight",
            "is a codebook, which Stable Diffusion's autoencoders don't have",
        ));
    }
    if keys.count("decoder.up") != levels {
        let reason = format!("the encoder has {levels} levels, the decoder {}", keys.count("decoder.up"));
        return Err(keys.wrong("decoder.up", reason));
    }
    let mut names = Translation::new(keys);
    let mut widths = Vec::new();
    for level in 0..levels {
        let (from, to) = (format!("encoder.down.{level}"), format!("encoder.down_blocks.{level}"));
        for block in 0..layers {
            names.block(&format!("{from}.block.{block}"), &format!("{to}.resnets.{block}"), RESNET);
        }
        names.block(&from, &to, DOWNSAMPLE);
        widths.push(keys.side(&format!("{from}.block.0.conv1.weight"), 0)?);

        let (from, to) = (format!("decoder.up.{level}"), format!("decoder.up_blocks.{}", levels - 1 - level));
        for block in 0..=layers {
            names.block(&format!("{from}.block.{block}"), &format!("{to}.resnets.{block}"), RESNET);
        }
        names.block(&from, &to, UPSAMPLE);
    }
    let attends = keys.any("encoder.mid.attn_1.");
    for half in ["encoder", "decoder"] {
        names.block(half, half, HALF);
        names.block(&format!("{half}.mid.block_1"), &format!("{half}.mid_block.resnets.0"), RESNET);
        if attends {
            names.block(&format!("{half}.mid.attn_1"), &format!("{half}.mid_block.attentions.0"), ATTENTION);
        }
        names.block(&format!("{half}.mid.block_2"), &format!("{half}.mid_block.resnets.1"), RESNET);
    }
    names.block("", "", QUANTISING);
    // A training's discriminator, and its moving average.
    names.skip("loss.");
    names.skip("model_ema.");
    let weights = names.finish()?;

    let config = json!({
        "_class_name": "AutoencoderKL",
        "in_channels": keys.side("encoder.conv_in.weight", 1)?,
        "out_channels": keys.side("decoder.conv_out.weight", 0)?,
        "latent_channels": keys.side("decoder.conv_in.weight", 1)?,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "mid_block_add_attention": attends,
        "act_fn": "silu",
        "norm_num_groups": groups(keys, &widths),
        "use_quant_conv": keys.has("quant_conv.weight"),
        "use_post_quant_conv": keys.has("post_quant_conv.weight"),
        "sample_size": scaling.sample_size,
        "scaling_factor": scaling.scaling_factor,
        "shift_factor": scaling.shift_factor,
        "force_upcast": scaling.force_upcast,
    });
    Ok(StoredModel::new(format!("{config:#}"), weights))
}
