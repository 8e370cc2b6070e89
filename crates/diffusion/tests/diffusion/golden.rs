//! diffusers' schedulers, by `tests/reference/diffusion.py`: whole runs with recorded noise, the grids, the ladders.

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use kiln_diffusion::{
    BetaSchedule, Clipped, DdpmLadder, Denoiser, Draw, Network, Prediction, Process, ProcessConfig,
    RectifiedFlow, Sampler, SolverConfig, grid,
};
use serde_json::Value;

use crate::{apart, doubles, numbers};

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/diffusion.json")).unwrap()
}

fn tensor(value: &Value) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers(value), [2, 5]), &Device::flex())
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// Twelve runs: DDPM, DDIM, DPM-Solver++(2M), Euler and Heun on ladders, Euler and Heun on a shifted rectified flow.
#[test]
fn runs_are_those_of_diffusers() {
    let golden = golden();
    let slope = golden["slope"].as_f64().unwrap();
    for run in golden["runs"].as_array().unwrap() {
        let name = run["name"].as_str().unwrap();
        let timesteps = numbers(&run["timesteps"]);
        let process: Box<dyn Process> = match &run["process"] {
            Value::String(_) => Box::new(RectifiedFlow),
            config => read::<ProcessConfig>(config).build().unwrap(),
        };
        let rungs = process.rungs().map_or(1.0, |rungs| rungs as f64);
        let time =
            |timestep: f64| if process.rungs().is_some() { (timestep + 1.0) / rungs } else { timestep };
        let times: Vec<f64> = timesteps.iter().map(|&t| time(t)).chain([0.0]).collect();

        // The made-up network must be told the very timestep that diffusers tells.
        let bases: Vec<Tensor<2>> = run["bases"].as_array().unwrap().iter().map(tensor).collect();
        let told = RefCell::new(Vec::new());
        let network = |x: Tensor<2>, network_times: Tensor<1>| {
            let timestep = doubles(network_times)[0] / if process.rungs().is_some() { 1.0 } else { 1000.0 };
            let index =
                timesteps.iter().position(|t| (t - timestep).abs() < 1e-6).expect("a timestep of the run");
            told.borrow_mut().push(index);
            x.mul_scalar(slope) + bases[index].clone()
        };
        let prediction: Prediction = read(&run["prediction"]);
        let plain = Network::new(&*process, prediction, network).unwrap();
        let clipped = Clipped::new(&*process, |x: Tensor<2>, t: f64| plain.denoise(x, t));
        let denoiser: &dyn Denoiser<2> = if run["clip"] == true { &clipped } else { &plain };

        let mut noises = run["noises"].as_array().unwrap().iter().map(tensor);
        let noise = |_: Draw| noises.next().expect("no more noise than diffusers draws");
        let sampler = Sampler::new(read::<SolverConfig>(&run["solver"]), times).unwrap();
        let sampling = sampler.start(&*process, denoiser, tensor(&run["start"]), noise).unwrap();
        let trace: Vec<_> = run["trace"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(sampling.len(), trace.len(), "{name}");
        let mut worst = 0.0_f64;
        for (step, expected) in std::iter::zip(sampling, &trace) {
            let largest = expected.iter().fold(1.0_f64, |high, v| high.max(v.abs()));
            let error = apart(&doubles(step.sample), expected) / largest;
            assert!(error < 1e-5, "{name}, step {}: off by {error:e} of {largest}", step.index);
            worst = worst.max(error);
        }
        println!("{name}: {worst:.1e}");
        assert!(told.borrow().len() >= trace.len());
    }
}

#[test]
fn grids_are_those_of_diffusers() {
    let golden = golden();
    let cases = golden["grids"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let steps = case["steps"].as_u64().unwrap() as usize;
        let spacing = case["spacing"].as_str().unwrap();
        let timesteps = numbers(&case["timesteps"]);
        // diffusers' linspace of one step starts from the data, which draws nothing; ours starts from the noise.
        if (spacing, steps) == ("linspace", 1) {
            assert_eq!(timesteps, [0.0]);
            assert_eq!(grid::linspace(1000, 1).unwrap(), [1.0, 0.0]);
            continue;
        }
        let times = match spacing {
            "leading" => grid::leading(1000, steps, 0),
            "trailing" => grid::trailing(1000, steps),
            _ => grid::linspace(1000, steps),
        };
        let expected: Vec<f64> = timesteps.iter().map(|t| (t + 1.0) / 1000.0).chain([0.0]).collect();
        assert!(apart(&times.unwrap(), &expected) < 1e-12, "{spacing} {steps}");
    }
}

#[test]
fn ladders_are_those_of_diffusers() {
    let golden = golden();
    for case in golden["ladders"].as_array().unwrap() {
        let ladder = DdpmLadder::new(read::<BetaSchedule>(&case["schedule"]), 1000).unwrap();
        for (rung, expected) in std::iter::zip(numbers(&case["rungs"]), numbers(&case["alpha_bar"])) {
            let alpha_bar = ladder.alpha_bar(rung as usize);
            // diffusers multiplies in f32.
            let error = (alpha_bar / expected - 1.0).abs();
            assert!(error < 2e-5, "{}, rung {rung}: {alpha_bar} {expected}", case["schedule"]);
        }
    }
}
