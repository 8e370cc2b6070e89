//! The ancestral solver's noise: mean and variance are propagated as its formula says, and reach the data's.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{
    BetaSchedule, DdpmLadder, Finish, GaussianMixture, Law, Process, RectifiedFlow, Sampler, SolverConfig,
    VarianceExploding, VariancePreserving, grid,
};
use rstest::rstest;

use crate::doubles;

const MEAN: f64 = 0.7;
const STD: f64 = 0.4;

fn moments(sample: Tensor<2>) -> (f64, f64) {
    let values = doubles(sample);
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
}

/// For Gaussian data each step is linear in x, so mean and variance follow from DDPM's posterior `q(x_s | x_t, x_0)` by hand:
/// with x_0_hat = m + k (x - alpha_t m), k = alpha_t std² / v_t, and the posterior's mean a x_0 + b x_t and variance d².
fn propagated(process: &dyn Process, times: &[f64], eta: f64) -> (f64, f64) {
    let (mut mean, mut variance) = (0.0, process.prior_std().powi(2));
    for pair in times.windows(2) {
        let (t, s): (Law, Law) = (process.law(pair[0]), process.law(pair[1]));
        let ratio = t.alpha / s.alpha;
        let fresh = eta.powi(2) * (s.sigma / t.sigma).powi(2) * (t.sigma.powi(2) - (ratio * s.sigma).powi(2));
        // x_s = alpha_s x_0 + c (x_t - alpha_t x_0) + d z, where c² sigma_t² + d² = sigma_s².
        let c = (s.sigma.powi(2) - fresh).sqrt() / t.sigma;
        let k = t.alpha * STD * STD / (t.alpha.powi(2) * STD * STD + t.sigma.powi(2));
        let to_data = s.alpha - c * t.alpha;
        let slope = to_data * k + c;
        let shift = to_data * MEAN * (1.0 - k * t.alpha);
        mean = slope * mean + shift;
        variance = slope * slope * variance + fresh;
    }
    (mean, variance)
}

#[rstest]
#[case::ddpm(&DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap())]
#[case::vp(&VariancePreserving::default())]
#[case::smld(&VarianceExploding::new(0.01, 10.0).unwrap())]
#[case::flow(&RectifiedFlow)]
fn mean_and_variance_are_propagated_exactly(#[case] process: &dyn Process) {
    let data = GaussianMixture::single(process, MEAN, STD).unwrap();
    let n = 200_000;
    for (eta, steps) in [(1.0, 5), (1.0, 40), (0.5, 12)] {
        let times = grid::natural(process, steps).unwrap();
        let (mean, variance) = propagated(process, &times, eta);
        let sampler = Sampler::new(
            SolverConfig::Ancestral { eta, variance: kiln_diffusion::Variance::Posterior },
            times,
        )
        .unwrap()
        .with_finish(Finish::AtGridEnd);
        let sampling = sampler.start_keyed(process, &data, [n / 100, 100], NoiseKey::new(3), &Device::flex());
        let (sample_mean, sample_variance) = moments(sampling.unwrap().finish());
        let (mean_error, variance_error) = ((variance / n as f64).sqrt(), variance * (2.0 / n as f64).sqrt());
        assert!(
            (sample_mean - mean).abs() < 4.5 * mean_error,
            "eta {eta}, {steps} steps: mean {sample_mean}, not {mean}"
        );
        assert!(
            (sample_variance - variance).abs() < 4.5 * variance_error,
            "eta {eta}, {steps} steps: variance {sample_variance}, not {variance}"
        );
    }
}

/// With many steps the propagated moments are the data's, and their error falls as 1 / steps.
#[rstest]
#[case(&DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap())]
#[case(&RectifiedFlow)]
fn the_moments_tend_to_the_datas(#[case] process: &dyn Process) {
    let error = |steps| {
        let (mean, variance) = propagated(process, &grid::natural(process, steps).unwrap(), 1.0);
        ((mean - MEAN).abs(), (variance - STD * STD).abs())
    };
    let (coarse, fine) = (error(250), error(1000));
    assert!(coarse.1 < 0.02, "{coarse:?}");
    assert!((2.5..5.5).contains(&(coarse.1 / fine.1)), "{coarse:?} {fine:?}");
}

/// On DDPM's neighbouring rungs, eta = 1 draws with the posterior's variance `beta_tilde` (Ho et al. 2020, equation 7).
#[test]
fn neighbouring_rungs_have_beta_tilde() {
    let betas = BetaSchedule::LINEAR.betas(1000);
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap();
    let nothing =
        |x: Tensor<2>, _: f64| kiln_diffusion::Estimate { data: x.zeros_like(), noise: x.zeros_like() };
    for i in [1, 10, 500, 999] {
        let sampler = Sampler::new(SolverConfig::ddpm(), vec![ladder.time(i), ladder.time(i - 1)]).unwrap();
        let one = |_| Tensor::<2>::ones([1, 1], &Device::flex());
        let x = Tensor::zeros([1, 1], &Device::flex());
        let mut sampling = sampler.start(&ladder, &nothing, x, one).unwrap();
        let drawn = doubles(sampling.next().unwrap().sample)[0];
        let beta_tilde = (1.0 - ladder.alpha_bar(i - 1)) / (1.0 - ladder.alpha_bar(i)) * betas[i];
        assert!((drawn / beta_tilde.sqrt() - 1.0).abs() < 1e-6, "rung {i}");
    }
}
