//! Distributions of a site.

use burn::tensor::{Device, Tensor, TensorData};
use kiln_autoregressive::{AutoregressiveModel, Family, NadeConfig, Order, Values};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_backend::testing::devices;

use crate::models::{shaken, states};

fn parameters(family: Family, spread: f64, device: &Device) -> Tensor<3> {
    let one: Tensor<2> = normal([1, family.width()], NoiseKey::new(3), device);
    one.mul_scalar(spread).unsqueeze_dim(1)
}

fn probabilities(family: Family, parameters: Tensor<3>, x: Tensor<2>) -> Vec<f64> {
    let rows = x.dims()[0];
    let log_prob = family.log_prob(parameters.repeat_dim(0, rows), x);
    log_prob.to_data().iter::<f32>().map(|l| f64::from(l).exp()).collect()
}

const DISCRETE: [Family; 6] = [
    Family::Bernoulli,
    Family::Categorical { levels: 7 },
    Family::LogisticMixture { levels: 2, components: 1, channels: 1 },
    Family::LogisticMixture { levels: 256, components: 5, channels: 1 },
    Family::LogisticMixture { levels: 5, components: 3, channels: 3 },
    Family::LogisticMixture { levels: 16, components: 2, channels: 3 },
];

#[test]
fn probabilities_of_all_values_sum_to_one() {
    for (backend, device) in devices() {
        for family in DISCRETE {
            // From broad to needles.
            for spread in [0.5, 2.0, 5.0] {
                let Values::Levels(levels) = family.values() else { panic!("{family:?}") };
                let all = states(family.channels(), levels, &device);
                let p = probabilities(family, parameters(family, spread, &device), all);
                let sum: f64 = p.iter().sum();
                assert!((sum - 1.0).abs() < 2e-5, "{family:?} on {backend}, spread {spread}: {sum}");
            }
        }
    }
}

#[test]
fn the_derivative_of_a_logit_is_what_is_missing_at_zero_too() {
    for (backend, device) in devices() {
        let device = device.autodiff();
        let logits = [-90.0, -1.0, 0.0, 0.0, 2.0, 90.0];
        let values = [0.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        let at = Tensor::<1>::from_data(logits, &device).require_grad();
        let x = Tensor::<1>::from_data(values, &device).unsqueeze_dim::<2>(0);
        let log_prob = Family::Bernoulli.log_prob(at.clone().reshape([1, 6, 1]), x).sum();
        let gradient: Vec<f32> = at.grad(&log_prob.backward()).unwrap().to_data().iter().collect();
        for ((gradient, logit), value) in gradient.into_iter().zip(logits).zip(values) {
            let expected = value - 1.0 / (1.0 + f32::exp(-logit));
            assert!((gradient - expected).abs() < 1e-6, "{backend}: {gradient} for {expected} at {logit}");
        }
    }
}

#[test]
fn a_density_integrates_to_one() {
    let device = Device::flex();
    let family = Family::GaussianMixture { components: 3 };
    let (n, width) = (8001, 60.0);
    let grid: Vec<f32> = (0..n).map(|i| (-0.5 + i as f32 / (n - 1) as f32) * width).collect();
    let x = Tensor::<2>::from_data(TensorData::new(grid, [n, 1]), &device);
    let p = probabilities(family, parameters(family, 1.0, &device), x);
    let integral = p.iter().sum::<f64>() * f64::from(width) / (n - 1) as f64;
    assert!((integral - 1.0).abs() < 1e-4, "{integral}");
}

#[test]
fn draws_are_as_frequent_as_their_probabilities() {
    const COUNT: usize = 20_000;
    let device = Device::flex();
    for family in [DISCRETE[0], DISCRETE[1], DISCRETE[2], DISCRETE[4]] {
        let Values::Levels(levels) = family.values() else { panic!("{family:?}") };
        let one = parameters(family, 1.0, &device);
        let many = one.clone().squeeze_dim::<2>(1).repeat_dim(0, COUNT);
        let drawn: Vec<f32> = family.draw(many, NoiseKey::new(8)).to_data().iter().collect();
        let channels = family.channels();
        let mut shares = vec![0.0; levels.pow(channels as u32)];
        for values in drawn.chunks_exact(channels) {
            let state =
                values.iter().enumerate().map(|(i, v)| *v as usize * levels.pow(i as u32)).sum::<usize>();
            shares[state] += 1.0 / COUNT as f64;
        }
        let p = probabilities(family, one, states(channels, levels, &device));
        for (state, (share, p)) in shares.iter().zip(&p).enumerate() {
            let error = 5.0 * (p * (1.0 - p) / COUNT as f64).sqrt() + 1e-3;
            assert!((share - p).abs() < error, "{family:?}, state {state}: {share} of {p}");
        }
    }
}

#[test]
fn draws_of_normal_mixtures_have_their_mean_and_deviation() {
    const COUNT: usize = 20_000;
    let device = Device::flex();
    let family = Family::GaussianMixture { components: 2 };
    // Weights 1/4 and 3/4, means -1 and 2, deviations 0.5 and 1.
    let numbers = [0.0, 3.0_f32.ln(), -1.0, 2.0, 0.5_f32.ln(), 0.0];
    let many = Tensor::<1>::from_data(numbers, &device).unsqueeze_dim::<2>(0).repeat_dim(0, COUNT);
    let drawn: Vec<f32> = family.draw(many, NoiseKey::new(4)).to_data().iter().collect();
    let mean = drawn.iter().map(|x| f64::from(*x)).sum::<f64>() / COUNT as f64;
    let variance = drawn.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / COUNT as f64;
    assert!((mean - 1.25).abs() < 0.04, "{mean}");
    let expected = 0.25 * (0.25 + 2.25_f64.powi(2)) + 0.75 * (1.0 + 0.75_f64.powi(2));
    assert!((variance - expected).abs() < 0.08, "{variance} for {expected}");
}

#[test]
fn a_chain_of_mixtures_scores_and_draws_real_values() {
    let device = Device::flex();
    let config = NadeConfig::real(Order::new(vec![1, 2, 0]).unwrap(), 5, 2);
    let rnade = shaken(config.init(&device).unwrap(), 4);
    let x: Tensor<2> = normal([6, 3], NoiseKey::new(1), &device);
    let log_prob: Vec<f32> = rnade.log_prob(x.clone(), None).unwrap().to_data().iter().collect();
    assert!(log_prob.iter().all(|l| l.is_finite()));
    let drawn = rnade.sample(6, None, NoiseKey::new(2)).unwrap();
    assert!(drawn.to_data().iter::<f32>().all(f32::is_finite));
    // The density of two of the three integrates to one, the third at rest.
    let n = 201;
    let grid = |i: usize| -25.0 + 50.0 * i as f32 / (n - 1) as f32;
    let first: Vec<f32> = (0..n).flat_map(|i| [0.0, grid(i), 0.0]).collect();
    let x = Tensor::<2>::from_data(TensorData::new(first, [n, 3]), &device);
    let of_first = rnade.conditionals(x, None).unwrap().narrow(1, 1, 1).exp().sum();
    let integral = of_first.into_scalar::<f32>() * 50.0 / (n - 1) as f32;
    assert!((integral - 1.0).abs() < 0.02, "{integral}");
}
