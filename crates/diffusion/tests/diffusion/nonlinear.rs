//! Non-linear drifts: a double well, whose stationary law is known, and a linear drift written as any other.

use std::cell::Cell;

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    Clock, Corrector, Denoiser, Draw, Estimate, Finish, GaussianMixture, LinearSde, NonlinearSde, Predictor,
    PredictorCorrector, Process, SOLVERS, Sampler, SolverConfig, SolverKind, grid, keyed_noise,
};
use rstest::rstest;

use crate::{apart, double, doubles};

const KEY: NoiseKey = NoiseKey { seed: 11, sample: 0, step: 0 };

/// `f = x - x³`; with `g = 1` the stationary density is `exp(x² - x⁴ / 2)` and its score `2 f`.
fn well(x: Tensor<2>, _: f64) -> Tensor<2> {
    x.clone() - x.clone() * x.square()
}

fn well_score(x: Tensor<2>, t: f64) -> Tensor<2> {
    well(x, t) * 2.0
}

fn density(x: f64) -> f64 {
    (x * x - x.powi(4) / 2.0).exp()
}

/// `E x^n` of the stationary law, by the trapezoidal rule, which is exact to rounding for it.
fn moment(n: i32) -> f64 {
    let sum = |f: &dyn Fn(f64) -> f64| (-4000..=4000).map(|i| f(f64::from(i) * 1e-3)).sum::<f64>();
    sum(&|x| x.powi(n) * density(x)) / sum(&density)
}

/// Samples of the stationary law: its quantiles, evenly.
fn stationary(count: usize) -> Vec<f64> {
    let cells: Vec<f64> = (-40_000..=40_000).map(|i| f64::from(i) * 1e-4).collect();
    let total: f64 = cells.iter().copied().map(density).sum();
    let (mut below, mut quantiles) = (0.0, Vec::with_capacity(count));
    for x in cells {
        below += density(x) / total;
        while quantiles.len() < count && below >= (quantiles.len() as f64 + 0.5) / count as f64 {
            quantiles.push(x);
        }
    }
    quantiles
}

fn moments_of(values: &[f64]) -> [f64; 3] {
    let mean = |n: i32| values.iter().map(|x| x.powi(n)).sum::<f64>() / values.len() as f64;
    [mean(1), mean(2), mean(4)]
}

fn rule(predictor: Predictor, corrector: Corrector, corrections: usize) -> SolverConfig {
    SolverConfig::PredictorCorrector(PredictorCorrector {
        predictor,
        corrector,
        corrections,
        signal_to_noise: 0.16,
    })
}

fn double_well() -> NonlinearSde<2> {
    NonlinearSde::new(2.0, 1.0, well, |_| 1.0).unwrap()
}

/// Forward from a point, x comes to the stationary law; from the stationary law it stays.
#[test]
fn a_double_well_comes_to_its_stationary_law() {
    let (n, device) = (20_000, Device::flex());
    let sde = NonlinearSde::new(8.0, 1.0, well, |_| 1.0).unwrap();
    let times: Vec<_> = (0..=800).map(|i| f64::from(i) * 0.01).collect();
    let noise = keyed_noise([n, 1], KEY, &device);
    let x = sde.simulate(Tensor::full([n, 1], 1.0, &device), &times, noise).unwrap();
    let found = moments_of(&doubles(x));
    println!("forward: {found:.4?} of {:.4?}", [1, 2, 4].map(moment));
    // Of 20,000 the mean's standard error is 0.007, and about 0.03 of the start at 1 is still remembered; a step of 0.01 leaves a bias of about 0.01 in the rest.
    assert!(found[0].abs() < 0.06, "{found:?}");
    assert!((found[1] - moment(2)).abs() < 0.025 && (found[2] - moment(4)).abs() < 0.06, "{found:?}");
}

/// The reverse equation with the stationary score keeps the stationary law, by every predictor and corrector, and each sample moves.
#[rstest]
#[case::euler_maruyama(rule(Predictor::EulerMaruyama, Corrector::Langevin, 0))]
#[case::reverse_diffusion(rule(Predictor::ReverseDiffusion, Corrector::Langevin, 0))]
// Small steps of Langevin's dynamics: their own bias is of the order of a step.
#[case::annealed(SolverConfig::PredictorCorrector(PredictorCorrector {
    predictor: Predictor::EulerMaruyama,
    corrector: Corrector::Annealed,
    corrections: 2,
    signal_to_noise: 0.03,
}))]
#[case::ancestral(SolverConfig::ddpm())]
fn the_reverse_equation_keeps_the_stationary_law(#[case] solver: SolverConfig) {
    let sde = double_well();
    let n = 20_000;
    let start = double(stationary(n), [n, 1]);
    let back = sde.reversed(well_score);
    let sampler = Sampler::new(solver, grid::uniform(sde.driftless(), 200).unwrap()).unwrap();
    let noise = |draw: Draw| {
        let step = 1 + draw.step * 8 + draw.part;
        let z: Tensor<2> = normal([n, 1], KEY.at_step(step as u64), &Device::flex());
        double(doubles(z), [n, 1])
    };
    let end = doubles(sampler.start(sde.driftless(), &back, start.clone(), noise).unwrap().finish());
    let (found, known) = (moments_of(&end), [1, 2, 4].map(moment));
    println!("{solver:?}: {found:.4?} of {known:.4?}");
    // The standard errors are 0.007, 0.004 and 0.011.
    for (found, (known, error)) in std::iter::zip(found, std::iter::zip(known, [0.007, 0.004, 0.011])) {
        assert!((found - known).abs() < 4.0 * error + 0.01, "{found} of {known}");
    }
    assert!(apart(&end, &doubles(start)) > 1.0);
}

/// The flow of the stationary law stands still, and with a wrong score it does not.
#[test]
fn the_flow_of_a_stationary_law_stands_still() {
    let sde = double_well();
    let start = double(vec![-1.7, -0.3, 0.2, 1.1], [4, 1]);
    for solver in [SolverConfig::euler(), SolverConfig::heun()] {
        let sampler = Sampler::new(solver, grid::uniform(sde.driftless(), 20).unwrap()).unwrap();
        let quiet = |_: Draw| -> Tensor<2> { panic!("the flow asks for noise") };
        let end = |back: &dyn Denoiser<2>| {
            let run = sampler.start(sde.driftless(), back, start.clone(), quiet).unwrap();
            apart(&doubles(run.finish()), &doubles(start.clone()))
        };
        assert!(end(&sde.flow(well_score)) < 1e-12);
        assert!(end(&sde.flow(|x, t| well_score(x, t) * 0.9)) > 1e-2);
    }
}

/// An Ornstein-Uhlenbeck process written as any other is the linear one: the same draws by stochastic and deterministic rules, step by step.
#[test]
fn a_linear_drift_is_the_linear_process() {
    let (theta, spread) = (0.8, 0.9);
    let linear = LinearSde::new(1.5, 0.0, move |_| -theta, move |t| spread * (1.0 + t)).unwrap();
    let written =
        NonlinearSde::<2>::new(1.5, 1.0, move |x, _| x * -theta, move |t| spread * (1.0 + t)).unwrap();
    let data = GaussianMixture::new(&linear, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap();
    let score = |x: Tensor<2>, t: f64| data.denoise(x, t).noise * (-1.0 / linear.sigma(t));
    let (reversed, flow) = (written.reversed(score), written.flow(score));
    let x = double(vec![-1.4, -0.2, 0.5, 2.0], [4, 1]);
    let times = vec![1.5, 1.2, 0.9, 0.6, 0.4, 0.25];
    let drawn =
        |draw: Draw| double((0..4).map(|i| (f64::from(i) + draw.step as f64).sin()).collect(), [4, 1]);
    for (solver, back) in [
        (rule(Predictor::EulerMaruyama, Corrector::Langevin, 0), &reversed as &dyn Denoiser<2>),
        (SolverConfig::Euler { clock: Clock::Time }, &flow),
        (SolverConfig::Heun { clock: Clock::Time }, &flow),
    ] {
        let sampler = Sampler::new(solver, &times).unwrap().with_finish(Finish::AtGridEnd);
        let run = |process: &dyn Process, denoiser: &dyn Denoiser<2>| {
            let steps = sampler.start(process, denoiser, x.clone(), drawn).unwrap();
            steps.take(5).flat_map(|step| doubles(step.sample)).collect::<Vec<_>>()
        };
        let difference = apart(&run(&linear, &data), &run(written.driftless(), back));
        println!("{solver:?}: {difference:.1e}");
        assert!(difference < 1e-9, "{solver:?}: {difference:e}");
    }
}

/// Every deterministic solver comes to the linear process's own end, whatever variables it steps in.
#[test]
fn other_solvers_take_the_flow_too() {
    let linear = LinearSde::new(1.0, 0.0, |_| -1.0, |_| 1.2).unwrap();
    let written = NonlinearSde::<2>::new(1.0, 1.0, |x, _| -x, |_| 1.2).unwrap();
    let data = GaussianMixture::single(&linear, 0.7, 0.4).unwrap();
    let flow = written.flow(|x, t| data.denoise(x, t).noise * (-1.0 / linear.sigma(t)));
    let (a, b) = (linear.law(1.0), linear.law(0.1));
    let v = |alpha: f64, sigma: f64| (alpha * 0.4).powi(2) + sigma * sigma;
    let start = [-1.5, -0.4, 0.3, 2.0];
    let ratio = (v(b.alpha, b.sigma) / v(a.alpha, a.sigma)).sqrt();
    let known = start.map(|x| b.alpha * 0.7 + ratio * (x - a.alpha * 0.7));
    for entry in SOLVERS.iter().filter(|entry| entry.kind == SolverKind::Deterministic) {
        let times: Vec<_> = (0..=200).map(|i| 1.0 - 0.9 * f64::from(i) / 200.0).collect();
        let sampler = Sampler::new(entry.config, times).unwrap().with_finish(Finish::AtGridEnd);
        let quiet = |_: Draw| -> Tensor<2> { panic!("the flow asks for noise") };
        let x = double(start.to_vec(), [4, 1]);
        let end = doubles(sampler.start(written.driftless(), &flow, x, quiet).unwrap().finish());
        let error = apart(&end, &known);
        println!("{}: {error:.1e}", entry.name);
        assert!(error < 0.01, "{}: {error:e}", entry.name);
    }
}

/// Corrections follow the score alone, and cost no more evaluations than elsewhere.
#[test]
fn corrections_follow_the_score_itself() {
    let sde = double_well();
    let calls = Cell::new(0);
    let back = sde.reversed(|x, t| {
        calls.set(calls.get() + 1);
        well_score(x, t)
    });
    let x = double(vec![0.5], [1, 1]);
    let law = sde.driftless().law(1.0);
    assert_eq!(doubles(back.score(x.clone(), 1.0, &law)), doubles(well_score(x.clone(), 1.0)));
    let Estimate { data, noise } = back.denoise(x.clone(), 1.0);
    // score - f, as g is 1.
    assert!((doubles(noise.clone() * (-1.0 / law.sigma))[0] - 0.375).abs() < 1e-12);
    assert!(apart(&doubles(data + noise * law.sigma), &doubles(x.clone())) < 1e-12);
    calls.set(0);
    let solver = rule(Predictor::EulerMaruyama, Corrector::Langevin, 2);
    let sampler = Sampler::new(solver, grid::uniform(sde.driftless(), 5).unwrap()).unwrap();
    let noise = |_: Draw| double(vec![0.1], [1, 1]);
    let _ = sampler.start(sde.driftless(), &back, x, noise).unwrap().finish();
    assert_eq!(calls.get(), 15);
}

#[test]
fn what_cant_be_reversed_is_refused() {
    let new = |t_max, prior, g: fn(f64) -> f64| NonlinearSde::<2>::new(t_max, prior, well, g);
    assert!(new(0.0, 1.0, |_| 1.0).is_err() && new(1.0, 0.0, |_| 1.0).is_err());
    let error = new(1.0, 1.0, |t| 0.5 - t).unwrap_err().to_string();
    assert!(error.contains("g of the non-linear equation must be above 0"), "{error}");
    assert!(new(1.0, 1.0, |t| 1.0 / t).is_err());
    let sde = double_well();
    let quiet = |_: Draw| double(vec![0.0], [1, 1]);
    for times in [&[0.0][..], &[0.5, 0.2], &[0.0, 2.5]] {
        assert!(sde.simulate(double(vec![0.0], [1, 1]), times, quiet).is_err(), "{times:?}");
    }
}
