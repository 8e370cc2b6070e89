//! The fused operations against PyTorch's values and gradients (tests/reference/backend.py).

use burn::tensor::{Device, Tensor, TensorData};
use kiln_backend::ops::{
    self, Activation, AdamWHyper, AlignCorners, AttentionOptions, Causality, Interpolation, InterpolationMode,
};
use kiln_backend::testing;
use rstest::rstest;
use rstest_reuse::apply;
use safetensors::SafeTensors;

use crate::conformance::every_backend;

struct Golden(SafeTensors<'static>);

impl Golden {
    fn load() -> Self {
        Self(
            SafeTensors::deserialize(include_bytes!("../golden/ops.safetensors"))
                .expect("the golden file is whole"),
        )
    }

    fn data(&self, name: &str) -> TensorData {
        let view = self.0.tensor(name).unwrap_or_else(|_| panic!("no golden `{name}`"));
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        TensorData::new::<f32, _>(values, view.shape().to_vec())
    }

    /// The tensor with leading axes of 1 up to four.
    fn tensor(&self, name: &str, device: &Device) -> Tensor<4> {
        let data = self.data(name);
        let mut shape = [1; 4];
        shape[4 - data.shape().len()..].copy_from_slice(data.shape());
        Tensor::<1>::from_data(
            TensorData::new(data.try_to_vec::<f32>().unwrap(), [data.num_elements()]),
            device,
        )
        .reshape(shape)
    }

    fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }
}

#[track_caller]
fn assert_close(what: &str, found: &TensorData, expected: &TensorData, tolerance: f32) {
    let (found, expected) = (found.as_slice::<f32>().unwrap(), expected.as_slice::<f32>().unwrap());
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0_f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * largest, "{what}: {f} for {e} at {i} (largest {largest})");
    }
}

fn check(name: &str, device: &Device, f: impl Fn(&[Tensor<4>]) -> Tensor<4>) {
    let golden = Golden::load();
    let inputs: Vec<_> = (0..)
        .map(|i| format!("{name}.input.{i}"))
        .take_while(|key| golden.has(key))
        .map(|key| golden.tensor(&key, device).autodiff().require_grad())
        .collect();
    assert!(!inputs.is_empty(), "no golden inputs of `{name}`");
    let output = f(&inputs);
    let probe = golden.tensor(&format!("{name}.probe"), device).autodiff();
    let gradients = (output.clone() * probe).sum().backward();
    assert_close(name, &output.without_autodiff().into_data(), &golden.data(&format!("{name}.output")), 1e-5);
    for (i, x) in inputs.iter().enumerate() {
        let key = format!("{name}.grad.{i}");
        assert_close(&key, &x.grad(&gradients).expect("a gradient").into_data(), &golden.data(&key), 2e-5);
    }
}

#[apply(every_backend)]
fn activations(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for (name, act) in [
        ("silu", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_tanh", Activation::GeluTanh),
        ("quick_gelu", Activation::QuickGelu),
        ("elu", Activation::Elu),
    ] {
        check(name, &device, |x| ops::activation(x[0].clone(), act));
    }
}

#[apply(every_backend)]
fn group_norms(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for (name, groups, eps, act) in
        [("group_norm", 4, 1e-5, Activation::Identity), ("group_norm_silu", 3, 1e-6, Activation::Silu)]
    {
        check(name, &device, |x| {
            let [w, b] = [1, 2].map(|i| x[i].clone().reshape([12]));
            ops::group_norm_act(x[0].clone(), w, b, groups, eps, act)
        });
    }
}

#[apply(every_backend)]
fn attention(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for (name, causality, scale) in [
        ("attention", Causality::None, None),
        ("attention_causal", Causality::Causal, None),
        ("attention_mask", Causality::None, Some(0.7)),
    ] {
        check(name, &device, |x| {
            let options = AttentionOptions { mask: x.get(3).cloned(), causality, scale };
            ops::scaled_dot_product_attention(x[0].clone(), x[1].clone(), x[2].clone(), options)
        });
    }
}

#[apply(every_backend)]
fn interpolations(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    for (label, mode) in [
        ("nearest", InterpolationMode::Nearest),
        ("bilinear", InterpolationMode::Bilinear),
        ("bicubic", InterpolationMode::Bicubic),
    ] {
        for size in [[10, 12], [3, 8], [11, 4]] {
            for (suffix, align_corners) in [("", AlignCorners::No), ("_corners", AlignCorners::Yes)] {
                if mode == InterpolationMode::Nearest && align_corners == AlignCorners::Yes {
                    continue;
                }
                let name = format!("{label}_{}x{}{suffix}", size[0], size[1]);
                let options = Interpolation { mode, align_corners };
                check(&name, &device, |x| ops::interpolate(x[0].clone(), size, options));
            }
        }
    }
}

#[apply(every_backend)]
fn adamw(backend: &str) {
    let Some(device) = testing::device(backend) else { return };
    let golden = Golden::load();
    let mut param = golden.tensor("adamw.param.0", &device);
    let (mut m, mut v) = (param.zeros_like(), param.zeros_like());
    for step in 1..=5 {
        let grad = golden.tensor(&format!("adamw.grad.{step}"), &device);
        let hyper = AdamWHyper { lr: 0.02, beta2: 0.99, weight_decay: 0.1, step, ..AdamWHyper::default() };
        (param, m, v) = ops::adamw_step(param, grad, m, v, hyper);
        let expected = golden.data(&format!("adamw.param.{step}"));
        assert_close("param", &param.clone().into_data(), &expected, 1e-6);
    }
    assert_close("first moment", &m.into_data(), &golden.data("adamw.first_moment"), 1e-6);
    assert_close("second moment", &v.into_data(), &golden.data("adamw.second_moment"), 1e-6);
}
