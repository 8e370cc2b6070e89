//! A module's tensors by path, out and in again, bit for bit.
//!
//! Every parameter and buffer of a module has a path of field names and indices, `"blocks.0.conv.weight"`. These
//! functions copy the raw values: no transposition, no change of the element type, no parameter id. (For files in
//! the layouts of other libraries there is the crate `kiln-checkpoint`.)

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Shape, Tensor, TensorData};

use crate::StateError;

/// Every tensor of the module, by path: parameters and buffers (the running averages of a normalisation), of
/// floats, integers and booleans.
#[must_use]
pub fn weights_of<M: Module>(module: &M) -> BTreeMap<String, TensorData> {
    // The plain copy of the module shares its memory, and has its running averages brought up to date.
    let mut reader = Reader::default();
    module.valid().visit(&mut reader);
    reader.tensors
}

/// The module with its tensors replaced by those of `tensors`; devices, parameter ids and what is trained stay.
///
/// # Errors
///
/// [`StateError`] where a tensor is missing, one too many, or of another shape or element type. Nothing is
/// converted.
pub fn with_weights<M: Module>(module: M, tensors: BTreeMap<String, TensorData>) -> Result<M, StateError> {
    let mut writer = Writer { path: Path::default(), tensors, error: None };
    let module = module.map(&mut writer);
    match (writer.error, writer.tensors.into_keys().next()) {
        (Some(error), _) => Err(error),
        (None, Some(name)) => Err(StateError::Unknown { name }),
        (None, None) => Ok(module),
    }
}

/// The field names and indices on the way to the parameter that is visited.
#[derive(Default)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    pub(crate) fn join(&self) -> String {
        self.0.join(".")
    }
}

/// `updated`, a tensor without autodiff, in the place of the parameter's value `old`: with its autodiff context.
pub(crate) fn in_place_of<const D: usize>(old: &Context, updated: Tensor<D>) -> Tensor<D> {
    let mut tensor = updated;
    if let Some(strategy) = old.checkpointing {
        tensor = Tensor::from_inner(tensor).with_gradient_checkpointing_strategy(strategy);
    }
    if old.require_grad { tensor.require_grad() } else { tensor }
}

/// The autodiff context of a parameter's value, which an update on the plain device would lose.
pub(crate) struct Context {
    require_grad: bool,
    /// `None` where the value is on a device without autodiff.
    checkpointing: Option<burn::tensor::GradientCheckpointingStrategy>,
}

impl Context {
    pub(crate) fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        Self {
            require_grad: tensor.is_require_grad(),
            checkpointing: tensor.gradient_checkpointing_strategy(),
        }
    }
}

#[derive(Default)]
struct Reader {
    path: Path,
    tensors: BTreeMap<String, TensorData>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.insert(self.path.join(), param.base().into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.tensors.insert(self.path.join(), param.base().into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.tensors.insert(self.path.join(), param.base().into_data());
    }
}

struct Writer {
    path: Path,
    tensors: BTreeMap<String, TensorData>,
    error: Option<StateError>,
}

impl Writer {
    /// The tensor for the parameter that is visited, if it fits; the first that does not is kept as the error.
    fn take(&mut self, expected: &Shape, dtype: burn::tensor::DType) -> Option<TensorData> {
        let name = self.path.join();
        let error = match self.tensors.remove(&name) {
            None => StateError::Missing { name },
            Some(data) if data.shape() != expected => {
                StateError::Shape { name, expected: expected.to_vec(), found: data.shape().to_vec() }
            }
            Some(data) if data.dtype() != dtype => {
                StateError::ElementType { name, expected: dtype, found: data.dtype() }
            }
            Some(data) => return Some(data),
        };
        self.error.get_or_insert(error);
        None
    }
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let tensor = match self.take(&tensor.shape(), tensor.dtype()) {
            Some(data) => {
                let dtype = data.dtype();
                let plain: Device = tensor.device().without_autodiff();
                in_place_of(&Context::of(&tensor), Tensor::from_data(data, (&plain, dtype)))
            }
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let (id, tensor, mapper) = param.consume();
        let tensor = match self.take(&tensor.shape(), tensor.dtype()) {
            Some(data) => {
                let dtype = data.dtype();
                Tensor::from_data(data, (&tensor.device(), dtype))
            }
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let (id, tensor, mapper) = param.consume();
        let tensor = match self.take(&tensor.shape(), tensor.dtype()) {
            Some(data) => {
                let dtype = data.dtype();
                Tensor::from_data(data, (&tensor.device(), dtype))
            }
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}
