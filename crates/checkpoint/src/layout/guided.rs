//! The U-Nets of OpenAI's improved diffusion, guided diffusion and consistency models. `GuidedUNet` keeps their names; what
//! is read off the keys is its config.
//!
//! ```text
//! input_blocks.I.0, output_blocks.I.0   residual blocks of L levels: N a level on the way down, N + 1 on the way up
//! *.1.qkv                               attention, where the level has it
//! output_blocks.I.{1, 2}                a residual block (`in_layers`) or convolution (`conv`) that ends a level
//! ```
//!
//! Three things are in no shape. A note of that name in the file settles each; else
//!
//! - `num_head_channels` is 64, as in most of the published networks, or 32 where 64 does not divide the widths that attend.
//!   Where neither does, all channels are one head. (Improved diffusion's networks, and guided diffusion's of 128 px, have
//!   four heads: give them a note `num_heads`.)
//! - `use_new_attention_order` (query, key and value first, then heads) holds for consistency models, told by residual blocks
//!   that change the resolution and no learned variance, and for guided diffusion's ImageNet network of 64 px.
//! - `conv_resample` is true, unless a gap in the numbers shows that a level ends with no parameters.

use serde_json::json;

use super::keys::Keys;
use crate::{CheckpointError, StoredModel};

/// A picture halved as often would be of 65,536 pixels a side.
const MOST_LEVELS: usize = 16;

/// Whether the tensors are one of these networks: U-Nets of blocks, without a prompt.
pub(super) fn is_one(keys: &Keys) -> bool {
    keys.has("input_blocks.0.0.weight")
        && keys.has("time_embed.0.weight")
        && keys.any("output_blocks.0.")
        && !keys.names().any(|name| name.contains(".transformer_blocks."))
}

/// The network under `keys`.
pub(super) fn read(keys: &Keys) -> Result<StoredModel, CheckpointError> {
    let [time, width] = keys.sides("time_embed.0.weight")?;
    let [_, in_channels, ..] = keys.sides::<4>("input_blocks.0.0.weight")?;
    let out_channels = keys.side("out.2.weight", 0)?;
    if width == 0 || Some(time) != width.checked_mul(4) {
        return Err(
            keys.wrong("time_embed.0.weight", format!("has shape [{time}, {width}]; expected [4 n, n]"))
        );
    }
    let blocks = keys.count("output_blocks");
    let change = change(keys);
    let layers = layers(keys, change);
    if layers == 0 || !blocks.is_multiple_of(layers + 1) || keys.count("input_blocks") > blocks {
        let reason = format!("{blocks} blocks on the way up make no levels of {} each", layers + 1);
        return Err(keys.wrong("output_blocks", reason));
    }
    let levels = blocks / (layers + 1);
    if levels > MOST_LEVELS {
        return Err(keys.wrong("output_blocks", format!("has {levels} levels, above {MOST_LEVELS}")));
    }

    let (mut widths, mut attending) = (Vec::new(), Vec::new());
    for level in 0..levels {
        let first = 1 + level * (layers + 1);
        let name = |index: usize, end: &str| format!("input_blocks.{index}.{end}");
        let channels = keys.side(&name(first, "0.out_layers.3.weight"), 0)?;
        widths.push(channels);
        let attends = |index: usize| keys.has(&name(index, "1.qkv.weight"));
        for index in first..first + layers {
            if attends(index) != attends(first) {
                return Err(keys.wrong(
                    &name(index, "1.qkv.weight"),
                    "is in some blocks of its level and not in others",
                ));
            }
            let found = keys.side(&name(index, "0.out_layers.3.weight"), 0)?;
            if found != channels {
                let reason = format!("has {found} channels in a level of {channels}");
                return Err(keys.wrong(&name(index, "0.out_layers.3.weight"), reason));
            }
        }
        if attends(first) {
            attending.push(level);
        }
    }
    let channel_mult: Vec<_> = widths.iter().map(|&channels| channels as f64 / width as f64).collect();
    let [shifts, _] = keys.sides("input_blocks.1.0.emb_layers.1.weight")?;
    let num_heads = keys.note::<usize>("num_heads").filter(|&heads| heads > 0);
    let with_attention = attending.iter().map(|&level| widths[level]).chain(widths.last().copied());
    let heads =
        if num_heads.is_some() { None } else { head_channels(keys, &with_attention.collect::<Vec<_>>()) };
    let mut config = json!({
        "_class_name": "GuidedUNet",
        "in_channels": in_channels,
        "out_channels": out_channels,
        "model_channels": width,
        "num_res_blocks": layers,
        "channel_mult": channel_mult,
        "attention_resolutions": attending.iter().map(|level| 1usize << level).collect::<Vec<_>>(),
        "num_heads": num_heads.unwrap_or(1),
        "num_head_channels": heads,
        "use_scale_shift_norm": Some(shifts) == widths[0].checked_mul(2),
        "resblock_updown": change == Change::Residual,
        "conv_resample": change != Change::Nothing,
        "num_classes": keys.shape("label_emb.weight").and_then(|shape| shape.first()),
        "label_channels": keys.shape("label_emb.0.weight").and_then(|shape| shape.get(1)),
    });
    let imagenet_64 = width == 192 && layers == 3 && levels == 4 && config["num_classes"] == 1000;
    let consistency = change == Change::Residual && out_channels == in_channels && in_channels <= 4;
    let split_first = keys.note("use_new_attention_order").unwrap_or(consistency || imagenet_64);
    config["use_new_attention_order"] = json!(split_first);
    Ok(StoredModel::new(format!("{config:#}"), keys.file().part(keys.prefix())))
}

/// What ends a level.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    /// A residual block.
    Residual,
    /// A convolution, or there is one level only.
    Convolution,
    /// Nothing that has parameters.
    Nothing,
}

fn change(keys: &Keys) -> Change {
    let any = |layer: &str| {
        (0..keys.count("output_blocks"))
            .any(|i| [1, 2].iter().any(|at| keys.has(&format!("output_blocks.{i}.{at}.{layer}.weight"))))
    };
    let gap = (1..keys.count("input_blocks")).any(|i| !keys.any(&format!("input_blocks.{i}.")));
    if any("in_layers.2") {
        Change::Residual
    } else if gap {
        Change::Nothing
    } else {
        Change::Convolution
    }
}

/// Residual blocks of a level: the first level's end tells. On the way up it is behind the last of N + 1 blocks.
fn layers(keys: &Keys, change: Change) -> usize {
    let downs = keys.count("input_blocks");
    match change {
        Change::Residual | Change::Convolution => {
            let layer = if change == Change::Residual { "in_layers.2" } else { "conv" };
            let ends = |i: &usize| {
                [1, 2].iter().any(|at| keys.has(&format!("output_blocks.{i}.{at}.{layer}.weight")))
            };
            (0..keys.count("output_blocks")).find(ends).unwrap_or(downs.saturating_sub(1))
        }
        Change::Nothing => {
            (1..downs).find(|i| !keys.any(&format!("input_blocks.{i}."))).map_or(0, |gap| gap - 1)
        }
    }
}

fn head_channels(keys: &Keys, widths: &[usize]) -> Option<usize> {
    let whole = |width: &usize| *width > 0 && widths.iter().all(|channels| channels.is_multiple_of(*width));
    keys.note("num_head_channels").into_iter().chain([64, 32]).find(whole)
}
