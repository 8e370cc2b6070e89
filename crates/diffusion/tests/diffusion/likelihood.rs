//! Likelihoods: the exact densities of Gaussian and mixture data, what the probes' errors are, and bits per dimension.

use std::f64::consts::{LN_2, TAU};

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    Denoiser, Divergence, Estimate, GaussianMixture, Likelihood, Probe, Process, Quantisation, RectifiedFlow,
    SubVariancePreserving, Tolerance, VarianceExploding, VariancePreserving,
};
use rstest::rstest;

use crate::{apart, double, doubles};

const KEY: NoiseKey = NoiseKey { seed: 4, sample: 0, step: 2 };

fn gaussian(x: f64, mean: f64, variance: f64) -> f64 {
    -0.5 * ((x - mean).powi(2) / variance + variance.ln() + TAU.ln())
}

/// `ln p(x)` at t_min of independent coordinates, each a mixture.
fn exact(process: &dyn Process, components: &[(f64, f64, f64)], x: &[f64]) -> f64 {
    let law = process.law(process.t_min());
    x.iter()
        .map(|&x| {
            let density = |&(w, mean, std): &(f64, f64, f64)| {
                w * gaussian(x, law.alpha * mean, (law.alpha * std).powi(2) + law.sigma.powi(2)).exp()
            };
            components.iter().map(density).sum::<f64>().ln()
        })
        .sum()
}

#[rstest]
#[case::vp(&VariancePreserving::default())]
#[case::subvp(&SubVariancePreserving::default())]
#[case::ve(&VarianceExploding::new(0.01, 50.0).unwrap())]
#[case::flow(&RectifiedFlow)]
fn gaussian_data_has_its_density(#[case] process: &dyn Process) {
    let (mean, std) = (0.3, 0.5);
    let data = GaussianMixture::single(process, mean, std).unwrap();
    let values = vec![0.3, -0.4, 1.0, 0.0, 0.7, 0.31];
    let x: Tensor<2> = double(values.clone(), [3, 2]);
    // The Jacobian is diagonal, so one probe of -1 and 1 is exact.
    let likelihood = Likelihood { tolerance: Tolerance::of(1e-8), ..Likelihood::default() };
    let density = likelihood.log_density(process, &data, x, KEY).unwrap();
    let (first, last) = (process.law(process.t_min()), process.law(process.t_max()));
    let [near, far] = [first, last].map(|law| (law.alpha * std).powi(2) + law.sigma.powi(2));
    // The flow of Gaussian data is affine; what it carries the prior back to is known exactly.
    let model = |x: f64| {
        let end = last.alpha * mean + (x - first.alpha * mean) * (far / near).sqrt();
        gaussian(end, 0.0, process.prior_std().powi(2)) + 0.5 * (far / near).ln()
    };
    let (mut worst, mut priors) = (0.0_f64, 0.0_f64);
    for (nats, x) in std::iter::zip(&density.nats, values.chunks(2)) {
        let known: f64 = x.iter().map(|&x| model(x)).sum();
        worst = worst.max((nats - known).abs());
        priors = priors.max((known - exact(process, &[(1.0, mean, std)], x)).abs());
    }
    println!("{process:?}: off by {worst:.1e} nats, and by {priors:.1e} for the prior's own error");
    assert!(worst < 1e-5, "{process:?}: {worst}");
    // x_T is not quite N(0, prior²): of the mean 0.3, 0.3 / 50 is left on the variance-exploding process.
    assert!(priors < 0.012, "{process:?}: {priors}");
    assert_eq!(density.coordinates, 2);
    assert_eq!(Some(&density.evaluations), density.tallies[0].evaluations.iter().max());
    assert_eq!(density.standard_errors, None);
}

#[test]
fn a_mixture_has_its_density_by_the_exact_divergence() {
    let process = VariancePreserving::default();
    let components = [(0.3, -1.0, 0.2), (0.7, 0.8, 0.5)];
    let data = GaussianMixture::new(&process, components.to_vec()).unwrap();
    let values = vec![-1.0, -0.2, 0.8, 1.4, -1.3, 0.0];
    let x: Tensor<2> = double(values.clone(), [2, 3]);
    let likelihood = Likelihood { divergence: Divergence::Exact, tolerance: Tolerance::of(1e-7) };
    let density = likelihood.log_density(&process, &data, x, KEY).unwrap();
    for (nats, x) in std::iter::zip(&density.nats, values.chunks(3)) {
        let known = exact(&process, &components, x);
        assert!((nats - known).abs() < 3e-3, "{nats} {known}");
    }
    // Three passes an evaluation.
    assert_eq!(density.evaluations, 3 * density.tallies[0].evaluations.iter().max().unwrap());
    assert_eq!(density.standard_errors, Some(vec![0.0; 2]));
}

/// Gaussian data of two coordinates with covariance `[[1, c], [c, 1]]`, whose denoiser is linear: `v = R v'` with R the rotation by 45 degrees splits it
/// into variances 1 + c and 1 - c.
fn correlated(process: &dyn Process, c: f64) -> impl Fn(Tensor<2>, f64) -> Estimate<2> + '_ {
    move |x, t| {
        let law = process.law(t);
        let [plus, minus] = [1.0 + c, 1.0 - c].map(|v| 1.0 / (law.alpha.powi(2) * v + law.sigma.powi(2)));
        // The inverse of alpha² C + sigma².
        let (own, other) = ((plus + minus) / 2.0, (plus - minus) / 2.0);
        let swapped = Tensor::cat(vec![x.clone().narrow(1, 1, 1), x.clone().narrow(1, 0, 1)], 1);
        let pull = x.clone() * own + swapped * other;
        let noise = pull * law.sigma;
        let data = (x - noise.clone() * law.sigma) / law.alpha;
        Estimate { data, noise }
    }
}

/// With a full Jacobian the estimate is random: its mean over many probes is right, and its stated error is the one that it makes.
#[rstest]
#[case(Probe::Rademacher)]
#[case(Probe::Gaussian)]
fn probes_find_the_trace_and_know_their_error(#[case] probe: Probe) {
    let process = VariancePreserving::default();
    let c = 0.8;
    let denoiser = correlated(&process, c);
    // One sample many times over: each row has probes of its own.
    let (a, b) = (0.5, -0.3);
    let rows = 400;
    let x: Tensor<2> = double([a, b].repeat(rows), [rows, 2]);
    let known = {
        let (plus, minus) = ((a + b) / 2f64.sqrt(), (a - b) / 2f64.sqrt());
        let law = process.law(process.t_min());
        let variance = |v: f64| law.alpha.powi(2) * v + law.sigma.powi(2);
        gaussian(plus, 0.0, variance(1.0 + c)) + gaussian(minus, 0.0, variance(1.0 - c))
    };
    let likelihood = Likelihood {
        divergence: Divergence::Estimated { probe, probes: 4 },
        tolerance: Tolerance::default(),
    };
    let density = likelihood.log_density(&process, &denoiser, x, KEY).unwrap();
    let mean = density.nats.iter().sum::<f64>() / rows as f64;
    let spread = (density.nats.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / (rows as f64 - 1.0)).sqrt();
    let stated = density.standard_errors.unwrap();
    let stated = (stated.iter().map(|e| e * e).sum::<f64>() / rows as f64).sqrt();
    println!("{probe:?}: mean {mean:.4}, known {known:.4}, spread {spread:.4}, stated {stated:.4}");
    assert!((mean - known).abs() < 4.0 * spread / (rows as f64).sqrt() + 3e-3, "{mean} {known}");
    assert!((stated / spread - 1.0).abs() < 0.15, "{stated} {spread}");
    // Rademacher: e'Je = tr J ± 2 J_01, so a two-point law; Gaussian spreads more.
    assert!(spread > 0.05);
    let exact = Likelihood { divergence: Divergence::Exact, tolerance: Tolerance::default() };
    let one = exact.log_density(&process, &denoiser, double(vec![a, b], [1, 2]), KEY).unwrap();
    assert!((one.nats[0] - known).abs() < 3e-3, "{} {known}", one.nats[0]);
}

/// The error falls with the tolerance, and the cost rises.
#[test]
fn the_error_follows_the_tolerance() {
    let process = VariancePreserving::default();
    let data = GaussianMixture::new(&process, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap();
    let density = |tolerance: f64| {
        let likelihood = Likelihood { divergence: Divergence::Exact, tolerance: Tolerance::of(tolerance) };
        let x: Tensor<2> = double(vec![1.1, -0.2], [2, 1]);
        likelihood.log_density(&process, &data, x, KEY).unwrap()
    };
    let reference = density(1e-11);
    let mut cost = 0;
    for tolerance in [1e-3, 1e-5, 1e-7] {
        let found = density(tolerance);
        let error = apart(&found.nats, &reference.nats);
        println!("{tolerance:.0e}: off by {error:.1e} nats for {} evaluations", found.evaluations);
        assert!(error < 30.0 * tolerance, "{tolerance}: {error}");
        assert!(found.evaluations > cost);
        cost = found.evaluations;
    }
}

/// Levels 0 to 255 of a Gaussian: the bound lies above the exact entropy of the levels, and near to it.
#[test]
fn bits_per_dimension_bound_the_entropy_of_levels() {
    let (process, device) = (VariancePreserving::default(), Device::flex());
    let (mean, std) = (0.1, 0.25);
    let quantisation = Quantisation::default();
    let data = GaussianMixture::single(&process, mean, std).unwrap();
    // Levels of a draw from the model.
    let x = normal::<2>([2000, 4], KEY, &device) * std + mean;
    let levels = ((x + 1.0) * 127.5 / 255.0 * 256.0).floor().clamp(0.0, 255.0);
    let dequantised = quantisation.dequantise(levels.clone(), KEY.at_step(9));
    // Each stays in its own cell.
    let back = ((dequantised.clone() + 1.0) * 128.0).floor();
    let moved = doubles((back - levels).abs().max())[0];
    assert!(moved < 0.5, "a level moved by {moved}");
    let density = Likelihood::default().log_density(&process, &data, dequantised, KEY).unwrap();
    let bits = quantisation.bits_per_dim(&density);
    // The differential entropy in bits, in units of a cell of 1/128.
    let known = 0.5 * (TAU * std * std).log2() + 0.5 / LN_2 + 7.0;
    let error = bits.standard_error.unwrap();
    println!("{:.4} bits, known {known:.4}, standard error {error:.4}", bits.mean);
    assert!((bits.mean - known).abs() < 4.0 * error + 1e-3, "{} {known}", bits.mean);
    // Of 8,000 coordinates, each of variance 1/2 in nats.
    assert!((error / (0.5f64.sqrt() / LN_2 / 8000f64.sqrt()) - 1.0).abs() < 0.1, "{error}");
    assert_eq!((bits.each.len(), bits.evaluations), (2000, density.evaluations));
}

#[test]
fn the_offset_is_the_logarithm_of_a_cell() {
    for (levels, range, offset) in [(256, -1.0..=1.0, 7.0), (256, 0.0..=1.0, 8.0), (2, 0.0..=1.0, 1.0)] {
        let quantisation = Quantisation::new(levels, range).unwrap();
        let density = kiln_diffusion::LogDensity {
            nats: vec![-LN_2 * 6.0],
            standard_errors: None,
            coordinates: 3,
            evaluations: 1,
            tallies: vec![],
        };
        let bits = quantisation.bits_per_dim(&density);
        assert!((bits.mean - (2.0 + offset)).abs() < 1e-12);
        assert_eq!(bits.standard_error, None);
    }
    assert!(Quantisation::new(1, 0.0..=1.0).is_err());
    assert!(Quantisation::new(256, 1.0..=1.0).is_err());
    assert!(Likelihood { tolerance: Tolerance::of(0.0), ..Likelihood::default() }.check().is_err());
    let none = Divergence::Estimated { probe: Probe::Gaussian, probes: 0 };
    assert!(Likelihood { divergence: none, ..Likelihood::default() }.check().is_err());
    fn needs(_: &dyn Denoiser<2>) {}
    needs(&correlated(&RectifiedFlow, 0.5));
}
