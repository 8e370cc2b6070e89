//! The state of an optimizer as PyTorch saved it, `torch.save(optimizer.state_dict(), path)`:
//!
//! ```text
//! state.I.step              n                      state.I.exp_avg         m
//! state.I.exp_avg_sq        v                      state.I.max_exp_avg_sq  the largest v so far, with amsgrad=True
//! ```
//!
//! with I the number of the parameter, in the order in which the parameters were handed to the optimizer. The crate
//! `kiln-checkpoint` reads such a file into tensors of these names, and runs nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use crate::moments::{FIRST_MOMENT, LARGEST_SECOND_MOMENT, SECOND_MOMENT, STEP};
use crate::{StateDict, StateError};

/// PyTorch's name of each tensor of the state, and ours.
const MOMENTS: [(&str, &str); 3] =
    [("exp_avg", FIRST_MOMENT), ("exp_avg_sq", SECOND_MOMENT), ("max_exp_avg_sq", LARGEST_SECOND_MOMENT)];

/// The state of PyTorch's Adam or AdamW as one that
/// [`NamedOptimizer::load_state_dict`](crate::NamedOptimizer::load_state_dict) takes.
///
/// `tensors` are those of the file, `state.0.exp_avg` and so on. `parameters` names the parameters by PyTorch's names in
/// the order in which its optimizer numbers them: that of `model.named_parameters()`, or of the groups if there were
/// several. [`torch_names`] gives them in this module's own order, which is PyTorch's where both declare their fields in the
/// same order. Moments of `Linear` weights are transposed as the weights are, and all are converted to the type of the
/// parameter. Learning rate and betas are not read: they are the caller's configuration.
///
/// # Errors
///
/// [`StateError`] where a number has no parameter, a parameter is not in the module, a moment has another shape or is
/// missing.
pub fn from_torch<M: Module>(
    tensors: BTreeMap<String, TensorData>,
    parameters: &[String],
    module: &M,
) -> Result<StateDict, StateError> {
    let mut outline = Outline::default();
    module.visit(&mut outline);
    let mut dict = StateDict::default();
    let mut begun = BTreeSet::new();
    for (name, data) in tensors {
        let unknown = || StateError::Unknown { name: name.clone() };
        let Some(entry) = name.strip_prefix("state.") else { continue };
        let (index, field) = entry.split_once('.').ok_or_else(unknown)?;
        let parameter =
            index.parse().ok().and_then(|index: usize| parameters.get(index)).ok_or_else(unknown)?;
        let parameter = outline.parameters.iter().find(|known| known.torch == *parameter);
        let parameter = parameter.ok_or_else(unknown)?;
        begun.insert((parameter.path.clone(), index.to_owned()));
        if field == "step" {
            let step = data.iter::<f64>().next().ok_or_else(unknown)?;
            dict.scalars.insert(format!("{}.{STEP}", parameter.path), step);
        } else {
            let (_, ours) = MOMENTS.iter().find(|(theirs, _)| *theirs == field).ok_or_else(unknown)?;
            dict.tensors.insert(format!("{}.{ours}", parameter.path), parameter.take(&name, data)?);
        }
    }
    for (path, index) in begun {
        let missing = |field| Err(StateError::Missing { name: format!("state.{index}.{field}") });
        for (theirs, ours) in &MOMENTS[..2] {
            if !dict.tensors.contains_key(&format!("{path}.{ours}")) {
                return missing(*theirs);
            }
        }
        if !dict.scalars.contains_key(&format!("{path}.{STEP}")) {
            return missing("step");
        }
    }
    Ok(dict)
}

/// The names that PyTorch gives the parameters of `module` (those of floats), in the module's own order: `weight` and
/// `bias` of Burn's norms, which call them `gamma` and `beta`.
#[must_use]
pub fn torch_names<M: Module>(module: &M) -> Vec<String> {
    let mut outline = Outline::default();
    module.visit(&mut outline);
    outline.parameters.into_iter().map(|parameter| parameter.torch).collect()
}

/// A parameter here and there.
struct Parameter {
    path: String,
    torch: String,
    layout: Layout,
    shape: Shape,
    dtype: DType,
    device: Device,
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Same,
    /// `[out, in]` there, `[in, out]` here.
    Transposed,
}

impl Parameter {
    fn take(&self, name: &str, data: TensorData) -> Result<TensorData, StateError> {
        let mut expected = self.shape.to_vec();
        if self.layout == Layout::Transposed {
            expected.reverse();
        }
        if data.shape().to_vec() != expected {
            let found = data.shape().to_vec();
            return Err(StateError::Shape { name: name.to_owned(), expected, found });
        }
        let data = data.convert_dtype(self.dtype);
        Ok(match self.layout {
            Layout::Same => data,
            Layout::Transposed => {
                Tensor::<2>::from_data(data, (&self.device, self.dtype)).transpose().into_data()
            }
        })
    }
}

#[derive(Default)]
struct Outline {
    names: Vec<String>,
    containers: Vec<String>,
    parameters: Vec<Parameter>,
}

const NORMS: [&str; 5] =
    ["Struct:BatchNorm", "Struct:LayerNorm", "Struct:GroupNorm", "Struct:InstanceNorm", "Struct:RmsNorm"];

impl ModuleVisitor for Outline {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.names.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base();
        let container = self.containers.last().map_or("", String::as_str);
        let field = self.names.last().map_or("", String::as_str);
        let theirs = match field {
            "gamma" if NORMS.contains(&container) => "weight",
            "beta" if NORMS.contains(&container) => "bias",
            other => other,
        };
        let transposed = container == "Struct:Linear" && field == "weight" && D == 2;
        // Which variant of an enum a module is does not show in PyTorch's names.
        let mut torch: Vec<&str> = (self.names.iter().zip(&self.containers))
            .filter(|(_, container)| !container.starts_with("Enum:"))
            .map(|(name, _)| name.as_str())
            .collect();
        if let Some(last) = torch.last_mut() {
            *last = theirs;
        }
        self.parameters.push(Parameter {
            path: self.names.join("."),
            torch: torch.join("."),
            layout: if transposed { Layout::Transposed } else { Layout::Same },
            shape: tensor.shape(),
            dtype: tensor.dtype(),
            device: tensor.device().without_autodiff(),
        });
    }
}
