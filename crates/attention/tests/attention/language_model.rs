//! The language model of every kind: as many parameters, no look into the future, and it learns.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_attention::{
    AttentionKind, Choice, LanguageModel, LanguageModelConfig, LanguageModelRecord, LanguageModelState,
};
use kiln_backend::testing;

use crate::support::assert_close;

fn config(kind: AttentionKind) -> LanguageModelConfig {
    LanguageModelConfig::new(11, kind)
        .with_width(16)
        .with_layers(1)
        .with_heads(2)
        .with_shared_dim(8)
        .with_chunk(4)
}

fn tokens(n: usize, device: &Device) -> Tensor<2, Int> {
    let tokens: Vec<i64> = (0..n as i64).map(|i| (i * i + 3 * i) % 11).collect();
    Tensor::from_data(TensorData::new(tokens, [1, n]), device)
}

#[test]
fn all_kinds_have_as_many_parameters() {
    let device = Device::flex();
    for (width, layers) in [(128, 2), (64, 1), (256, 3)] {
        let counts = AttentionKind::ALL.map(|(kind, _)| {
            LanguageModelConfig::new(60, kind)
                .with_width(width)
                .with_layers(layers)
                .init(&device)
                .num_params()
        });
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        // FLASH has four heads of z where a gated unit has two; a GLU's width is a whole number.
        assert!(most - least <= layers * (2 * 4 * 64 + 3 * width), "{counts:?}");
        assert!((*most as f64) < 1.01 * *least as f64, "{counts:?}");
    }
}

#[test]
fn a_token_is_not_told_by_those_after_it() {
    for (backend, device) in testing::devices() {
        for (kind, name) in AttentionKind::ALL {
            let model = config(kind).init(&device);
            let tokens = tokens(11, &device);
            let other = Tensor::cat(vec![tokens.clone().narrow(1, 0, 6), tokens.clone().narrow(1, 0, 5)], 1);
            let answer =
                |tokens: Tensor<2, Int>| model.forward(tokens).into_data().iter::<f32>().collect::<Vec<_>>();
            let (first, second) = (answer(tokens), answer(other));
            assert_eq!(first.len(), 11 * 11);
            assert_eq!(first[..6 * 11], second[..6 * 11], "{name} on {backend}");
            assert_ne!(first[6 * 11..], second[6 * 11..], "{name} on {backend}");
        }
    }
}

/// A sequence that repeats is learned by heart.
#[test]
fn every_kind_learns() {
    let device = Device::flex().autodiff();
    for (kind, name) in AttentionKind::ALL {
        let mut model: LanguageModel = config(kind).init(&device);
        let mut adam = AdamConfig::new().init();
        let tokens = tokens(17, &device);
        let loss_of = |model: &LanguageModel| {
            let logits = model.forward(tokens.clone().narrow(1, 0, 16)).reshape([16, 11]);
            let loss = CrossEntropyLossConfig::new().init(&device);
            loss.forward(logits, tokens.clone().narrow(1, 1, 16).reshape([16]))
        };
        let before: f32 = loss_of(&model).into_scalar();
        for _ in 0..60 {
            let gradients = loss_of(&model).backward();
            model = adam.step(1e-2, model.clone(), GradientsParams::from_grads(gradients, &model));
        }
        let after: f32 = loss_of(&model).into_scalar();
        assert!(before > 1.5 && after < 0.3 * before, "{name}: {before} before, {after} after");
    }
}

/// In parts, from a file in between, token by token.
#[test]
fn decoding_is_the_whole_pass() {
    for (backend, device) in testing::devices() {
        for (kind, name) in AttentionKind::ALL {
            let model = config(kind).init(&device);
            let n = if backend == "flex" { 11 } else { 7 };
            let tokens = tokens(n, &device);
            let expected = model.forward(tokens.clone());
            let mut state = model.state();
            let mut parts = vec![model.decode(tokens.clone().narrow(1, 0, 5), &mut state)];
            let text = serde_json::to_string(&state.to_record()).unwrap();
            let record: LanguageModelRecord = serde_json::from_str(&text).unwrap();
            let mut state = LanguageModelState::from_record(record, &device).expect("it is a state's");
            parts.extend((5..n).map(|i| model.decode(tokens.clone().narrow(1, i, 1), &mut state)));
            assert_eq!(state.seen(), n);
            assert_close(&format!("{name} on {backend}"), Tensor::cat(parts, 1), expected, 1e-5);
        }
    }
}

/// Each token is the likeliest after all before it; drawn ones are the same for the same seed, whatever the batch.
#[test]
fn text_goes_on() {
    for (backend, device) in testing::devices() {
        for (kind, name) in AttentionKind::ALL {
            let what = format!("{name} on {backend}");
            let model = config(kind).init(&device);
            let prompt = tokens(3, &device);
            // A GPU that is a program compiles each new shape: there, two tokens are enough.
            let n = if backend == "flex" { 7 } else { 2 };
            let found = numbers(model.generate(prompt.clone(), n, Choice::Greedy));
            let mut all = numbers(prompt.clone());
            for next in found {
                let read = Tensor::from_data(TensorData::new(all.clone(), [1, all.len()]), &device);
                let last: Vec<f32> = model.forward(read).into_data().iter().collect();
                let last = &last[last.len() - 11..];
                let most = last.iter().copied().fold(f32::MIN, f32::max);
                // Another token may be as likely, but for rounding.
                assert!(last[next as usize] > most - 1e-5, "{what}: {next} after {all:?}");
                all.push(next);
            }
            if backend != "flex" {
                continue;
            }
            let choice = |seed| Choice::Sampled { temperature: 1.0, seed };
            let drawn = |seed| numbers(model.generate(prompt.clone(), 12, choice(seed)));
            assert_eq!(drawn(1), drawn(1), "{what}");
            assert_ne!(drawn(1), drawn(2), "{what}");
            let both = model.generate(prompt.clone().repeat_dim(0, 2), 12, choice(1));
            assert_eq!(both.dims(), [2, 12]);
            assert_eq!(numbers(both)[..12], drawn(1), "{what}");
        }
    }
}

/// As often as softmax says, within four standard deviations.
#[test]
fn tokens_are_drawn_as_often_as_they_are_likely() {
    let device = Device::flex();
    let probabilities = [0.5_f64, 0.3, 0.15, 0.05];
    let row: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
    let logits = Tensor::<2>::from_data(TensorData::new(row, [1, 4]), &device).repeat_dim(0, 20_000);
    let drawn = numbers(Choice::Sampled { temperature: 1.0, seed: 3 }.of(logits.clone(), 0));
    for (token, p) in probabilities.into_iter().enumerate() {
        let share = drawn.iter().filter(|&&x| x == token as i64).count() as f64 / 20_000.0;
        assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / 20_000.0).sqrt(), "{token}: {share} of {p}");
    }
    let cold = numbers(Choice::Sampled { temperature: 1e-3, seed: 3 }.of(logits, 0));
    assert!(cold.iter().all(|&token| token == 0), "what is cold takes the likeliest");
}

#[test]
#[should_panic(expected = "the state is not of Flash attention")]
fn another_kinds_state_is_a_mistake() {
    let device = Device::flex();
    let mut state = config(AttentionKind::Gau).init(&device).state();
    let _ = config(AttentionKind::Flash).init(&device).decode(tokens(3, &device), &mut state);
}

fn numbers(x: Tensor<2, Int>) -> Vec<i64> {
    x.into_data().iter().collect()
}
