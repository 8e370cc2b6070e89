//! Every model, small: what the laws are tried on.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kiln_attention::language_model::AttentionKind;
use kiln_autoregressive::{
    AutoregressiveModel, Canvas, DirectLinks, Family, FullTable, FvsbnConfig, GatedPixelCnnConfig,
    IndependentConfig, MadeConfig, NadeConfig, NadeUnits, Order, OrderlessNadeConfig, PixelCnnConfig,
    PixelCnnPlusPlusConfig, PixelRnnConfig, Recurrence, RecurrentConfig, TransformerConfig, WaveNetConfig,
    Wiring,
};
use kiln_backend::noise::{NoiseKey, normal};

/// What is done with each model.
pub trait Visitor {
    /// One of them, by name.
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M);
}

/// All weights drawn anew, standard deviation 0.5: no model is left at a start where it sees nothing.
pub fn shaken<M: Module>(model: M, seed: u64) -> M {
    struct Shake(NoiseKey);
    impl ModuleMapper for Shake {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 = self.0.at_sample(self.0.sample + 1);
            let key = self.0;
            param.map(|tensor| {
                let n = tensor.shape().num_elements();
                let flat: Tensor<2> = normal([1, n], key, &tensor.device());
                flat.mul_scalar(0.5).reshape(tensor.shape())
            })
        }
    }
    model.map(&mut Shake(NoiseKey::new(seed)))
}

/// Binary models of six variables, or of 3 x 3 pixels.
pub fn binary(device: &Device, given: usize, visitor: &mut impl Visitor) {
    let order = || Order::new(vec![3, 0, 5, 1, 4, 2]).unwrap();
    let fvsbn = FvsbnConfig::new(order()).with_given(given).init(device).unwrap();
    visitor.visit("fvsbn", shaken(fvsbn, 1));
    let nade = NadeConfig::new(order(), 7).with_given(given).init(device).unwrap();
    visitor.visit("nade", shaken(nade, 2));
    let rectified = NadeConfig::new(order(), 7).with_given(given).with_units(NadeUnits::Rectified);
    visitor.visit("nade, rectified", shaken(rectified.init(device).unwrap(), 3));
    let orderless = OrderlessNadeConfig::new(order(), vec![9, 8]).with_given(given);
    visitor.visit("orderless nade", shaken(orderless.init(device).unwrap(), 4));
    let wiring = Wiring { order: order(), degrees: Some(5) };
    let made = MadeConfig::new(vec![wiring], vec![11, 12]).with_given(given).with_direct(DirectLinks::Masked);
    visitor.visit("made", shaken(made.init(device).unwrap(), 5));
    let even = MadeConfig::new(vec![Wiring::even(order())], vec![10]).with_given(given);
    visitor.visit("made, even degrees", shaken(even.init(device).unwrap(), 6));
    let recurrent = RecurrentConfig::new(order(), 5).with_layers(2).with_given(given);
    visitor.visit("recurrent", shaken(recurrent.init(device).unwrap(), 7));
    let wavenet =
        WaveNetConfig::new(order()).with_channels(4).with_skip_channels(6).with_layers(2).with_given(given);
    visitor.visit("wavenet", shaken(wavenet.init(device).unwrap(), 8));
    let transformer = TransformerConfig::new(order()).with_width(8).with_heads(2).with_given(given);
    visitor.visit("transformer", shaken(transformer.init(device).unwrap(), 9));
    let linear = TransformerConfig::new(order()).with_width(8).with_heads(2).with_given(given);
    let linear = linear.with_kind(AttentionKind::Linear);
    visitor.visit("transformer, linear", shaken(linear.init(device).unwrap(), 10));
    let canvas = Canvas::binary(3, 3);
    let cnn = PixelCnnConfig::new(canvas).with_features(6).with_blocks(2).with_kernel(3).with_given(given);
    visitor.visit("pixelcnn", shaken(cnn.init(device).unwrap(), 11));
    let gated = GatedPixelCnnConfig::new(canvas)
        .with_features(4)
        .with_layers(2)
        .with_first_kernel(5)
        .with_given(given);
    visitor.visit("gated pixelcnn", shaken(gated.init(device).unwrap(), 12));
    let plus_plus = PixelCnnPlusPlusConfig::new(canvas)
        .with_features(3)
        .with_blocks(1)
        .with_halvings(1)
        .with_dropout(0.0);
    visitor.visit("pixelcnn++", shaken(plus_plus.with_given(given).init(device).unwrap(), 13));
    for (name, recurrence) in
        [("row lstm", Recurrence::RowLstm), ("diagonal bilstm", Recurrence::DiagonalBiLstm)]
    {
        let rnn = PixelRnnConfig::new(canvas, recurrence).with_hidden(3).with_layers(2).with_kernel(3);
        visitor.visit(name, shaken(rnn.with_given(given).init(device).unwrap(), 14));
    }
    if given == 0 {
        visitor.visit("full table", shaken(FullTable::new(order(), device).unwrap(), 15));
    }
    visitor
        .visit("independent", shaken(IndependentConfig::new(6).with_given(given).init(device).unwrap(), 16));
}

/// Models in colour: 2 x 3 pixels of three channels with three levels each.
pub fn colour(device: &Device, visitor: &mut impl Visitor) {
    let by_channel = Family::Categorical { levels: 3 };
    let canvas = Canvas { channels: 3, height: 2, width: 3, family: by_channel };
    let cnn = PixelCnnConfig::new(canvas).with_features(12).with_blocks(2).with_kernel(3);
    visitor.visit("pixelcnn", shaken(cnn.init(device).unwrap(), 21));
    let gated = GatedPixelCnnConfig::new(canvas).with_features(6).with_layers(2).with_first_kernel(3);
    visitor.visit("gated pixelcnn", shaken(gated.init(device).unwrap(), 22));
    let rnn =
        PixelRnnConfig::new(canvas, Recurrence::DiagonalBiLstm).with_hidden(3).with_layers(1).with_kernel(3);
    visitor.visit("diagonal bilstm", shaken(rnn.init(device).unwrap(), 23));
    let by_pixel = Family::LogisticMixture { levels: 3, components: 2, channels: 3 };
    let canvas = Canvas { family: by_pixel, ..canvas };
    let plus_plus = PixelCnnPlusPlusConfig::new(canvas)
        .with_features(4)
        .with_blocks(1)
        .with_halvings(2)
        .with_dropout(0.0);
    visitor.visit("pixelcnn++", shaken(plus_plus.init(device).unwrap(), 24));
    let cnn = PixelCnnConfig::new(canvas).with_features(4).with_blocks(1).with_kernel(3);
    visitor.visit("pixelcnn of logistics", shaken(cnn.init(device).unwrap(), 25));
}

/// Every state of `n` variables with so many levels, `[levels^n, n]`.
pub fn states(n: usize, levels: usize, device: &Device) -> Tensor<2> {
    let count = levels.pow(n as u32);
    let value = |state: usize, i: usize| (state / levels.pow(i as u32) % levels) as f32;
    let values: Vec<f32> = (0..count).flat_map(|state| (0..n).map(move |i| value(state, i))).collect();
    Tensor::from_data(TensorData::new(values, [count, n]), device)
}

/// A class for each row, as one-hot.
pub fn one_hot(classes: &[usize], of: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> =
        classes.iter().flat_map(|&class| (0..of).map(move |k| if k == class { 1.0 } else { 0.0 })).collect();
    Tensor::from_data(TensorData::new(values, [classes.len(), of]), device)
}
