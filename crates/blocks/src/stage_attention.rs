//! What follows the residual blocks of a [stage](crate::stage).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use kiln_attention::ScorePrecision;
use serde::{Deserialize, Serialize};

use crate::added_context::{AddedContextAttention, AddedContextAttentionConfig, ContextNorm};
use crate::attention::{SpatialAttention, SpatialAttentionConfig};
use crate::transformer::{
    Context, FirstAttention, PixelProjection, SpatialTransformer, SpatialTransformerConfig,
};

/// What follows each residual block of a stage, except its resampler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageAttention {
    /// Nothing.
    #[default]
    None,
    /// A [`SpatialAttention`].
    Spatial {
        /// Channels of a head.
        head_dim: usize,
    },
    /// A [`SpatialTransformer`].
    Transformer {
        /// Number of heads.
        heads: usize,
        /// Channels of the context.
        context_dim: usize,
        /// Transformer blocks after each of the stage's residual blocks.
        depths: Vec<usize>,
        /// How pixels become tokens.
        projection: PixelProjection,
        /// What the first attention of a block attends to.
        first: FirstAttention,
        /// Type that the scores of attention are computed in.
        precision: ScorePrecision,
    },
    /// An [`AddedContextAttention`].
    AddedContext {
        /// Channels of a head.
        head_dim: usize,
        /// Channels of the context.
        context_dim: usize,
        /// Norm of the context.
        context_norm: ContextNorm,
        /// Whether the pixels attend to one another beside the context.
        first: FirstAttention,
    },
}

/// Where a stage's attention stands.
pub(crate) struct AttentionPlace {
    pub channels: usize,
    pub groups: usize,
    /// Groups of a [`SpatialAttention`]'s norm, which may have none.
    pub spatial_groups: Option<usize>,
    pub eps: f64,
    pub rescale_output_factor: f64,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen in a network")]
pub(crate) enum StageAttentionLayer {
    Spatial(SpatialAttention),
    Transformer(SpatialTransformer),
    AddedContext(AddedContextAttention),
}

impl StageAttention {
    /// Self-attention with heads of `head_dim` channels, or none.
    #[must_use]
    pub fn spatial(head_dim: Option<usize>) -> Self {
        head_dim.map_or(Self::None, |head_dim| Self::Spatial { head_dim })
    }

    /// The layer that follows residual block number `layer`.
    pub(crate) fn init(
        &self,
        place: &AttentionPlace,
        layer: usize,
        device: &Device,
    ) -> Option<StageAttentionLayer> {
        Some(match self {
            Self::None => return None,
            Self::Spatial { head_dim } => StageAttentionLayer::Spatial(
                SpatialAttentionConfig::new(place.channels, *head_dim)
                    .with_groups(place.spatial_groups)
                    .with_eps(place.eps)
                    .with_rescale_output_factor(place.rescale_output_factor)
                    .init(device),
            ),
            Self::Transformer { heads, context_dim, depths, projection, first, precision } => {
                let depth = *depths.get(layer).expect("a depth for each of the stage's residual blocks");
                StageAttentionLayer::Transformer(
                    SpatialTransformerConfig::new(place.channels, *heads, *context_dim)
                        .with_depth(depth)
                        .with_groups(place.groups)
                        .with_projection(*projection)
                        .with_first(*first)
                        .with_precision(*precision)
                        .init(device),
                )
            }
            Self::AddedContext { head_dim, context_dim, context_norm, first } => {
                StageAttentionLayer::AddedContext(
                    AddedContextAttentionConfig::new(place.channels, *head_dim, *context_dim)
                        .with_groups(place.groups)
                        .with_context_norm(*context_norm)
                        .with_first(*first)
                        .init(device),
                )
            }
        })
    }
}

impl StageAttentionLayer {
    /// `[batch, channels, height, width]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<4>, context: Option<&Context>) -> Tensor<4> {
        let context = || context.expect("this stage attends to a context, and there is none");
        match self {
            Self::Spatial(attention) => attention.forward(x),
            Self::Transformer(transformer) => transformer.forward(x, context()),
            Self::AddedContext(attention) => attention.forward(x, context()),
        }
    }
}
