//! The reverse stochastic equation: moments propagated exactly, and runs put aside.

use burn::tensor::Device;
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{
    Corrector, Finish, GaussianMixture, Predictor, PredictorCorrector, Process, RectifiedFlow, Sampler,
    SolverConfig, VariancePreserving, grid, keyed_noise,
};

use crate::{double, doubles, floats};

fn rule(predictor: Predictor, corrections: usize) -> SolverConfig {
    let corrector = Corrector::Langevin;
    SolverConfig::PredictorCorrector(PredictorCorrector {
        predictor,
        corrector,
        corrections,
        signal_to_noise: 0.16,
    })
}

/// For Gaussian data each step is affine in x and in its own draw, so a run's mean and variance come of n + 2 runs: one without noise, one
/// from a start of 1, and one for each draw alone.
fn moments_error(process: &dyn Process, predictor: Predictor, steps: usize) -> f64 {
    let (from, to, std) = (1.0, 0.1, 0.4);
    let data = GaussianMixture::single(process, 0.7, std).unwrap();
    let times: Vec<_> = (0..=steps).map(|i| from + (to - from) * i as f64 / steps as f64).collect();
    let sampler = Sampler::new(rule(predictor, 0), times).unwrap().with_finish(Finish::AtGridEnd);
    // Row 0 has nothing, row 1 the start, row 2 + i the draw of step i.
    let rows = steps + 2;
    let unit = |at: usize| double((0..rows).map(|row| f64::from(u8::from(row == at))).collect(), [rows, 1]);
    let noise = |draw: kiln_diffusion::Draw| unit(2 + draw.step);
    let ends = doubles(sampler.start(process, &data, unit(1), noise).unwrap().finish());
    let gain = |row: usize| ends[row] - ends[0];
    let (start, end) = (process.law(from), process.law(to));
    let variance = |law: kiln_diffusion::Law| (law.alpha * std).powi(2) + law.sigma.powi(2);
    let mean = ends[0] + gain(1) * start.alpha * 0.7;
    let spread = gain(1).powi(2) * variance(start) + (2..rows).map(|row| gain(row).powi(2)).sum::<f64>();
    (mean - end.alpha * 0.7).abs().max((spread - variance(end)).abs())
}

#[test]
fn both_predictors_are_of_weak_order_one() {
    let process = VariancePreserving::default();
    for predictor in [Predictor::ReverseDiffusion, Predictor::EulerMaruyama] {
        let steps = [64, 96, 144, 216, 324];
        let points = steps.map(|n| ((n as f64).ln(), -moments_error(&process, predictor, n).ln()));
        let (mx, my) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / 5.0, b + y / 5.0));
        let (xy, xx) =
            points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + (x - mx) * (y - my), b + (x - mx).powi(2)));
        println!("{predictor:?}: weak order {:.2}", xy / xx);
        assert!((xy / xx - 1.0).abs() < 0.2, "{predictor:?}: {}", xy / xx);
    }
}

#[test]
fn a_corrected_run_is_resumed_and_has_the_datas_moments() {
    let process = VariancePreserving::default();
    let data = GaussianMixture::single(&process, 0.7, 0.4).unwrap();
    let key = NoiseKey::new(9);
    let device = Device::flex();
    for predictor in [Predictor::ReverseDiffusion, Predictor::EulerMaruyama] {
        let sampler = Sampler::new(rule(predictor, 1), grid::uniform(&process, 100).unwrap()).unwrap();
        let start = || sampler.start_keyed(&process, &data, [64, 32], key, &device).unwrap();
        let whole = floats::<2>(start().finish());
        let mut first = start();
        assert_eq!(first.by_ref().take(40).count(), 40);
        let noise = keyed_noise([64, 32], key, &device);
        let rest = sampler.resume(&process, &data, first.pause(), noise).unwrap().finish();
        assert_eq!(floats(rest), whole);
        let mean = whole.iter().sum::<f32>() / whole.len() as f32;
        let std = (whole.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / whole.len() as f32).sqrt();
        println!("{predictor:?}: mean {mean:.3}, standard deviation {std:.3}");
        assert!((mean - 0.7).abs() < 0.05 && (std - 0.4).abs() < 0.06, "{predictor:?}: {mean} {std}");
    }
}

#[test]
fn an_infinite_drift_is_refused() {
    let data = GaussianMixture::single(&RectifiedFlow, 0.7, 0.4).unwrap();
    let start = |predictor| {
        let sampler = Sampler::new(rule(predictor, 0), grid::uniform(&RectifiedFlow, 5).unwrap()).unwrap();
        let run = sampler.start_keyed::<2>(&RectifiedFlow, &data, [2, 2], NoiseKey::new(0), &Device::flex());
        run.map(|run| floats(run.finish()))
    };
    assert!(start(Predictor::EulerMaruyama).is_err());
    assert!(start(Predictor::ReverseDiffusion).unwrap().iter().all(|x| x.is_finite()));
}
