//! From a file into a module.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::burn_pack::{Error as PackError, Tensor as PackTensor};
use burn::store::{Applier, ApplyError, BurnToPyTorchAdapter, ModuleAdapter, ModuleContext, bridge};
use burn::tensor::{Bool, BoolStore, DType, Device, Element, Int, Shape, Tensor, TensorData, bf16, f16};

use crate::entry::Orientation;
use crate::lora::{self, Delta};
use crate::{Checkpoint, CheckpointError};

/// What is added to parameters, each with its weight.
type Sums = BTreeMap<String, Vec<(Arc<Delta>, f64)>>;

/// A module with its parameters from a file.
#[derive(Clone, Debug)]
pub struct Loaded<M> {
    /// The module.
    pub module: M,
    /// Tensors of the file that no parameter asked for, by name: worth a warning.
    pub surplus: Vec<String>,
}

/// A parameter of a module, as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a state dict.
    pub name: String,
    /// Its shape in a state dict.
    pub shape: Vec<usize>,
    /// Type in memory, from which follows what a file may hold.
    dtype: DType,
    /// Its name in the module.
    path: String,
    orientation: Orientation,
}

/// The parameters of `module` in its own order, with the names and shapes that they have in a file. None is initialised
/// by asking.
#[must_use]
pub fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    let mut outline = Outline::default();
    module.visit(&mut outline);
    outline.parameters
}

impl Checkpoint {
    /// Give every parameter of `module` its value from the file, converted to the device's float type; the file may hold
    /// F16, BF16, F32 or F64. Parameters not initialised yet are never drawn. Values that are not finite are a warning.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`], [`Shape`](CheckpointError::Shape) or [`DType`](CheckpointError::DType) if a parameter
    /// is not there or does not fit: found before any tensor is read. [`Io`](CheckpointError::Io) if reading fails.
    pub fn load_into<M: Module>(&self, module: M) -> Result<Loaded<M>, CheckpointError> {
        self.load_into_but(module, |_| false)
    }

    /// As [`load_into`](Self::load_into), but parameters whose name is `computed` keep their own value where the file has
    /// none.
    ///
    /// # Errors
    ///
    /// As [`load_into`](Self::load_into).
    pub fn load_into_but<M: Module>(
        &self,
        module: M,
        computed: impl Fn(&str) -> bool,
    ) -> Result<Loaded<M>, CheckpointError> {
        let wanted = |name: &str| self.info(name).is_some() || !computed(name);
        self.load_sums_into(module, wanted, &BTreeMap::new(), false)
    }

    /// Give the `wanted` parameters of `module` their value from the file, each with what is to be added to it. With `keep_narrow`, those of
    /// four dimensions that nothing is added to stay in a file's 16 bits.
    pub(crate) fn load_sums_into<M: Module>(
        &self,
        module: M,
        wanted: impl Fn(&str) -> bool,
        sums: &Sums,
        keep_narrow: bool,
    ) -> Result<Loaded<M>, CheckpointError> {
        let is_wanted = wanted;
        let mut wanted = parameters(&module);
        wanted.retain(|parameter| is_wanted(&parameter.name));
        self.check(&wanted)?;
        let Some(device) = module.devices().into_iter().next() else {
            // No parameters at all.
            return Ok(Loaded { module, surplus: self.surplus(&wanted) });
        };
        let tensors = wanted
            .iter()
            .map(|parameter| self.parameter(parameter, &device, sums, keep_narrow))
            .collect::<Result<_, _>>()?;
        // Each tensor comes with the name and the layout that the module has, so that no adapter copies it once more.
        let mut applier = Applier::new(tensors, None, None, true);
        let module = module.map(&mut applier);
        let result = applier.into_result();
        match result.errors.first() {
            Some(error) => Err(self.failed(error, &wanted)),
            None => Ok(Loaded { module, surplus: self.surplus(&wanted) }),
        }
    }

    fn surplus(&self, wanted: &[Parameter]) -> Vec<String> {
        let wanted: BTreeSet<&str> = wanted.iter().map(|parameter| parameter.name.as_str()).collect();
        self.tensors()
            .map(|(name, _)| name)
            .filter(|name| !wanted.contains(name))
            .map(str::to_owned)
            .collect()
    }

    fn check(&self, wanted: &[Parameter]) -> Result<(), CheckpointError> {
        let missing: Vec<_> =
            wanted.iter().filter(|parameter| self.info(&parameter.name).is_none()).collect();
        if let Some(first) = missing.first() {
            return Err(CheckpointError::Missing {
                file: self.label().to_owned(),
                tensor: first.name.clone(),
                others: missing.len() - 1,
            });
        }
        for parameter in wanted {
            let entry = self.entry(&parameter.name)?;
            if entry.shape != parameter.shape {
                return Err(CheckpointError::Shape {
                    file: self.label().to_owned(),
                    tensor: parameter.name.clone(),
                    expected: parameter.shape.clone(),
                    found: entry.shape.clone(),
                });
            }
            let stored = entry.burn_dtype(&parameter.name)?;
            let (expected, fits) = match parameter.dtype {
                DType::Bool(_) => ("a bool", stored.is_bool() || stored == DType::U8),
                dtype if dtype.is_float() => ("a float", stored.is_float()),
                _ => ("an integer", stored.is_int() || stored.is_uint()),
            };
            if !fits {
                return Err(CheckpointError::DType {
                    file: self.label().to_owned(),
                    tensor: parameter.name.clone(),
                    expected,
                    found: entry.dtype,
                });
            }
        }
        Ok(())
    }

    /// The tensor as burn-store passes it on: read when its turn comes, as it is stored.
    pub(crate) fn deferred(&self, name: &str) -> Result<PackTensor, CheckpointError> {
        let entry = Arc::clone(self.entry(name)?);
        let (shape, tensor) = (Shape::from(entry.shape.clone()), name.to_owned());
        Ok(bridge::deferred(name.to_owned(), entry.burn_dtype(name)?, shape, None, move || {
            entry.read(&tensor).map_err(|error| PackError::IoError(error.to_string()))
        }))
    }

    /// The value of a parameter, read when its turn comes, with a warning if it is not finite.
    fn parameter(
        &self,
        parameter: &Parameter,
        device: &Device,
        sums: &Sums,
        keep_narrow: bool,
    ) -> Result<PackTensor, CheckpointError> {
        let (name, orientation) = (parameter.name.clone(), parameter.orientation);
        let (deltas, device) = (sums.get(&name).cloned().unwrap_or_default(), device.clone());
        let float = DType::from(device.settings().float_dtype);
        let entry = Arc::clone(self.entry(&name)?);
        let stored = entry.burn_dtype(&name)?;
        let stays = keep_narrow
            && parameter.shape.len() == 4
            && deltas.is_empty()
            && matches!(stored, DType::F16 | DType::BF16);
        let dtype = if stored.is_float() && !stays { float } else { stored };
        let mut shape = Shape::from(entry.shape.clone());
        if orientation == Orientation::Transposed {
            shape = shape.iter().rev().copied().collect::<Vec<_>>().into();
        }
        Ok(bridge::deferred(parameter.path.clone(), dtype, shape, None, move || {
            let read = match deltas[..] {
                [] => entry.read_as(&name, dtype, orientation),
                _ => lora::added(&entry, &name, &deltas, (dtype, orientation), &device),
            };
            let data = read.map_err(|error| PackError::IoError(error.to_string()))?;
            if !is_finite(&data) {
                let (file, dtype) = (entry.file(), dtype.name());
                tracing::warn!("{file}: tensor `{name}` holds values that are not finite as {dtype}");
            }
            Ok(data)
        }))
    }

    /// An error that only reading a tensor brought to light.
    fn failed(&self, error: &ApplyError, wanted: &[Parameter]) -> CheckpointError {
        let (ApplyError::ShapeMismatch { path, .. }
        | ApplyError::DTypeMismatch { path, .. }
        | ApplyError::AdapterError { path, .. }
        | ApplyError::LoadError { path, .. }) = error;
        let tensor =
            wanted.iter().find(|parameter| parameter.path == *path).map_or(path, |parameter| &parameter.name);
        let file = self.entry(tensor).map_or(self.label(), |entry| entry.file()).to_owned();
        CheckpointError::Entry { file, tensor: tensor.clone(), reason: error.to_string() }
    }
}

/// Whether no float of `data` is NaN or infinite.
fn is_finite(data: &TensorData) -> bool {
    fn all<F: Element>(data: &TensorData, is_finite: impl Fn(F) -> bool) -> bool {
        data.as_slice::<F>().map_or(true, |values| values.iter().all(|&value| is_finite(value)))
    }
    match data.dtype() {
        DType::F64 => all(data, f64::is_finite),
        DType::F32 => all(data, f32::is_finite),
        DType::F16 => all(data, f16::is_finite),
        DType::BF16 => all(data, bf16::is_finite),
        _ => true,
    }
}

/// Walks a module for the names and shapes of its parameters on disk, touching no value.
#[derive(Default)]
struct Outline {
    names: Vec<String>,
    containers: Vec<String>,
    parameters: Vec<Parameter>,
}

impl Outline {
    fn push(&mut self, shape: Shape, dtype: DType) {
        // The adapter that is used for saving says how a parameter is called and laid out on disk. Which matrices it turns
        // shows in one that is not square.
        let path = self.names.join(".");
        let adapted = |shape: Shape| {
            let no_data = || Err(PackError::ValidationError("a parameter's outline has no data".to_owned()));
            let tensor = bridge::deferred(path.clone(), dtype, shape, None, no_data);
            BurnToPyTorchAdapter.adapt(tensor, ModuleContext::new(&self.containers))
        };
        let turned = shape.len() == 2 && adapted(Shape::from([2, 3])).shape.to_vec() == [3, 2];
        let orientation = if turned { Orientation::Transposed } else { Orientation::AsStored };
        let tensor = adapted(shape);
        let (name, shape) = (tensor.name.clone(), tensor.shape.to_vec());
        self.parameters.push(Parameter { name, shape, dtype, path, orientation });
    }
}

impl ModuleVisitor for Outline {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_owned());
        // Which variant of an enum a module is does not show in PyTorch's names.
        if !container.starts_with("Enum:") {
            self.names.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.containers.pop();
        if !container.starts_with("Enum:") {
            self.names.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.push(param.lazy_shape(), DType::F32);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.push(param.lazy_shape(), DType::I64);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.push(param.lazy_shape(), DType::Bool(BoolStore::Native));
    }
}
