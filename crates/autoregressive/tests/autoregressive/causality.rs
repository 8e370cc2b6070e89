//! No conditional sees its own variable or a later one.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use kiln_autoregressive::{
    AutoregressiveModel, Canvas, Family, FvsbnConfig, GatedPixelCnnConfig, MadeConfig, Order, PixelCnnConfig,
    PixelRnnConfig, Recurrence, Wiring,
};
use kiln_backend::noise::{NoiseKey, uniform};
use kiln_optim::calculus::jacobian;

use crate::models::{Visitor, binary, colour, shaken};

/// A convolution by transforms leaves rounding where there is nothing: 1e-7 of what is there.
const ROUNDING: f32 = 1e-6;

/// Which site's numbers move with which variable, by the Jacobian at a point where all are between their values: `[site][variable]`.
fn dependencies(
    sites: usize,
    rounding: f32,
    f: impl Fn(Tensor<2>) -> Tensor<3>,
    at: &Tensor<2>,
) -> Vec<Vec<bool>> {
    let variables = at.dims()[1];
    let jacobian = jacobian(f, at).unwrap();
    let values: Vec<f32> = jacobian.to_data().iter().collect();
    let width = values.len() / variables / sites;
    let least = rounding * values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    let site = |site: usize| {
        let rows = &values[site * width * variables..][..width * variables];
        (0..variables)
            .map(|i| rows.iter().skip(i).step_by(variables).any(|value| value.abs() > least))
            .collect()
    };
    (0..sites).map(site).collect()
}

/// Nothing later is seen; how much of what is earlier is.
fn seen_share<M: AutoregressiveModel>(name: &str, model: M) -> f64 {
    let (order, family) = (model.order().clone(), model.family());
    let (sites, variables) = (model.sites(), model.variables());
    let model = model.train();
    let device = model.devices()[0].clone();
    let at: Tensor<2> = uniform([1, variables], NoiseKey::new(77), &device.clone());
    let at = at.without_autodiff();
    let seen = dependencies(sites, ROUNDING, |x| model.parameters(x, None), &at);
    let places = order.places();
    let (mut earlier, mut used) = (0_usize, 0);
    for (site, row) in seen.iter().enumerate() {
        for (variable, sees) in row.iter().enumerate() {
            // Several variables of a site lie channel by channel.
            let of = variable % (variables / family.channels());
            if places[of] < places[site] {
                earlier += 1;
                used += usize::from(*sees);
            } else {
                assert!(!sees, "{name}: site {site} sees variable {variable}");
            }
        }
    }
    used as f64 / earlier.max(1) as f64
}

struct Jacobians;

impl Visitor for Jacobians {
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M) {
        // Tables and tokens are looked up: their derivative is 0 everywhere, and says nothing.
        if name.contains("table") || name.contains("transformer") {
            return;
        }
        let share = seen_share(name, model);
        // Rectifiers that are off, a blind spot, a Row LSTM's triangle hide some of what may be seen.
        let least = if name == "independent" { 0.0 } else { 0.5 };
        assert!(share >= least, "{name} sees {share} of what comes before");
    }
}

#[test]
fn the_jacobian_is_triangular_in_the_order() {
    binary(&Device::flex(), 0, &mut Jacobians);
    colour(&Device::flex(), &mut Jacobians);
}

#[test]
fn in_every_order() {
    let device = Device::flex();
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]];
    for order in orders.map(|order| Order::new(order.to_vec()).unwrap()) {
        let fvsbn = FvsbnConfig::new(order.clone()).init(&device).unwrap();
        assert!((seen_share("fvsbn", shaken(fvsbn, 1)) - 1.0).abs() < 1e-9);
        for degrees in [None, Some(3), Some(4)] {
            let wiring = Wiring { order: order.clone(), degrees };
            let made = MadeConfig::new(vec![wiring], vec![16, 16]).init(&device).unwrap();
            seen_share("made", shaken(made, 2));
        }
    }
}

/// Changing a value leaves what comes before it, and itself, as it was, to the bit.
struct Flips;

impl Visitor for Flips {
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M) {
        let device = model.devices()[0].clone();
        let (sites, variables) = (model.sites(), model.variables());
        let x: Tensor<2> = uniform([1, variables], NoiseKey::new(5), &device).greater_elem(0.5).float();
        let numbers = |x| -> Vec<f32> { model.parameters(x, None).to_data().iter().collect() };
        let before = numbers(x.clone());
        let (width, places) = (before.len() / sites, model.order().places());
        for variable in 0..variables {
            let value = x.clone().narrow(1, variable, 1).neg().add_scalar(1.0);
            let after = numbers(x.clone().slice_assign([0..1, variable..variable + 1], value));
            for site in (0..sites).filter(|site| places[*site] <= places[variable % sites]) {
                let (a, b) = (&before[site * width..][..width], &after[site * width..][..width]);
                let same = a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(same, "{name}: site {site} moves with variable {variable}");
            }
        }
    }
}

#[test]
fn a_changed_value_changes_only_what_comes_after() {
    // That one pass is what places give one by one is tried on every backend: there what sees too much would show.
    binary(&Device::flex(), 0, &mut Flips);
    colour(&Device::flex(), &mut Flips);
}

/// The pixels that the conditional of the one in the middle of the lowest row sees.
fn field<M: AutoregressiveModel>(model: M, side: usize, rounding: f32) -> Vec<bool> {
    let model = model.train();
    let device = model.devices()[0].clone();
    let at: Tensor<2> = uniform([1, side * side], NoiseKey::new(7), &device).without_autodiff();
    let site = side * side - 1 - side / 2;
    let one = |x| model.parameters(x, None).narrow(1, site, 1);
    dependencies(1, rounding, one, &at).remove(0)
}

#[test]
fn masked_kernels_have_a_blind_spot_and_two_stacks_have_none() {
    let (device, side) = (Device::flex(), 9);
    let canvas = Canvas::binary(side, side);
    let before = side * side - 1 - side / 2;
    let cnn =
        PixelCnnConfig::new(canvas).with_features(16).with_blocks(8).with_kernel(3).init(&device).unwrap();
    let gated = GatedPixelCnnConfig::new(canvas).with_features(8).with_layers(8).with_first_kernel(3);
    let seen = [
        field(shaken(cnn, 1), side, ROUNDING),
        field(shaken(gated.init(&device).unwrap(), 2), side, ROUNDING),
    ];
    let missed = seen.each_ref().map(|seen| (0..before).filter(|i| !seen[*i]).collect::<Vec<_>>());
    // Above to the right: a row up the kernel reaches one column further, and only from there on again.
    let (row, column) = (side - 1, side / 2);
    let blind = (0..before).filter(|i| {
        let (up, across) = (row - i / side, i % side);
        across > column && across - column > up
    });
    assert_eq!(missed[0], blind.collect::<Vec<_>>(), "PixelCNN");
    assert!(missed[0].len() >= 6, "a blind spot of {} pixels", missed[0].len());
    assert_eq!(missed[1], Vec::<usize>::new(), "gated PixelCNN");
    // What an LSTM forgets on the way is different for different weights: what is seen by one of a few.
    let rnn = |recurrence| {
        let config = PixelRnnConfig::new(canvas, recurrence).with_hidden(4).with_layers(1).with_kernel(3);
        let fields = (0..6).map(|seed| field(shaken(config.init(&device).unwrap(), seed), side, 0.0));
        let seen = fields.reduce(|all, one| all.into_iter().zip(one).map(|(a, b)| a || b).collect()).unwrap();
        (0..before).filter(|i| !seen[*i]).collect::<Vec<_>>()
    };
    // The last pixel of the row above is seen by the features after it only, and those end with the row.
    let corner = (side - 1) * side - 1;
    assert_eq!(rnn(Recurrence::DiagonalBiLstm), [corner], "diagonal BiLSTM");
    assert_ne!(rnn(Recurrence::RowLstm), Vec::<usize>::new(), "the Row LSTM sees a triangle");
}

/// An autoencoder with no masks.
#[derive(Module, Debug)]
struct Autoencoder {
    encoder: Linear,
    decoder: Linear,
}

#[test]
fn a_plain_autoencoder_is_no_autoregressive_model() {
    let device = Device::flex().autodiff();
    let n = 5;
    let plain = Autoencoder {
        encoder: LinearConfig::new(n, 24).init(&device),
        decoder: LinearConfig::new(24, n).init(&device),
    };
    let plain = shaken(plain, 3);
    let forward = |x: Tensor<2>| plain.decoder.forward(relu(plain.encoder.forward(x)));
    let at: Tensor<2> = uniform([1, n], NoiseKey::new(2), &device).without_autodiff();
    let seen = dependencies(n, ROUNDING, |x| forward(x).unsqueeze_dim(2), &at);
    // Every output sees the variable that it is to tell, in whatever order they are taken.
    assert!((0..n).all(|i| seen[i][i]), "{seen:?}");
    // So the product of what it tells is no distribution: it does not sum to 1.
    let all = crate::models::states(n, 2, &Device::flex());
    let numbers = forward(all.clone().autodiff()).without_autodiff().unsqueeze_dim::<3>(2);
    let log_prob = Family::Bernoulli.log_prob(numbers, all).sum_dim(1);
    let sum: f32 = log_prob.exp().sum().into_scalar();
    assert!((sum - 1.0).abs() > 0.01, "{sum}");
}
