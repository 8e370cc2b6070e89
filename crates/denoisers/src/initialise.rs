//! Starting weights that depend on nothing but a seed.
//!
//! Burn draws a parameter when it is first used, from a generator that is global to the device; so what a network starts
//! from depends on the backend, and on all that ran before. [`seeded`] draws every weight on the host from a counter.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal, uniform};

/// Draw the weights of `module` anew from `seed`: the same bits on every backend.
///
/// The distributions are PyTorch's defaults: `U(-1/sqrt(fan_in), 1/sqrt(fan_in))` for weight and bias of convolutions and
/// `Linear`, `N(0, 1)` for `Embedding`. Other parameters (norms start at 1 and 0, tables of norms too)
/// keep their value. The key of parameter
/// `i`, in the order that the module lists them, is `(seed, i, 0)`.
#[must_use]
pub fn seeded<M: Module>(module: M, seed: u64) -> M {
    module.map(&mut Seeder { seed, parameter: 0, containers: Vec::new(), names: Vec::new(), fan_in: 1 })
}

struct Seeder {
    seed: u64,
    parameter: u64,
    containers: Vec<String>,
    names: Vec<String>,
    /// Inputs of one output of the layer at hand, from its weight, which comes before its bias.
    fan_in: usize,
}

impl Seeder {
    fn draw<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Option<Tensor<D>> {
        let key = NoiseKey { seed: self.seed, sample: self.parameter, step: 0 };
        let layer = self.containers.iter().rev().find(|kind| kind.starts_with("Struct:"))?.as_str();
        let weight = self.names.last()?.as_str() == "weight";
        match layer {
            // Burn keeps a linear weight as [in, out], a convolution's as [out, in, ...].
            "Struct:Linear" if weight => self.fan_in = shape[0],
            "Struct:Conv1d" | "Struct:Conv2d" if weight => self.fan_in = shape[1..].iter().product(),
            "Struct:Linear" | "Struct:Conv1d" | "Struct:Conv2d" => {}
            // A table of norms starts as norms do.
            "Struct:Embedding" if self.in_norm() => return None,
            "Struct:Embedding" => return Some(one_row(shape, |flat| normal(flat, key, device))),
            _ => return None,
        }
        let bound = 1.0 / (self.fan_in as f64).sqrt();
        Some(one_row(shape, |flat| uniform(flat, key, device)) * (2.0 * bound) - bound)
    }

    fn in_norm(&self) -> bool {
        self.containers.iter().any(|kind| kind == "Struct:ConditionalInstanceNormPlus")
    }
}

/// A parameter is one sample of noise, whatever its first dimension.
fn one_row<const D: usize>(shape: [usize; D], draw: impl Fn([usize; 2]) -> Tensor<2>) -> Tensor<D> {
    draw([1, shape.iter().product()]).reshape(shape)
}

impl ModuleMapper for Seeder {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.containers.push(container.to_owned());
        self.names.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.containers.pop();
        self.names.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let drawn = self.draw(param.lazy_shape().dims(), &param.lazy_device());
        self.parameter += 1;
        match drawn {
            Some(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            None => param,
        }
    }
}
