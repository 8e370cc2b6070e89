//! Joint attention: two sequences, each with projections of its own, attend to both as if they were one
//! (Esser et al. 2024, "Scaling Rectified Flow Transformers", section 4).
//!
//! ```text
//! [y, d] = concat_h softmax([q, q'] [k, k']^T / sqrt(head_dim)) [v, v']
//! x -> W_o y      q, k, v    = W x        the sample
//! c -> W'_o d     q', k', v' = W' c       the context, a prompt say
//! ```
//!
//! Each of q, k, q', k' may be normalised head by head first, with scales of its own.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use kiln_backend::ops::AttentionOptions;

use crate::softmax::{HeadNorm, QkNorm, multi_head};

/// What becomes of the context after the attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ContextOutput {
    /// It is projected, and goes on.
    #[default]
    Projected,
    /// It has been asked for the last time: only the sample goes on (diffusers: `context_pre_only`).
    Discarded,
}

/// Configuration of a [`JointAttention`].
#[derive(Config, Debug)]
pub struct JointAttentionConfig {
    /// Channels of the sample, in and out.
    pub query_dim: usize,
    /// Channels of the context, in and out.
    pub context_dim: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// What becomes of the context.
    #[config(default = "ContextOutput::Projected")]
    pub context_output: ContextOutput,
    /// Norm of queries and keys.
    #[config(default = "QkNorm::None")]
    pub qk_norm: QkNorm,
    /// Added to the variance in that norm.
    #[config(default = 1e-6)]
    pub eps: f64,
}

/// Attention over a sample and its context as one sequence; see the [module](self).
#[derive(Module, Debug)]
pub struct JointAttention {
    norm_q: Option<HeadNorm>,
    norm_k: Option<HeadNorm>,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    add_k_proj: Linear,
    add_v_proj: Linear,
    add_q_proj: Linear,
    // A list of one, since diffusers keeps a dropout beside it: its name is `to_out.0`.
    to_out: Vec<Linear>,
    to_add_out: Option<Linear>,
    norm_added_q: Option<HeadNorm>,
    norm_added_k: Option<HeadNorm>,
    heads: usize,
}

impl JointAttentionConfig {
    /// The layer with PyTorch's default initialisation on `device`.
    #[must_use]
    pub fn init(&self, device: &Device) -> JointAttention {
        let inner = self.heads * self.head_dim;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = || self.qk_norm.init(self.head_dim, self.eps, device);
        JointAttention {
            norm_q: norm(),
            norm_k: norm(),
            to_q: linear(self.query_dim, inner),
            to_k: linear(self.query_dim, inner),
            to_v: linear(self.query_dim, inner),
            add_k_proj: linear(self.context_dim, inner),
            add_v_proj: linear(self.context_dim, inner),
            add_q_proj: linear(self.context_dim, inner),
            to_out: vec![linear(inner, self.query_dim)],
            to_add_out: match self.context_output {
                ContextOutput::Projected => Some(linear(inner, self.context_dim)),
                ContextOutput::Discarded => None,
            },
            norm_added_q: norm(),
            norm_added_k: norm(),
            heads: self.heads,
        }
    }
}

impl JointAttention {
    /// `x` is `[batch, n, query_dim]`, `context` `[batch, m, context_dim]`; so are the results, the context's `None` where it
    /// is [discarded](ContextOutput::Discarded). A mask in `options` is over the `n + m` tokens of both, the sample's first.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: Tensor<3>,
        options: AttentionOptions,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let [n, m] = [x.dims()[1], context.dims()[1]];
        let [q, k] = self.queries_and_keys(&x, &context);
        let v = Tensor::cat(vec![self.to_v.forward(x), self.add_v_proj.forward(context)], 1);
        let y = multi_head(q, k, v, self.heads, options);
        let context = self.to_add_out.as_ref().map(|layer| layer.forward(y.clone().narrow(1, n, m)));
        (self.to_out.iter().fold(y.narrow(1, 0, n), |y, layer| layer.forward(y)), context)
    }

    /// The largest absolute value of `q k^T / sqrt(head_dim)` over samples, heads and tokens, `[1]`: what a norm of queries and keys
    /// keeps from growing (Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion Parameters").
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    #[must_use]
    pub fn largest_logit(&self, x: &Tensor<3>, context: &Tensor<3>) -> Tensor<1> {
        let [q, k] = self.queries_and_keys(x, context).map(|tokens| {
            let [batch, n, width] = tokens.dims();
            tokens.reshape([batch, n, self.heads, width / self.heads]).swap_dims(1, 2)
        });
        let head_dim = q.dims()[3];
        q.matmul(k.transpose()).abs().max() / (head_dim as f64).sqrt()
    }

    /// Queries and keys of sample and context in one row, `[batch, n + m, heads * head_dim]` each.
    fn queries_and_keys(&self, x: &Tensor<3>, context: &Tensor<3>) -> [Tensor<3>; 2] {
        let q = self.normed(self.to_q.forward(x.clone()), &self.norm_q);
        let k = self.normed(self.to_k.forward(x.clone()), &self.norm_k);
        let added_q = self.normed(self.add_q_proj.forward(context.clone()), &self.norm_added_q);
        let added_k = self.normed(self.add_k_proj.forward(context.clone()), &self.norm_added_k);
        [Tensor::cat(vec![q, added_q], 1), Tensor::cat(vec![k, added_k], 1)]
    }

    /// The norm of each head of `x`, `[batch, n, heads * head_dim]`.
    fn normed(&self, x: Tensor<3>, norm: &Option<HeadNorm>) -> Tensor<3> {
        let Some(norm) = norm else { return x };
        let [batch, n, width] = x.dims();
        norm.forward(x.reshape([batch, n, self.heads, width / self.heads])).reshape([batch, n, width])
    }
}
