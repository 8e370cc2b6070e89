//! Linear attention with its projections.
//!
//! ```text
//! y = W_o concat_h attention(phi(q_h), phi(k_h), v_h)      q = W_q x,  k = W_k c,  v = W_v c
//! ```

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_backend::ops::Causality;
use serde::{Deserialize, Serialize};

use super::causal::{CausalForm, LinearState, causal_linear_attention};
use super::feature_maps::{FeatureMap, Features};
use super::learned_features::{LearnedFeatures, LearnedFeaturesConfig};
use super::random_features::{RandomFeatures, RandomFeaturesConfig};
use super::{linear_attention, mapped_linear_attention};
use crate::softmax::{join, split};

/// Where the features of a [`LinearAttention`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinearKernel {
    /// A map without parameters.
    Map(FeatureMap),
    /// Random features, FAVOR+.
    Random {
        /// Their number.
        features: usize,
        /// Of the first draw.
        seed: u64,
    },
    /// Learned features.
    Learned {
        /// Their number.
        features: usize,
    },
}

/// Configuration of a [`LinearAttention`].
#[derive(Config, Debug)]
pub struct LinearAttentionConfig {
    /// Channels of the sequence that asks; the output has as many.
    pub query_dim: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Channels of the sequence that is asked; `None` where it is the same one.
    pub context_dim: Option<usize>,
    /// Where features come from.
    #[config(default = "LinearKernel::Map(FeatureMap::EluPlusOne)")]
    pub kernel: LinearKernel,
    /// Which keys a query sees.
    #[config(default = "Causality::None")]
    pub causality: Causality,
    /// How sums over the past are made.
    #[config(default = "CausalForm::Chunked(64)")]
    pub form: CausalForm,
}

/// Linear attention with its projections; see the [module](super).
#[derive(Module, Debug)]
pub struct LinearAttention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    random: Option<RandomFeatures>,
    learned: Option<LearnedFeatures>,
    heads: usize,
    #[module(skip)]
    kernel: LinearKernel,
    #[module(skip)]
    causality: Causality,
    #[module(skip)]
    form: CausalForm,
}

impl LinearAttentionConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> LinearAttention {
        let Self { query_dim, heads, head_dim, .. } = *self;
        let linear = |from, to, bias| LinearConfig::new(from, to).with_bias(bias).init(device);
        let context = self.context_dim.unwrap_or(query_dim);
        let (random, learned) = match self.kernel {
            LinearKernel::Map(_) => (None, None),
            LinearKernel::Random { features, seed } => {
                let config = RandomFeaturesConfig { head_dim, features };
                (Some(config.init(NoiseKey::new(seed), device)), None)
            }
            LinearKernel::Learned { features } => {
                (None, Some(LearnedFeaturesConfig { heads, head_dim, features }.init(device)))
            }
        };
        LinearAttention {
            to_q: linear(query_dim, heads * head_dim, false),
            to_k: linear(context, heads * head_dim, false),
            to_v: linear(context, heads * head_dim, false),
            to_out: linear(heads * head_dim, query_dim, true),
            random,
            learned,
            heads,
            kernel: self.kernel,
            causality: self.causality,
            form: self.form,
        }
    }
}

impl LinearAttention {
    /// `x` is `[batch, n, query_dim]`, `context` `[batch, m, context_dim]`, or `None` for self-attention; keys are hidden
    /// where `visible`, `[batch, m]`, is 0. The result has `x`'s shape.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together, or a context is to be seen causally.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: Option<Tensor<3>>,
        visible: Option<Tensor<2, Int>>,
    ) -> Tensor<3> {
        assert!(
            context.is_none() || self.causality == Causality::None,
            "a context has no past: causal linear attention is over the sequence itself"
        );
        let context = context.unwrap_or_else(|| x.clone());
        if let (LinearKernel::Map(map), Causality::None, None) = (self.kernel, self.causality, &visible) {
            let [q, k, v] = self.heads(x, context);
            return self.to_out.forward(join(mapped_linear_attention(q, k, v, map)));
        }
        let (features, value) = self.project(x, context, 0);
        let features = match visible {
            Some(visible) => features.with_visible_keys(visible),
            None => features,
        };
        let y = match self.causality {
            Causality::None => linear_attention(features, value),
            Causality::Causal => causal_linear_attention(features, value, self.form),
        };
        self.to_out.forward(join(y))
    }

    /// Causal self-attention of the next n tokens, `[batch, n, query_dim]`, over those that `state` has seen and themselves.
    /// Each token costs the same, however many came before.
    ///
    /// # Panics
    ///
    /// If the layer is not causal, or the state another layer's.
    #[must_use]
    pub fn decode(&self, x: Tensor<3>, state: &mut LinearState) -> Tensor<3> {
        assert!(self.causality == Causality::Causal, "only causal attention can go on from a state");
        let (features, value) = self.project(x.clone(), x, state.seen());
        let chunk = match self.form {
            CausalForm::Quadratic => value.dims()[2].max(1),
            CausalForm::Chunked(chunk) => chunk,
            CausalForm::Recurrent => 1,
        };
        self.to_out.forward(join(state.advance(features, value, chunk)))
    }

    /// The layer with another draw of its random features, if it has any.
    #[must_use]
    pub fn redrawn(self, key: NoiseKey) -> Self {
        Self { random: self.random.map(|random| random.redrawn(key)), ..self }
    }

    fn heads(&self, x: Tensor<3>, context: Tensor<3>) -> [Tensor<4>; 3] {
        let q = split(self.to_q.forward(x), self.heads);
        let k = split(self.to_k.forward(context.clone()), self.heads);
        [q, k, split(self.to_v.forward(context), self.heads)]
    }

    fn project(&self, x: Tensor<3>, context: Tensor<3>, first: usize) -> (Features, Tensor<4>) {
        let [q, k, v] = self.heads(x, context);
        let features = match (self.kernel, &self.random, &self.learned) {
            (LinearKernel::Map(map), ..) => map.features(q, k, first, self.causality),
            (_, Some(random), _) => random.features(q, k, self.causality),
            (_, _, Some(learned)) => learned.features(q, k),
            (_, None, None) => unreachable!("a kernel with parameters was made with them"),
        };
        (features, v)
    }
}
