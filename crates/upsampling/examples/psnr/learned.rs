//! Layers that learn, each alone between a small picture and a large one, trained on other photographs.

use std::error::Error;

use burn::module::Module;
use burn::nn::conv::{ConvTranspose2d, ConvTranspose2dConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_optim::{AdamConfig, NamedOptimizer};
use kiln_picture::{Filter, Picture};
use kiln_upsampling::{
    Carafe, CarafeConfig, DySample, DySampleConfig, Espcn, EspcnConfig, Mode, ResizeConvolution,
    convolve_transposed,
};

use crate::SCALE;

const PATCH: u32 = 96;
const BATCH: usize = 8;

/// One of each.
pub struct Learned {
    espcn: Espcn,
    transposed: ConvTranspose2d,
    resized: ResizeConvolution,
    carafe: Carafe,
    dysample: DySample,
    pub device: Device,
}

impl Learned {
    /// Trained by Adam for so many steps on patches of `photos`; the rate falls along a cosine.
    pub fn new(photos: &[Picture], steps: usize) -> Result<Self, Box<dyn Error>> {
        let device = Device::flex().autodiff();
        device.seed(0);
        let espcn = EspcnConfig::new(SCALE).with_channels(3).init(&device);
        let transposed = ConvTranspose2dConfig::new([3, 3], [2 * SCALE; 2])
            .with_stride([SCALE; 2])
            .with_padding([SCALE / 2; 2])
            .init(&device);
        let resized = ResizeConvolution::new([3, 3], 5, SCALE, Mode::Bilinear, &device);
        let carafe = CarafeConfig::new(3).with_factor(SCALE).init(&device);
        let dysample = DySampleConfig::new(3).with_factor(SCALE).with_groups(3).init(&device);
        let run = Run { photos, steps, device: device.clone() };
        Ok(Self {
            espcn: run.train(espcn, Espcn::forward)?,
            transposed: run.train(transposed, convolve_transposed)?,
            resized: run.train(resized, ResizeConvolution::forward)?,
            carafe: run.train(carafe, Carafe::forward)?,
            dysample: run.train(dysample, DySample::forward)?,
            device,
        })
    }

    pub fn forward(&self, name: &str, x: Tensor<4>) -> Tensor<4> {
        match name {
            "transposed, learned" => convolve_transposed(&self.transposed, x),
            "resize convolution, learned" => self.resized.forward(x),
            "CARAFE, learned" => self.carafe.forward(x),
            "DySample, learned" => self.dysample.forward(x),
            _ => self.espcn.forward(x),
        }
    }
}

struct Run<'a> {
    photos: &'a [Picture],
    steps: usize,
    device: Device,
}

impl Run<'_> {
    fn train<M: Module>(
        &self,
        mut network: M,
        forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
    ) -> Result<M, Box<dyn Error>> {
        let mut adam = NamedOptimizer::new(AdamConfig::new().build());
        for step in 0..self.steps {
            let (small, large) = self.batch(step as u64)?;
            let loss = (forward(&network, small) - large).square().mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            let part = step as f64 / self.steps as f64;
            let rate = 2e-3 * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * part).cos()));
            network = adam.step(rate, network, gradients);
        }
        Ok(network)
    }

    /// Patches, reduced by PIL's bicubic filter and as they are.
    fn batch(&self, seed: u64) -> Result<(Tensor<4>, Tensor<4>), Box<dyn Error>> {
        let mut state = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
        let mut below = |n: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % n
        };
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let photo = &self.photos[below(self.photos.len() as u32) as usize];
            let (x, y) = (below(photo.width() - PATCH + 1), below(photo.height() - PATCH + 1));
            let patch = photo.crop(x, y, PATCH, PATCH)?;
            let reduced = PATCH / SCALE as u32;
            small.push(tensor(&patch.resize(reduced, reduced, Filter::Bicubic)?, &self.device));
            large.push(tensor(&patch, &self.device));
        }
        Ok((Tensor::cat(small, 0), Tensor::cat(large, 0)))
    }
}

/// `[1, 3, height, width]`, brightness from 0 to 1.
pub fn tensor(picture: &Picture, device: &Device) -> Tensor<4> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let values: Vec<f32> = picture.samples().iter().map(|&v| f32::from(v) / 255.0).collect();
    Tensor::<4>::from_data(TensorData::new(values, [1, height, width, 3]), device).permute([0, 3, 1, 2])
}
