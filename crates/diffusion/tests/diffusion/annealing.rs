//! Annealed Langevin dynamics: NCSN's sampler in both versions, its ladder and its step, and the annealed corrector.

use burn::tensor::Device;
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{
    Corrector, Draw, Finish, GaussianMixture, Predictor, PredictorCorrector, Process, RectifiedFlow, Sampler,
    SolverConfig, VarianceExploding, VariancePreserving, annealing, grid, keyed_noise,
};

use crate::{apart, double, doubles, floats};

const KEY: NoiseKey = NoiseKey { seed: 13, sample: 0, step: 0 };

fn langevin(corrections: usize, step: f64) -> SolverConfig {
    SolverConfig::PredictorCorrector(PredictorCorrector::annealed_langevin(corrections, step))
}

/// NCSN's algorithm 1 by hand: the mean and variance that it leaves of Gaussian data N(m, s²), whose dynamics are linear.
fn propagated(levels: &[f64], corrections: usize, step: f64, data: [f64; 2], denoise: bool) -> [f64; 2] {
    let [m, s2] = data;
    let (mut mean, mut variance) = (0.0, levels[0].powi(2));
    let last = levels[levels.len() - 1];
    for level in levels {
        let epsilon = step * level * level;
        let keep = 1.0 - epsilon / 2.0 / (s2 + level * level);
        for _ in 0..corrections {
            (mean, variance) = (m + keep * (mean - m), keep * keep * variance + epsilon);
        }
    }
    if denoise {
        let keep = s2 / (s2 + last * last);
        (mean, variance) = (m + keep * (mean - m), keep * keep * variance);
    }
    [mean, variance]
}

/// On a geometric ladder and on one that is none, ended as in version 1 and in version 2: what is drawn has the moments of the papers' algorithm, and these are
/// near the data's.
#[test]
fn both_versions_have_their_papers_moments() {
    let device = Device::flex();
    let process = VarianceExploding::new(0.05, 5.0).unwrap();
    let data = GaussianMixture::single(&process, 0.7, 0.4).unwrap();
    let geometric: Vec<_> = (0..20).map(|i| 5.0 * 0.01_f64.powf(f64::from(i) / 19.0)).collect();
    let uneven = [5.0, 3.0, 2.2, 1.0, 0.8, 0.5, 0.2, 0.1, 0.05];
    let n = 40_000_usize;
    for (levels, corrections, step) in [(&geometric[..], 60, 0.1), (&uneven, 100, 0.2)] {
        for finish in [Finish::AtGridEnd, Finish::Denoise] {
            let times = grid::at_levels(&process, levels).unwrap();
            let sampler = Sampler::new(langevin(corrections, step), times).unwrap().with_finish(finish);
            let run = sampler.start_keyed(&process, &data, [n / 100, 100], KEY, &device).unwrap();
            assert_eq!(run.total(), levels.len() + usize::from(finish == Finish::Denoise));
            let values = doubles::<2>(run.finish());
            let mean = values.iter().sum::<f64>() / n as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            let known = propagated(levels, corrections, step, [0.7, 0.4 * 0.4], finish == Finish::Denoise);
            println!("{} levels, {finish:?}: {mean:.4} {variance:.4}, known {known:.4?}", levels.len());
            let errors = [(known[1] / n as f64).sqrt(), known[1] * (2.0 / n as f64).sqrt()];
            assert!((mean - known[0]).abs() < 4.5 * errors[0], "{mean} {known:?}");
            assert!((variance - known[1]).abs() < 4.5 * errors[1], "{variance} {known:?}");
            // The last noise is in version 1's samples.
            let noise = if finish == Finish::AtGridEnd { 0.05_f64.powi(2) } else { 0.0 };
            assert!((known[0] - 0.7).abs() < 0.05 && (known[1] - 0.16 - noise).abs() < 0.04, "{known:?}");
        }
    }
}

/// Annealing finds the weights of components far apart, which Langevin's dynamics at one level can't (Song, Ermon 2019, section 3.2.2).
#[test]
fn annealing_finds_the_weights_of_a_mixture() {
    let device = Device::flex();
    let process = VarianceExploding::new(0.1, 20.0).unwrap();
    let data = GaussianMixture::new(&process, vec![(0.2, -4.0, 0.5), (0.8, 4.0, 0.5)]).unwrap();
    let share = |times: Vec<f64>, corrections| {
        let sampler = Sampler::new(langevin(corrections, 0.1), times).unwrap();
        let run = sampler.start_keyed(&process, &data, [200, 50], KEY, &device).unwrap();
        let values = floats::<2>(run.finish());
        values.iter().filter(|x| **x > 0.0).count() as f64 / values.len() as f64
    };
    let annealed = share(grid::uniform(&process, 60).unwrap(), 30);
    let at_one_level = share(grid::at_levels(&process, &[0.11, 0.1]).unwrap(), 300);
    println!("annealed {annealed:.3}, at one level {at_one_level:.3}, known 0.8");
    // A standard error of 0.004.
    assert!((annealed - 0.8).abs() < 0.03, "{annealed}");
    assert!((at_one_level - 0.5).abs() < 0.05, "{at_one_level}");
}

/// Put aside after any step, also before the last level's corrections and the last noise, a run goes on to the same bits.
#[test]
fn a_run_is_resumed_with_the_same_result() {
    let device = Device::flex();
    let process = VarianceExploding::new(0.1, 10.0).unwrap();
    let data = GaussianMixture::new(&process, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap();
    let times = grid::at_levels(&process, &[10.0, 4.0, 1.0, 0.3, 0.1]).unwrap();
    let sampler = Sampler::new(langevin(3, 0.1), times).unwrap();
    let start = || sampler.start_keyed(&process, &data, [2, 3], KEY, &device).unwrap();
    let whole = floats(start().finish());
    for stop in 0..=6 {
        let mut first = start();
        assert_eq!(first.by_ref().take(stop).count(), stop);
        let noise = keyed_noise([2, 3], KEY, &device);
        let rest = sampler.resume(&process, &data, first.pause(), noise).unwrap();
        assert_eq!(floats(rest.finish()), whole, "stopped after {stop}");
    }
}

/// The ladder and the step that NCSNv2's authors took, for samples of 32², 64² and 128² in three channels.
#[test]
fn the_ladder_and_the_step_are_ncsnv2s() {
    // (dimensions, sigma_1, levels, corrections, epsilon), Song and Ermon 2020, table 4.
    for (dimensions, widest, levels, corrections, epsilon) in
        [(3072, 50.0, 232, 5, 6.2e-6), (12_288, 90.0, 500, 5, 3.3e-6), (49_152, 190.0, 1086, 3, 1.8e-6)]
    {
        let ratio = annealing::level_ratio(dimensions);
        let count = annealing::level_count(widest, 0.01, ratio);
        let step = annealing::step(annealing::geometric_ratio(widest, 0.01, levels), corrections);
        println!("{dimensions}: gamma {ratio:.5}, {count} levels of {levels}, epsilon {:.3e}", step * 1e-4);
        // Their gamma is a choice near one half.
        assert!((count as f64 / levels as f64 - 1.0).abs() < 0.06, "{count}");
        assert!((step * 1e-4 / epsilon - 1.0).abs() < 0.02, "{step}");
    }
    let corners = double(vec![0.0, 0.0, 3.0, 4.0, 1.0, 0.0], [3, 2]);
    assert_eq!(annealing::widest_distance(corners.clone()), 5.0);
    assert_eq!(annealing::widest_distance(corners.narrow(0, 0, 1)), 0.0);
}

/// The annealed corrector's step is `2 a² (r sigma)²` whatever the score, and Langevin's is that of the norms.
#[test]
fn correctors_take_their_papers_steps() {
    let process = VariancePreserving::default();
    let data = GaussianMixture::single(&process, 0.7, 0.4).unwrap();
    let (t, s) = (0.6, 0.55);
    let law = process.law(t);
    let x = double(vec![0.3, -1.1], [1, 2]);
    let z = [0.5, -0.2];
    let a = law.alpha / process.law(s).alpha;
    let v = (law.alpha * 0.4).powi(2) + law.sigma.powi(2);
    let score = [0.3, -1.1].map(|x| -(x - law.alpha * 0.7) / v);
    let norm = |y: [f64; 2]| y[0].hypot(y[1]);
    for (corrector, e) in [
        (Corrector::Annealed, 2.0 * (a * 0.2 * law.sigma).powi(2)),
        (Corrector::Langevin, 2.0 * (a * 0.2 * norm(z) / norm(score)).powi(2)),
    ] {
        let solver = SolverConfig::PredictorCorrector(PredictorCorrector {
            predictor: Predictor::Identity,
            corrector,
            corrections: 1,
            signal_to_noise: 0.2,
        });
        let sampler = Sampler::new(solver, vec![t, s]).unwrap();
        let noise = |_: Draw| double(z.to_vec(), [1, 2]);
        let mut run = sampler.start(&process, &data, x.clone(), noise).unwrap();
        let sample = doubles(run.next().unwrap().sample);
        let known: Vec<_> =
            (0..2).map(|i| ([0.3, -1.1][i] + e * score[i] + (2.0 * e).sqrt() * z[i]) / a).collect();
        assert!(apart(&sample, &known) < 1e-12, "{corrector:?}: {sample:?} {known:?}");
    }
}

#[test]
fn what_cant_be_annealed_is_refused() {
    let error = Sampler::new(langevin(0, 0.1), [1.0, 0.5]).unwrap_err().to_string();
    assert!(error.contains("corrections must be at least 1"), "{error}");
    let process = VarianceExploding::new(0.1, 10.0).unwrap();
    for levels in [&[10.0][..], &[1.0, 2.0], &[20.0, 1.0], &[1.0, 0.01]] {
        assert!(grid::at_levels(&process, levels).is_err(), "{levels:?}");
    }
    let data = GaussianMixture::single(&RectifiedFlow, 0.7, 0.4).unwrap();
    let sampler = Sampler::new(langevin(2, 0.1), grid::uniform(&RectifiedFlow, 5).unwrap()).unwrap();
    let run = sampler.start_keyed::<2>(&RectifiedFlow, &data, [2, 2], KEY, &Device::flex());
    assert!(run.unwrap_err().to_string().contains("alpha is 0"));
}
