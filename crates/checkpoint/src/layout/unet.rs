//! CompVis's U-Net: the way up, and the network as a whole.
//!
//! ```text
//! output_blocks.I.0       a residual block
//! output_blocks.I.1       a transformer over pixels, where the level has them
//! output_blocks.I.{1, 2}  the convolution that ends a level (`conv`), after those
//! out.0, out.2            norm and last convolution
//! ```

use serde_json::{Value, json};

use super::compvis::{Encoder, Label, RESNET, transformer};
use super::keys::Keys;
use super::table::{Row, Translation, layer};
use crate::{CheckpointError, StoredModel};

const HEAD: &[Row] = &[layer("out.0", "conv_norm_out"), layer("out.2", "conv_out")];
const UPSAMPLE: &[Row] = &[layer("conv", "conv")];

/// What the rest of a file tells of its U-Net.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) label: Label,
    /// Sides of the latents trained on.
    pub(super) sample_size: usize,
    /// Whether the scores of attention do not fit into f16.
    pub(super) upcast_attention: bool,
}

/// The U-Net under `keys`.
pub(super) fn read(keys: &Keys, encoder: &Encoder, setting: Setting) -> Result<StoredModel, CheckpointError> {
    let mut names = Translation::new(keys);
    encoder.translate(&mut names, keys, setting.label);
    let mut index = 0;
    for (i, level) in encoder.levels.iter().rev().enumerate() {
        for layer in 0..=level.layers {
            let from = format!("output_blocks.{index}");
            names.block(&format!("{from}.0"), &format!("up_blocks.{i}.resnets.{layer}"), RESNET);
            transformer(
                &mut names,
                &format!("{from}.1"),
                &format!("up_blocks.{i}.attentions.{layer}"),
                level.depth,
            );
            if layer == level.layers && i + 1 < encoder.levels.len() {
                let from = format!("{from}.{}", if level.depth == 0 { 1 } else { 2 });
                names.block(&from, &format!("up_blocks.{i}.upsamplers.0"), UPSAMPLE);
            }
            index += 1;
        }
    }
    names.block("", "", HEAD);
    let weights = names.finish()?;

    let up: Vec<_> = encoder
        .levels
        .iter()
        .rev()
        .map(|level| if level.depth == 0 { "UpBlock2D" } else { "CrossAttnUpBlock2D" })
        .collect();
    let mut config = encoder.config(keys, setting.label)?;
    config.insert("_class_name".to_owned(), json!("UNet2DConditionModel"));
    config.insert("out_channels".to_owned(), json!(keys.side("out.2.weight", 0)?));
    config.insert("up_block_types".to_owned(), json!(up));
    config.insert("sample_size".to_owned(), json!(setting.sample_size));
    config.insert("center_input_sample".to_owned(), json!(false));
    config.insert("upcast_attention".to_owned(), json!(setting.upcast_attention));
    Ok(StoredModel::new(format!("{:#}", Value::Object(config)), weights))
}
