//! Control networks in the layout of their first authors (Zhang et al. 2023): a copy of the U-Net's way down, with a
//! convolution that begins at zero after each of its blocks.
//!
//! ```text
//! input_hint_block.{0, 2, .., 14}   convolutions from the control picture to the width of the first level
//! zero_convs.I.0                    after input_blocks.I
//! middle_block_out.0                after middle_block
//! ```

use serde_json::{Value, json};

use super::compvis::{Encoder, Label};
use super::keys::Keys;
use super::table::{Row, Translation, layer};
use crate::{CheckpointError, StoredModel};

const MIDDLE: &[Row] = &[layer("middle_block_out.0", "controlnet_mid_block")];
const ZERO: &[Row] = &[layer("0", "")];
const CONVOLUTION: &[Row] = &[layer("", "")];

/// The control network under `keys`.
pub(super) fn read(keys: &Keys) -> Result<StoredModel, CheckpointError> {
    let encoder = Encoder::read(keys)?;
    let mut names = Translation::new(keys);
    encoder.translate(&mut names, keys, Label::Class);
    for index in 0..keys.count("input_blocks") {
        let (from, to) = (format!("zero_convs.{index}"), format!("controlnet_down_blocks.{index}"));
        names.block(&from, &to, ZERO);
    }
    names.block("", "", MIDDLE);

    // Every second place is an activation.
    let last = keys.count("input_hint_block").saturating_sub(1) / 2;
    let mut widths = Vec::new();
    for index in 0..=last {
        let from = format!("input_hint_block.{}", 2 * index);
        let to = match index {
            0 => "controlnet_cond_embedding.conv_in".to_owned(),
            index if index == last => "controlnet_cond_embedding.conv_out".to_owned(),
            index => format!("controlnet_cond_embedding.blocks.{}", index - 1),
        };
        names.block(&from, &to, CONVOLUTION);
        // In, then in pairs: one that keeps the width, one that goes to the next and halves the sides.
        if index % 2 == 0 && index < last {
            widths.push(keys.side(&format!("{from}.weight"), 0)?);
        }
    }
    let weights = names.finish()?;

    let mut config = encoder.config(keys, Label::Class)?;
    config.insert("_class_name".to_owned(), json!("ControlNetModel"));
    config.insert("conditioning_channels".to_owned(), json!(keys.side("input_hint_block.0.weight", 1)?));
    config.insert("conditioning_embedding_out_channels".to_owned(), json!(widths));
    config.insert("controlnet_conditioning_channel_order".to_owned(), json!("rgb"));
    config.insert("global_pool_conditions".to_owned(), json!(false));
    Ok(StoredModel::new(format!("{:#}", Value::Object(config)), weights))
}
