//! Clipping against torch.nn.utils.clip_grad_norm_.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kiln_backend::testing;
use kiln_optim::{clip_by_global_norm, global_norm};
use rstest::rstest;

use crate::golden::{data, distance, tensor, values};

#[derive(Module, Debug)]
struct Pair {
    a: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
    without_gradient: Param<Tensor<1>>,
}

fn pair(device: &Device) -> (Pair, GradientsParams) {
    let pair = Pair {
        a: Param::from_tensor(Tensor::zeros([4, 5], device)),
        b: Param::from_tensor(Tensor::zeros([7], device)),
        without_gradient: Param::from_tensor(Tensor::zeros([3], device)),
    };
    let mut gradients = GradientsParams::new();
    gradients.register(pair.a.id, tensor::<2>("clip.a", device));
    gradients.register(pair.b.id, tensor::<1>("clip.b", device));
    (pair, gradients)
}

#[rstest]
#[case(0.5)]
#[case(5.0)]
#[case(100.0)]
fn gradients_are_scaled_as_torch_does(#[case] max_norm: f64) {
    for (backend, device) in testing::devices() {
        let (pair, mut gradients) = pair(&device);
        let norm = clip_by_global_norm(&mut gradients, &pair, max_norm);
        let theirs = f64::from(data("clip.norm").as_slice::<f32>().unwrap()[0]);
        assert!((norm - theirs).abs() < 1e-6 * theirs, "{backend}: {norm} for {theirs}");
        let a = values(&gradients.get::<2>(pair.a.id).unwrap());
        let b = values(&gradients.get::<1>(pair.b.id).unwrap());
        for (name, ours) in [("a", a), ("b", b)] {
            let theirs = data(&format!("clip.{max_norm}.{name}"));
            let difference = distance(&ours, theirs.as_slice().unwrap());
            assert!(difference < 1e-6, "{backend}, {name}: {difference:e}");
        }
        let after = global_norm(&gradients, &pair);
        assert!(after <= max_norm * (1.0 + 1e-6), "{backend}: {after}");
        assert_eq!(gradients.len(), 2);
    }
}

#[test]
fn gradients_that_are_not_finite_are_told_and_kept() {
    let (pair, mut gradients) = pair(&Device::flex());
    let infinite = Tensor::<1>::full([7], f32::INFINITY, &Device::flex());
    gradients.register(pair.b.id, infinite);
    let before = values(&gradients.get::<2>(pair.a.id).unwrap());
    assert!(!clip_by_global_norm(&mut gradients, &pair, 1.0).is_finite());
    assert_eq!(values(&gradients.get::<2>(pair.a.id).unwrap()), before);
}

#[test]
fn no_gradients_have_norm_zero() {
    let (pair, _) = pair(&Device::flex());
    assert_eq!(clip_by_global_norm(&mut GradientsParams::new(), &pair, 1.0), 0.0);
}

#[test]
#[should_panic(expected = "max_norm must be positive")]
fn a_maximal_norm_of_zero_is_refused() {
    let (pair, mut gradients) = pair(&Device::flex());
    clip_by_global_norm(&mut gradients, &pair, 0.0);
}
