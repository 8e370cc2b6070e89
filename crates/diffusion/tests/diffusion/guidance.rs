//! Guidance: diffusers' numbers, its laws for Gaussian data, and where it is on.

use std::cell::Cell;

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{
    Base, ClassifierGuided, Contrast, Denoiser, Estimate, GaussianMixture, Guidance, Guided, Interval,
    Prediction, Process, Projection, Sampler, SolverConfig, VarianceExploding, VariancePreserving, grid,
};
use serde_json::Value;

use crate::{apart, double, doubles, numbers};

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/guidance.json")).unwrap()
}

/// Eight choices, three steps each, through diffusers' AdaptiveProjectedGuidance and ClassifierFreeGuidance.
#[test]
fn guidance_is_that_of_diffusers() {
    let golden = &golden()["guided"];
    // sigma 1 and alpha 1: the noise's estimate needs no x to be read.
    let process = VarianceExploding::new(0.5, 2.0).unwrap();
    let tensor = |value: &Value| double(numbers(value), [2, 3, 4]);
    let x: Tensor<3> = double(vec![0.25; 24], [2, 3, 4]);
    for run in golden["runs"].as_array().unwrap() {
        let guidance: Guidance = serde_json::from_value(run["guidance"].clone()).unwrap();
        let step = Cell::new(0);
        let contrast = |x: Tensor<3>, t: f64| {
            let law = process.law(t);
            let pair = &golden["pairs"][step.get()];
            let read = |output: Tensor<3>| Prediction::Noise.estimate(output, x.clone(), &law);
            Contrast {
                conditional: read(tensor(&pair[0])),
                unconditional: read(tensor(&pair[1])),
                spread: None,
            }
        };
        let guided = Guided::by(guidance, &process, Prediction::Noise, contrast).unwrap();
        for (index, expected) in run["outputs"].as_array().unwrap().iter().enumerate() {
            step.set(index);
            let estimate = guided.denoise(x.clone(), 0.5);
            let error = apart(&doubles(estimate.noise.clone()), &numbers(expected));
            // diffusers works in f32.
            assert!(error < 1e-5, "{guidance:?}, step {index}: off by {error:e}");
            let again = estimate.data + estimate.noise * process.sigma(0.5);
            assert!(apart(&doubles(again), &doubles(x.clone())) < 1e-12);
        }
        // Put aside after two steps and resumed, the third is the same; without the momentum it is not.
        if guidance.projection.is_some_and(|projection| projection.momentum != 0.0) {
            let third = doubles({
                guided.set_momentum(None);
                step.set(0);
                guided.denoise(x.clone(), 0.5);
                step.set(1);
                guided.denoise(x.clone(), 0.5);
                let kept = guided.momentum();
                guided.set_momentum(kept);
                step.set(2);
                guided.denoise(x.clone(), 0.5).noise
            });
            assert!(apart(&third, &numbers(&run["outputs"][2])) < 1e-5);
            guided.set_momentum(None);
            assert!(apart(&doubles(guided.denoise(x.clone(), 0.5).noise), &third) > 1e-3);
        }
    }
}

fn contrast_of<'a>(
    with: &'a dyn Denoiser<2>,
    without: &'a dyn Denoiser<2>,
) -> impl Fn(Tensor<2>, f64) -> Contrast<2> + 'a {
    move |x, t| Contrast {
        conditional: with.denoise(x.clone(), t),
        unconditional: without.denoise(x, t),
        spread: None,
    }
}

/// Projection that keeps all, without momentum or threshold, from either base, is plain guidance, whatever the network says.
#[test]
fn a_projection_that_keeps_all_is_plain_guidance() {
    let process = VariancePreserving::default();
    let with = GaussianMixture::single(&process, 1.0, 0.3).unwrap();
    let without = GaussianMixture::single(&process, 0.0, 0.8).unwrap();
    let x = double(vec![0.4, -2.0, 1.7, 0.1], [2, 2]);
    let plain = Guided::new(3.0, contrast_of(&with, &without)).denoise(x.clone(), 0.4);
    for prediction in [Prediction::Noise, Prediction::Sample, Prediction::V, Prediction::Velocity] {
        for base in [Base::Unconditional, Base::Conditional] {
            let projection = Some(Projection { eta: 1.0, momentum: 0.0, threshold: None, base });
            let guidance = Guidance { projection, ..Guidance::new(3.0) };
            let guided = Guided::by(guidance, &process, prediction, contrast_of(&with, &without)).unwrap();
            let estimate = guided.denoise(x.clone(), 0.4);
            assert!(apart(&doubles(estimate.data), &doubles(plain.data.clone())) < 1e-12, "{prediction:?}");
        }
    }
}

/// With eta 0, what is added is orthogonal to the conditional output.
#[test]
fn what_projection_adds_is_orthogonal() {
    let process = VariancePreserving::default();
    let with = GaussianMixture::single(&process, 1.0, 0.3).unwrap();
    let without = GaussianMixture::new(&process, vec![(0.5, -1.0, 0.5), (0.5, 0.5, 0.1)]).unwrap();
    let x = double(vec![0.4, -2.0, 1.7, 0.1, 0.7, -0.3], [2, 3]);
    let projection = Some(Projection { eta: 0.0, momentum: 0.0, threshold: None, base: Base::Conditional });
    let guidance = Guidance { projection, ..Guidance::new(4.0) };
    let guided = Guided::by(guidance, &process, Prediction::Sample, contrast_of(&with, &without)).unwrap();
    let conditional = with.denoise(x.clone(), 0.4).data;
    let added = guided.denoise(x, 0.4).data - conditional.clone();
    assert!(doubles(added.clone().square().sum())[0] > 0.1);
    assert!(doubles((added * conditional).sum_dim(1)).iter().all(|dot| dot.abs() < 1e-12));
}

#[test]
fn outside_the_interval_the_condition_stands_alone() {
    let process = VariancePreserving::default();
    let with = GaussianMixture::single(&process, 1.0, 0.3).unwrap();
    let without = GaussianMixture::single(&process, 0.0, 0.8).unwrap();
    let x = double(vec![0.4, -2.0], [1, 2]);
    let ratio = |t: f64| process.law(t).noise_ratio();
    for interval in
        [Interval::Times { from: 0.3, to: 0.6 }, Interval::NoiseLevels { from: ratio(0.3), to: ratio(0.6) }]
    {
        let calls = Cell::new(0);
        let counted = |x: Tensor<2>, t: f64| {
            calls.set(calls.get() + 1);
            contrast_of(&with, &without)(x, t)
        };
        let guidance = Guidance { interval: Some(interval), ..Guidance::new(3.0) };
        let guided = Guided::by(guidance, &process, Prediction::Noise, counted)
            .unwrap()
            .with_alone(|x: Tensor<2>, t: f64| with.denoise(x, t));
        for (t, on) in [(0.1, false), (0.29, false), (0.31, true), (0.59, true), (0.61, false), (1.0, false)]
        {
            let before = calls.get();
            let estimate = guided.denoise(x.clone(), t);
            let alone = with.denoise(x.clone(), t);
            let plain = contrast_of(&with, &without)(x.clone(), t).guide(3.0);
            let expected = if on { plain } else { alone };
            assert_eq!(doubles(estimate.data), doubles(expected.data), "{interval:?} at {t}");
            assert_eq!(calls.get() - before, usize::from(on), "no work outside");
        }
        // Without a denoiser for outside the closure is asked, and the result is the same.
        let guided = Guided::by(guidance, &process, Prediction::Noise, contrast_of(&with, &without)).unwrap();
        assert_eq!(doubles(guided.denoise(x.clone(), 0.1).data), doubles(with.denoise(x.clone(), 0.1).data));
    }
}

/// A negative prompt in the place of no prompt: of a mixture, samples leave the component that it names.
#[test]
fn a_negative_condition_is_gone_away_from() {
    let process = VariancePreserving::default();
    let all = GaussianMixture::new(&process, vec![(0.5, -1.0, 0.3), (0.5, 1.0, 0.3)]).unwrap();
    let negative = GaussianMixture::single(&process, -1.0, 0.3).unwrap();
    let guided = Guided::new(2.0, contrast_of(&all, &negative));
    let sampler = Sampler::new(SolverConfig::ddim(), grid::natural(&process, 40).unwrap()).unwrap();
    let run = |denoiser: &dyn Denoiser<2>| {
        let sampling =
            sampler.start_keyed(&process, denoiser, [400, 1], NoiseKey::new(3), &Device::flex()).unwrap();
        doubles(sampling.finish()).iter().filter(|&&x| x > 0.0).count()
    };
    let (free, away) = (run(&all), run(&guided));
    assert!((150..250).contains(&free) && away > free + 100, "{free} and {away} of 400");
}

#[test]
fn numbers_out_of_range_are_named() {
    let wrong = [
        (Guidance { rescale: 1.5, ..Guidance::new(2.0) }, "rescale"),
        (Guidance::new(f64::NAN), "scale"),
        (
            Guidance { interval: Some(Interval::Times { from: 0.5, to: 0.2 }), ..Guidance::new(2.0) },
            "interval",
        ),
        (
            Guidance {
                projection: Some(Projection {
                    eta: 0.0,
                    momentum: 0.0,
                    threshold: Some(0.0),
                    base: Base::default(),
                }),
                ..Guidance::new(2.0)
            },
            "threshold",
        ),
    ];
    for (guidance, name) in wrong {
        let error = guidance.check().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let text = r#"{"scale": 3, "projection": {"threshold": 2.5}, "interval": {"noise_levels": {"from": 0.2, "to": 1.6}}}"#;
    let guidance: Guidance = serde_json::from_str(text).unwrap();
    assert_eq!(guidance.projection.unwrap().eta, 0.0);
    assert!(serde_json::from_str::<Guidance>(r#"{"scale": 3, "rescle": 0.1}"#).is_err());
}

/// `ln p(y | x_t)` of the components of a mixture in every coordinate at once, up to a constant: known exactly, so classifier guidance is the
/// conditional process itself.
#[test]
fn the_exact_classifier_turns_a_mixture_into_its_component() {
    let process = VariancePreserving::default();
    let components = [(0.3, -1.0, 0.2), (0.7, 0.8, 0.5)];
    let all = GaussianMixture::new(&process, components.to_vec()).unwrap();
    let first = GaussianMixture::single(&process, -1.0, 0.2).unwrap();
    let log_likelihood = |x: Tensor<2>, t: f64| {
        let law = process.law(t);
        let logits = components.map(|(weight, mean, std): (f64, f64, f64)| {
            let variance = (law.alpha * std).powi(2) + law.sigma.powi(2);
            let distance = x.clone().sub_scalar(law.alpha * mean);
            distance.square().mul_scalar(-0.5 / variance).add_scalar(weight.ln() - 0.5 * variance.ln())
        });
        let [ours, other] = logits;
        // ln of the share of the first: -softplus(other - ours), one coordinate a sample.
        let gap = other - ours;
        let high = gap.clone().clamp_min(0.0);
        let soft = high.clone() + ((gap - high.clone()).exp() + (-high).exp()).log();
        -soft.sum_dim(1).squeeze_dim::<1>(1)
    };
    let guided = ClassifierGuided::new(&process, all, 1.0, log_likelihood);
    let x = double(vec![-3.0, -1.0, -0.4, 0.1, 0.9, 2.2], [6, 1]);
    for t in [0.05, 0.3, 0.8] {
        let (ours, exact) = (guided.denoise(x.clone(), t), first.denoise(x.clone(), t));
        assert!(apart(&doubles(ours.noise), &doubles(exact.noise)) < 1e-9, "t = {t}");
        assert!(apart(&doubles(ours.data), &doubles(exact.data)) < 1e-8, "t = {t}");
    }
    let sampler = Sampler::new(SolverConfig::dpmpp_2m(), grid::natural(&process, 40).unwrap()).unwrap();
    let run = sampler.start_keyed(&process, &guided, [2000, 1], NoiseKey::new(5), &Device::flex()).unwrap();
    let values = doubles(run.finish());
    let mean = values.iter().sum::<f64>() / 2000.0;
    let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2000.0).sqrt();
    // Standard errors: 0.2 / sqrt(2000) = 0.0045 and 0.0032.
    assert!((mean + 1.0).abs() < 0.02 && (std - 0.2).abs() < 0.02, "{mean} {std}");
}

/// A likelihood that does not depend on x changes nothing.
#[test]
fn a_flat_likelihood_changes_nothing() {
    let process = VariancePreserving::default();
    let inner = |x: Tensor<2>, _: f64| Estimate { data: x.clone() * 0.5, noise: x };
    let flat = |x: Tensor<2>, _: f64| Tensor::<1>::from_data(TensorData::from([1.0f32, 1.0]), &x.device());
    let x = double(vec![0.4, -2.0, 1.7, 0.1], [2, 2]);
    let estimate = ClassifierGuided::new(&process, inner, 3.0, flat).denoise(x.clone(), 0.3);
    assert_eq!(doubles(estimate.noise), doubles(x));
}
