//! Numbers that are not finite: noticed after each part, and then looked for layer by layer.
//!
//! 16 bits overflow where 32 do not. A pass that gave such numbers is made once more, watched, and the first layer that gives them is
//! named as the checkpoint names it. A pass that gave none costs nothing more.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use kiln_backend::watch::{self, Place};

use crate::PipelineError;

/// Refuses numbers that are not finite. `again` makes the pass that gave them once more, `named` tells what a place is called.
pub(crate) fn finite<const D: usize>(
    x: &Tensor<D>,
    part: &str,
    again: impl FnOnce(),
    named: impl FnOnce(Place) -> Option<String>,
) -> Result<(), PipelineError> {
    match watch::is_finite(x) {
        true => Ok(()),
        false => Err(not_finite(part, None, watch::first_not_finite(again).and_then(named))),
    }
}

/// The error, with what to do.
pub(crate) fn not_finite(part: &str, step: Option<usize>, layer: Option<String>) -> PipelineError {
    let advice = match part {
        AUTOENCODER => "decode in f32 or bf16 in place of f16, or look for weights that are not finite",
        _ => "compute in bf16 or f32 in place of f16, or look for weights that are not finite",
    };
    PipelineError::NotFinite { part: part.to_owned(), step, layer, advice }
}

/// How the decoder is told of.
pub(crate) const AUTOENCODER: &str = "the autoencoder";

/// What a place in a network is called in its checkpoint; `None` if it is in another network.
pub(crate) fn name_in<M: Module>(network: &M, place: Place) -> Option<String> {
    let mut search = Search { wanted: place.parameter, names: Vec::new(), found: None };
    network.visit(&mut search);
    let mut names = search.found?;
    names.truncate(names.len().saturating_sub(place.below));
    Some(names.join("."))
}

/// Walks a network for the path of one parameter.
struct Search {
    wanted: ParamId,
    names: Vec<String>,
    found: Option<Vec<String>>,
}

impl ModuleVisitor for Search {
    fn enter_module(&mut self, name: &str, container: &str) {
        // Which variant of an enum a module is does not show in a checkpoint's names.
        if !container.starts_with("Enum:") {
            self.names.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.id == self.wanted && self.found.is_none() {
            self.found = Some(self.names.clone());
        }
    }
}
