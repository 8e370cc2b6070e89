//! Gated attention units and FLASH: numbers of tests/reference/attention_kinds.py, and laws.

use burn::module::{Module as _, ModuleMapper, Param};
use burn::tensor::{DType, Device, Int, Tensor};
use kiln_attention::positions::RotaryConfig;
use kiln_attention::{
    Causality, FlashConfig, FlashState, FlashStateRecord, Gate, GatedAttentionConfig, GluConfig,
    KeyValueCache, ScoreFunction,
};
use kiln_backend::testing;
use proptest::prelude::*;
use rstest::rstest;

use crate::support::{Golden, assert_close, devices_at, difference, values};

fn unit() -> GatedAttentionConfig {
    GatedAttentionConfig::new(6)
        .with_shared_dim(8)
        .with_rotary(Some(RotaryConfig::new()))
        .with_buckets(8)
        .with_max_distance(16)
}

fn flash() -> FlashConfig {
    FlashConfig::new(6)
        .with_shared_dim(8)
        .with_chunk(4)
        .with_rotary(Some(RotaryConfig::new()))
        .with_buckets(8)
        .with_max_distance(16)
}

const BOTH: [(Causality, &str); 2] = [(Causality::None, "all"), (Causality::Causal, "causal")];

#[rstest]
#[case("squared_relu", ScoreFunction::SquaredRelu)]
#[case("laplace", ScoreFunction::Laplace)]
#[case("softmax", ScoreFunction::Softmax)]
fn units_are_the_definition(#[case] name: &str, #[case] scores: ScoreFunction) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        for (causality, of) in BOTH {
            let layer = unit().with_scores(scores).with_causality(causality).init(&device);
            let loaded = golden.part("gau.layer.").load_into(layer).unwrap();
            assert!(loaded.surplus.is_empty(), "{:?}", loaded.surplus);
            let visible = golden.integers("gau.visible", &device);
            let found = loaded.module.forward(golden.tensor("gau.x", &device), Some(visible));
            let expected = golden.tensor(&format!("gau.{name}.{of}"), &device);
            assert_close(&format!("{name} {of} on {backend}"), found, expected, 1e-5);
        }
    }
}

#[test]
fn flash_is_the_definition() {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        for (causality, of) in BOTH {
            let layer = flash().with_causality(causality).init(&device);
            let loaded = golden.part("flash.layer.").load_into(layer).unwrap();
            assert!(loaded.surplus.is_empty(), "{:?}", loaded.surplus);
            let visible = golden.integers("flash.visible", &device);
            let found = loaded.module.forward(golden.tensor("flash.x", &device), Some(visible));
            assert_close(
                &format!("{of} on {backend}"),
                found,
                golden.tensor(&format!("flash.{of}"), &device),
                1e-5,
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// Not by a bit: neither in a chunk nor by the sums across.
    #[test]
    fn the_future_does_not_change_the_past(n in 2_usize..19, cut in 1_usize..18, seed in 0_usize..99) {
        let cut = cut.min(n - 1);
        let golden = Golden::open();
        for (backend, device) in devices_at(seed) {
            let x = values([1, n, 6], seed, &device);
            let other = Tensor::cat(vec![x.clone().narrow(1, 0, cut), x.clone().narrow(1, cut, n - cut) * -1.7], 1);
            let past = |y: Tensor<3>| y.narrow(1, 0, cut).into_data().iter::<f32>().collect::<Vec<_>>();
            let layer = flash().with_causality(Causality::Causal).init(&device);
            let layer = golden.part("flash.layer.").load_into(layer).unwrap().module;
            prop_assert_eq!(past(layer.forward(x.clone(), None)), past(layer.forward(other.clone(), None)), "{}", backend);
            for scores in [ScoreFunction::SquaredRelu, ScoreFunction::Laplace, ScoreFunction::Softmax] {
                let layer = unit().with_scores(scores).with_causality(Causality::Causal).init(&device);
                let layer = golden.part("gau.layer.").load_into(layer).unwrap().module;
                prop_assert_eq!(past(layer.forward(x.clone(), None)), past(layer.forward(other.clone(), None)), "{}", backend);
            }
        }
    }

    /// Neither what stands in hidden tokens nor how many there are.
    #[test]
    fn padding_that_is_hidden_changes_nothing(n in 1_usize..13, more in 1_usize..9, seed in 0_usize..99, past in any::<bool>()) {
        let causality = if past { Causality::Causal } else { Causality::None };
        let golden = Golden::open();
        for (backend, device) in devices_at(seed) {
            let x = values([1, n, 6], seed, &device);
            let padded = Tensor::cat(vec![x.clone(), values([1, more, 6], seed + 1, &device) * 3.0], 1);
            let visible = Tensor::cat(
                vec![Tensor::<2, Int>::ones([1, n], &device), Tensor::zeros([1, more], &device)],
                1,
            );
            let layer = golden.part("flash.layer.").load_into(flash().with_causality(causality).init(&device)).unwrap().module;
            let found = layer.forward(padded.clone(), Some(visible.clone())).narrow(1, 0, n);
            assert_close(backend, found, layer.forward(x.clone(), None), 2e-5);
            let layer = golden.part("gau.layer.").load_into(unit().with_causality(causality).init(&device)).unwrap().module;
            let found = layer.forward(padded, Some(visible)).narrow(1, 0, n);
            assert_close(backend, found, layer.forward(x, None), 2e-5);
        }
    }
}

/// One chunk that holds all is a gated unit plus what goes across: with the far heads at zero, the unit alone.
#[test]
fn a_single_chunk_is_quadratic() {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let x = values([2, 9, 6], 3, &device);
        let change = |chunk: usize| {
            let layer = flash().with_chunk(chunk).with_causality(Causality::Causal).init(&device);
            golden.part("flash.layer.").load_into(layer).unwrap().module.forward(x.clone(), None)
        };
        // Causal, and no chunk before the first: nothing comes from across. Scores are divided by the chunk's length.
        let first = difference(change(4).narrow(1, 0, 4), change(16).narrow(1, 0, 4));
        assert!(first > 1e-4, "{backend}: the length of a chunk matters");
        assert_close(backend, change(9), change(9), 0.0);
        assert!(difference(change(9), change(3)) > 1e-4, "{backend}");
    }
}

/// act(W_u x) . W_v x is at least bilinear in the weights: what the gate closes, no value passes.
#[rstest]
#[case(Gate::Sigmoid)]
#[case(Gate::Relu)]
#[case(Gate::Gelu)]
#[case(Gate::Silu)]
fn a_gated_linear_unit_is_its_formula(#[case] gate: Gate) {
    for (backend, device) in testing::devices() {
        let x = values::<2>([3, 4], 1, &device) * 2.0;
        let host: Vec<f32> = x.clone().into_data().iter().collect();
        let found: Vec<f32> = gate.apply(x.clone()).into_data().iter().collect();
        for (x, found) in host.into_iter().zip(found) {
            let x = f64::from(x);
            let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
            let expected = match gate {
                Gate::Sigmoid => logistic(x),
                Gate::Relu => x.max(0.0),
                Gate::Silu => x * logistic(x),
                // Within 1e-3 by the tanh form: enough to tell it from the others.
                Gate::Gelu => 0.5 * x * (1.0 + (0.797_884_56 * (x + 0.044_715 * x.powi(3))).tanh()),
            };
            assert!(
                (f64::from(found) - expected).abs() < 1e-3,
                "{gate:?} on {backend}: {found} for {expected}"
            );
        }
        let layer = GluConfig::new(4, 7).with_gate(gate).init(&device);
        assert_eq!(layer.forward(x.clone()).dims(), [3, 4]);
        // Without biases, nothing comes of nothing.
        assert_close(backend, layer.forward(x * 0.0), Tensor::zeros([3, 4], &device), 0.0);
    }
}

/// Token by token, in parts that end within chunks and beyond them, and at once.
#[rstest]
#[case::one_by_one(&[1; 9])]
#[case::a_prompt_and_then(&[6, 1, 1, 1])]
#[case::in_parts(&[4, 3, 2])]
#[case::at_once(&[9])]
fn decoding_is_the_causal_pass(#[case] steps: &[usize]) {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let x = values([2, 9, 6], 4, &device);
        let decoded = |decode: &mut dyn FnMut(Tensor<3>) -> Tensor<3>| {
            let mut first = 0;
            let parts = steps.iter().map(|&n| {
                first += n;
                decode(x.clone().narrow(1, first - n, n))
            });
            Tensor::cat(parts.collect(), 1)
        };
        for scores in [ScoreFunction::SquaredRelu, ScoreFunction::Laplace, ScoreFunction::Softmax] {
            // A GPU that is a program compiles each new shape: there, one is enough.
            if backend != "flex" && scores != ScoreFunction::SquaredRelu {
                continue;
            }
            let what = format!("{scores:?} on {backend}");
            let layer = flash().with_scores(scores).with_causality(Causality::Causal).init(&device);
            let layer = golden.part("flash.layer.").load_into(layer).unwrap().module;
            let mut state = FlashState::default();
            let found = decoded(&mut |x| layer.decode(x, &mut state));
            assert_close(&what, found, layer.forward(x.clone(), None), 1e-5);
            // Of a chunk of four, what is not full.
            assert_eq!((state.seen(), state.kept()), (9, 1), "{what}");

            let unit = unit().with_scores(scores).with_causality(Causality::Causal).init(&device);
            let unit = golden.part("gau.layer.").load_into(unit).unwrap().module;
            let mut cache = KeyValueCache::new();
            let found = decoded(&mut |x| unit.decode(x, &mut cache));
            assert_close(&what, found, unit.forward(x.clone(), None), 1e-5);
        }
    }
}

#[test]
fn a_state_goes_on_after_a_file() {
    let golden = Golden::open();
    for (backend, device) in testing::devices() {
        let layer = flash().with_causality(Causality::Causal).init(&device);
        let layer = golden.part("flash.layer.").load_into(layer).unwrap().module;
        let x = values([2, 11, 6], 5, &device);
        let expected = layer.forward(x.clone(), None);
        // In the first chunk, at its end, and in the second.
        for cut in [3, 4, 7] {
            let mut state = FlashState::default();
            let _ = layer.decode(x.clone().narrow(1, 0, cut), &mut state);
            let text = serde_json::to_string(&state.to_record()).unwrap();
            let record: FlashStateRecord = serde_json::from_str(&text).unwrap();
            let mut read = FlashState::from_record(record, &device).expect("it is a state's");
            let rest = layer.decode(x.clone().narrow(1, cut, 11 - cut), &mut read);
            let expected = expected.clone().narrow(1, cut, 11 - cut);
            assert_close(&format!("{cut} on {backend}"), rest, expected, 1e-5);
        }
    }
}

#[test]
fn a_record_that_is_no_states_is_refused() {
    let device = Device::flex();
    let layer = flash().with_causality(Causality::Causal).init(&device);
    let mut state = FlashState::default();
    let _ = layer.decode(values([1, 6, 6], 5, &device), &mut state);
    let text = serde_json::to_string(&state.to_record()).unwrap();
    for seen in [0, 1, 2] {
        let record = text.replace("\"seen\":6", &format!("\"seen\":{seen}"));
        assert_ne!(record, text);
        let record: FlashStateRecord = serde_json::from_str(&record).unwrap();
        assert!(FlashState::from_record(record, &device).is_none(), "{seen} tokens seen, two of them kept");
    }
}

#[test]
#[should_panic(expected = "only causal attention can go on from a state")]
fn what_sees_all_has_no_state() {
    let device = Device::flex();
    let _ = flash().init(&device).decode(values([1, 2, 6], 1, &device), &mut FlashState::default());
}

/// A sum of 4,096 terms of 1 / 16 in f16 stands still at 128.
#[test]
fn sums_across_chunks_are_in_f32() {
    let golden = Golden::open();
    let device = Device::flex();
    let layer = golden.part("flash.layer.").load_into(flash().init(&device)).unwrap().module;
    let x = values::<3>([1, 32, 6], 6, &device).repeat_dim(1, 128);
    let mut cast = Cast;
    let half = layer.clone().map(&mut cast).forward(x.clone().cast(DType::F16), None).cast(DType::F32);
    let full = layer.forward(x, None);
    let scale: f32 = full.clone().abs().max().into_scalar();
    let error = difference(half, full);
    assert!(error < 1e-2 * scale, "{error} of {scale}");
}

struct Cast;

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.cast(DType::F16))
    }
}
