//! A network from `denoisers`, a process and a solver from `diffusion`, an optimizer from `optim`, a file from
//! `checkpoint`: what each crate promises by itself must survive their being joined by a closure.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor};
use kiln::backend::noise::{NoiseKey, uniform};
use kiln::backend::testing;
use kiln::checkpoint::{Checkpoint, SaveOptions, to_bytes};
use kiln::denoisers::{UNet2D, UNet2DConfig, seeded};
use kiln::diffusion::{
    Contrast, Denoiser, Guided, Network, Objective, Prediction, RectifiedFlow, Sampler, SolverConfig, grid,
};
use kiln::optim::{AdamWConfig, NamedOptimizer, clip_by_global_norm};

const CONFIG: &str = r#"{
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
    "attention_head_dim": 8, "num_class_embeds": 3,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]
}"#;
/// One level and attention in the middle: on lavapipe, compiling the kernels of a backward pass takes the time.
const SMALL: &str = r#"{
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8], "norm_num_groups": 4, "layers_per_block": 1,
    "attention_head_dim": 8, "num_class_embeds": 3, "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]
}"#;
const NO_CLASS: i32 = 2;
const SHAPE: [usize; 4] = [3, 1, 12, 12];
const KEY: NoiseKey = NoiseKey::new(5);

fn unet(config: &str, seed: u64, device: &Device) -> UNet2D {
    let config = UNet2DConfig::from_json(config).expect("the config is right");
    seeded(config.init(device).expect("the config can be built"), seed)
}

fn classes(values: &[i32], device: &Device) -> Option<Tensor<1, Int>> {
    Some(Tensor::from_data(values, device))
}

/// Guided samples of the classes 0, 1, 0, from the row `first` of the batch on.
fn draw(unet: &UNet2D, solver: SolverConfig, first: usize, count: usize, device: &Device) -> Vec<f32> {
    let wanted = &[0, 1, 0][first..first + count];
    let labels = [wanted, &vec![NO_CLASS; count]].concat();
    let process = RectifiedFlow;
    let network =
        Network::new(&process, Prediction::Velocity, |x, t| unet.forward(x, t, classes(&labels, device)))
            .expect("velocity goes with rectified flow");
    let denoiser = Guided::new(2.0, |x: Tensor<4>, t| {
        let [conditional, unconditional] = network.denoise(Tensor::cat(vec![x.clone(), x], 0), t).halves();
        Contrast { conditional, unconditional, spread: None }
    });
    let times = grid::uniform(&process, 6).expect("six steps make a grid");
    let sampler = Sampler::new(solver, times).expect("the solver takes the grid");
    let shape = [count, SHAPE[1], SHAPE[2], SHAPE[3]];
    let key = KEY.at_sample(first as u64);
    let sampling = sampler.start_keyed(&process, &denoiser, shape, key, device).expect("the run starts");
    sampling.finish().into_data().iter().collect()
}

/// Losses of two training steps, and the network after them.
fn train(device: &Device) -> (Vec<f32>, UNet2D) {
    let device = device.clone().autodiff();
    let mut model = unet(SMALL, 1, &device);
    let mut optimizer = NamedOptimizer::new(AdamWConfig::new().build());
    let data: Tensor<4> = uniform(SHAPE, KEY.at_sample(100), &device);
    let objective = Objective::new(Prediction::Velocity);
    let mut losses = Vec::new();
    for step in 0..2 {
        let pair = objective.pair(&RectifiedFlow, data.clone(), KEY.at_step(step));
        let output =
            model.forward(pair.input.clone(), pair.network_times.clone(), classes(&[0, 1, 2], &device));
        let loss = pair.loss(output);
        losses.push(loss.clone().into_scalar::<f32>());
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        clip_by_global_norm(&mut gradients, &model, 1.0);
        model = optimizer.step(1e-2, model, gradients);
    }
    (losses, model.valid())
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}: {f} for {e} at {index}");
    }
}

/// The backends, with the CPU's as what the others are held to.
fn reference_and_others() -> (Device, Vec<(&'static str, Device)>) {
    let mut devices: Vec<_> = testing::devices().collect();
    // Without a word, wgpu takes the graphics API that the machine has: Vulkan's adapter twice would teach nothing.
    if devices.iter().any(|(name, _)| *name == "vulkan") {
        devices.retain(|(name, _)| *name != "wgpu");
    }
    let flex = devices.iter().position(|(name, _)| *name == "flex").expect("flex is compiled in");
    (devices.remove(flex).1, devices)
}

/// An 8-bit value is 1/127.5 wide: pictures agree within one value if samples agree within this.
const ONE_VALUE: f32 = 1.0 / 127.5;

#[test]
fn a_seed_gives_the_same_samples_on_every_backend() {
    let (flex, others) = reference_and_others();
    let expected = draw(&unet(CONFIG, 1, &flex), SolverConfig::dpmpp_2m(), 0, 3, &flex);
    assert!(expected.iter().any(|v| v.abs() > 0.1) && expected.iter().all(|v| v.is_finite()));
    for (backend, device) in others {
        let found = draw(&unet(CONFIG, 1, &device), SolverConfig::dpmpp_2m(), 0, 3, &device);
        assert_close(backend, &found, &expected, 0.5 * ONE_VALUE);
    }
}

#[test]
fn training_steps_agree_on_every_backend() {
    let (flex, others) = reference_and_others();
    let (expected, _) = train(&flex);
    assert!(expected[0] != expected[1], "the first step changed nothing: {expected:?}");
    for (backend, device) in others {
        assert_close(backend, &train(&device).0, &expected, 1e-3);
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    let (flex, _) = reference_and_others();
    let model = unet(CONFIG, 1, &flex);
    // The ancestral solver draws noise in every step: rows must draw their own.
    for solver in [SolverConfig::dpmpp_2m(), SolverConfig::named("ddpm").expect("it is in the table")] {
        let together = draw(&model, solver, 0, 3, &flex);
        let alone: Vec<f32> = (0..3).flat_map(|row| draw(&model, solver, row, 1, &flex)).collect();
        assert_close("row by row", &alone, &together, 1e-4);
    }
}

#[test]
fn a_model_draws_the_same_after_its_way_through_a_file() {
    let (flex, _) = reference_and_others();
    let (_, trained) = train(&flex);
    let file = to_bytes(&trained, &SaveOptions::default()).expect("the model is stored");
    let other = unet(SMALL, 2, &flex);
    assert_ne!(
        draw(&other, SolverConfig::dpmpp_2m(), 0, 1, &flex),
        draw(&trained, SolverConfig::dpmpp_2m(), 0, 1, &flex)
    );
    let loaded =
        Checkpoint::from_bytes(file).expect("a whole file").load_into(other).expect("the same network");
    assert!(loaded.surplus.is_empty(), "{:?}", loaded.surplus);
    assert_eq!(
        draw(&loaded.module, SolverConfig::dpmpp_2m(), 0, 3, &flex),
        draw(&trained, SolverConfig::dpmpp_2m(), 0, 3, &flex)
    );
}
