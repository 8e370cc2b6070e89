//! CLIP's encoder: transformers' numbers, laws, and configs that make none.

use burn::tensor::{Device, Int, Tensor};
use kiln_backend::testing;
use kiln_checkpoint::{Checkpoint, Pretrained, SaveOptions, parameters, to_bytes};
use kiln_text::{ClipText, ClipTextConfig, ClipTextOutput, ConfigError, HiddenAct, TextHead, Tokens};
use rstest::rstest;

use crate::goldens::{Case, assert_near, folder, strangers};

fn encode(case: &Case, device: &Device) -> ClipTextOutput {
    case.load::<ClipText>(device).forward(case.input("input_ids", device).unwrap())
}

#[rstest]
fn numbers_are_those_of_transformers(
    #[values(
        "clip_padded",
        "clip_gelu",
        "clip_one_layer",
        "clip_many_heads",
        "clip_legacy_end",
        "clip_no_end",
        "clip_full_length",
        "clip_projection",
        "clip_old_names",
        "clip_whole"
    )]
    name: &str,
) {
    let case = Case::open(&folder(name));
    for (backend, device) in testing::devices() {
        let found = encode(&case, &device);
        let outputs = [
            ("last_hidden_state", Some(found.last_hidden_state.clone().into_data())),
            ("penultimate_hidden_state", Some(found.penultimate_hidden_state().into_data())),
            ("pooler_output", Some(found.pooler_output.into_data())),
            ("text_embeds", found.text_embeds.map(Tensor::into_data)),
        ];
        for (output, found) in outputs {
            let Some(expected) = case.output(output) else { continue };
            let found = found.unwrap_or_else(|| panic!("{name}: there is no {output}"));
            assert_near(&format!("{name} {backend} {output}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn the_half_that_sees_is_no_stranger() {
    let case = Case::open(&folder("clip_whole"));
    assert_eq!(strangers::<ClipText>(&case.model), [""; 0]);
    for name in ["text_model.extra.weight", "text_projection.bias", "vision.weight"] {
        assert!(!ClipText::ignores(name), "{name}");
    }
}

fn tiny() -> ClipTextConfig {
    ClipTextConfig {
        vocab_size: 20,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        max_position_embeddings: 9,
        eos_token_id: 19,
        ..ClipTextConfig::default()
    }
}

#[test]
fn what_comes_later_changes_nothing_before() {
    for (backend, device) in testing::devices() {
        let encoder = tiny().init(&device).unwrap();
        let states = |ids: [[i64; 6]; 1]| {
            encoder
                .forward(Tensor::<2, Int>::from_data(ids, &device))
                .last_hidden_state
                .narrow(1, 0, 4)
                .into_data()
        };
        assert_eq!(states([[18, 3, 7, 9, 19, 0]]), states([[18, 3, 7, 9, 4, 11]]), "{backend}");
        assert_ne!(states([[18, 3, 7, 9, 19, 0]]), states([[18, 3, 8, 9, 19, 0]]), "{backend}");
    }
}

#[test]
fn hidden_padding_changes_nothing() {
    for (backend, device) in testing::devices() {
        let encoder = tiny().init(&device).unwrap();
        // What is before the prompt is hidden; its states are other than the prompt's alone only by their places.
        let encode = |pad: u32| {
            let prompt = Tokens {
                ids: vec![pad, pad, 18, 3, 19],
                attention_mask: vec![false, false, true, true, true],
                cut: None,
            };
            let mask = Tokens::mask(std::slice::from_ref(&prompt), &device);
            let states =
                encoder.forward_masked(Tokens::batch(&[prompt], &device), Some(mask)).last_hidden_state;
            states.narrow(1, 2, 3).into_data()
        };
        assert_eq!(encode(0), encode(5), "{backend}");
    }
}

/// The end of text is the first one, or the highest token; without one, the first token is pooled.
#[rstest]
#[case::first(19, [18, 19, 3, 19, 0], 1)]
#[case::not_the_highest(5, [18, 19, 3, 5, 5], 3)]
#[case::none(7, [18, 19, 3, 5, 5], 0)]
#[case::legacy(2, [18, 2, 19, 5, 19], 2)]
fn the_state_of_the_end_is_pooled(#[case] eos_token_id: i64, #[case] ids: [i64; 5], #[case] place: usize) {
    for (backend, device) in testing::devices() {
        let encoder = ClipTextConfig { eos_token_id, ..tiny() }.init(&device).unwrap();
        let found = encoder.forward(Tensor::<2, Int>::from_data([ids], &device));
        let expected = found.last_hidden_state.narrow(1, place, 1).squeeze_dim::<2>(1).into_data();
        assert_eq!(found.pooler_output.into_data(), expected, "{backend}");
    }
}

#[test]
fn layers_may_be_skipped() {
    let device = Device::flex();
    let encoder = tiny().init(&device).unwrap();
    let found = encoder.forward(Tensor::<2, Int>::from_data([[18, 3, 19]], &device));
    let last = encoder.final_layer_norm(found.hidden_state(0).unwrap());
    assert_eq!(last.into_data(), found.last_hidden_state.clone().into_data());
    assert_eq!(
        found.hidden_state(1).unwrap().into_data(),
        found.penultimate_hidden_state().into_data(),
        "the penultimate state"
    );
    assert!(found.hidden_state(3).is_some(), "the embeddings");
    assert!(found.hidden_state(4).is_none(), "there are three layers");
}

#[test]
fn a_saved_encoder_has_the_names_that_every_version_reads() {
    let device = Device::flex();
    let encoder = ClipTextConfig { head: TextHead::Projection, projection_dim: Some(5), ..tiny() }
        .init(&device)
        .unwrap();
    let names: Vec<_> = parameters(&encoder).into_iter().map(|parameter| parameter.name).collect();
    assert!(names.contains(&"text_model.encoder.layers.2.self_attn.out_proj.bias".to_owned()), "{names:?}");
    assert!(names.contains(&"text_projection.weight".to_owned()), "{names:?}");
    assert!(!names.contains(&"text_projection.bias".to_owned()), "{names:?}");
    let saved = Checkpoint::from_bytes(to_bytes(&encoder, &SaveOptions::default()).unwrap()).unwrap();
    assert_eq!(saved.tensors().count(), names.len());
}

#[test]
fn names_without_the_prefix_are_those_with_it() {
    let renamed = |name| ClipText::rename(name);
    assert_eq!(renamed("final_layer_norm.bias").unwrap(), "text_model.final_layer_norm.bias");
    assert_eq!(
        renamed("encoder.layers.0.mlp.fc1.weight").unwrap(),
        "text_model.encoder.layers.0.mlp.fc1.weight"
    );
    assert_eq!(renamed("text_model.final_layer_norm.bias"), None);
    assert_eq!(renamed("text_projection.weight"), None);
}

#[test]
fn a_config_may_be_inside_that_of_a_whole_model() {
    let inner = r#""hidden_size": 32, "num_attention_heads": 4, "projection_dim": 9, "eos_token_id": 2"#;
    let read = |text: String| ClipTextConfig::from_json(&text).unwrap();
    let whole = read(format!(
        r#"{{"architectures": ["CLIPModel"], "projection_dim": 11, "text_config": {{{inner}}}, "vision_config": {{}}}}"#
    ));
    assert_eq!((whole.hidden_size, whole.projection_dim, whole.eos_token_id), (32, Some(11), 2));
    assert_eq!(whole.head, TextHead::Projection);
    let alone =
        read(format!(r#"{{"architectures": ["CLIPTextModelWithProjection"], "text_config": {{{inner}}}}}"#));
    assert_eq!(alone.projection_dim, Some(9), "the inner one's");
    // As OpenAI's own first were: what the older field leaves out is the default.
    let older = read(
        r#"{"text_config_dict": {"hidden_size": 64}, "text_config": {"hidden_size": 32, "eos_token_id": 2}}"#
            .into(),
    );
    assert_eq!((older.hidden_size, older.eos_token_id, older.head), (64, 49407, TextHead::None));
}

#[test]
fn defaults_are_those_of_transformers() {
    let config = ClipTextConfig::from_json(r#"{"architectures": ["CLIPTextModel"]}"#).unwrap();
    assert_eq!(config, ClipTextConfig::default());
    assert_eq!(config.hidden_act, HiddenAct::QuickGelu);
}

#[rstest]
#[case::class(r#"{"architectures": ["BertModel"]}"#, "BertModel")]
#[case::act(r#"{"hidden_act": "tanh"}"#, "`hidden_act`")]
#[case::heads(r#"{"num_attention_heads": 7}"#, "`hidden_size`")]
#[case::no_heads(r#"{"num_attention_heads": 0}"#, "`num_attention_heads`")]
#[case::no_layers(r#"{"num_hidden_layers": 0}"#, "`num_hidden_layers`")]
#[case::many_layers(r#"{"num_hidden_layers": 100000000}"#, "`num_hidden_layers`")]
#[case::huge(r#"{"vocab_size": 18446744073709551615}"#, "`vocab_size`")]
#[case::negative(r#"{"hidden_size": -4}"#, "`hidden_size`")]
#[case::eps(r#"{"layer_norm_eps": 0}"#, "`layer_norm_eps`")]
#[case::ends(r#"{"eos_token_id": [1, 2]}"#, "`eos_token_id`")]
#[case::end(r#"{"eos_token_id": null}"#, "`eos_token_id`")]
#[case::projection(
    r#"{"architectures": ["CLIPTextModelWithProjection"], "projection_dim": null}"#,
    "`projection_dim`"
)]
#[case::nested(r#"{"text_config": {"hidden_size": "wide"}}"#, "`hidden_size`")]
#[case::not_nested(r#"{"text_config": 3}"#, "`text_config`")]
fn a_config_that_makes_no_encoder_is_told_by_its_field(#[case] text: &str, #[case] part: &str) {
    let error: ConfigError = ClipTextConfig::from_json(text).unwrap_err();
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
#[should_panic(expected = "longer than the 9")]
fn a_prompt_longer_than_the_positions_is_a_mistake() {
    let device = Device::flex();
    let _ = tiny().init(&device).unwrap().forward(Tensor::zeros([1, 10], &device));
}
