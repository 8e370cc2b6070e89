//! The `config.json` of a `SD3Transformer2DModel`.

use kiln_attention::QkNorm;
use serde::{Deserialize, Serialize};

use super::patch::PatchPositions;
use crate::ConfigError;

/// Configuration of a [`SD3Transformer2D`](super::SD3Transformer2D), field by field that of diffusers'
/// `SD3Transformer2DModel`, whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SD3Transformer2DConfig {
    /// Side of the latents first trained on, to which the positions are scaled.
    pub sample_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Channels of the latent.
    pub in_channels: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Channels of an attention head.
    pub attention_head_dim: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Channels of the prompt's states.
    pub joint_attention_dim: usize,
    /// Channels that these are brought to: `num_attention_heads * attention_head_dim`.
    pub caption_projection_dim: usize,
    /// Channels of the pooled prompt.
    pub pooled_projection_dim: usize,
    /// Channels of the prediction; those of the latent if `null`.
    pub out_channels: Option<usize>,
    /// Rows and columns of the table of positions; `null` where positions are computed for each size.
    pub pos_embed_max_size: Option<usize>,
    /// Blocks, counted from 0, in which the sample attends to itself too; numbers of blocks that aren't there mean nothing.
    pub dual_attention_layers: Vec<usize>,
    /// Norm of queries and keys, if any.
    pub qk_norm: Option<QkNorm>,
}

impl Default for SD3Transformer2DConfig {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: Some(96),
            dual_attention_layers: Vec::new(),
            qk_norm: None,
        }
    }
}

/// `_class_name` of these configs.
pub(super) const CLASS: &str = "SD3Transformer2DModel";

impl SD3Transformer2DConfig {
    /// Read a `config.json`. Fields that are absent take diffusers' defaults; fields unknown here are passed over.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the text is no JSON object, is another model's config, or has a field whose value can't be used;
    /// the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = kiln_checkpoint::config::read(text, &[CLASS])?;
        config.validate()?;
        Ok(config)
    }

    /// Channels of a token.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fields = [
            ("patch_size", self.patch_size),
            ("in_channels", self.in_channels),
            ("attention_head_dim", self.attention_head_dim),
            ("num_attention_heads", self.num_attention_heads),
            ("joint_attention_dim", self.joint_attention_dim),
            ("pooled_projection_dim", self.pooled_projection_dim),
            ("out_channels", self.out_channels.unwrap_or(1)),
            ("pos_embed_max_size", self.pos_embed_max_size.unwrap_or(1)),
        ];
        sizes(self.num_layers, &fields)?;
        matches_channels(self.caption_projection_dim, self.channels())?;
        known_qk_norm(self.qk_norm)?;
        positions(self.sample_size, self.patch_size, self.pos_embed_max_size, self.channels())?;
        Ok(())
    }
}

/// Larger numbers than in any network: what a config may ask for stays countable.
const LARGEST: usize = 1 << 20;
/// More blocks than in any network.
const MOST_LAYERS: usize = 1 << 10;

/// That every size is one that a network can have, and so is the number of blocks; a control network's config shares this.
///
/// # Errors
///
/// [`ConfigError::Inconsistent`] with the first field that is 0, or absurdly large.
pub fn sizes(num_layers: usize, fields: &[(&'static str, usize)]) -> Result<(), ConfigError> {
    let layers = ("num_layers", num_layers, MOST_LAYERS);
    let all = fields.iter().map(|&(field, value)| (field, value, LARGEST)).chain([layers]);
    for (field, value, most) in all {
        if !(1..=most).contains(&value) {
            let reason = format!("is {value}; expected 1 to {most}");
            return Err(ConfigError::Inconsistent { field, reason });
        }
    }
    Ok(())
}

/// That the prompt's states have as many channels as the tokens that they meet.
///
/// # Errors
///
/// [`ConfigError::Inconsistent`].
pub fn matches_channels(caption_projection_dim: usize, channels: usize) -> Result<(), ConfigError> {
    if caption_projection_dim == channels {
        return Ok(());
    }
    let reason = format!(
        "is {caption_projection_dim}, but `num_attention_heads` * `attention_head_dim` is {channels}; they must be equal"
    );
    Err(ConfigError::Inconsistent { field: "caption_projection_dim", reason })
}

/// That the absence of a norm is written `null`, as diffusers does.
///
/// # Errors
///
/// [`ConfigError::Inconsistent`].
pub fn known_qk_norm(qk_norm: Option<QkNorm>) -> Result<(), ConfigError> {
    if qk_norm == Some(QkNorm::None) {
        let reason = "is \"none\"; expected null, \"rms_norm\" or \"layer_norm\"".to_owned();
        return Err(ConfigError::Inconsistent { field: "qk_norm", reason });
    }
    Ok(())
}

/// The positions of patches in a network of these sizes.
///
/// # Errors
///
/// [`ConfigError::Inconsistent`] if the channels can't hold them, or a picture trained on had no patch.
pub fn positions(
    sample_size: usize,
    patch_size: usize,
    pos_embed_max_size: Option<usize>,
    channels: usize,
) -> Result<PatchPositions, ConfigError> {
    let fail = |field, reason| Err(ConfigError::Inconsistent { field, reason });
    if !channels.is_multiple_of(4) {
        let reason = format!("makes {channels} channels; positions need a multiple of 4");
        return fail("attention_head_dim", reason);
    }
    let base = sample_size / patch_size;
    if base == 0 {
        return fail("sample_size", format!("is {sample_size}: less than a patch of {patch_size}"));
    }
    Ok(match pos_embed_max_size {
        None => PatchPositions::Computed { base },
        Some(side) => PatchPositions::Table { side, base },
    })
}
