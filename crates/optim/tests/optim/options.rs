//! Adam and AdamW, each option, against traces of torch.optim over 50 steps with recorded gradients.

use burn::module::Param;
use burn::optim::{GradientsParams, Optimizer};
use kiln_backend::testing;
use kiln_optim::{AdamConfig, AdamWConfig, DecayRule, NamedOptimizer, Objective, Variant};
use rstest::rstest;

use crate::golden::{Point, distance_in_millionths, row, tensor, values};

const STEPS: usize = 50;

/// Every step of the trace, on every backend.
fn follow<O: Optimizer>(optimizer: &O, lr: f64, trace: &str) {
    for (backend, device) in testing::devices() {
        let mut point = Point { p: Param::from_tensor(tensor("option.start", &device)) };
        let mut optimizer = NamedOptimizer::new(optimizer.clone());
        for step in 0..STEPS {
            let mut gradients = GradientsParams::new();
            let gradient = row("option.gradients", step);
            gradients
                .register(point.p.id, burn::tensor::Tensor::<1>::from_floats(gradient.as_slice(), &device));
            point = optimizer.step(lr, point, gradients);
            let difference = distance_in_millionths(&values(&point.p.val()), &row(trace, step));
            assert!(difference < 1.0, "{backend}, {trace}, step {}: {difference} millionths", step + 1);
        }
    }
}

fn adam() -> AdamConfig {
    AdamConfig::new().with_weight_decay(0.1)
}

fn adamw() -> AdamWConfig {
    AdamWConfig::new().with_weight_decay(0.1)
}

#[rstest]
#[case::plain("plain", adam().with_weight_decay(0.0))]
#[case::decay("decay", adam())]
#[case::amsgrad("amsgrad", adam().with_variant(Variant::AmsGrad))]
#[case::maximise("maximise", adam().with_objective(Objective::Maximise))]
#[case::betas("betas", adam().with_beta1(0.8).with_beta2(0.95).with_epsilon(1e-4))]
#[case::all("all", adam().with_variant(Variant::AmsGrad).with_objective(Objective::Maximise)
    .with_beta1(0.7).with_beta2(0.9).with_epsilon(1e-6))]
fn adam_is_torchs(#[case] option: &str, #[case] config: AdamConfig) {
    follow(&config.build(), 0.02, &format!("option.adam.{option}"));
}

#[test]
fn adam_has_torchs_defaults() {
    follow(&AdamConfig::new().build(), 1e-3, "option.adam.defaults");
}

#[rstest]
#[case::plain("plain", adamw().with_weight_decay(0.0))]
#[case::decay("decay", adamw())]
#[case::amsgrad("amsgrad", adamw().with_variant(Variant::AmsGrad))]
#[case::maximise("maximise", adamw().with_objective(Objective::Maximise))]
#[case::betas("betas", adamw().with_beta1(0.8).with_beta2(0.95).with_epsilon(1e-4))]
#[case::all("all", adamw().with_variant(Variant::AmsGrad).with_objective(Objective::Maximise)
    .with_beta1(0.7).with_beta2(0.9).with_epsilon(1e-6))]
#[case::cautious("cautious", adamw().with_decay_rule(DecayRule::Cautious))]
#[case::cautious_amsgrad("cautious_amsgrad", adamw().with_decay_rule(DecayRule::Cautious).with_variant(Variant::AmsGrad))]
fn adamw_is_torchs(#[case] option: &str, #[case] config: AdamWConfig) {
    follow(&config.build(), 0.02, &format!("option.adamw.{option}"));
}

/// The traces differ by far more than the tolerance, so that no option can pass for another.
#[test]
fn every_option_makes_a_difference() {
    let options = ["plain", "decay", "amsgrad", "maximise", "betas", "all"];
    let mut ends: Vec<_> = (["adam", "adamw"].iter())
        .flat_map(|kind| options.map(|option| format!("option.{kind}.{option}")))
        .chain(["option.adamw.cautious", "option.adamw.cautious_amsgrad"].map(str::to_owned))
        .map(|name| (row(&name, STEPS - 1), name))
        .collect();
    // Without decay, the two are one.
    ends.retain(|(_, name)| name != "option.adamw.plain");
    for (i, (one, name)) in ends.iter().enumerate() {
        for (other, other_name) in &ends[..i] {
            let difference = distance_in_millionths(one, other);
            assert!(difference > 20.0, "{name} and {other_name} differ by {difference} millionths");
        }
    }
}

/// A weight at 0, and one whose step is 0, decay: u p ≥ 0 holds with equality, as the paper has it.
#[test]
fn cautious_decay_spares_only_weights_that_the_step_makes_larger() {
    for (backend, device) in testing::devices() {
        let start = [1.0_f32, -1.0, 1.0, -1.0, 2.0];
        let gradient = [1.0_f32, 1.0, -1.0, -1.0, 0.0];
        let mut point = Point { p: Param::from_data(start, &device) };
        let mut gradients = GradientsParams::new();
        gradients.register(point.p.id, burn::tensor::Tensor::<1>::from_floats(gradient, &device));
        let config = adamw().with_decay_rule(DecayRule::Cautious);
        point = NamedOptimizer::new(config.build()).step(0.1, point, gradients);
        // The step is 0.1 against the gradient; the decay 0.01 of the weight, where the two go the same way.
        let expected = [0.89, -1.1, 1.1, -0.89, 1.98];
        let difference = distance_in_millionths(&values(&point.p.val()), &expected);
        assert!(difference < 1.0, "{backend}: {difference} millionths");
    }
}
