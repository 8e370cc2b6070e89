//! Decoding: the next tokens from what is kept of those before, and text that goes on by itself.
//!
//! ```text
//! p(next) = softmax(logits / temperature)        drawn as argmax(logits / temperature - log(-log u)),  u uniform in (0, 1)
//! ```
//!
//! (the Gumbel form: Maddison et al. 2014, "A* Sampling").

use burn::tensor::{DType, Device, Int, Tensor};
use kiln_backend::noise::{self, NoiseKey};
use serde::{Deserialize, Serialize};

use super::{AttentionKind, LanguageModel, Layer};
use crate::cache::{KeyValueCache, KeyValueRecord};
use crate::flash::{FlashState, FlashStateRecord};
use crate::linear::{LinearState, LinearStateRecord};

/// What a [`LanguageModel`] keeps of the tokens that it has seen; made by [`LanguageModel::state`].
#[derive(Clone, Debug)]
pub struct LanguageModelState {
    seen: usize,
    layers: Vec<LayerState>,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model's layers are of one kind")]
enum LayerState {
    Softmax(KeyValueCache),
    Linear(LinearState),
    Gated(Vec<KeyValueCache>),
    Flash(Vec<FlashState>),
}

/// A [`LanguageModelState`] as plain numbers, to be written with serde.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LanguageModelRecord {
    seen: usize,
    layers: Vec<LayerRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerRecord {
    Softmax(KeyValueRecord),
    Linear(LinearStateRecord),
    Gated(Vec<KeyValueRecord>),
    Flash(Vec<FlashStateRecord>),
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Choice {
    /// The likeliest.
    #[default]
    Greedy,
    /// By chance.
    Sampled {
        /// What logits are divided by: below 1 the likely are preferred, above 1 all are more alike.
        temperature: f64,
        /// Of what is drawn; the next token's is at its place as step.
        seed: u64,
    },
}

impl LanguageModelState {
    /// Number of tokens seen so far: the place of the next.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Its numbers.
    #[must_use]
    pub fn to_record(&self) -> LanguageModelRecord {
        let layers = self.layers.iter().map(|layer| match layer {
            LayerState::Softmax(cache) => LayerRecord::Softmax(cache.to_record()),
            LayerState::Linear(state) => LayerRecord::Linear(state.to_record()),
            LayerState::Gated(caches) => {
                LayerRecord::Gated(caches.iter().map(KeyValueCache::to_record).collect())
            }
            LayerState::Flash(states) => {
                LayerRecord::Flash(states.iter().map(FlashState::to_record).collect())
            }
        });
        LanguageModelRecord { seen: self.seen, layers: layers.collect() }
    }

    /// What [`to_record`](Self::to_record) gave, on `device`; `None` if the record is of no state.
    #[must_use]
    pub fn from_record(record: LanguageModelRecord, device: &Device) -> Option<Self> {
        let LanguageModelRecord { seen, layers } = record;
        let cache = |record| KeyValueCache::from_record(record, device).filter(|cache| cache.seen() == seen);
        let layers = layers.into_iter().map(|layer| {
            Some(match layer {
                LayerRecord::Softmax(record) => LayerState::Softmax(cache(record)?),
                LayerRecord::Linear(record) => {
                    let state = LinearState::from_record(record, device)?;
                    LayerState::Linear(Some(state).filter(|state| state.seen() == seen)?)
                }
                LayerRecord::Gated(records) => {
                    LayerState::Gated(records.into_iter().map(cache).collect::<Option<_>>()?)
                }
                LayerRecord::Flash(records) => {
                    let state =
                        |record| FlashState::from_record(record, device).filter(|state| state.seen() == seen);
                    LayerState::Flash(records.into_iter().map(state).collect::<Option<_>>()?)
                }
            })
        });
        Some(Self { seen, layers: layers.collect::<Option<_>>()? })
    }
}

impl LanguageModel {
    /// The state before the first token.
    #[must_use]
    pub fn state(&self) -> LanguageModelState {
        let layers = self.layers.iter().map(|layer| match layer {
            Layer::Softmax(_) => LayerState::Softmax(KeyValueCache::new()),
            Layer::Linear(_) => LayerState::Linear(LinearState::default()),
            Layer::Gated(units) => LayerState::Gated(vec![KeyValueCache::new(); units.len()]),
            Layer::Flash(units) => LayerState::Flash(vec![FlashState::default(); units.len()]),
        });
        LanguageModelState { seen: 0, layers: layers.collect() }
    }

    /// The logits of the token after each of the next n, `[batch, n, vocabulary]`, for `tokens`, `[batch, n]`, which `state`
    /// then has seen. Token by token, or many at a time: the results are those of one [`forward`](Self::forward). A token costs
    /// the same however many came before it with [`AttentionKind::Linear`] and [`AttentionKind::Flash`].
    ///
    /// # Panics
    ///
    /// If the state is another model's.
    #[must_use]
    pub fn decode(&self, tokens: Tensor<2, Int>, state: &mut LanguageModelState) -> Tensor<3> {
        assert_eq!(self.layers.len(), state.layers.len(), "the state is of a model of other layers");
        let n = tokens.dims()[1];
        let h = self.embed(tokens, state.seen);
        let both = self.layers.iter().zip(&mut state.layers);
        let h = both.fold(h, |h, (layer, state)| layer.decode(h, state));
        state.seen += n;
        self.logits(h)
    }

    /// The `n` tokens that follow `prompt`, `[batch, m]`: `[batch, n]`, each chosen with those before it in sight. The prompt
    /// is read once, and then each token.
    ///
    /// # Panics
    ///
    /// If the prompt is empty: nothing tells what follows nothing.
    #[must_use]
    pub fn generate(&self, prompt: Tensor<2, Int>, n: usize, choice: Choice) -> Tensor<2, Int> {
        let [batch, m] = prompt.dims();
        assert!(m > 0, "nothing tells what follows an empty prompt");
        let device = prompt.device();
        let mut state = self.state();
        let mut next = prompt.narrow(1, 0, m);
        let mut tokens = Vec::with_capacity(n);
        for _ in 0..n {
            let count = next.dims()[1];
            let logits = self.decode(next, &mut state).narrow(1, count - 1, 1).squeeze_dim::<2>(1);
            next = choice.of(logits, state.seen);
            tokens.push(next.clone());
        }
        if tokens.is_empty() { Tensor::zeros([batch, 0], &device) } else { Tensor::cat(tokens, 1) }
    }
}

impl Choice {
    /// A token from `logits`, `[batch, vocabulary]`, for `place`: `[batch, 1]`.
    #[must_use]
    pub fn of(self, logits: Tensor<2>, place: usize) -> Tensor<2, Int> {
        match self {
            Self::Greedy => logits.argmax(1),
            Self::Sampled { temperature, seed } => {
                let key = NoiseKey { seed, sample: 0, step: place as u64 };
                let uniform = noise::uniform(logits.dims(), key, &logits.device()).cast(DType::F32);
                // Neither 0 nor 1, whose logarithms would be infinite.
                let uniform = uniform.clamp(1e-7, 1.0 - 1e-7);
                let gumbel = uniform.log().neg().log().neg();
                (logits.cast(DType::F32).div_scalar(temperature) + gumbel).argmax(1)
            }
        }
    }
}

impl Layer {
    fn decode(&self, h: Tensor<3>, state: &mut LayerState) -> Tensor<3> {
        match (self, state) {
            (Self::Softmax(layer), LayerState::Softmax(cache)) => {
                layer.forward(h, |attention, x| attention.decode(x, cache))
            }
            (Self::Linear(layer), LayerState::Linear(state)) => {
                layer.forward(h, |attention, x| attention.decode(x, state))
            }
            (Self::Gated(units), LayerState::Gated(caches)) => {
                units.iter().zip(caches).fold(h, |h, (unit, cache)| unit.decode(h, cache))
            }
            (Self::Flash(units), LayerState::Flash(states)) => {
                units.iter().zip(states).fold(h, |h, (unit, state)| unit.decode(h, state))
            }
            (layer, _) => panic!("the state is not of {:?} attention", layer.kind()),
        }
    }

    /// Which attention it has, as far as its state goes: gated units are alike in that.
    fn kind(&self) -> AttentionKind {
        match self {
            Self::Softmax(_) => AttentionKind::Softmax,
            Self::Linear(_) => AttentionKind::Linear,
            Self::Gated(_) => AttentionKind::Gau,
            Self::Flash(_) => AttentionKind::Flash,
        }
    }
}
