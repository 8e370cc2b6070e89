//! Inverse problems: what is known is exact, and how near the drawn part comes to the conditional law of Gaussian data.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    Conditioned, Corrector, Draw, Estimate, GaussianMixture, Known, Predictor, PredictorCorrector, Process,
    Sampler, SolverConfig, Variance, VarianceExploding, VariancePreserving, grid, keyed_noise,
};
use rstest::rstest;

use crate::{apart, doubles, floats};

const KEY: NoiseKey = NoiseKey { seed: 6, sample: 0, step: 0 };

/// Gaussian data of two coordinates with covariance `[[1, c], [c, 1]]`.
fn correlated(process: &dyn Process, c: f64) -> impl Fn(Tensor<2>, f64) -> Estimate<2> + '_ {
    move |x, t| {
        let law = process.law(t);
        let [own, other] = inverse(law.alpha, law.sigma, c);
        let swapped = Tensor::cat(vec![x.clone().narrow(1, 1, 1), x.clone().narrow(1, 0, 1)], 1);
        let noise = (x.clone() * own + swapped * other) * law.sigma;
        let data = (x - noise.clone() * law.sigma) / law.alpha;
        Estimate { data, noise }
    }
}

/// The inverse of `alpha² C + sigma²`: its diagonal and the rest.
fn inverse(alpha: f64, sigma: f64, c: f64) -> [f64; 2] {
    let [plus, minus] = [1.0 + c, 1.0 - c].map(|v| 1.0 / (alpha * alpha * v + sigma * sigma));
    [(plus + minus) / 2.0, (plus - minus) / 2.0]
}

/// Mean and variance of the drawn coordinate when the other is known to be y: the recursion that DDPM's steps with replacement are for Gaussian data, by
/// hand. x_1 stays jointly linear in independent noises, so its mean and variance are enough: the known coordinate's noise is fresh at every step.
fn propagated(process: &dyn Process, times: &[f64], c: f64, y: f64) -> (f64, f64) {
    let start = process.law(times[0]);
    let prior = process.prior_std();
    // (mean, variance) of both coordinates at the start: independent prior noise.
    let (mut mean, mut variance) = ([0.0, 0.0], [prior * prior, prior * prior]);
    let _ = start;
    for pair in times.windows(2) {
        let (t, s) = (process.law(pair[0]), process.law(pair[1]));
        let ratio = t.alpha / s.alpha;
        let fresh = (s.sigma / t.sigma).powi(2) * (t.sigma.powi(2) - (ratio * s.sigma).powi(2));
        let kept = (s.sigma.powi(2) - fresh).max(0.0).sqrt();
        let [own, other] = inverse(t.alpha, t.sigma, c);
        // x_s = alpha_s data + kept noise, noise = sigma (own x + other x'), data = (x - sigma noise) / alpha.
        let by_noise = kept - s.alpha * t.sigma / t.alpha;
        let (to_own, to_other) = (s.alpha / t.alpha + by_noise * t.sigma * own, by_noise * t.sigma * other);
        mean[1] = to_own * mean[1] + to_other * mean[0];
        variance[1] = to_own.powi(2) * variance[1] + to_other.powi(2) * variance[0] + fresh;
        mean[0] = s.alpha * y;
        variance[0] = s.sigma.powi(2);
    }
    (mean[1], variance[1])
}

fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
}

/// What replacement draws is what its recursion says, to sampling error; and that comes near the conditional law N(c y, 1 - c²) as steps grow, without reaching it.
#[test]
fn inpainting_draws_what_replacement_is_known_to_draw() {
    let (process, device) = (VariancePreserving::default(), Device::flex());
    let (c, y, n) = (0.8, 1.5, 40_000);
    let denoiser = correlated(&process, c);
    let mut gaps = vec![];
    for steps in [10, 40, 200] {
        let times = grid::natural(&process, steps).unwrap();
        let solver = SolverConfig::Ancestral { eta: 1.0, variance: Variance::Posterior };
        let (mean, variance) = propagated(&process, &times, c, y);
        gaps.push((mean - c * y).abs());
        println!(
            "{steps} steps: mean {mean:.4} of {:.4}, variance {variance:.4} of {:.4}",
            c * y,
            1.0 - c * c
        );
        if steps == 200 {
            continue;
        }
        let sampler = Sampler::new(solver, times).unwrap().with_finish(kiln_diffusion::Finish::AtGridEnd);
        let run = sampler.start_keyed(&process, &denoiser, [n, 2], KEY, &device).unwrap();
        let picture = Tensor::<2>::full([n, 2], y, &device);
        let mask = Tensor::<2>::from_floats([[1.0, 0.0]], &device);
        let noise = keyed_noise([n, 2], KEY, &device);
        let known = Known::pixels(picture, mask);
        let sample = Conditioned::new(run, &process, known, noise).finish();
        let drawn = moments(&doubles(sample.narrow(1, 1, 1)));
        // The standard error of the mean is 0.003, of the variance 0.003.
        assert!((drawn.0 - mean).abs() < 0.015, "{steps} steps: {drawn:?}, not {mean}");
        assert!((drawn.1 - variance).abs() < 0.02, "{steps} steps: {drawn:?}, not {variance}");
    }
    // Better than knowing nothing (a gap of c y = 1.2), and not exact.
    assert!(gaps.iter().all(|gap| *gap < 0.6), "{gaps:?}");
    assert!(gaps[2] > 1e-4, "{gaps:?}: replacement without correctors is not exact");
}

/// With Langevin's corrections at every level, each followed by what is known, the drawn part comes near the conditional mean: replacement's gap is one of too few
/// corrections, not of the score.
#[test]
fn corrections_at_each_level_close_the_gap() {
    let (process, device) = (VariancePreserving::default(), Device::flex());
    let (c, y, n) = (0.8, 1.5, 4000);
    let denoiser = correlated(&process, c);
    let known =
        Known::pixels(Tensor::<2>::full([n, 2], y, &device), Tensor::from_floats([[1.0, 0.0]], &device));
    let mut draws = 0;
    let mut noise = || {
        draws += 1;
        normal::<2>([n, 2], KEY.at_step(1000 + draws), &device)
    };
    let mut x = noise();
    // Levels evenly spaced in t are enough: what decides is how many corrections the last ones, of little noise, have.
    for level in (1..=30).rev() {
        let law = process.law(f64::from(level) / 40.0);
        let by = 0.4 * law.sigma.powi(2).min(1.0);
        for _ in 0..40 {
            let score = denoiser(x.clone(), f64::from(level) / 40.0).noise / -law.sigma;
            x = known.impose(x + score * by + noise() * (2.0 * by).sqrt(), &law, noise());
        }
    }
    let estimate = denoiser(x, 1.0 / 40.0).data;
    let (mean, _) = moments(&doubles(estimate.narrow(1, 1, 1)));
    println!("with corrections: mean {mean:.4} of {:.4}", c * y);
    assert!((mean - c * y).abs() < 0.12, "{mean}");
}

/// With predictor and corrector, what is known is put in between a step's halves too (score_sde's `controllable_generation.py`). Only between whole steps, a step's later
/// corrections and its prediction see a known part that has moved on with the rest, and the drawn part is further from its conditional mean.
#[test]
fn imposing_between_a_steps_halves_is_nearer_than_between_steps() {
    let (process, device) = (VarianceExploding::new(0.05, 10.0).unwrap(), Device::flex());
    let (c, y, n) = (0.8, 1.5, 20_000);
    let denoiser = correlated(&process, c);
    let known =
        || Known::pixels(Tensor::<2>::full([n, 2], y, &device), Tensor::from_floats([[1.0, 0.0]], &device));
    let noise = || keyed_noise([n, 2], KEY, &device);
    let mut gaps = vec![];
    for corrections in [1, 4, 16] {
        let solver = SolverConfig::PredictorCorrector(PredictorCorrector {
            predictor: Predictor::ReverseDiffusion,
            corrector: Corrector::Annealed,
            corrections,
            signal_to_noise: 0.3,
        });
        let sampler = Sampler::new(solver, grid::uniform(&process, 40).unwrap()).unwrap();
        let run = || sampler.start_keyed(&process, &denoiser, [n, 2], KEY, &device).unwrap();
        let between = Conditioned::new(run(), &process, known(), noise()).finish();
        // As it would be with whole steps only.
        let (mut steps, mut fresh) = (run(), noise());
        while let Some(step) = steps.next() {
            let law = process.law(step.s);
            let z = fresh(Draw { step: step.index, part: (1 << 16) - 1 });
            if steps.len() > 0 {
                steps.replace(known().impose(step.sample, &law, z));
            }
        }
        let [halves, whole] = [between, steps.sample().clone()].map(|sample| {
            let (mean, variance) = moments(&doubles(sample.narrow(1, 1, 1)));
            println!("{corrections} corrections: mean {mean:.4}, variance {variance:.4}");
            (mean - c * y).abs()
        });
        gaps.push([halves, whole]);
    }
    // The standard error of a mean is 0.005.
    assert!(gaps.iter().all(|[halves, whole]| halves < whole), "{gaps:?}");
    assert!(gaps[2][0] < gaps[0][0], "{gaps:?}");
}

/// The known part is the picture's own, to the bit, on processes with a clean time and on one without; the rest is not.
#[rstest]
#[case::vp(&VariancePreserving::default())]
#[case::ve(&VarianceExploding::new(0.01, 10.0).unwrap())]
fn the_known_part_is_exact(#[case] process: &dyn Process) {
    let device = Device::flex();
    let data = GaussianMixture::single(process, 0.0, 0.5).unwrap();
    let picture: Tensor<4> = normal([2, 3, 4, 4], KEY.at_step(99), &device);
    let left =
        Tensor::cat(vec![Tensor::<4>::ones([1, 1, 4, 2], &device), Tensor::zeros([1, 1, 4, 2], &device)], 3);
    let sampler = Sampler::new(SolverConfig::ddpm(), grid::natural(process, 12).unwrap()).unwrap();
    let run = || sampler.start_keyed(process, &data, [2, 3, 4, 4], KEY, &device).unwrap();
    let noise = || keyed_noise([2, 3, 4, 4], KEY, &device);
    let known = Known::pixels(picture.clone(), left);
    let whole: Vec<_> = Conditioned::new(run(), process, known.clone(), noise()).collect();
    let sample = whole.last().unwrap().sample.clone();
    assert_eq!(floats(sample.clone().narrow(3, 0, 2)), floats(picture.clone().narrow(3, 0, 2)));
    assert!(apart(&doubles(sample.clone().narrow(3, 2, 2)), &doubles(picture.clone().narrow(3, 2, 2))) > 0.1);
    assert_eq!(floats(known.picture().narrow(3, 2, 2)), [0.0; 48]);

    // Put aside in the middle and conditioned again: the same bits.
    let mut first = Conditioned::new(run(), process, known.clone(), noise());
    first.by_ref().take(5).for_each(drop);
    let rest = sampler.resume(process, &data, first.sampling().pause(), noise()).unwrap();
    assert_eq!(floats(Conditioned::new(rest, process, known, noise()).finish()), floats(sample));
}

/// A coloured picture's grey is the one that was asked for, and its colours are drawn.
#[test]
fn colourisation_keeps_the_grey() {
    let (process, device) = (VariancePreserving::default(), Device::flex());
    let data = GaussianMixture::single(&process, 0.0, 0.5).unwrap();
    let grey: Tensor<4> = normal([2, 1, 3, 5], KEY.at_step(98), &device);
    let sampler = Sampler::new(SolverConfig::ddpm(), grid::natural(&process, 12).unwrap()).unwrap();
    let run = sampler.start_keyed(&process, &data, [2, 3, 3, 5], KEY, &device).unwrap();
    let noise = keyed_noise([2, 3, 3, 5], KEY, &device);
    let known = Known::grey(grey.clone());
    let sample = Conditioned::new(run, &process, known.clone(), noise).finish();
    assert!(apart(&doubles(sample.clone().mean_dim(1)), &doubles(grey.clone())) < 1e-5);
    assert!(apart(&doubles(sample.clone().narrow(1, 0, 1)), &doubles(sample.narrow(1, 1, 1))) > 0.1);
    // The rotation keeps lengths: a picture that is grey everywhere is its own known part.
    assert!(apart(&doubles(known.picture()), &doubles(grey.repeat_dim(1, 3))) < 1e-5);
    // What is imposed with other noise differs by that noise in the grey channel only.
    let law = process.law(0.5);
    let x: Tensor<4> = normal([2, 3, 3, 5], KEY.at_step(97), &device);
    let imposed = |step| known.impose(x.clone(), &law, normal([2, 3, 3, 5], KEY.at_step(step), &device));
    let difference = imposed(1) - imposed(2);
    let colours = difference.clone() - difference.clone().mean_dim(1);
    assert!(doubles(colours.abs().max())[0] < 1e-5 && doubles(difference.abs().max())[0] > 0.1);
}
