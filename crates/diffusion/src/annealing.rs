//! NCSN's annealed Langevin dynamics: its ladder of levels and the length of its steps.
//!
//! The sampler is [`PredictorCorrector::annealed_langevin`](crate::PredictorCorrector::annealed_langevin) on a variance-exploding process. In version 1 it ends
//! at the last level ([`Finish::AtGridEnd`](crate::Finish::AtGridEnd)); in version 2 one more evaluation takes the last noise away
//! ([`Finish::Denoise`](crate::Finish::Denoise)). Levels `sigma_1 > ... > sigma_L` need not be geometric: [`grid::at_levels`](crate::grid::at_levels).
//!
//! ```
//! use kiln_diffusion::{PredictorCorrector, Sampler, SolverConfig, VarianceExploding, annealing, grid};
//!
//! // NCSNv2's choices for CIFAR-10, whose pictures have 3072 numbers and are at most 50 apart.
//! let (widest, last, corrections) = (50.0, 0.01, 5);
//! let levels = annealing::level_count(widest, last, annealing::level_ratio(3072));
//! let step = annealing::step(annealing::geometric_ratio(widest, last, levels), corrections);
//! // The paper took 232 levels and an epsilon of 6.2e-6.
//! assert_eq!(levels, 219);
//! assert!((step * last * last / 6.2e-6 - 1.0).abs() < 0.06);
//!
//! let process = VarianceExploding::new(last, widest)?;
//! let solver = SolverConfig::PredictorCorrector(PredictorCorrector::annealed_langevin(corrections, step));
//! let sampler = Sampler::new(solver, grid::uniform(&process, levels - 1)?)?;
//! # Ok::<(), kiln_diffusion::DiffusionError>(())
//! ```
//!
//! Source: Song, Ermon, "Generative modeling by estimating gradients of the data distribution", 2019; Song, Ermon, "Improved techniques for training
//! score-based generative models", 2020, techniques 1, 2 and 4. Their technique 3 is the network's (an output divided by sigma), their technique 5 is
//! a moving average of weights.

use burn::tensor::Tensor;
use statrs::distribution::{ContinuousCDF, Normal};

/// Technique 1, the greatest level `sigma_1`: the largest Euclidean distance between two samples of the data. 0 for fewer than two.
///
/// All pairs are looked at: take some thousand samples, not a whole data set.
///
/// # Shapes
/// - `data`: `[samples, ...]`.
#[must_use]
pub fn widest_distance<const D: usize>(data: Tensor<D>) -> f64 {
    let samples = data.dims()[0];
    let flat: Tensor<2> = data.flatten(1, D - 1);
    (1..samples)
        .map(|i| {
            let earlier = flat.clone().narrow(0, 0, i) - flat.clone().narrow(0, i, 1);
            earlier.square().sum_dim(1).max().into_scalar::<f64>().sqrt()
        })
        .fold(0.0, f64::max)
}

/// Technique 2, the ratio `gamma` of a level to the next one below: radii of neighbouring levels' samples, of which there are `dimensions` numbers, overlap by half.
///
/// ```text
/// Phi(sqrt(2 D) (gamma - 1) + 3 gamma) - Phi(sqrt(2 D) (gamma - 1) - 3 gamma) = 0.5
/// ```
///
/// Below five dimensions they always do, and 100 is given.
///
/// # Panics
/// If there are no dimensions.
#[must_use]
pub fn level_ratio(dimensions: usize) -> f64 {
    assert!(dimensions > 0, "samples of no dimensions have no levels");
    let normal = Normal::standard();
    let overlap = |gamma: f64| {
        let shift = (2.0 * dimensions as f64).sqrt() * (gamma - 1.0);
        normal.cdf(shift + 3.0 * gamma) - normal.cdf(shift - 3.0 * gamma)
    };
    // The overlap falls from almost 1.
    let (mut low, mut high) = (1.0, 100.0);
    while high - low > 1e-14 * high {
        let middle = f64::midpoint(low, high);
        if overlap(middle) > 0.5 { low = middle } else { high = middle }
    }
    low
}

/// L, the levels of a geometric ladder from `widest` to `last` whose ratio comes nearest to `ratio`; at least two.
#[must_use]
pub fn level_count(widest: f64, last: f64, ratio: f64) -> usize {
    ((widest / last).ln() / ratio.ln()).round().max(1.0) as usize + 1
}

/// The ratio of a level to the next one below, of a geometric ladder of `levels` from `widest` to `last`.
///
/// # Panics
/// If there are fewer than two levels.
#[must_use]
pub fn geometric_ratio(widest: f64, last: f64, levels: usize) -> f64 {
    assert!(levels >= 2, "{levels} levels have no ratio");
    (widest / last).powf(1.0 / (levels - 1) as f64)
}

/// Technique 4, `epsilon / sigma_L²`: the step for which `corrections` steps at a level bring the variance `gamma²` of the level above nearest to the level's own, 1.
///
/// ```text
/// v(q) = (1 - q)^(2 T) (gamma² - c) + c,   c = 2 / (2 - q)
/// ```
///
/// is what they leave; with finite steps it stays above 1, and q is where it is least.
///
/// # Panics
/// If `ratio` is not above 1 or there are no corrections.
#[must_use]
pub fn step(ratio: f64, corrections: usize) -> f64 {
    assert!(ratio > 1.0 && corrections > 0, "{corrections} corrections at a ratio of {ratio}");
    let left = |q: f64| {
        let c = 2.0 / (2.0 - q);
        (1.0 - q).powf(2.0 * corrections as f64) * (ratio * ratio - c) + c
    };
    // One minimum between 0, where v is gamma², and 1, where it is 2: by golden sections.
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if left(a) < left(b) { high = b } else { low = a }
    }
    f64::midpoint(low, high)
}
