//! Folders with an encoder and what transformers computes for it (tests/reference/text.py).

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_checkpoint::{Checkpoint, Contents, Pretrained, StoredModel, View};

/// A case of the workspace's, or one of this crate's own.
pub fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [root.join("../../tests/cases"), root.join("tests/golden")]
        .map(|folder| folder.join(name))
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| panic!("there is no case `{name}`"))
}

/// An encoder and its numbers.
pub struct Case {
    pub model: StoredModel,
    reference: Checkpoint,
}

impl Case {
    pub fn open(folder: &Path) -> Self {
        let Contents::Model(model) = Contents::open(folder.join("checkpoint")).unwrap() else {
            panic!("{} holds no model", folder.display())
        };
        Self { model, reference: Checkpoint::open(folder.join("reference.safetensors")).unwrap() }
    }

    pub fn load<M: Pretrained>(&self, device: &Device) -> M {
        self.model.load(device).unwrap()
    }

    pub fn input(&self, name: &str, device: &Device) -> Option<Tensor<2, Int>> {
        let name = format!("input.{name}");
        self.reference.info(&name)?;
        Some(Tensor::from_data(self.reference.tensor(&name).unwrap(), device))
    }

    pub fn output(&self, name: &str) -> Option<TensorData> {
        let name = format!("output.{name}");
        self.reference.info(&name)?;
        Some(self.reference.tensor(&name).unwrap())
    }
}

/// The tensors of a file that an encoder has no use for, and does not know as those of the model that it is a part of.
pub fn strangers<M: Pretrained>(model: &StoredModel) -> Vec<String> {
    let weights = &model.weights;
    let views = weights.tensors().map(|(name, _)| {
        let today = M::rename(name).filter(|today| weights.info(today).is_none());
        View::renamed(today.unwrap_or_else(|| name.to_owned()), name)
    });
    let module = M::from_config(&model.config, &Device::flex()).unwrap();
    let mut surplus = weights.view(views.collect()).unwrap().load_into(module).unwrap().surplus;
    assert!(!surplus.is_empty(), "{}: there is no more than the encoder", weights.label());
    surplus.retain(|name| !M::ignores(name));
    surplus
}

/// Largest difference, relative to the largest value expected.
pub fn relative_error(found: &TensorData, expected: &TensorData) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.iter::<f32>().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let errors = found.iter::<f32>().zip(expected.iter::<f32>()).map(|(f, e)| (f - e).abs());
    // A NaN is not to be passed over.
    errors.fold(0.0, |most: f32, error| if error <= most { most } else { error }) / largest
}

#[track_caller]
pub fn assert_near(what: &str, found: &TensorData, expected: &TensorData, tolerance: f32) {
    let error = relative_error(found, expected);
    assert!(error <= tolerance, "{what}: relative error {error}");
}
