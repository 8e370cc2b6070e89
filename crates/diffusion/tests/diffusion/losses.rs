//! Weightings, times, learned variance and sliced score matching.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    BetaSchedule, DdpmLadder, Denoiser, Edm, Estimate, GaussianMixture, LearnedVariance, Objective,
    Prediction, Probe, Process, RectifiedFlow, SlicedScoreMatching, TimeSampling, VarianceExploding,
    VariancePreserving, Weighting, resolution_shift, variational_bound,
};
use rstest::rstest;
use serde_json::Value;

use crate::{apart, double, doubles, numbers, processes};

const KEY: NoiseKey = NoiseKey { seed: 2, sample: 5, step: 11 };

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/guidance.json")).unwrap()
}

const PREDICTIONS: [Prediction; 6] = [
    Prediction::Noise,
    Prediction::Sample,
    Prediction::V,
    Prediction::Score,
    Prediction::Velocity,
    Prediction::Edm { sigma_data: 0.5 },
];

/// A weight belongs to an error of x's parts, so the weighted square of one error is the same whatever the network says.
#[rstest]
#[case(Weighting::MinSnr { gamma: 5.0 })]
#[case(Weighting::P2 { k: 1.0, gamma: 0.5 })]
#[case(Weighting::ScoreMatching)]
#[case(Weighting::Likelihood)]
#[case(Weighting::Edm { sigma_data: 0.5 })]
fn a_weight_does_not_depend_on_the_prediction(#[case] weighting: Weighting) {
    let process = VariancePreserving::default();
    let truth = Estimate { data: double(vec![0.3], [1, 1]), noise: double(vec![-0.8], [1, 1]) };
    for t in [0.02, 0.3, 0.7, 1.0] {
        let law = process.law(t);
        let x = truth.at(&law);
        let wrong = Prediction::Noise.estimate(double(vec![0.4], [1, 1]), x, &law);
        let counted = PREDICTIONS.map(|prediction| {
            let error = doubles(prediction.output(&wrong, &law) - prediction.output(&truth, &law))[0];
            weighting.weight(prediction, &law) * error * error
        });
        for (prediction, value) in std::iter::zip(PREDICTIONS, counted) {
            assert!((value / counted[0] - 1.0).abs() < 1e-9, "{weighting:?}, {prediction:?} at {t}");
        }
    }
}

/// The papers' own statements.
#[test]
fn weights_are_the_papers() {
    let process = VariancePreserving::default();
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    for t in [0.02, 0.3, 0.7, 1.0] {
        let law = process.law(t);
        let snr = process.log_snr(t).exp();
        // Choi et al.: lambda' = lambda / (k + SNR)^gamma over the loss of the noise.
        close(Weighting::P2 { k: 1.0, gamma: 0.5 }.weight(Prediction::Noise, &law), (1.0 + snr).powf(-0.5));
        // Song, Ermon: sigma² over the loss of the score. Song et al.: g².
        close(Weighting::ScoreMatching.weight(Prediction::Score, &law), law.sigma.powi(2));
        close(Weighting::Likelihood.weight(Prediction::Score, &law), process.diffusion_squared(t));
        // Kingma et al. 2021, equation 17: twice the bound's weight of the noise is -d log SNR / dt.
        let slope = (process.log_snr(t + 1e-6) - process.log_snr(t - 1e-6)) / 2e-6;
        assert!((Weighting::Likelihood.weight(Prediction::Noise, &law) / -slope - 1.0).abs() < 1e-6);
    }
    // Karras et al., table 1: lambda over the data's error, at alpha = 1; and c_out² lambda = 1.
    let edm = Edm::default();
    for sigma in [0.002_f64, 0.1, 3.0, 80.0] {
        let law = edm.law(sigma);
        let weighting = Weighting::Edm { sigma_data: 0.5 };
        close(weighting.weight(Prediction::Sample, &law), (sigma * sigma + 0.25) / (sigma * 0.5).powi(2));
        close(weighting.weight(Prediction::Edm { sigma_data: 0.5 }, &law), 1.0);
    }
    // Conditional flow matching is the simple loss of the velocity eps - x_0.
    let truth = Estimate { data: double(vec![0.3, 1.0], [2, 1]), noise: double(vec![-0.8, 0.1], [2, 1]) };
    let pair = Objective::new(Prediction::Velocity).pair_at(&RectifiedFlow, truth, &[0.25, 0.5]);
    assert!(apart(&doubles(pair.target.clone()), &[-1.1, -0.9]) < 1e-15);
    assert!(apart(&doubles(pair.input.clone()), &[0.025, 0.55]) < 1e-15);
    assert!(apart(&doubles(pair.weights), &[1.0, 1.0]) < 1e-15);
}

/// No weight is infinite or no number on any process, ends included.
#[test]
fn weights_are_finite_everywhere() {
    for (name, process) in processes() {
        for t in [process.t_min(), 0.5 * (process.t_min() + process.t_max()), process.t_max()] {
            for weighting in [
                Weighting::MinSnr { gamma: 5.0 },
                Weighting::P2 { k: 1.0, gamma: 1.0 },
                Weighting::ScoreMatching,
                Weighting::Likelihood,
                Weighting::Edm { sigma_data: 0.5 },
            ] {
                let weight = weighting.weight(Prediction::Velocity, &process.law(t));
                assert!(weight.is_finite() && weight >= 0.0, "{name}, {weighting:?} at {t}: {weight}");
            }
        }
    }
}

/// diffusers' compute_density_for_timestep_sampling, from the very numbers that it drew.
#[test]
fn shares_of_the_way_are_those_of_diffusers() {
    for case in golden()["times"].as_array().unwrap() {
        let times: TimeSampling = serde_json::from_value(case["times"].clone()).unwrap();
        times.check().unwrap();
        let ours: Vec<f64> = numbers(&case["drawn"]).into_iter().map(|u| times.share(u)).collect();
        let error = apart(&ours, &numbers(&case["share"]));
        assert!(error < 1e-6, "{times:?}: off by {error:e}");
    }
}

/// Of each density the paper's formula, integrated, is the share of the times below t.
#[test]
fn drawn_times_have_the_papers_densities() {
    let draws = 40_000;
    let below = |times: TimeSampling, shift: f64, t: f64| {
        let drawn = times.draw_shifted(&RectifiedFlow, draws, shift, KEY);
        drawn.into_iter().filter(|&time| time < t).count() as f64 / draws as f64
    };
    // The integral of 2 / (pi - 2 pi t + 2 pi t²) from 0.
    let cosmap = |t: f64| 0.5 + 2.0 / std::f64::consts::PI * f64::atan(2.0 * t - 1.0);
    for t in [0.1, 0.5, 0.8] {
        let share = below(TimeSampling::CosMap, 1.0, t);
        assert!((share - cosmap(t)).abs() < 0.0125, "cosmap below {t}: {share}, not {}", cosmap(t));
        // Shifted by 3 (SD3), a time is t where it was t / (3 - 2 t).
        let share = below(TimeSampling::Uniform, 3.0, t);
        assert!((share - t / (3.0 - 2.0 * t)).abs() < 0.0125, "shifted below {t}: {share}");
    }
    // Mode: decreasing in u, so the share below f(u) is 1 - u.
    let mode = TimeSampling::Mode { scale: 1.29 };
    for u in [0.2, 0.5, 0.9] {
        assert!((below(mode, 1.0, mode.share(u)) - (1.0 - u)).abs() < 0.0125);
    }
    // EDM's levels: ln sigma is normal.
    let (edm, times) = (Edm::default(), TimeSampling::LogNormal { mean: -1.2, std: 1.2 });
    let levels: Vec<f64> = times.draw(&edm, draws, KEY).iter().map(|&t| edm.law(t).noise_ratio()).collect();
    for (z, share) in [(-1.0, 0.158_66), (0.0, 0.5), (1.5, 0.933_19)] {
        let level = f64::exp(-1.2 + 1.2 * z);
        let drawn = levels.iter().filter(|&&sigma| sigma < level).count() as f64 / draws as f64;
        assert!((drawn - share).abs() < 0.0125, "z = {z}: {drawn}");
    }
    assert_eq!(resolution_shift(1024 * 1024, 512 * 512), 2.0);
}

/// Every density on every process: in range, and on a ladder's rungs.
#[test]
fn times_of_all_densities_stay_in_range() {
    for (name, process) in processes() {
        for times in [
            TimeSampling::Mode { scale: 1.29 },
            TimeSampling::CosMap,
            TimeSampling::LogNormal { mean: -1.2, std: 1.2 },
        ] {
            for shift in [1.0, 3.0] {
                for t in times.draw_shifted(&*process, 500, shift, KEY) {
                    let slack = 1e-12 * process.t_max();
                    let (low, high) = (process.t_min() - slack, process.t_max() + slack);
                    assert!((low..=high).contains(&t), "{name}, {times:?}: {t}");
                    if let Some(rungs) = process.rungs() {
                        assert!(((t * rungs as f64) - (t * rungs as f64).round()).abs() < 1e-9);
                    }
                }
            }
        }
    }
}

#[test]
fn choices_out_of_range_are_named() {
    let process = VariancePreserving::default();
    let base = Objective::new(Prediction::Noise);
    let wrong = [
        (Objective { times: TimeSampling::Mode { scale: 2.0 }, ..base }, "mode"),
        (Objective { times: TimeSampling::LogNormal { mean: 0.0, std: 0.0 }, ..base }, "log-normal"),
        (Objective { weighting: Weighting::P2 { k: 0.0, gamma: 1.0 }, ..base }, "P2"),
        (Objective { weighting: Weighting::Edm { sigma_data: -1.0 }, ..base }, "EDM"),
        (Objective { shift: 0.0, ..base }, "shift"),
    ];
    for (objective, name) in wrong {
        let error = objective.check(&process).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    base.check(&process).unwrap();
    assert!(LearnedVariance { lambda: -1.0 }.check().is_err());
    assert!(SlicedScoreMatching { step: 0.0, ..Default::default() }.check().is_err());
}

/// DDPM's loss at its optimum for Gaussian data of standard deviation s, rung by rung and in the mean over all:
/// `E |eps - E[eps | x]|² = alpha_bar s² / (alpha_bar s² + 1 - alpha_bar)`.
#[test]
fn ddpms_loss_at_its_optimum_is_known() {
    let device = Device::flex();
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap();
    let std = 0.5;
    let exact = GaussianMixture::single(&ladder, 0.3, std).unwrap();
    let objective = Objective::new(Prediction::Noise);
    let (mut total, mut known_total) = (0.0, 0.0);
    for (i, rung) in [0, 20, 100, 250, 500, 999].into_iter().enumerate() {
        let t = ladder.time(rung);
        let truth = Estimate {
            data: normal::<2>([500, 200], KEY.at_step(2 * i as u64), &device) * std + 0.3,
            noise: normal([500, 200], KEY.at_step(2 * i as u64 + 1), &device),
        };
        let pair = objective.pair_at(&ladder, truth, &[t; 500]);
        let loss = doubles(pair.loss(exact.denoise(pair.input.clone(), t).noise))[0];
        let alpha_bar = ladder.alpha_bar(rung);
        let known = alpha_bar * std * std / (alpha_bar * std * std + 1.0 - alpha_bar);
        println!("rung {rung}: {loss:.5}, known {known:.5}");
        // 100,000 squares: a relative standard error of 0.0045.
        assert!((loss / known - 1.0).abs() < 0.02, "rung {rung}: {loss} {known}");
        total += loss;
        known_total += known;
    }
    assert!((total / known_total - 1.0).abs() < 0.01);
}

/// The formulas of improved DDPM, in torch and f64: the first rungs, one in the middle, the last.
#[test]
fn the_bound_is_improved_ddpms() {
    let golden = &golden()["bound"];
    let rungs = golden["rungs"].as_u64().unwrap() as usize;
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, rungs).unwrap();
    let tensor = |name: &str| double(numbers(&golden[name]), [4, 2, 5]);
    let times: Vec<f64> = numbers(&golden["index"]).iter().map(|&i| ladder.time(i as usize)).collect();
    let truth = Estimate { data: tensor("data"), noise: tensor("noise") };
    let pair = Objective::new(Prediction::Noise).pair_at(&ladder, truth.clone(), &times);
    let estimate = {
        let laws: Vec<_> = times.iter().map(|&t| ladder.law(t)).collect();
        Prediction::Noise.estimate_each(tensor("output"), pair.input.clone(), &laws).data
    };
    let terms = variational_bound(&ladder, &times, &truth.data, &pair.input, &estimate, tensor("spread"));
    let (terms, expected) = (doubles(terms), numbers(&golden["terms"]));
    for (ours, expected) in std::iter::zip(&terms, &expected) {
        assert!((ours / expected - 1.0).abs() < 1e-6, "{terms:?} {expected:?}");
    }
    let hybrid = LearnedVariance { lambda: 0.01 };
    let loss =
        hybrid.loss_each(&ladder, Prediction::Noise, &pair, &truth, tensor("output"), tensor("spread"));
    let simple = numbers(&golden["simple"]);
    let sum: Vec<f64> =
        std::iter::zip(&simple, &expected).map(|(s, v)| s + 0.01 * rungs as f64 * v).collect();
    assert!(apart(&doubles(loss), &sum) < 1e-6);
}

/// Only the variance learns from the bound: the mean's gradient is that of the simple loss, whatever lambda.
#[test]
fn the_mean_learns_nothing_from_the_bound() {
    let device = Device::flex().autodiff();
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 20).unwrap();
    let truth = Estimate::<2> {
        data: normal([3, 4], KEY, &device).clamp(-1.0, 1.0),
        noise: normal([3, 4], KEY.at_step(1), &device),
    };
    let pair = Objective::new(Prediction::Noise).pair_at(&ladder, truth.clone(), &[0.05, 0.4, 1.0]);
    let gradients = |lambda: f64| {
        let output = (truth.noise.clone() * 0.9).detach().require_grad();
        let spread = Tensor::<2>::zeros([3, 4], &device).require_grad();
        let hybrid = LearnedVariance { lambda };
        let loss = hybrid.loss(&ladder, Prediction::Noise, &pair, &truth, output.clone(), spread.clone());
        let gradients = loss.backward();
        [output, spread].map(|leaf| leaf.grad(&gradients).map_or(vec![0.0; 12], doubles))
    };
    let (without, with) = (gradients(0.0), gradients(1.0));
    assert!(apart(&without[0], &with[0]) < 1e-9);
    assert!(with[0].iter().all(|g| g.abs() > 0.0));
    assert!(without[1].iter().all(|g| *g == 0.0) && with[1].iter().all(|g| g.abs() > 0.0));
}

/// For Gaussian data the score is linear, the differences are exact, and the loss at the optimum is
/// `-sigma² / (2 (alpha² s² + sigma²))` a coordinate; any other slope does worse.
#[rstest]
#[case(Probe::Rademacher)]
#[case(Probe::Gaussian)]
fn sliced_score_matching_has_its_known_optimum(#[case] probe: Probe) {
    let device = Device::flex();
    let process = VarianceExploding::new(0.5, 0.500_001).unwrap();
    let (std, sigma) = (0.8, 0.5);
    let data: Tensor<2> = normal([4000, 50], KEY, &device) * std;
    let best = -1.0 / (std * std + sigma * sigma);
    let matching = SlicedScoreMatching { probe, ..Default::default() };
    let loss = |slope: f64| {
        let network = |x: Tensor<2>, _: Tensor<1>| x * slope;
        let each = matching.loss(&process, Prediction::Score, network, data.clone(), KEY.at_step(4));
        doubles(each.mean())[0]
    };
    let known = sigma * sigma * best / 2.0;
    println!("{probe:?}: {:.5}, known {known:.5}", loss(best));
    assert!((loss(best) / known - 1.0).abs() < 0.03, "{} {known}", loss(best));
    // The gap is the weighted square of the score's error: sigma² (slope - best)² E x² / 2.
    for slope in [0.7 * best, 1.3 * best] {
        let gap = sigma * sigma * (slope - best).powi(2) * (std * std + sigma * sigma) / 2.0;
        assert!(((loss(slope) - loss(best)) / gap - 1.0).abs() < 0.15, "{slope}");
    }
}

/// The bias is of second order in the step, measured on a mixture's score by regression over five steps.
#[test]
fn the_bias_of_finite_differences_is_of_second_order() {
    let process = VarianceExploding::new(0.4, 0.400_001).unwrap();
    let data = GaussianMixture::new(&process, vec![(0.5, -1.0, 0.3), (0.5, 1.0, 0.3)]).unwrap();
    let x: Tensor<2> = double((0..400).map(|i| f64::from(i) * 0.01 - 2.0).collect(), [400, 1]);
    let network = |x: Tensor<2>, _: Tensor<1>| data.denoise(x, 1.0).noise * (-1.0 / process.sigma(1.0));
    let loss = |step: f64| {
        let matching = SlicedScoreMatching { step, ..Default::default() };
        doubles(matching.loss(&process, Prediction::Score, network, x.clone(), KEY).mean())[0]
    };
    let exact = loss(1e-4);
    let points: Vec<(f64, f64)> =
        [0.02, 0.04, 0.08, 0.16, 0.32].map(|step: f64| (step.ln(), (loss(step) - exact).abs().ln())).to_vec();
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / 5.0;
    let (mx, my) = (mean(&|p| p.0), mean(&|p| p.1));
    let order = mean(&|p| (p.0 - mx) * (p.1 - my)) / mean(&|p| (p.0 - mx).powi(2));
    println!("order of the bias: {order:.3}");
    assert!((order - 2.0).abs() < 0.15, "{order}");
}

/// The loss of a network can be lowered by first-order gradients alone: its gradient in a slope is that of the known quadratic.
#[test]
fn sliced_score_matching_has_a_gradient() {
    let device = Device::flex().autodiff();
    let process = VarianceExploding::new(0.5, 0.500_001).unwrap();
    let slope = Tensor::<2>::from_floats([[-0.3]], &device).require_grad();
    let data: Tensor<2> = normal([20_000, 1], KEY, &device) * 0.8;
    let network = |x: Tensor<2>, _: Tensor<1>| x.matmul(slope.clone());
    let loss =
        SlicedScoreMatching::default().loss(&process, Prediction::Score, network, data, KEY.at_step(4));
    let gradients = loss.mean().backward();
    let gradient = doubles(slope.grad(&gradients).unwrap())[0];
    // d/da sigma² (a + a² v / 2), v = 0.89.
    let known = 0.25 * (1.0 - 0.3 * 0.89);
    assert!((gradient / known - 1.0).abs() < 0.03, "{gradient} {known}");
}

#[test]
fn probes_have_the_unit_covariance() {
    let like = Tensor::<2>::zeros([20_000, 2], &Device::flex());
    for probe in [Probe::Rademacher, Probe::Gaussian] {
        let values = doubles(probe.draw(&like, KEY));
        let mean = |f: &dyn Fn(&[f64]) -> f64| values.chunks(2).map(f).sum::<f64>() / 20_000.0;
        assert!(mean(&|v| v[0]).abs() < 0.036 && mean(&|v| v[0] * v[1]).abs() < 0.036);
        assert!((mean(&|v| v[0] * v[0]) - 1.0).abs() < 0.05);
        if probe == Probe::Rademacher {
            assert!(values.iter().all(|v| v.abs() == 1.0));
        }
    }
}
