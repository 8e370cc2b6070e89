//! The `config.json` of a `SD3ControlNetModel`.

use kiln_attention::QkNorm;
use kiln_checkpoint::ConfigError;
use kiln_denoisers::sd3::PatchPositions;
use kiln_denoisers::sd3::config::{known_qk_norm, matches_channels, positions, sizes};
use serde::{Deserialize, Serialize};

/// Positions that a control network gives its tokens itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPositions {
    /// Sines and cosines.
    Sincos,
}

/// Configuration of a [`SD3ControlNet`](super::SD3ControlNet), field by field that of diffusers' `SD3ControlNetModel`,
/// whose defaults it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SD3ControlNetConfig {
    /// Side of the latents first trained on, to which the positions are scaled.
    pub sample_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Channels of the latent.
    pub in_channels: usize,
    /// Number of blocks, and of residuals.
    pub num_layers: usize,
    /// Channels of an attention head.
    pub attention_head_dim: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Channels of the prompt's states; `null` for a network that isn't told the prompt, but in its pooled form.
    pub joint_attention_dim: Option<usize>,
    /// Channels that these are brought to: `num_attention_heads * attention_head_dim`.
    pub caption_projection_dim: usize,
    /// Channels of the pooled prompt.
    pub pooled_projection_dim: usize,
    /// Channels of the controlled network's prediction, which nothing here depends on.
    pub out_channels: Option<usize>,
    /// Rows and columns of the table of positions; `null` where positions are computed for each size.
    pub pos_embed_max_size: Option<usize>,
    /// Channels of the condition beyond those of the latent: 1 for a mask, say.
    pub extra_conditioning_channels: usize,
    /// Blocks, counted from 0, in which the sample attends to itself too; numbers of blocks that aren't there mean nothing.
    pub dual_attention_layers: Vec<usize>,
    /// Norm of queries and keys, if any; blocks that aren't told the prompt have none.
    pub qk_norm: Option<QkNorm>,
    /// Positions of the network's own tokens, if any.
    pub pos_embed_type: Option<TokenPositions>,
    /// Whether the network makes tokens of the latent itself; if not, it takes those of the network that it controls.
    pub use_pos_embed: bool,
    /// Whether pipelines give it zeros in place of the pooled prompt.
    pub force_zeros_for_pooled_projection: bool,
}

impl Default for SD3ControlNetConfig {
    fn default() -> Self {
        Self {
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: Some(4096),
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            out_channels: Some(16),
            pos_embed_max_size: Some(96),
            extra_conditioning_channels: 0,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
            pos_embed_type: Some(TokenPositions::Sincos),
            use_pos_embed: true,
            force_zeros_for_pooled_projection: true,
        }
    }
}

/// `_class_name` of these configs.
pub(super) const CLASS: &str = "SD3ControlNetModel";

impl SD3ControlNetConfig {
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
            ("joint_attention_dim", self.joint_attention_dim.unwrap_or(1)),
            ("pooled_projection_dim", self.pooled_projection_dim),
            ("pos_embed_max_size", self.pos_embed_max_size.unwrap_or(1)),
            // It may be 0.
            ("extra_conditioning_channels", self.extra_conditioning_channels.saturating_add(1)),
        ];
        sizes(self.num_layers, &fields)?;
        if self.joint_attention_dim.is_some() {
            matches_channels(self.caption_projection_dim, self.channels())?;
        }
        known_qk_norm(self.qk_norm)?;
        self.positions()?;
        Ok(())
    }

    /// How the network's own tokens learn where they are.
    pub(super) fn positions(&self) -> Result<PatchPositions, ConfigError> {
        match (self.use_pos_embed, self.pos_embed_type) {
            (true, Some(TokenPositions::Sincos)) => {
                positions(self.sample_size, self.patch_size, self.pos_embed_max_size, self.channels())
            }
            _ => Ok(PatchPositions::None),
        }
    }
}
