//! Samples a mixture of two Gaussians with every process and every solver, without a network, and prints what came out:
//! `cargo run --release -p kiln-diffusion --example mixture`.
//!
//! The exact denoiser of the mixture stands in for a network, so all that differs from the true moments is the solver's error at this
//! number of steps, and the noise of 20,000 samples.

#![allow(clippy::print_stdout, reason = "an example shows what it computes")]

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::NoiseKey;
use kiln_diffusion::{DiffusionError, GaussianMixture, PROCESSES, SOLVERS, Sampler, grid};

const COMPONENTS: [(f64, f64, f64); 2] = [(0.3, -1.0, 0.2), (0.7, 0.8, 0.3)];
const STEPS: usize = 20;
const SAMPLES: usize = 20_000;

fn main() -> Result<(), DiffusionError> {
    let device = Device::flex();
    let mean: f64 = COMPONENTS.iter().map(|(w, m, _)| w * m).sum();
    let std = (COMPONENTS.iter().map(|(w, m, s)| w * (m * m + s * s)).sum::<f64>() - mean * mean).sqrt();
    println!("the mixture: mean {mean:.3}, standard deviation {std:.3}, below zero {:.3}\n", 0.3);
    println!("{:12} {:10} {:>8} {:>8} {:>8}", "process", "solver", "mean", "std", "below 0");
    for process in PROCESSES {
        let law = process.config.build()?;
        let data = GaussianMixture::new(&*law, COMPONENTS.to_vec())?;
        for solver in SOLVERS {
            let sampler = Sampler::new(solver.config, grid::natural(&*law, STEPS)?)?;
            let run = sampler.start_keyed(&*law, &data, [SAMPLES, 1], NoiseKey::new(0), &device)?;
            let sample: Tensor<2> = run.finish();
            let below = sample.clone().lower_elem(0.0).float().mean().into_scalar::<f32>();
            let mean = sample.clone().mean().into_scalar::<f32>();
            let std = sample.sub_scalar(mean).square().mean().sqrt().into_scalar::<f32>();
            println!("{:12} {:10} {mean:8.3} {std:8.3} {below:8.3}", process.name, solver.name);
        }
    }
    Ok(())
}
