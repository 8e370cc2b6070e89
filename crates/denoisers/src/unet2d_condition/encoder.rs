//! The way down, its middle and what both are told, as U-Nets and control networks share it.

use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use kiln_backend::ops::{Activation, activation};
use kiln_blocks::{Context, DownStage, MidStage, Sinusoidal, TimestepEmbedding, convolve};

use super::conditions::Conditions;
use super::embedding::{AddEmbedding, ClassEmbedding, ContextProjection};
use super::encoder_config::EncoderConfig;

/// The parts of a network's way down. Checkpoints keep them beside what else a network has, so each network holds them
/// itself and lends them for the computation.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named as in checkpoints")]
pub struct Encoder<'a> {
    pub conv_in: &'a Conv2d,
    pub time_proj: &'a Sinusoidal,
    pub time_embedding: &'a TimestepEmbedding,
    pub class_embedding: Option<&'a ClassEmbedding>,
    pub add_time_proj: Option<&'a Sinusoidal>,
    pub add_embedding: Option<&'a AddEmbedding>,
    pub encoder_hid_proj: Option<&'a ContextProjection>,
    pub down_blocks: &'a [DownStage],
    pub mid_block: Option<&'a MidStage>,
    /// How class and time meet, and what follows.
    pub joining: Joining,
}

/// How class and time meet, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Where the class goes.
    pub class: ClassPlace,
    /// Applied to the whole vector.
    pub activation: Activation,
}

/// Where a class embedding goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassPlace {
    /// Added to the time embedding.
    Sum,
    /// Beside the time embedding.
    Beside,
}

/// What the way up starts from.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The result of the middle stage.
    pub x: Tensor<4>,
    /// The skip connections, in the order that the way down made them.
    pub skips: Vec<Tensor<4>>,
    /// What the residual blocks are told, `[batch, block_time_channels]`.
    pub time: Tensor<2>,
    /// What cross-attention attends to.
    pub context: Option<Context>,
}

impl EncoderConfig {
    /// How class and time meet.
    #[must_use]
    pub fn joining(&self) -> Joining {
        Joining {
            class: if self.class_embeddings_concat { ClassPlace::Beside } else { ClassPlace::Sum },
            activation: self.time_embedding_act_fn.map_or(Activation::Identity, Into::into),
        }
    }
}

impl Encoder<'_> {
    /// From `sample`, `[batch, in_channels, height, width]`, at `timesteps`, `[batch]`, down and through the middle. `hint`,
    /// `[batch, channels, height, width]`, is added to the result of the first convolution.
    ///
    /// # Panics
    ///
    /// If `timesteps` does not hold one number a sample, or the network needs a condition that is not given, or is given
    /// one that it does not take.
    #[must_use]
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timesteps: Tensor<1>,
        conditions: &Conditions,
        hint: Option<Tensor<4>>,
    ) -> Encoded {
        let [batch, channels, _, _] = sample.dims();
        let [_, expected, _, _] = self.conv_in.weight.lazy_shape().dims();
        assert_eq!(channels, expected, "the network takes samples of {expected} channels");
        assert_eq!(timesteps.dims(), [batch], "one timestep a sample");
        let time = self.embed(&sample, timesteps, conditions);
        let context = self.context(&sample, conditions);

        let mut x = convolve(self.conv_in, sample);
        if let Some(hint) = hint {
            x = x + hint;
        }
        let mut skips = vec![x.clone()];
        for stage in self.down_blocks {
            x = stage.forward_with(x, Some(&time), context.as_ref(), &mut skips);
        }
        if let Some(stage) = self.mid_block {
            x = stage.forward_with(x, Some(&time), context.as_ref());
        }
        Encoded { x, skips, time, context }
    }

    fn embed(&self, sample: &Tensor<4>, timesteps: Tensor<1>, conditions: &Conditions) -> Tensor<2> {
        let sinusoids = self.time_proj.forward(timesteps).cast(sample.dtype());
        let guidance = conditions.timestep_cond.clone().map(|given| given.cast(sample.dtype()));
        let mut time = self.time_embedding.forward_with(sinusoids, guidance);
        match self.class_embedding {
            Some(embedding) => {
                let class = embedding.forward(conditions.class_labels.as_ref(), self.time_proj, sample);
                time = match self.joining.class {
                    ClassPlace::Sum => time + class,
                    ClassPlace::Beside => Tensor::cat(vec![time, class], 1),
                };
            }
            None => assert!(conditions.class_labels.is_none(), "this network takes no class"),
        }
        if let Some(embedding) = self.add_embedding {
            time = time + embedding.forward(conditions, self.add_time_proj, sample);
        }
        activation(time, self.joining.activation)
    }

    fn context(&self, sample: &Tensor<4>, conditions: &Conditions) -> Option<Context> {
        let states = match self.encoder_hid_proj {
            Some(projection) => projection.forward(conditions, sample),
            None => conditions.encoder_hidden_states.clone()?.cast(sample.dtype()),
        };
        Some(match &conditions.encoder_attention_mask {
            Some(seen) => Context::masked(states, seen.clone()),
            None => Context::new(states),
        })
    }
}
