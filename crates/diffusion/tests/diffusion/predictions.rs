//! Predictions: each is turned into an estimate and back, and their known relations hold.

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    DiffusionError, Estimate, Law, Prediction, Process, RectifiedFlow, VariancePreserving, perturb,
};
use rstest::rstest;

use crate::{apart, double, doubles, processes};

const ALL: [Prediction; 8] = [
    Prediction::Noise,
    Prediction::Sample,
    Prediction::V,
    Prediction::Score,
    Prediction::Velocity,
    Prediction::Edm { sigma_data: 0.5 },
    Prediction::Edm { sigma_data: 1.0 },
    Prediction::EdmV { sigma_data: 0.5 },
];

fn truth() -> Estimate<2> {
    Estimate {
        data: double(vec![0.3, -1.2, 0.8, 0.05, -0.6, 1.1], [3, 2]),
        noise: double(vec![-0.7, 0.4, 1.9, -1.1, 0.2, 0.9], [3, 2]),
    }
}

fn mixed(truth: &Estimate<2>, law: &Law) -> Tensor<2> {
    truth.data.clone().mul_scalar(law.alpha) + truth.noise.clone().mul_scalar(law.sigma)
}

#[test]
fn the_true_output_gives_the_true_estimate() {
    let truth = truth();
    for (name, process) in processes() {
        for i in 1..20 {
            let t = process.t_min() + (process.t_max() - process.t_min()) * f64::from(i) / 20.0;
            let law = process.law(t);
            let x = mixed(&truth, &law);
            for prediction in ALL {
                let output = prediction.output(&truth, &law);
                let estimate = prediction.estimate(output, x.clone(), &law);
                // Where little data is left, its estimate divides by alpha.
                let allowed = 1e-12 * (1.0 + (law.sigma / law.alpha).powi(2)) * (1.0 + law.alpha / law.sigma);
                for (what, ours, true_one) in
                    [("data", estimate.data, &truth.data), ("noise", estimate.noise, &truth.noise)]
                {
                    let error = apart(&doubles(ours), &doubles(true_one.clone()));
                    assert!(error < allowed, "{name}, {prediction:?}, {what} at {t}: off by {error:e}");
                }
            }
        }
    }
}

/// One prediction turned into each other one and back is itself.
#[test]
fn predictions_turn_into_each_other_and_back() {
    let law = VariancePreserving::default().law(0.4);
    let truth = truth();
    let x = mixed(&truth, &law);
    for from in ALL {
        // An output that is not the truth: conversions must not depend on it being so.
        let output = double(vec![0.5, -0.4, 0.3, 1.2, -1.1, 0.6], [3, 2]);
        for to in ALL {
            let other = to.output(&from.estimate(output.clone(), x.clone(), &law), &law);
            let back = from.output(&to.estimate(other, x.clone(), &law), &law);
            assert!(apart(&doubles(back), &doubles(output.clone())) < 1e-12, "{from:?} through {to:?}");
        }
    }
}

#[test]
fn data_and_noise_always_make_up_x() {
    for (name, process) in processes() {
        let law = process.law(process.t_min() + 0.6 * (process.t_max() - process.t_min()));
        let x = double(vec![0.3, -2.0, 1.0, 0.1, 0.4, -0.6], [3, 2]);
        for prediction in ALL {
            let output = double(vec![0.5, -0.4, 0.3, 1.2, -1.1, 0.6], [3, 2]);
            let again = mixed(&prediction.estimate(output, x.clone(), &law), &law);
            assert!(apart(&doubles(again), &doubles(x.clone())) < 1e-10, "{name}, {prediction:?}");
        }
    }
}

/// Formulas from the papers, apart from the crate's table.
#[test]
fn outputs_are_the_papers() {
    let truth = truth();
    let law = VariancePreserving::default().law(0.3);
    let (a, s) = (law.alpha, law.sigma);
    let (data, noise) = (doubles(truth.data.clone()), doubles(truth.noise.clone()));
    let by = |formula: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        std::iter::zip(&data, &noise).map(|(&d, &n)| formula(d, n)).collect()
    };
    let check = |prediction: Prediction, law: &Law, expected: Vec<f64>| {
        let output = doubles(prediction.output(&truth, law));
        assert!(apart(&output, &expected) < 1e-12, "{prediction:?}");
    };
    check(Prediction::V, &law, by(&|d, n| a * n - s * d));
    // The gradient of ln N(x; alpha x_0, sigma²).
    check(Prediction::Score, &law, by(&|d, n| -((a * d + s * n) - a * d) / (s * s)));
    check(Prediction::Velocity, &RectifiedFlow.law(0.3), by(&|d, n| n - d));
    // On a process that keeps the variance of data of variance 1.
    check(Prediction::EdmV { sigma_data: 1.0 }, &law, by(&|d, n| a * n - s * d));
    // EDM's table 1: D = c_skip y + c_out F with y = x / alpha and its sigma = sigma / alpha.
    let (sd, level) = (0.5_f64, s / a);
    let c_skip = sd * sd / (level * level + sd * sd);
    let c_out = level * sd / (level * level + sd * sd).sqrt();
    check(Prediction::Edm { sigma_data: sd }, &law, by(&|d, n| (d - c_skip * (d + level * n)) / c_out));
    let c_in = 1.0 / (level * level + sd * sd).sqrt();
    assert!((Prediction::Edm { sigma_data: sd }.input_scale(&law) - c_in / a).abs() < 1e-14);
}

/// At t = 1 a rectified flow has no data left in x, and at t = 0 no noise: v, velocity and EDM divide by neither.
#[rstest]
#[case(Prediction::V)]
#[case(Prediction::Velocity)]
#[case(Prediction::Edm { sigma_data: 0.5 })]
fn nothing_blows_up_at_the_poles(#[case] prediction: Prediction) {
    for t in [0.0, 1.0] {
        let law = RectifiedFlow.law(t);
        let truth = truth();
        let estimate = prediction.estimate(prediction.output(&truth, &law), mixed(&truth, &law), &law);
        assert!(apart(&doubles(estimate.data), &doubles(truth.data)) < 1e-12, "data at {t}");
        assert!(apart(&doubles(estimate.noise), &doubles(truth.noise)) < 1e-12, "noise at {t}");
    }
}

/// The others stay finite, and a pair that can't be sampled is refused with a reason.
#[test]
fn predictions_with_a_pole_are_finite_and_refused() {
    let device = Device::flex();
    let x: Tensor<1> = normal([5], NoiseKey::new(0), &device);
    for prediction in ALL {
        for t in [0.0, 1.0] {
            let estimate = prediction.estimate(x.clone() * 0.5, x.clone(), &RectifiedFlow.law(t));
            let values = doubles(Tensor::cat(vec![estimate.data, estimate.noise], 0));
            assert!(values.iter().all(|v| v.is_finite()), "{prediction:?} at {t}");
        }
        let refused = matches!(prediction, Prediction::Noise | Prediction::Score);
        assert_eq!(prediction.check(&RectifiedFlow).is_err(), refused, "{prediction:?}");
        assert!(prediction.check(&VariancePreserving::default()).is_ok());
    }
    let error = Prediction::Noise.check(&RectifiedFlow).unwrap_err();
    assert_eq!(error, DiffusionError::Pole { prediction: "noise", t: 1.0 });
    assert!(error.to_string().contains("train it to predict velocity"));
    assert!(Prediction::Edm { sigma_data: 0.0 }.check(&RectifiedFlow).is_err());
}

/// A batch with a time a sample is the samples one by one.
#[test]
fn a_time_for_each_sample_is_one_sample_at_a_time() {
    let (truth, times) = (truth(), [0.1, 0.5, 0.9]);
    let process = VariancePreserving::default();
    let laws: Vec<_> = times.iter().map(|&t| process.law(t)).collect();
    let x = perturb(&process, truth.data.clone(), truth.noise.clone(), &times);
    for prediction in ALL {
        let target = prediction.target_each(&truth, &laws);
        let estimate = prediction.estimate_each(target.clone(), x.clone(), &laws);
        for (i, law) in laws.iter().enumerate() {
            let row = |tensor: &Tensor<2>| tensor.clone().narrow(0, i, 1);
            let alone = Estimate { data: row(&truth.data), noise: row(&truth.noise) };
            assert!(apart(&doubles(row(&x)), &doubles(mixed(&alone, law))) < 1e-12);
            assert!(apart(&doubles(row(&target)), &doubles(prediction.output(&alone, law))) < 1e-12);
            assert!(apart(&doubles(row(&estimate.data)), &doubles(alone.data)) < 1e-10);
            assert!(apart(&doubles(row(&estimate.noise)), &doubles(alone.noise)) < 1e-10);
        }
    }
}
