//! The training side: times, pairs, weights, gradients.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    BetaSchedule, DdpmLadder, Denoiser, Estimate, GaussianMixture, Objective, Prediction, Process,
    RectifiedFlow, TimeSampling, VariancePreserving, Weighting, perturb,
};
use rstest::rstest;

use crate::{apart, doubles, floats, processes};

const KEY: NoiseKey = NoiseKey { seed: 1, sample: 7, step: 3 };

#[test]
fn times_stay_in_range_and_belong_to_their_sample() {
    for (name, process) in processes() {
        for sampling in [TimeSampling::Uniform, TimeSampling::LogitNormal { mean: 0.0, std: 1.0 }] {
            let times = sampling.draw(&*process, 2000, KEY);
            assert!(
                times.iter().all(|t| (process.t_min()..=process.t_max()).contains(t)),
                "{name}, {sampling:?}"
            );
            let later = sampling.draw(&*process, 10, KEY.at_sample(KEY.sample + 50));
            assert_eq!(later, times[50..60], "{name}, {sampling:?}");
            assert_ne!(sampling.draw(&*process, 10, KEY.at_step(4)), times[..10], "{name}, {sampling:?}");
        }
    }
}

/// On a ladder every rung is hit and no time lies between rungs.
#[test]
fn uniform_times_of_a_ladder_are_its_rungs() {
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 10).unwrap();
    let mut hits = [0; 10];
    for t in TimeSampling::Uniform.draw(&ladder, 10_000, KEY) {
        let rung = ladder.network_time(t);
        assert_eq!(rung, rung.round());
        hits[rung as usize] += 1;
    }
    // Five standard deviations of a binomial.
    assert!(hits.iter().all(|&n| (850..1150).contains(&n)), "{hits:?}");
}

/// The share of times below t is the normal distribution at `(logit(t) - mean) / std`.
#[test]
fn logit_normal_times_have_their_quantiles() {
    let (mean, std) = (0.5, 1.2);
    let times = TimeSampling::LogitNormal { mean, std }.draw(&RectifiedFlow, 40_000, KEY);
    for (z, share) in [(-1.0, 0.158_66), (0.0, 0.5), (1.5, 0.933_19)] {
        let t = 1.0 / (1.0 + f64::exp(-(mean + std * z)));
        let below = times.iter().filter(|&&time| time < t).count() as f64 / 40_000.0;
        assert!((below - share).abs() < 0.0125, "z = {z}: {below}");
    }
}

#[test]
fn perturbed_data_has_the_law_of_state() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let (data, noise) =
        (normal::<3>([4, 2, 3], KEY, &device), normal::<3>([4, 2, 3], KEY.at_step(9), &device));
    let times = [0.001, 0.3, 0.6, 1.0];
    let x = doubles(perturb(&process, data.clone(), noise.clone(), &times));
    let (data, noise) = (doubles(data), doubles(noise));
    for (i, value) in x.into_iter().enumerate() {
        let law = process.law(times[i / 6]);
        assert!((value - (law.alpha * data[i] + law.sigma * noise[i])).abs() < 1e-6);
    }
}

/// A pair's input, taken apart by its own target, is the data.
#[test]
fn a_pair_holds_together() {
    let device = Device::flex();
    for (name, process) in processes() {
        for prediction in
            [Prediction::V, Prediction::Velocity, Prediction::Sample, Prediction::Edm { sigma_data: 0.5 }]
        {
            let data: Tensor<2> = normal([6, 4], KEY.at_step(77), &device);
            let pair = Objective::new(prediction).pair(&*process, data.clone(), KEY);
            let laws: Vec<_> = pair.times.iter().map(|&t| process.law(t)).collect();
            let told: Vec<_> = pair.times.iter().map(|&t| process.network_time(t)).collect();
            assert!(apart(&doubles(pair.network_times.clone()), &told) < 1e-4, "{name}");
            let scales: Vec<_> = laws.iter().map(|law| prediction.input_scale(law) as f32).collect();
            let scales = Tensor::<1>::from_floats(scales.as_slice(), &device).reshape([6, 1]);
            let estimate = prediction.estimate_each(pair.target.clone(), pair.input.clone() / scales, &laws);
            let noise = doubles(normal::<2>([6, 4], KEY, &device));
            assert!(apart(&doubles(estimate.data), &doubles(data)) < 2e-3, "{name}, {prediction:?}: data");
            assert!(apart(&doubles(estimate.noise), &noise) < 2e-3, "{name}, {prediction:?}: noise");
            assert!(doubles(pair.loss(pair.target.clone()))[0] == 0.0);
        }
    }
}

/// A pair of a batch is the pairs of its samples: what is learnt from a sample does not depend on its neighbours.
#[test]
fn a_pair_does_not_depend_on_the_batch() {
    let device = Device::flex();
    let objective = Objective::new(Prediction::Velocity);
    let data: Tensor<2> = normal([4, 5], NoiseKey::new(8), &device);
    let whole = objective.pair(&RectifiedFlow, data.clone(), KEY);
    for i in 0..4 {
        let alone = objective.pair(
            &RectifiedFlow,
            data.clone().narrow(0, i, 1),
            KEY.at_sample(KEY.sample + i as u64),
        );
        assert_eq!(floats(whole.input.clone().narrow(0, i, 1)), floats(alone.input));
        assert_eq!(floats(whole.target.clone().narrow(0, i, 1)), floats(alone.target));
        assert_eq!(whole.times[i], alone.times[0]);
    }
}

#[test]
fn the_loss_is_the_weighted_mean_of_squares() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let objective =
        Objective { weighting: Weighting::MinSnr { gamma: 5.0 }, ..Objective::new(Prediction::Noise) };
    let truth = Estimate {
        data: normal::<3>([2, 3, 2], KEY, &device),
        noise: normal([2, 3, 2], KEY.at_step(1), &device),
    };
    let noise = doubles(truth.noise.clone());
    let pair = objective.pair_at(&process, truth, &[0.05, 0.8]);
    let output: Tensor<3> = normal([2, 3, 2], KEY.at_step(2), &device);
    let weights: Vec<f64> = [0.05, 0.8]
        .map(|t| {
            let snr = process.log_snr(t).exp();
            snr.min(5.0) / snr
        })
        .to_vec();
    let each: Vec<f64> = (0..2)
        .map(|i| {
            let sum: f64 = (6 * i..6 * i + 6).map(|j| (doubles(output.clone())[j] - noise[j]).powi(2)).sum();
            weights[i] * sum / 6.0
        })
        .collect();
    assert!(apart(&doubles(pair.loss_each(output.clone())), &each) < 1e-5);
    assert!((doubles(pair.loss(output))[0] - (each[0] + each[1]) / 2.0).abs() < 1e-5);
}

/// Hang et al. 2023: `min(SNR, gamma)` over SNR for noise, over SNR + 1 for v, and plain for the sample.
#[rstest]
#[case(Prediction::Noise, |snr| 1.0 / snr)]
#[case(Prediction::Sample, |_| 1.0)]
#[case(Prediction::V, |snr| 1.0 / (snr + 1.0))]
fn min_snr_weights_are_the_papers(#[case] prediction: Prediction, #[case] per_output: fn(f64) -> f64) {
    let process = VariancePreserving::default();
    for t in [0.01, 0.1, 0.4, 1.0] {
        let snr = process.log_snr(t).exp();
        let weight = Weighting::MinSnr { gamma: 5.0 }.weight(prediction, &process.law(t));
        assert!((weight / (snr.min(5.0) * per_output(snr)) - 1.0).abs() < 1e-9, "t = {t}");
        assert_eq!(Weighting::Simple.weight(prediction, &process.law(t)), 1.0);
    }
    // No weight is infinite at the ends of a rectified flow.
    for t in [0.0, 1.0] {
        assert!(Weighting::MinSnr { gamma: 5.0 }.weight(prediction, &RectifiedFlow.law(t)).is_finite());
    }
}

/// The best output that there is, for Gaussian data of standard deviation s, leaves the known loss
/// `Var(x_0 | x_t) = s² sigma² / (alpha² s² + sigma²)` of the sample, and no other output does better.
#[test]
fn the_exact_denoiser_has_the_known_loss() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let exact = GaussianMixture::single(&process, 0.0, 0.5).unwrap();
    let t = 0.2;
    let law = process.law(t);
    let truth = Estimate {
        data: normal::<2>([500, 200], KEY, &device) * 0.5,
        noise: normal([500, 200], KEY.at_step(50), &device),
    };
    let pair = Objective::new(Prediction::Sample).pair_at(&process, truth, &[t; 500]);
    let best = exact.denoise(pair.input.clone(), t).data;
    let known = 0.25 * law.sigma.powi(2) / (0.25 * law.alpha.powi(2) + law.sigma.powi(2));
    let loss = doubles(pair.loss(best.clone()))[0];
    // The mean of 100,000 squares has a relative standard error of sqrt(2 / 100,000) = 0.0045.
    assert!((loss / known - 1.0).abs() < 0.02, "{loss} {known}");
    for other in [best.clone() * 1.1, best.clone() * 0.9, best + 0.1] {
        assert!(doubles(pair.loss(other))[0] > loss);
    }
}

/// Pairs made on an autodiff device give gradients to what went through the network.
#[test]
fn the_loss_has_a_gradient() {
    let device = Device::flex().autodiff();
    let weight = Tensor::<2>::from_floats([[0.5]], &device).require_grad();
    let data: Tensor<2> = Tensor::ones([4, 1], &device);
    let pair = Objective::new(Prediction::Velocity).pair(&RectifiedFlow, data, KEY);
    let gradients = pair.loss(pair.input.clone().matmul(weight.clone())).backward();
    let gradient = doubles(weight.grad(&gradients).unwrap())[0];
    let (input, target) = (doubles(pair.input), doubles(pair.target));
    let expected: f64 = std::iter::zip(&input, &target).map(|(x, y)| 2.0 * (0.5 * x - y) * x / 4.0).sum();
    assert!((gradient - expected).abs() < 1e-5, "{gradient} {expected}");
}
