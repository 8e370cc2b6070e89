//! T5's encoder: transformers' numbers, laws, 16 bits, and configs that make none.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use kiln_attention::Mask;
use kiln_backend::{BACKENDS, testing};
use kiln_checkpoint::{ConfigError, Pretrained, parameters};
use kiln_text::{FeedForward, HiddenAct, T5Config, T5Encoder, Tokens};
use rstest::rstest;

use crate::goldens::{Case, assert_near, folder, relative_error, strangers};

fn encode(case: &Case, device: &Device) -> TensorData {
    let mask = case.input("attention_mask", device).map(Mask::visible_keys);
    let ids = case.input("input_ids", device).unwrap();
    case.load::<T5Encoder>(device).forward(ids, mask).into_data()
}

#[rstest]
fn numbers_are_those_of_transformers(
    #[values(
        "t5_relu",
        "t5_gelu",
        "t5_gated_silu",
        "t5_wide",
        "t5_far",
        "t5_published_buckets",
        "t5_masked",
        "t5_sharded",
        "t5_embed_tokens",
        "t5_with_decoder"
    )]
    name: &str,
) {
    let case = Case::open(&folder(name));
    let expected = case.output("last_hidden_state").unwrap();
    for (backend, device) in testing::devices() {
        assert_near(&format!("{name} {backend}"), &encode(&case, &device), &expected, 1e-5);
    }
}

#[test]
fn a_decoder_beside_it_is_no_stranger() {
    let case = Case::open(&folder("t5_with_decoder"));
    assert_eq!(strangers::<T5Encoder>(&case.model), [""; 0]);
    for name in ["encoder.extra.weight", "shared.bias"] {
        assert!(!T5Encoder::ignores(name), "{name}");
    }
}

fn tiny() -> T5Config {
    T5Config {
        vocab_size: 20,
        d_model: 16,
        d_kv: 6,
        d_ff: 24,
        num_layers: 2,
        num_heads: 3,
        feed_forward_proj: "gated-gelu".to_owned(),
        ..T5Config::default()
    }
}

#[test]
fn hidden_padding_changes_nothing() {
    for (backend, device) in testing::devices() {
        let encoder = tiny().init(&device).unwrap();
        let states = |ids: Vec<u32>, visible: Vec<bool>| {
            let prompt = Tokens { ids, attention_mask: visible, cut: None };
            let mask = Tokens::mask(std::slice::from_ref(&prompt), &device);
            encoder.forward(Tokens::batch(&[prompt], &device), Some(mask)).narrow(1, 0, 3).into_data()
        };
        let alone = states(vec![4, 7, 1], vec![true; 3]);
        let padded = states(vec![4, 7, 1, 0, 0], vec![true, true, true, false, false]);
        assert!(relative_error(&padded, &alone) < 2e-6, "{backend}");
        let shown = states(vec![4, 7, 1, 0, 0], vec![true; 5]);
        assert!(relative_error(&shown, &alone) > 1e-3, "{backend}: it is seen where it is not hidden");
    }
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.cast(self.0))
    }
}

/// Makes the second half of each feed-forward layer so large that its results do not fit into f16.
struct Loud;

impl ModuleMapper for Loud {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param
            .map(|value| if D == 2 && value.dims()[0] == 24 { (value * 3e5).clamp(-6e4, 6e4) } else { value })
    }
}

#[rstest]
#[case::f16(DType::F16, FloatDType::F16, 5e-3)]
#[case::bf16(DType::BF16, FloatDType::BF16, 3e-2)]
fn sums_beyond_16_bits_are_kept(#[case] dtype: DType, #[case] float: FloatDType, #[case] tolerance: f32) {
    for (backend, device) in testing::devices() {
        let entry = BACKENDS.iter().find(|entry| entry.name == backend).unwrap();
        if !(entry.supports)(&device, float) {
            continue;
        }
        let encoder = tiny().init(&device).unwrap().map(&mut Loud);
        let ids = Tensor::<2, Int>::from_data([[4, 7, 11, 2, 9, 1]], &device);
        let expected = encoder.forward(ids.clone(), None);
        let found = encoder.map(&mut Cast(dtype)).forward(ids, None);
        assert_eq!(found.dtype(), dtype, "{backend}");
        let found = found.into_data().convert_dtype(DType::F32);
        assert_near(&format!("{dtype:?} {backend}"), &found, &expected.into_data(), tolerance);
    }
}

#[test]
fn a_saved_encoder_has_the_names_of_transformers() {
    let encoder = tiny().init(&Device::flex()).unwrap();
    let names: Vec<_> = parameters(&encoder).into_iter().map(|parameter| parameter.name).collect();
    assert_eq!(names.len(), 1 + 2 * 9 + 1 + 1);
    for name in [
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.1.layer.1.DenseReluDense.wi_1.weight",
        "encoder.final_layer_norm.weight",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    assert_eq!(T5Encoder::rename("encoder.embed_tokens.weight").unwrap(), "shared.weight");
}

#[rstest]
#[case::default("{}", FeedForward::Plain(HiddenAct::Relu))]
#[case::gated(r#"{"feed_forward_proj": "gated-gelu"}"#, FeedForward::Gated(HiddenAct::GeluNew))]
#[case::gelu(r#"{"feed_forward_proj": "gelu"}"#, FeedForward::Plain(HiddenAct::Gelu))]
#[case::silu(r#"{"feed_forward_proj": "gated-silu"}"#, FeedForward::Gated(HiddenAct::Silu))]
#[case::outright(
    r#"{"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu", "is_gated_act": false}"#,
    FeedForward::Plain(HiddenAct::Gelu)
)]
fn the_feed_forward_layer_is_as_the_config_says(#[case] text: &str, #[case] expected: FeedForward) {
    assert_eq!(T5Config::from_json(text).unwrap().feed_forward().unwrap(), expected);
}

#[rstest]
#[case::class(r#"{"architectures": ["UMT5EncoderModel"]}"#, "UMT5EncoderModel")]
#[case::decoder(r#"{"is_decoder": true}"#, "`is_decoder`")]
#[case::act(r#"{"feed_forward_proj": "gated-tanh"}"#, "`feed_forward_proj`")]
#[case::form(r#"{"feed_forward_proj": "double-gated-gelu"}"#, "`feed_forward_proj`")]
#[case::dense(r#"{"dense_act_fn": "mish"}"#, "`dense_act_fn`")]
#[case::buckets(r#"{"relative_attention_num_buckets": 3}"#, "`relative_attention_num_buckets`")]
#[case::distance(r#"{"relative_attention_max_distance": 8}"#, "`relative_attention_num_buckets`")]
#[case::heads(r#"{"num_heads": 0}"#, "`num_heads`")]
#[case::layers(r#"{"num_layers": 0}"#, "`num_layers`")]
#[case::eps(r#"{"layer_norm_epsilon": -1.0}"#, "`layer_norm_epsilon`")]
#[case::text("3", "not a JSON object")]
fn a_config_that_makes_no_encoder_is_told_by_its_field(#[case] text: &str, #[case] part: &str) {
    let error: ConfigError = T5Config::from_json(text).unwrap_err();
    assert!(error.to_string().contains(part), "{error}");
}
