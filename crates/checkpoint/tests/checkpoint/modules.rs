//! From modules to files and back.

use std::collections::BTreeMap;

use burn::module::{Module, Param, ParamId};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln_backend::testing;
use kiln_checkpoint::{
    Checkpoint, CheckpointError, Dtype, SaveOptions, StoredDType, module_tensors, parameters, save, to_bytes,
};
use rstest::rstest;

use crate::{linear, sample};

fn f32s(data: &TensorData) -> Vec<f32> {
    data.iter().collect()
}

/// Names and shapes are those of a PyTorch state dict of the same modules.
#[test]
fn names_and_layouts_are_pytorchs() {
    let module = sample(&Device::flex());
    let found: Vec<_> = parameters(&module).into_iter().map(|p| (p.name, p.shape)).collect();
    let expected = [
        ("conv.weight", vec![3, 2, 3, 3]),
        ("conv.bias", vec![3]),
        ("layers.0.weight", vec![6, 4]),
        ("layers.0.bias", vec![6]),
        ("layers.1.weight", vec![5, 2]),
        ("norm.weight", vec![4]),
        ("norm.bias", vec![4]),
        ("running.weight", vec![3]),
        ("running.bias", vec![3]),
        ("running.running_mean", vec![3]),
        ("running.running_var", vec![3]),
        ("positions", vec![3]),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect();
    assert_eq!(found, expected);
    // What is written is what was announced.
    let checkpoint = Checkpoint::from_bytes(to_bytes(&module, &SaveOptions::default()).unwrap()).unwrap();
    let mut expected = expected;
    expected.sort();
    let written: Vec<_> =
        checkpoint.tensors().map(|(name, info)| (name.to_owned(), info.shape.to_vec())).collect();
    assert_eq!(written, expected);
    assert_eq!(checkpoint.info("positions").unwrap().dtype, Dtype::I32, "integers stay what they are");
}

#[test]
fn linear_weights_are_transposed_on_disk() {
    let module = linear(&Device::flex());
    let inner = f32s(&module.weight.val().into_data());
    let disk = f32s(&module_tensors(&module).unwrap()["weight"]);
    // [in, out] = [3, 2] here, [out, in] = [2, 3] there.
    assert_eq!(disk, [inner[0], inner[2], inner[4], inner[1], inner[3], inner[5]]);
}

#[test]
fn f32_round_trips_to_the_bit() {
    for (backend, device) in testing::devices() {
        let module = sample(&device);
        let bytes = to_bytes(&module, &SaveOptions::default()).unwrap();
        let loaded = Checkpoint::from_bytes(bytes.clone()).unwrap().load_into(sample(&device)).unwrap();
        assert_eq!(loaded.surplus, Vec::<String>::new());
        assert_eq!(to_bytes(&loaded.module, &SaveOptions::default()).unwrap(), bytes, "{backend}");
    }
}

#[rstest]
#[case::f16(StoredDType::F16, Dtype::F16, 2f32.powi(-11))]
#[case::bf16(StoredDType::Bf16, Dtype::BF16, 2f32.powi(-8))]
fn half_types_round_and_come_back_as_f32(
    #[case] dtype: StoredDType,
    #[case] stored: Dtype,
    #[case] unit: f32,
) {
    let device = Device::flex();
    let module = linear(&device);
    let options = SaveOptions { dtype, ..SaveOptions::default() };
    let checkpoint = Checkpoint::from_bytes(to_bytes(&module, &options).unwrap()).unwrap();
    assert_eq!(checkpoint.info("weight").unwrap().dtype, stored);
    let loaded = checkpoint.load_into(linear(&device)).unwrap().module;
    assert_eq!(loaded.weight.val().dtype(), DType::F32);
    let (before, after) = (f32s(&module.weight.val().into_data()), f32s(&loaded.weight.val().into_data()));
    assert_ne!(before, after, "some value should have needed rounding");
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() <= unit * before.abs(), "{after} for {before}");
    }
    // What was rounded once is not rounded again.
    assert_eq!(to_bytes(&loaded, &options).unwrap(), to_bytes(&module, &options).unwrap());
}

#[test]
fn values_too_large_for_f16_are_refused() {
    let device = Device::flex();
    let huge = Tensor::from_data([[70_000.0, 1.0]], &device);
    let module = Linear { weight: Param::initialized(ParamId::new(), huge), bias: None };
    let error =
        to_bytes(&module, &SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() }).unwrap_err();
    assert!(matches!(&error, CheckpointError::Overflow { tensor, .. } if tensor == "weight"), "{error}");
    for dtype in [StoredDType::F32, StoredDType::Bf16] {
        to_bytes(&module, &SaveOptions { dtype, ..SaveOptions::default() }).unwrap();
    }
}

#[test]
fn what_is_infinite_already_stays_so() {
    let infinite = Tensor::from_data([[f32::INFINITY, 1.0]], &Device::flex());
    let module = Linear { weight: Param::initialized(ParamId::new(), infinite), bias: None };
    to_bytes(&module, &SaveOptions { dtype: StoredDType::F16, ..SaveOptions::default() }).unwrap();
}

#[test]
fn surplus_tensors_are_named() {
    let device = Device::flex();
    let mut tensors = module_tensors(&linear(&device)).unwrap();
    tensors.insert("position_ids".to_owned(), TensorData::from([1i64, 2]));
    let bytes = kiln_checkpoint::tensors_to_bytes(tensors, &BTreeMap::new()).unwrap();
    let loaded = Checkpoint::from_bytes(bytes).unwrap().load_into(linear(&device)).unwrap();
    assert_eq!(loaded.surplus, ["position_ids"]);
}

#[test]
fn a_missing_tensor_is_named() {
    let device = Device::flex();
    let mut tensors = module_tensors(&sample(&device)).unwrap();
    tensors.retain(|name, _| name != "norm.weight" && name != "running.bias");
    let bytes = kiln_checkpoint::tensors_to_bytes(tensors, &BTreeMap::new()).unwrap();
    let error = Checkpoint::from_bytes(bytes).unwrap().load_into(sample(&device)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Missing { tensor, others: 1, .. } if tensor == "norm.weight"),
        "{error}"
    );
    assert_eq!(error.to_string(), "bytes in memory: tensor `norm.weight` is missing, and 1 more");
}

#[test]
fn another_shape_is_told_as_on_disk() {
    let device = Device::flex();
    let file = to_bytes(&LinearConfig::new(5, 2).init(&device), &SaveOptions::default()).unwrap();
    let error =
        Checkpoint::from_bytes(file).unwrap().load_into(LinearConfig::new(3, 2).init(&device)).unwrap_err();
    let CheckpointError::Shape { tensor, expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), expected, found), ("weight", vec![2, 3], vec![2, 5]));
}

#[test]
fn numbers_of_another_kind_are_refused() {
    let device = Device::flex();
    let mut tensors = module_tensors(&linear(&device)).unwrap();
    tensors.insert("bias".to_owned(), TensorData::from([1i32, 2]));
    let bytes = kiln_checkpoint::tensors_to_bytes(tensors, &BTreeMap::new()).unwrap();
    let error = Checkpoint::from_bytes(bytes).unwrap().load_into(linear(&device)).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::DType { tensor, found: Dtype::I32, expected: "a float", .. } if tensor == "bias"),
        "{error}"
    );
}

/// Loading takes the place of drawing random weights; it does not come after it.
#[test]
fn loading_draws_nothing() {
    let device = Device::flex();
    let file = Checkpoint::from_bytes(to_bytes(&linear(&device), &SaveOptions::default()).unwrap()).unwrap();
    let never_drawn = Linear {
        weight: Param::uninitialized(
            ParamId::new(),
            |_, _| panic!("the weight was drawn"),
            device.clone(),
            true,
            [3, 2].into(),
        ),
        bias: Some(Param::uninitialized(
            ParamId::new(),
            |_, _| panic!("the bias was drawn"),
            device.clone(),
            true,
            [2].into(),
        )),
    };
    let loaded = file.load_into(never_drawn).unwrap().module;
    let _ = loaded.forward(Tensor::<2>::zeros([1, 3], &device));
}

/// Optimizers know a parameter by its id, and autodiff by its being marked.
#[test]
fn loading_keeps_identity_and_gradients() {
    let device = Device::flex().autodiff();
    let module = linear(&device);
    let id = module.weight.id;
    let file = Checkpoint::from_bytes(to_bytes(&module, &SaveOptions::default()).unwrap()).unwrap();
    let loaded = file.load_into(module).unwrap().module;
    assert_eq!(loaded.weight.id, id);
    assert!(loaded.weight.val().is_require_grad());
    let frozen = file.load_into(linear(&device).no_grad()).unwrap().module;
    assert!(!frozen.weight.val().is_require_grad());
}

#[test]
fn several_modules_share_a_file() {
    let device = Device::flex();
    let (first, second) = (linear(&device), linear(&device));
    let mut tensors = BTreeMap::new();
    for (prefix, module) in [("model.", &first), ("ema.", &second)] {
        for (name, data) in module_tensors(module).unwrap() {
            tensors.insert(format!("{prefix}{name}"), data);
        }
    }
    let bytes = kiln_checkpoint::tensors_to_bytes(tensors, &BTreeMap::new()).unwrap();
    let file = Checkpoint::from_bytes(bytes).unwrap();
    let loaded = file.part("ema.").load_into(linear(&device)).unwrap();
    assert!(loaded.surplus.is_empty());
    assert_eq!(f32s(&loaded.module.weight.val().into_data()), f32s(&second.weight.val().into_data()));
    assert!(matches!(file.part("average.").load_into(linear(&device)), Err(CheckpointError::Missing { .. })));
}

#[test]
fn a_file_is_read_from_disk_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let device = Device::flex();
    let module = sample(&device);
    save(&module, &path, &SaveOptions::default()).unwrap();
    let loaded = Checkpoint::open(&path).unwrap().load_into(sample(&device)).unwrap();
    assert_eq!(
        to_bytes(&loaded.module, &SaveOptions::default()).unwrap(),
        to_bytes(&module, &SaveOptions::default()).unwrap()
    );
}

/// A file that shrinks after it was opened is an error, not a crash.
#[test]
fn a_file_that_shrinks_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let device = Device::flex();
    save(&linear(&device), &path, &SaveOptions::default()).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    let error = file.load_into(linear(&device)).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}
