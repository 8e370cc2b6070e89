//! The language model of every kind: as many parameters, no look into the future, and it learns.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_attention::{AttentionKind, LanguageModel, LanguageModelConfig};
use kiln_backend::testing;

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
