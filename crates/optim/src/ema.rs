//! The exponential moving average of a module's weights: after update n,
//!
//! ```text
//! s ← s - (1 - d_n) (s - w),    d_n = max(min_decay, min(decay, warm(n))),    d_1 = 0
//!
//! warm(n) = n / (9 + n)                           Warmup::Fraction
//!           1 - (1 + (n - 1) / γ)^-power          Warmup::Power
//! ```
//!
//! so that the first update copies the weights, and early ones, when the weights move fast, forget fast.
//! `diffusers.training_utils.EMAModel` with its defaults (Polyak and Juditsky, "Acceleration of stochastic
//! approximation by averaging", 1992).

use std::collections::HashMap;

use burn::config::Config;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::kind::BridgeTensor;
use serde::{Deserialize, Serialize};

use crate::weights::{Path, weights_of, with_weights};
use crate::{StateDict, StateError};

/// How the share that an update keeps rises at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Warmup {
    /// It does not.
    Off,
    /// n / (9 + n).
    #[default]
    Fraction,
    /// 1 - (1 + (n - 1) / γ)^-power: with γ = 1, a power of 2/3 for a million steps or more (0.999 after 31,600), 3/4 for
    /// fewer (0.999 after 10,000). diffusers' `use_ema_warmup=True`.
    Power {
        /// γ.
        inverse_gamma: f64,
        /// The power.
        power: f64,
    },
}

/// What an [`Ema`] is made from; the defaults are those of diffusers' `EMAModel`.
#[derive(Config, Debug, PartialEq)]
pub struct EmaConfig {
    /// The share of the average that an update keeps, once warmed up: from 0 to 1. Averages over about
    /// `1 / (1 - decay)` updates.
    #[config(default = 0.9999)]
    pub decay: f64,
    /// How it gets there.
    #[config(default = "Warmup::Fraction")]
    pub warmup: Warmup,
    /// The least share that an update keeps, but for the first.
    #[config(default = 0.0)]
    pub min_decay: f64,
    /// So many updates only copy the weights, before n counts; one more always does.
    #[config(default = 0)]
    pub start_after: usize,
}

impl EmaConfig {
    /// d_n, the share that update `update` keeps, counted from 1: `min(decay, n / (9 + n))`, and 0 for the first.
    ///
    /// ```
    /// use kiln_optim::EmaConfig;
    /// let config = EmaConfig::new().with_decay(0.99);
    /// assert_eq!([1, 2, 9, 10_000].map(|n| config.decay_at(n)), [0.0, 2.0 / 11.0, 0.5, 0.99]);
    /// ```
    #[must_use]
    pub fn decay_at(&self, update: usize) -> f64 {
        let update = update.saturating_sub(self.start_after);
        if update <= 1 {
            return 0.0;
        }
        let n = update as f64;
        let warm = match self.warmup {
            Warmup::Off => 1.0,
            Warmup::Fraction => n / (9.0 + n),
            Warmup::Power { inverse_gamma, power } => 1.0 - (1.0 + (n - 1.0) / inverse_gamma).powf(-power),
        };
        warm.min(self.decay).max(self.min_decay)
    }

    /// An average that starts at the weights of `module`.
    #[must_use]
    pub fn init<M: Module>(&self, module: &M) -> Ema<M> {
        self.restore(module, 0)
    }

    /// The average `averaged`, which has had `updates` updates, to be gone on with.
    #[must_use]
    pub fn restore<M: Module>(&self, averaged: &M, updates: usize) -> Ema<M> {
        Ema { config: self.clone(), averaged: Some(averaged.valid()), updates }
    }

    /// The average whose state was saved ([`Ema::state_dict`]), to be gone on with; `module` is any module of the same
    /// structure.
    ///
    /// # Errors
    ///
    /// [`StateError`] where the state is not whole or does not fit `module`.
    pub fn load<M: Module>(&self, module: &M, state: StateDict) -> Result<Ema<M>, StateError> {
        let updates =
            state.scalars.get(UPDATES).copied().filter(|count| *count >= 0.0 && count.fract() == 0.0);
        let updates = updates.ok_or_else(|| StateError::Missing { name: UPDATES.to_owned() })?;
        Ok(self.restore(&with_weights(module.valid(), state.tensors)?, updates as usize))
    }
}

const UPDATES: &str = "updates";

/// The moving average of a module's weights, kept beside the module on the same device, without autodiff.
///
/// Trained parameters are averaged, frozen ones and buffers (the running averages of a normalisation) copied,
/// integers and booleans kept.
#[derive(Debug, Clone)]
pub struct Ema<M: Module> {
    config: EmaConfig,
    // Absent only while an update maps it.
    averaged: Option<M>,
    updates: usize,
}

impl<M: Module> Ema<M> {
    /// Takes the weights that `module` has now into the average: one pass, in place where the average's tensors
    /// are not shared.
    ///
    /// # Panics
    ///
    /// Panics if `module` has not the parameters of the module that the average was made from.
    pub fn update(&mut self, module: &M) {
        self.updates += 1;
        let mut weights = Weights::default();
        module.visit(&mut weights);
        let share = 1.0 - self.config.decay_at(self.updates);
        let mut update = Update { path: Path::default(), weights: weights.tensors, share };
        self.averaged = self.averaged.take().map(|averaged| averaged.map(&mut update));
    }

    /// The module with the averaged weights, on the device without autodiff.
    #[must_use]
    pub fn module(&self) -> &M {
        self.averaged.as_ref().expect("the average is absent only within `update`")
    }

    /// The whole state: every tensor of the averaged module by path, and the number `updates`. [`EmaConfig::load`] takes it.
    ///
    /// # Panics
    ///
    /// Panics if the device fails while the tensors are read.
    #[must_use]
    pub fn state_dict(&self) -> StateDict {
        let scalars = [(UPDATES.to_owned(), self.updates as f64)].into();
        StateDict { tensors: weights_of(self.module()), scalars }
    }

    /// The number of updates so far, which with the averaged weights is the whole state.
    #[must_use]
    pub fn updates(&self) -> usize {
        self.updates
    }
}

/// A weight, and whether it is trained (then averaged) or not (then copied).
struct Weight {
    tensor: BridgeTensor,
    trained: bool,
}

#[derive(Default)]
struct Weights {
    path: Path,
    tensors: HashMap<String, Weight>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let trained = param.is_require_grad();
        let tensor = param.base().without_autodiff().into_bridge();
        self.tensors.insert(self.path.join(), Weight { tensor, trained });
    }
}

struct Update {
    path: Path,
    weights: HashMap<String, Weight>,
    /// 1 - d_n.
    share: f64,
}

impl ModuleMapper for Update {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, average, mapper) = param.consume();
        let path = self.path.join();
        let Some(Weight { tensor, trained }) = self.weights.remove(&path) else {
            panic!(
                "the module given to `Ema::update` has no parameter \"{path}\", which the averaged one has"
            )
        };
        let weight = Tensor::<D>::from_bridge(tensor);
        let average = if !trained || self.share == 1.0 {
            weight
        } else {
            // Not s d + w (1 - d): in f32, d + (1 - d) is not 1, and with d = 0.9999 a constant weight would
            // drift by 3e-4 of its value.
            let difference = average.clone().sub(weight);
            average.sub(difference.mul_scalar(self.share))
        };
        Param::from_mapped_value(id, average, mapper)
    }
}
