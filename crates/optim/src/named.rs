//! An optimizer over a whole module, with its state keyed by the parameters' paths.
//!
//! Burn's `ModuleOptimizer` keys the state by parameter id. Ids are drawn anew when the module is built, so a
//! state saved by one process fits no module of the next; and it loads the state onto the default device, which
//! with a GPU backend compiled in is one that the machine may not have. Here a state is a plain dictionary by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{DynOptimizer, DynState, GradientsParams, Optimizer, StateSink, StateSource};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use crate::weights::{Context, Path, in_place_of};
use crate::{Group, GroupError, StateError};

/// Steps all parameters of a module with the optimizer `O`, whose state tensors have the parameter's shape.
///
/// Parameters without a gradient are left alone and have no state. Each parameter counts its own steps, as in
/// PyTorch. The state of a parameter goes by its path in the module, `"blocks.0.conv.weight"`. Parameters of a
/// [`Group`] are stepped by its optimizer at its rate; a parameter that several groups match is in the first of them.
#[derive(Clone)]
pub struct NamedOptimizer<O> {
    optimizer: O,
    groups: Vec<Group<O>>,
    states: BTreeMap<String, DynState>,
}

impl<O: fmt::Debug> fmt::Debug for NamedOptimizer<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NamedOptimizer { optimizer, groups, states } = self;
        f.debug_struct("NamedOptimizer")
            .field("optimizer", optimizer)
            .field("groups", groups)
            .field("parameters", &states.keys())
            .finish()
    }
}

/// An optimizer's state as plain data, each entry named by the parameter's path and the state's field:
/// `"blocks.0.conv.weight.first_moment"`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    /// The tensors, raw.
    pub tensors: BTreeMap<String, TensorData>,
    /// The numbers, such as the count of steps.
    pub scalars: BTreeMap<String, f64>,
}

impl<O: Optimizer> NamedOptimizer<O> {
    /// An optimizer that has made no step yet.
    #[must_use]
    pub fn new(optimizer: O) -> Self {
        Self { optimizer, groups: Vec::new(), states: BTreeMap::new() }
    }

    /// The optimizer with another group, which comes after those that it has.
    #[must_use]
    pub fn with_group(mut self, group: Group<O>) -> Self {
        self.groups.push(group);
        self
    }

    /// The group of each parameter of `module` by its path, `None` for those in none, after a check that every pattern
    /// matches some parameter. Worth a call before a long training.
    ///
    /// # Errors
    ///
    /// [`GroupError::Idle`] for a pattern that matches no parameter.
    pub fn groups_of<M: Module>(&self, module: &M) -> Result<BTreeMap<String, Option<usize>>, GroupError> {
        let mut parameters = Parameters::default();
        module.visit(&mut parameters);
        let paths: Vec<String> = parameters.by_path.into_keys().collect();
        for group in &self.groups {
            group.check(&paths)?;
        }
        let assigned = paths.into_iter().map(|path| {
            let group = self.group_of(&path);
            (path, group)
        });
        Ok(assigned.collect())
    }

    fn group_of(&self, path: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.has(path))
    }

    /// The optimizer of the parameter, and its rate as a factor.
    fn of(&self, path: &str) -> (&O, f64) {
        self.group_of(path).map_or((&self.optimizer, 1.0), |index| {
            let Group { optimizer, rate, .. } = &self.groups[index];
            (optimizer, *rate)
        })
    }

    /// The module after one step with the learning rate `lr`, a number or what one of Burn's schedulers gives; in place
    /// where its tensors are not shared.
    #[must_use]
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<ModuleLearningRate>,
        module: M,
        gradients: GradientsParams,
    ) -> M {
        module.map(&mut Step { optimizer: self, path: Path::default(), lr: lr.into(), gradients })
    }

    /// The state, copied out of the device.
    ///
    /// # Panics
    ///
    /// Panics if the device fails while the tensors are read.
    #[must_use]
    pub fn state_dict(&self) -> StateDict {
        let mut dict = StateDict::default();
        for (path, state) in &self.states {
            let mut sink = StateSink::default();
            self.optimizer.state_flatten(path, state, &mut sink);
            dict.tensors.extend(sink.tensors);
            // Infallible: every kind of number that Burn records has an f64, exact for counts below 2^53.
            dict.scalars.extend(
                sink.scalars.into_iter().filter_map(|(name, value)| Some((name, f64::try_from(value).ok()?))),
            );
        }
        dict
    }

    /// The optimizer with its state replaced by `dict`, each tensor on the device of the parameter of `module` that
    /// it belongs to. Parameters that `dict` does not name have no state, as before their first gradient.
    ///
    /// # Errors
    ///
    /// [`StateError`] where an entry belongs to no parameter of `module`, has another shape than it or another
    /// element type, or where the state of a parameter is not whole.
    pub fn load_state_dict<M: Module>(mut self, dict: StateDict, module: &M) -> Result<Self, StateError> {
        let mut parameters = Parameters::default();
        module.visit(&mut parameters);
        let mut paths = BTreeSet::new();
        for name in dict.tensors.keys().chain(dict.scalars.keys()) {
            let path = parameters.owner_of(name).ok_or_else(|| StateError::Unknown { name: name.clone() })?;
            if let Some(data) = dict.tensors.get(name) {
                check(name, data, &parameters.by_path[path])?;
            }
            paths.insert(path.to_owned());
        }

        let scalars = dict.scalars.into_iter().map(|(name, value)| {
            // A count goes back in as an integer: optimizers read it as one.
            let whole = value.fract() == 0.0 && value.abs() < 2f64.powi(53);
            (name, if whole { (value as i64).into() } else { value.into() })
        });
        let mut source = StateSource::new(scalars.collect());
        for (name, data) in dict.tensors {
            source.insert_tensor(name, data);
        }
        self.states.clear();
        for path in paths {
            let Parameter { shape, device, .. } = &parameters.by_path[&path];
            let state = self.optimizer.state_unflatten(shape.num_dims(), &path, &mut source, device);
            let Some(state) = state else { return Err(StateError::Missing { name: format!("{path}.*") }) };
            self.states.insert(path, state);
        }
        Ok(self)
    }
}

fn check(name: &str, data: &TensorData, expected: &Parameter) -> Result<(), StateError> {
    if data.shape() != &expected.shape {
        let (expected, found) = (expected.shape.to_vec(), data.shape().to_vec());
        return Err(StateError::Shape { name: name.to_owned(), expected, found });
    }
    if data.dtype() != expected.dtype {
        let (expected, found) = (expected.dtype, data.dtype());
        return Err(StateError::ElementType { name: name.to_owned(), expected, found });
    }
    Ok(())
}

struct Step<'a, O> {
    optimizer: &'a mut NamedOptimizer<O>,
    path: Path,
    lr: ModuleLearningRate,
    gradients: GradientsParams,
}

impl<O: Optimizer> ModuleMapper for Step<'_, O> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        // Everything is moved, so that a tensor that no one else holds is updated in place.
        let (id, tensor, mapper): (ParamId, _, _) = param.consume();
        let context = Context::of(&tensor);
        let path = self.path.join();
        let state = self.optimizer.states.remove(&path);
        let (optimizer, rate) = self.optimizer.of(&path);
        let (tensor, state) = optimizer.step_dyn(
            D,
            self.lr.lr_from_param(id, Some(&path)) * rate,
            tensor.without_autodiff().into_bridge(),
            gradient.into_bridge(),
            state,
        );
        if let Some(state) = state {
            self.optimizer.states.insert(path, state);
        }
        Param::from_mapped_value(id, in_place_of(&context, Tensor::from_bridge(tensor)), mapper)
    }
}

/// What a state must fit.
struct Parameter {
    shape: Shape,
    dtype: DType,
    device: Device,
}

/// The parameters of a module that have floats.
#[derive(Default)]
struct Parameters {
    path: Path,
    by_path: BTreeMap<String, Parameter>,
}

impl Parameters {
    /// The path of the parameter that the entry `name` belongs to: all of it but the last field names.
    fn owner_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let ends = name.rmatch_indices('.').map(|(end, _)| &name[..end]);
        ends.into_iter().find(|path| self.by_path.contains_key(*path))
    }
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.base();
        let (shape, dtype, device) = (tensor.shape(), tensor.dtype(), tensor.device().without_autodiff());
        self.by_path.insert(self.path.join(), Parameter { shape, dtype, device });
    }
}
