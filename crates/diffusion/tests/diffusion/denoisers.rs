//! Wrappers that are denoisers: guidance, clipping, and the exact denoiser itself.

use burn::tensor::Tensor;
use kiln_diffusion::{
    Clipped, Contrast, Denoiser, Estimate, GaussianMixture, Guided, Network, Prediction, Process,
    RectifiedFlow, VariancePreserving,
};
use rstest::rstest;

use crate::{apart, double, doubles};

fn x() -> Tensor<2> {
    double(vec![0.4, -2.0, 1.7, 0.1], [2, 2])
}

#[rstest]
#[case(0.0, [0.0, 1.0])]
#[case(1.0, [1.0, 0.0])]
#[case(3.0, [3.0, -2.0])]
fn guidance_goes_from_the_unconditional_to_the_conditional_and_beyond(
    #[case] scale: f64,
    #[case] weights: [f64; 2],
) {
    let process = VariancePreserving::default();
    let (with, without) = (
        GaussianMixture::single(&process, 1.0, 0.3).unwrap(),
        GaussianMixture::single(&process, 0.0, 0.8).unwrap(),
    );
    let guided = Guided::new(scale, |x: Tensor<2>, t| Contrast {
        conditional: with.denoise(x.clone(), t),
        spread: Some(x.ones_like() * 0.3),
        unconditional: without.denoise(x, t),
    });
    let (estimate, spread) = guided.denoise_with_spread(x(), 0.4);
    // What the network says of the variance is passed on as it is.
    assert!(doubles(spread.unwrap()).iter().all(|value| (value - 0.3).abs() < 1e-6));
    let (conditional, unconditional) = (with.denoise(x(), 0.4), without.denoise(x(), 0.4));
    let mixed = |c: Tensor<2>, u: Tensor<2>| -> Vec<f64> {
        std::iter::zip(doubles(c), doubles(u)).map(|(c, u)| weights[0] * c + weights[1] * u).collect()
    };
    assert!(apart(&doubles(estimate.data), &mixed(conditional.data, unconditional.data)) < 1e-13);
    assert!(apart(&doubles(estimate.noise), &mixed(conditional.noise, unconditional.noise)) < 1e-13);
}

/// One batch of both is two calls.
#[test]
fn halves_of_a_batch_are_the_two_calls() {
    let process = VariancePreserving::default();
    let exact = GaussianMixture::single(&process, 1.0, 0.3).unwrap();
    let [first, second] = exact.denoise(Tensor::cat(vec![x(), x() * 2.0], 0), 0.3).halves();
    for (half, alone) in [(first, exact.denoise(x(), 0.3)), (second, exact.denoise(x() * 2.0, 0.3))] {
        assert_eq!(doubles(half.data), doubles(alone.data));
        assert_eq!(doubles(half.noise), doubles(alone.noise));
    }
}

#[test]
fn clipped_data_stays_in_range_and_still_makes_up_x() {
    let process = VariancePreserving::default();
    let law = process.law(0.5);
    let wild = |x: Tensor<2>, _: f64| Estimate { data: x.clone() * 3.0, noise: x };
    let clipped = Clipped::new(&process, wild).denoise(x(), 0.5);
    assert_eq!(doubles(clipped.data.clone()), [1.0, -1.0, 1.0, 0.1 * 3.0]);
    let again = clipped.data * law.alpha + clipped.noise * law.sigma;
    assert!(apart(&doubles(again), &doubles(x())) < 1e-14);
    let narrow = Clipped::new(&process, wild).with_range(-0.5..=0.25).denoise(x(), 0.5);
    assert_eq!(doubles(narrow.data), [0.25, -0.5, 0.25, 0.25]);
    // At the clean time the noise can't be made again from the data.
    let clean = Clipped::new(&RectifiedFlow, wild).denoise(x(), 0.0);
    assert_eq!(doubles(clean.noise), doubles(x()));
}

/// The network is given the scaled input and the process's time, one a sample.
#[test]
fn a_network_is_told_its_time_and_scale() {
    let process = VariancePreserving::default();
    let prediction = Prediction::Edm { sigma_data: 0.5 };
    let law = process.law(0.25);
    let network = Network::new(&process, prediction, |input: Tensor<2>, times: Tensor<1>| {
        assert_eq!(doubles(times), [249.75, 249.75]);
        let scaled: Vec<_> = doubles(x()).iter().map(|v| v / law.sigma.hypot(law.alpha * 0.5)).collect();
        assert!(apart(&doubles(input.clone()), &scaled) < 1e-12);
        input * 0.1
    });
    let estimate = network.unwrap().denoise(x(), 0.25);
    let again = estimate.data * law.alpha + estimate.noise * law.sigma;
    assert!(apart(&doubles(again), &doubles(x())) < 1e-12);
    assert!(Network::<2, _>::new(&RectifiedFlow, Prediction::Noise, |x, _| x).is_err());
}

/// The exact denoiser's noise is minus sigma times the gradient of the log density, by differences.
#[test]
fn the_mixtures_denoiser_is_its_score() {
    let process = VariancePreserving::default();
    let components = [(0.3, -1.0, 0.2), (0.7, 0.8, 0.5)];
    let exact = GaussianMixture::new(&process, components.to_vec()).unwrap();
    for t in [0.01, 0.2, 0.7] {
        let law = process.law(t);
        let log_density = |x: f64| {
            let density: f64 = components
                .iter()
                .map(|(w, m, s)| {
                    let v = (law.alpha * s).powi(2) + law.sigma.powi(2);
                    w / v.sqrt() * (-(x - law.alpha * m).powi(2) / (2.0 * v)).exp()
                })
                .sum();
            density.ln()
        };
        let score: Vec<f64> =
            doubles(x()).iter().map(|&x| (log_density(x + 1e-5) - log_density(x - 1e-5)) / 2e-5).collect();
        let estimate = exact.denoise(x(), t);
        assert!(
            apart(&doubles(Prediction::Score.output(&estimate, &law)), &score) < 1e-6 / law.sigma,
            "t = {t}"
        );
        let again = estimate.data * law.alpha + estimate.noise * law.sigma;
        assert!(apart(&doubles(again), &doubles(x())) < 1e-12, "t = {t}");
    }
    for wrong in [vec![], vec![(0.0, 0.0, 1.0)], vec![(1.0, f64::NAN, 1.0)], vec![(1.0, 0.0, -1.0)]] {
        assert!(GaussianMixture::new(&process, wrong).is_err());
    }
}
