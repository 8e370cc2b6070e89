//! The crate's tests: laws on the host, orders of convergence, diffusers' schedulers, and the promises of the sampler.

#![allow(clippy::print_stdout, reason = "the measured numbers, for --nocapture and the docs")]

#[path = "diffusion/ancestral.rs"]
mod ancestral;
#[path = "diffusion/annealing.rs"]
mod annealing;
#[path = "diffusion/config.rs"]
mod config;
#[path = "diffusion/denoisers.rs"]
mod denoisers;
#[path = "diffusion/dopri5.rs"]
mod dopri5;
#[path = "diffusion/golden.rs"]
mod golden;
#[path = "diffusion/guidance.rs"]
mod guidance;
#[path = "diffusion/inverse.rs"]
mod inverse;
#[path = "diffusion/laws.rs"]
mod laws;
#[path = "diffusion/likelihood.rs"]
mod likelihood;
#[path = "diffusion/losses.rs"]
mod losses;
#[path = "../examples/orders/measure.rs"]
mod measure;
#[path = "diffusion/moments.rs"]
mod moments;
#[path = "diffusion/nonlinear.rs"]
mod nonlinear;
#[path = "diffusion/orders.rs"]
mod orders;
#[path = "diffusion/predictions.rs"]
mod predictions;
#[path = "diffusion/predictor_corrector.rs"]
mod predictor_corrector;
#[path = "diffusion/reflow.rs"]
mod reflow;
#[path = "diffusion/sampling.rs"]
mod sampling;
#[path = "diffusion/training.rs"]
mod training;
#[path = "diffusion/written_processes.rs"]
mod written_processes;

use burn::tensor::Tensor;
use kiln_diffusion::{PROCESSES, Process};
use measure::{apart, double, doubles};

/// Every process of the table, by name.
fn processes() -> Vec<(&'static str, Box<dyn Process>)> {
    PROCESSES.iter().map(|entry| (entry.name, entry.config.build().unwrap())).collect()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// The numbers of a golden.
fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}
