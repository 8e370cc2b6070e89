//! Mean and covariance of every process's samples, for Gaussian data of two coordinates whose score is known.
//!
//! Each step is affine in x and in what it draws. So a run's mean and covariance come, without any sampling error, of runs of one draw each: none, a
//! start of 1 in each coordinate, and a draw of 1 in each coordinate at each step.

use burn::tensor::Tensor;
use kiln_diffusion::{
    BetaSchedule, DdpmLadder, Draw, Edm, Estimate, LinearSde, Predictor, PredictorCorrector, Process,
    RectifiedFlow, Sampler, SolverConfig, SubVariancePreserving, VarianceExploding, VariancePreserving, grid,
};
use rstest::rstest;

use crate::{double, doubles};

const MEAN: [f64; 2] = [0.7, -0.3];
/// The data's variances and covariance.
const COVARIANCE: [f64; 3] = [0.5, 0.3, 0.2];

/// The exact estimate, by the inverse of `alpha² C + sigma²`.
fn exact(process: &dyn Process) -> impl Fn(Tensor<2>, f64) -> Estimate<2> + '_ {
    move |x, t| {
        let law = process.law(t);
        let (a2, s2) = (law.alpha.powi(2), law.sigma.powi(2));
        let (p, q, r) = (a2 * COVARIANCE[0] + s2, a2 * COVARIANCE[1] + s2, a2 * COVARIANCE[2]);
        let determinant = (p * q - r * r).max(f64::MIN_POSITIVE);
        let away = [0, 1].map(|i| x.clone().narrow(1, i, 1) - law.alpha * MEAN[i]);
        let [first, second] = [
            (away[0].clone() * q - away[1].clone() * r) / determinant,
            (away[1].clone() * p - away[0].clone() * r) / determinant,
        ];
        // x_0 = m + alpha C V^-1 (x - alpha m) has no division by alpha; neither has eps = sigma V^-1 (x - alpha m).
        let data = [
            first.clone() * (law.alpha * COVARIANCE[0])
                + second.clone() * (law.alpha * COVARIANCE[2])
                + MEAN[0],
            first.clone() * (law.alpha * COVARIANCE[2])
                + second.clone() * (law.alpha * COVARIANCE[1])
                + MEAN[1],
        ];
        Estimate {
            data: Tensor::cat(data.to_vec(), 1),
            noise: Tensor::cat(vec![first, second], 1) * law.sigma,
        }
    }
}

/// How far a run's mean and covariance are from the data's.
fn error(process: &dyn Process, solver: SolverConfig, steps: usize) -> f64 {
    let sampler = Sampler::new(solver, grid::natural(process, steps).unwrap()).unwrap();
    // Rows: nothing, two starts, and two a step and draw; the last noise of variance exploding is a step too.
    let rows = 3 + 2 * (steps + 2);
    let mut start = vec![0.0; 2 * rows];
    start[2] = process.prior_std();
    start[5] = process.prior_std();
    let noise = |draw: Draw| {
        assert_eq!(draw.part, 0, "one draw a step");
        let mut z = vec![0.0; 2 * rows];
        let row = 3 + 2 * draw.step;
        z[2 * row] = 1.0;
        z[2 * row + 3] = 1.0;
        double(z, [rows, 2])
    };
    let denoiser = exact(process);
    let ends = doubles(sampler.start(process, &denoiser, double(start, [rows, 2]), noise).unwrap().finish());
    let gain = |row: usize, i: usize| ends[2 * row + i] - ends[i];
    let sum = |i: usize, j: usize| (1..rows).map(|row| gain(row, i) * gain(row, j)).sum::<f64>();
    let found = [ends[0], ends[1], sum(0, 0), sum(1, 1), sum(0, 1)];
    let known = [MEAN[0], MEAN[1], COVARIANCE[0], COVARIANCE[1], COVARIANCE[2]];
    std::iter::zip(found, known).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn reverse_diffusion() -> SolverConfig {
    SolverConfig::PredictorCorrector(PredictorCorrector {
        predictor: Predictor::ReverseDiffusion,
        corrector: kiln_diffusion::Corrector::Langevin,
        corrections: 0,
        signal_to_noise: 0.16,
    })
}

/// A linear equation that no name stands for: x decays at a rate that grows, with noise that falls.
fn written() -> LinearSde {
    LinearSde::new(2.0, 0.0, |t| -0.5 - 2.0 * t, |t| 2.5 - 0.5 * t).unwrap()
}

#[rstest]
#[case::ddpm(&DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap())]
#[case::ddpm_cosine(&DdpmLadder::new(BetaSchedule::Cosine, 1000).unwrap())]
#[case::vp(&VariancePreserving::default())]
#[case::subvp(&SubVariancePreserving::default())]
#[case::ve(&VarianceExploding::default())]
#[case::flow(&RectifiedFlow)]
#[case::edm(&Edm::default())]
#[case::linear_sde(&written())]
fn samples_have_the_datas_mean_and_covariance(#[case] process: &dyn Process) {
    // Even steps to clean data cost an order of 1 where noise begins as sqrt(t); and a start knows nothing of the data's mean, whose share alpha there is 0.013 of the noise at most.
    for (solver, within) in
        [(SolverConfig::heun(), 0.02), (SolverConfig::ddpm(), 0.06), (reverse_diffusion(), 0.04)]
    {
        let (coarse, fine) = (error(process, solver, 50), error(process, solver, 500));
        println!("{process:?} by {solver:?}: {coarse:.1e} in 50 steps, {fine:.1e} in 500");
        assert!(fine < within && fine < coarse, "{process:?} by {solver:?}: {coarse} {fine}");
    }
}

/// SMLD's chain, `x_{i+1} = x_i + sqrt(sigma_{i+1}² - sigma_i²) z`, and DDPM's, `x_{i+1} = sqrt(1 - beta) x_i + sqrt(beta) z`, are the equations' Euler and
/// Maruyama steps in the limit: drift and diffusion of a step, a unit of time, tend to f and g² as 1 / N.
#[test]
fn chains_tend_to_their_equations() {
    let (ve, vp) = (VarianceExploding::default(), VariancePreserving::default());
    let smld = |n: usize| {
        let level = |i: usize| 0.01 * 5000_f64.powf(i as f64 / (n - 1) as f64);
        // On the rungs the chain's levels are the process's own.
        (0..n - 1)
            .map(|i| {
                let t = i as f64 / (n - 1) as f64;
                assert!((ve.sigma(t) / level(i) - 1.0).abs() < 1e-12);
                let g2 = (level(i + 1).powi(2) - level(i).powi(2)) * (n - 1) as f64;
                (g2 / ve.diffusion_squared(t) - 1.0).abs()
            })
            .fold(0.0, f64::max)
    };
    let ddpm = |n: usize| {
        (0..n)
            .map(|i| {
                let t = (i + 1) as f64 / n as f64;
                let beta = vp.beta(t) / n as f64;
                let drift = ((1.0 - beta).sqrt() - 1.0) * n as f64;
                let shrinks = (drift / vp.drift(t) - 1.0).abs();
                shrinks.max((beta * n as f64 / vp.diffusion_squared(t) - 1.0).abs())
            })
            .fold(0.0, f64::max)
    };
    for (name, distance) in [("SMLD", &smld as &dyn Fn(usize) -> f64), ("DDPM", &ddpm)] {
        let (coarse, fine) = (distance(1000), distance(4000));
        println!("{name}: {coarse:.2e} at 1000, {fine:.2e} at 4000");
        assert!(coarse < 0.02 && (3.8..4.2).contains(&(coarse / fine)), "{name}: {coarse} {fine}");
    }
}
