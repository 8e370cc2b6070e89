//! The levels of noise of SMLD, and training at them and nowhere between.
//!
//! ```text
//! sigma_i = sigma_1 (sigma_L / sigma_1)^((i - 1) / (L - 1))
//! NCSN      sigma_1 = 2, sigma_L = 0.02, L = 10        1 and 0.01 of the paper, whose pictures are half as wide as -1 to 1
//! ```
//!
//! and for NCSNv2 as [`annealing`] finds them for the data, down to 0.02. Source: Song and Ermon 2019, section 5; 2020, techniques 1 and 2.

use burn::tensor::{Device, Tensor, TensorData};
use kiln::denoisers::NcsnConfig;
use kiln::denoisers::ncsn::Architecture;
use kiln::diffusion::{DiffusionError, Law, Process, VarianceExploding, annealing};
use kiln::training::data::Pictures;

/// So many pictures are compared with each other; their number goes in by its square.
const COMPARED: usize = 1000;

/// The levels that NCSN was published with.
pub(super) fn of_ncsn() -> NcsnConfig {
    NcsnConfig {
        architecture: Architecture::Ncsn,
        num_classes: 10,
        sigma_begin: 2.0,
        sigma_end: 0.02,
        ..NcsnConfig::default()
    }
}

/// The levels that NCSNv2's techniques find for the data.
pub(super) fn of_ncsnv2(data: &Pictures, device: &Device) -> NcsnConfig {
    let (count, least) = (data.len().min(COMPARED), 0.02);
    let size = data.channels() * data.height() * data.width();
    let values = (0..count).flat_map(|i| data.sample(i)).map(|&v| f32::from(v) / 127.5 - 1.0);
    let pictures = TensorData::new(values.collect::<Vec<_>>(), [count, size]);
    let widest = annealing::widest_distance(Tensor::<2>::from_data(pictures, device));
    // One picture is at no distance from itself.
    let most = widest.max(10.0 * least);
    NcsnConfig {
        architecture: Architecture::NcsnV2,
        num_classes: annealing::level_count(most, least, annealing::level_ratio(size)).max(2),
        sigma_begin: most,
        sigma_end: least,
        ..NcsnConfig::default()
    }
}

/// Variance exploding at L levels alone: a time stands for the level whose L-th part of the way it is in, so that times drawn evenly make
/// levels drawn evenly. What a network is told of a time is as in [`VarianceExploding`].
#[derive(Debug, Clone, Copy)]
pub(super) struct AtLevels {
    process: VarianceExploding,
    levels: usize,
}

impl AtLevels {
    pub(super) fn new(config: &NcsnConfig) -> Result<Self, DiffusionError> {
        let process = VarianceExploding::new(config.sigma_end, config.sigma_begin)?;
        Ok(Self { process, levels: config.num_classes })
    }

    fn snapped(&self, t: f64) -> f64 {
        let last = self.levels - 1;
        let level = ((t * self.levels as f64) as usize).min(last);
        level as f64 / last.max(1) as f64
    }
}

impl Process for AtLevels {
    fn law(&self, t: f64) -> Law {
        self.process.law(self.snapped(t))
    }

    fn t_min(&self) -> f64 {
        self.process.t_min()
    }

    fn clean_time(&self) -> Option<f64> {
        self.process.clean_time()
    }

    fn network_time(&self, t: f64) -> f64 {
        self.process.network_time(self.snapped(t))
    }
}
