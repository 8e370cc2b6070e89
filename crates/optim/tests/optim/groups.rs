//! Groups of parameters against torch's, and how patterns match.

use burn::module::{Module, Param, ParamGroup};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use kiln_optim::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use kiln_optim::{AdamW, AdamWConfig, Group, GroupError, NORMS_AND_BIASES, NamedOptimizer};
use rstest::rstest;

use crate::golden::{data, distance_in_millionths, values};

/// Named as the network of the goldens is; `head` is square, so that a transposition missed would show in values alone.
#[derive(Module, Debug)]
pub struct Net {
    backbone: Linear,
    norm: LayerNorm,
    head: Linear,
}

/// Burn's `Linear` is `[in, out]`.
fn linear(name: &str, device: &Device) -> Tensor<2> {
    Tensor::<2>::from_data(data(name), device).transpose()
}

fn vector(name: &str, device: &Device) -> Tensor<1> {
    Tensor::from_data(data(name), device)
}

impl Net {
    /// The network with the golden parameters `from.*`.
    pub fn load(from: &str, device: &Device) -> Self {
        let mut net = Self {
            backbone: LinearConfig::new(3, 4).init(device),
            norm: LayerNormConfig::new(4).init(device),
            head: LinearConfig::new(4, 4).init(device),
        };
        net.backbone.weight = Param::from_tensor(linear(&format!("{from}.backbone.weight"), device));
        net.backbone.bias = Some(Param::from_tensor(vector(&format!("{from}.backbone.bias"), device)));
        net.norm.gamma = Param::from_tensor(vector(&format!("{from}.norm.weight"), device));
        net.norm.beta = Some(Param::from_tensor(vector(&format!("{from}.norm.bias"), device)));
        net.head.weight = Param::from_tensor(linear(&format!("{from}.head.weight"), device));
        net.head.bias = Some(Param::from_tensor(vector(&format!("{from}.head.bias"), device)));
        net
    }

    /// The golden gradients `from.*`.
    pub fn gradients(&self, from: &str, device: &Device) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let bias = |linear: &Linear| linear.bias.as_ref().unwrap().id;
        gradients.register(self.backbone.weight.id, linear(&format!("{from}.backbone.weight"), device));
        gradients.register(bias(&self.backbone), vector(&format!("{from}.backbone.bias"), device));
        gradients.register(self.norm.gamma.id, vector(&format!("{from}.norm.weight"), device));
        gradients.register(self.norm.beta.as_ref().unwrap().id, vector(&format!("{from}.norm.bias"), device));
        gradients.register(self.head.weight.id, linear(&format!("{from}.head.weight"), device));
        gradients.register(bias(&self.head), vector(&format!("{from}.head.bias"), device));
        gradients
    }

    /// All its numbers.
    pub fn values(&self) -> Vec<f32> {
        let bias = |linear: &Linear| values(&linear.bias.as_ref().unwrap().val());
        [
            values(&self.backbone.weight.val()),
            bias(&self.backbone),
            values(&self.norm.gamma.val()),
            values(&self.norm.beta.as_ref().unwrap().val()),
            values(&self.head.weight.val()),
            bias(&self.head),
        ]
        .concat()
    }
}

fn config() -> AdamWConfig {
    AdamWConfig::new().with_weight_decay(0.3)
}

fn grouped() -> NamedOptimizer<AdamW> {
    NamedOptimizer::new(config().build())
        .with_group(Group::new(["backbone.**"], config().build()).with_rate(0.1))
        .with_group(Group::new(["**.bias", "norm.*"], config().with_weight_decay(0.0).build()))
}

/// Burn's cosine schedule over the groups: torch's gives each group its own rate, ours one rate and factors.
#[test]
fn three_groups_under_a_schedule_are_torchs() {
    let device = Device::flex();
    let mut net = Net::load("groups.start", &device);
    let mut optimizer = grouped();
    let mut schedule = CosineAnnealingLrSchedulerConfig::new(0.01, 50).init().unwrap();
    for step in 0..50 {
        let gradients = net.gradients(&format!("groups.{step}.gradient"), &device);
        net = optimizer.step(schedule.step(), net, gradients);
        if [0, 9, 49].contains(&step) {
            let theirs = Net::load(&format!("groups.{step}.after"), &device);
            let difference = distance_in_millionths(&net.values(), &theirs.values());
            assert!(difference < 1.0, "step {}: {difference} millionths", step + 1);
        }
    }
}

/// The same groups in Burn's own optimizer, which takes AdamW as it is.
#[test]
fn burns_module_optimizer_takes_groups_of_it() {
    let device = Device::flex();
    let mut net = Net::load("groups.start", &device.clone().autodiff());
    let mut burns: ModuleOptimizer = config().init();
    burns = burns.with_group(
        ParamGroup::from_paths(vec!["norm.gamma", "norm.beta", "head.bias", "backbone.bias"]),
        config().with_weight_decay(0.0).build(),
        None,
    );
    let mut ours = NamedOptimizer::new(config().build())
        .with_group(Group::new(NORMS_AND_BIASES, config().with_weight_decay(0.0).build()));
    // Its "norm*.weight" is for norms with diffusers' names, of which this network has none.
    let error = ours.groups_of(&net).unwrap_err();
    assert_eq!(error, GroupError::Idle { pattern: "**.*norm*.weight".into() });
    let mut other = net.clone();
    for step in 0..5 {
        let from = format!("groups.{step}.gradient");
        let gradients = net.gradients(&from, &device);
        net = ours.step(0.01, net, gradients);
        let gradients = other.gradients(&from, &device);
        other = burns.step(0.01, other, gradients);
    }
    assert_eq!(net.values(), other.values());
}

#[test]
fn each_parameter_is_in_the_first_group_that_matches() {
    let net = Net::load("groups.start", &Device::flex());
    let groups = grouped().groups_of(&net).unwrap();
    let found: Vec<_> = groups.iter().map(|(path, group)| (path.as_str(), *group)).collect();
    let expected = [
        ("backbone.bias", Some(0)),
        ("backbone.weight", Some(0)),
        ("head.bias", Some(1)),
        ("head.weight", None),
        ("norm.beta", Some(1)),
        ("norm.gamma", Some(1)),
    ];
    assert_eq!(found, expected);
}

#[rstest]
#[case("**.bias", "bias", true)]
#[case("**.bias", "blocks.0.conv.bias", true)]
#[case("**.bias", "blocks.0.conv.bias_table", false)]
#[case("*.bias", "blocks.0.bias", false)]
#[case("blocks.?.conv.*", "blocks.3.conv.weight", true)]
#[case("blocks.?.conv.*", "blocks.13.conv.weight", false)]
#[case("backbone.**", "backbone", true)]
#[case("backbone.**", "backbone.layer1.0.weight", true)]
#[case("backbone.**", "backbones.layer1.0.weight", false)]
#[case("**.*norm*.weight", "blocks.0.norm1.weight", true)]
#[case("**.*norm*.weight", "conv_norm_out.weight", true)]
#[case("**.*norm*.weight", "blocks.0.norm1.linear.weight", false)]
#[case("**.attn.**.weight", "a.attn.b.c.weight", true)]
#[case("", "weight", false)]
fn patterns_match_field_by_field(#[case] pattern: &str, #[case] path: &str, #[case] expected: bool) {
    assert_eq!(Group::new([pattern], ()).has(path), expected);
}

#[test]
#[should_panic(expected = "a rate's factor must be 0 or more, and is NaN")]
fn a_rate_that_is_no_number_is_refused() {
    let _ = Group::new(["**"], ()).with_rate(f64::NAN);
}
