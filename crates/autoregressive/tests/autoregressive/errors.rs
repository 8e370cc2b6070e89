//! What can't be computed is told.

use burn::tensor::{Device, Tensor};
use kiln_autoregressive::{
    AutoregressiveError, AutoregressiveModel, Canvas, Family, FullTable, FvsbnConfig, GatedPixelCnnConfig,
    IndependentConfig, Labelled, MadeConfig, NadeConfig, Order, OrderlessNadeConfig, PixelCnnConfig,
    PixelCnnPlusPlusConfig, PixelRnnConfig, Recurrence, TransformerConfig, WaveNetConfig, Wiring,
};
use kiln_backend::noise::NoiseKey;
use rstest::rstest;

#[test]
fn values_outside_the_domain_are_named() {
    let device = Device::flex();
    let model = FvsbnConfig::new(Order::natural(3)).init(&device).unwrap();
    let x = Tensor::<2>::from_data([[0., 1., 0.], [1., 0.5, 0.]], &device);
    let error = model.log_prob(x, None).unwrap_err();
    assert_eq!(error.to_string(), "row 1, variable 1: 0.5 is none of the model's values; expected 0 or 1");
    for bad in [f32::NAN, f32::INFINITY, -1.0, 2.0] {
        let x = Tensor::<2>::from_data([[0., bad, 0.]], &device);
        let error = model.conditionals(x, None).unwrap_err();
        assert!(matches!(error, AutoregressiveError::Value { row: 0, variable: 1, .. }), "{error}");
    }
    let family = Family::Categorical { levels: 4 };
    let model = IndependentConfig::new(2).with_family(family).init(&device).unwrap();
    let error = model.log_prob(Tensor::from_data([[3., 4.]], &device), None).unwrap_err();
    assert!(error.to_string().ends_with("expected 0, 1, ..., 3"), "{error}");
    let rnade = NadeConfig::real(Order::natural(2), 3, 2).init(&device).unwrap();
    assert!(rnade.log_prob(Tensor::from_data([[0.0, f32::NAN]], &device), None).is_err());
}

#[test]
fn samples_of_another_length_and_what_they_are_given_with() {
    let device = Device::flex();
    let model = NadeConfig::new(Order::natural(3), 4).with_given(2).init(&device).unwrap();
    let x = || Tensor::<2>::zeros([1, 3], &device);
    let given = |n| Some(Tensor::<2>::zeros([1, n], &device));
    assert_eq!(
        model.log_prob(Tensor::zeros([1, 4], &device), given(2)).unwrap_err(),
        AutoregressiveError::Length { found: 4, expected: 3 }
    );
    let wrong = |found| AutoregressiveError::Given { found, expected: 2 };
    assert_eq!(model.log_prob(x(), None).unwrap_err(), wrong(0));
    assert_eq!(model.log_prob(x(), given(3)).unwrap_err(), wrong(3));
    assert_eq!(model.sample(1, None, NoiseKey::new(0)).unwrap_err(), wrong(0));
    let error = model.complete(x(), &[true; 2], given(2), NoiseKey::new(0)).unwrap_err();
    assert_eq!(error, AutoregressiveError::Length { found: 2, expected: 3 });
    let plain = IndependentConfig::new(3).init(&device).unwrap();
    assert!(matches!(
        Labelled::new(plain, &device).unwrap_err(),
        AutoregressiveError::Config { field: "given", .. }
    ));
}

#[rstest]
#[case(vec![0, 1, 1], "variable 1 stands at places 1 and 2")]
#[case(vec![0, 1, 3], "variable 3 at place 2 does not exist")]
fn an_order_that_is_none(#[case] variables: Vec<usize>, #[case] reason: &str) {
    let error = Order::new(variables).unwrap_err();
    assert_eq!(error.to_string(), format!("an order of 3 variables: {reason}"));
}

#[test]
fn orders_are_permutations() {
    for seed in 0..50 {
        let order = Order::shuffled(7, seed);
        assert_eq!(Order::new(order.variables().to_vec()).unwrap(), order);
    }
    assert_ne!(Order::shuffled(7, 1), Order::shuffled(7, 2));
    assert_eq!(Order::natural(3).reversed().variables(), [2, 1, 0]);
    // Two channels of a 1 x 2 picture: both of the first pixel, then both of the second.
    assert_eq!(Order::raster([2, 1, 2]).variables(), [0, 2, 1, 3]);
}

/// The field that a configuration's error names.
fn field<T>(result: Result<T, AutoregressiveError>) -> &'static str {
    match result.err() {
        Some(AutoregressiveError::Config { field, .. }) => field,
        Some(other) => panic!("{other}"),
        None => "none",
    }
}

#[test]
fn masks_and_sizes_that_cant_be() {
    let device = &Device::flex();
    let order = || Order::natural(4);
    let canvas = Canvas::binary(4, 4);
    let wirings = || vec![Wiring::even(order())];
    assert_eq!(field(MadeConfig::new(vec![], vec![4]).init(device)), "wirings");
    assert_eq!(
        field(MadeConfig::new(vec![Wiring::even(Order::natural(1))], vec![4]).init(device)),
        "wirings"
    );
    assert_eq!(field(MadeConfig::new(wirings(), vec![]).init(device)), "hidden");
    assert_eq!(field(MadeConfig::new(wirings(), vec![4, 0]).init(device)), "hidden");
    let other = vec![Wiring::even(order()), Wiring::even(Order::natural(5))];
    let error = MadeConfig::new(other, vec![4]).init(device).unwrap_err();
    assert_eq!(error, AutoregressiveError::Length { found: 5, expected: 4 });
    assert_eq!(field(NadeConfig::new(order(), 0).init(device)), "hidden");
    assert_eq!(field(OrderlessNadeConfig::new(order(), vec![]).init(device)), "hidden");
    assert_eq!(field(PixelCnnConfig::new(canvas).with_kernel(4).init(device)), "kernel");
    assert_eq!(field(PixelCnnConfig::new(canvas).with_features(7).init(device)), "features");
    let rgb = Canvas { channels: 3, family: Family::Categorical { levels: 4 }, ..canvas };
    assert_eq!(field(GatedPixelCnnConfig::new(rgb).with_features(8).init(device)), "features");
    assert_eq!(field(GatedPixelCnnConfig::new(canvas).with_kernel(2).init(device)), "kernel");
    assert_eq!(field(PixelCnnPlusPlusConfig::new(rgb).init(device)), "family");
    assert_eq!(field(PixelRnnConfig::new(rgb, Recurrence::RowLstm).with_hidden(4).init(device)), "hidden");
    assert_eq!(field(WaveNetConfig::new(order()).with_layers(64).init(device)), "layers");
    assert_eq!(field(TransformerConfig::new(order()).with_width(10).init(device)), "width");
    let logistic = Family::LogisticMixture { levels: 8, components: 2, channels: 3 };
    assert_eq!(field(PixelCnnConfig::new(Canvas { family: logistic, ..canvas }).init(device)), "family");
    assert_eq!(field(PixelCnnConfig::new(Canvas { height: 0, ..canvas }).init(device)), "height");
    assert_eq!(field(FullTable::new(Order::natural(40), device)), "order");
    for (family, wrong) in [
        (Family::Categorical { levels: 1 }, "levels"),
        (Family::GaussianMixture { components: 0 }, "components"),
        (Family::LogisticMixture { levels: 8, components: 1, channels: 2 }, "channels"),
    ] {
        assert_eq!(field(FvsbnConfig::new(order()).with_family(family).init(device)), wrong);
    }
}
