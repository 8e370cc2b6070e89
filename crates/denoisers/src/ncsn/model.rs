//! The network that an [`NcsnConfig`] describes.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_blocks::convolve;
use kiln_checkpoint::{ConfigError, Pretrained};

use super::config::{Architecture, NcsnConfig};
use super::norm::{Norm, NormKind};
use super::refine::{Refine, RefineKind};
use super::residual::{Change, Residual, Stage, conv3};

/// Noise-conditional score network; see the [module](super).
#[derive(Module, Debug)]
pub struct Ncsn {
    begin_conv: Conv2d,
    res1: Stage,
    res2: Stage,
    res3: Stage,
    res31: Option<Stage>,
    res4: Stage,
    res5: Option<Stage>,
    refine1: Refine,
    refine2: Refine,
    refine31: Option<Refine>,
    refine3: Refine,
    refine4: Refine,
    refine5: Option<Refine>,
    normalizer: Norm,
    end_conv: Conv2d,
    #[module(skip)]
    config: NcsnConfig,
    #[module(skip)]
    sigmas: Vec<f64>,
}

impl Pretrained for Ncsn {
    const CLASSES: &'static [&'static str] =
        &["CondRefineNetDilated", "NCSN", "NCSNdeeper", "NCSNv2", "NCSNv2Deeper", "NCSNv2Deepest"];

    fn from_config(config: &str, device: &Device) -> Result<Self, ConfigError> {
        NcsnConfig::from_json(config)?.init(device)
    }

    fn rename(name: &str) -> Option<String> {
        super::file::today(name)
    }
}

impl NcsnConfig {
    /// The network with PyTorch's default initialisation on `device`, norms at 1 and 0; [`seeded`](crate::seeded) makes that
    /// reproducible.
    ///
    /// # Errors
    ///
    /// As [`validate`](NcsnConfig::validate).
    pub fn init(&self, device: &Device) -> Result<Ncsn, ConfigError> {
        self.validate()?;
        let norm = NormKind { levels: self.architecture.is_conditional().then_some(self.num_classes) };
        let refine = RefineKind { norm: self.architecture.is_conditional().then_some(norm) };
        let widths: Vec<usize> = self.architecture.widths().iter().map(|times| times * self.ngf).collect();
        let block = |channels, change, stage| {
            Residual::init(channels, change, self.architecture.dilation(stage), norm, device)
        };
        let stage = |i: usize| -> Stage {
            let first = match i {
                0 => block(widths[0], Change::None, 0),
                _ => block(widths[i - 1], Change::To(widths[i]), i),
            };
            (first, block(widths[i], Change::None, i))
        };
        // Joins stage i; leaves as many channels as the stage before it has.
        let joint = |i: usize| {
            let outputs = if i == 0 { 3 } else { 1 };
            refine.init(&[widths[i]; 2], widths[i.saturating_sub(1)], outputs, device)
        };
        let deepest = widths.len() - 1;
        // Of six stages, the fourth is called 31.
        let six = self.architecture == Architecture::NcsnV2Deepest;
        let later = usize::from(six);
        Ok(Ncsn {
            begin_conv: conv3([self.channels, self.ngf], None, device),
            res1: stage(0),
            res2: stage(1),
            res3: stage(2),
            res31: six.then(|| stage(3)),
            res4: stage(3 + later),
            res5: (deepest > 3).then(|| stage(4 + later)),
            refine1: refine.init(&widths[deepest..], widths[deepest], 1, device),
            refine2: joint(deepest - 1),
            refine31: six.then(|| joint(deepest - 2)),
            refine3: joint(deepest - 2 - later),
            refine4: joint(deepest - 3 - later),
            refine5: (deepest > 3).then(|| joint(0)),
            normalizer: norm.init(self.ngf, device),
            end_conv: conv3([self.ngf, self.channels], None, device),
            sigmas: self.sigmas(),
            config: self.clone(),
        })
    }
}

impl Ncsn {
    /// The score at `x`, `[batch, channels, height, width]`, for the noise of `levels`, `[batch]`, from 0, the most. The result
    /// has the shape of `x`.
    ///
    /// # Panics
    ///
    /// If `levels` does not hold one level a sample, or a side can't be halved where the network halves it (once with four
    /// stages, twice with five, three times with six).
    #[must_use]
    pub fn forward(&self, x: Tensor<4>, levels: Tensor<1, Int>) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        assert_eq!(levels.dims(), [batch], "one level a sample");
        let divisor = 1 << self.config.halvings();
        assert!(
            [height, width].iter().all(|side| side.is_multiple_of(divisor)),
            "{height} x {width} can't be halved {} times",
            self.config.halvings()
        );
        let act = self.config.nonlinearity;
        let (device, dtype) = (x.device(), x.dtype());
        let x = if self.config.rescaled || self.config.logit_transform { x } else { x * 2.0 - 1.0 };

        let stages = [Some(&self.res1), Some(&self.res2), Some(&self.res3), self.res31.as_ref()];
        let stages = stages.into_iter().chain([Some(&self.res4), self.res5.as_ref()]).flatten();
        let mut x = convolve(&self.begin_conv, x);
        let mut layers = Vec::new();
        for (first, second) in stages {
            x = second.forward(first.forward(x, &levels, act), &levels, act);
            layers.push(x.clone());
        }
        let refines = [Some(&self.refine2), self.refine31.as_ref(), Some(&self.refine3)];
        let refines = refines.into_iter().chain([Some(&self.refine4), self.refine5.as_ref()]).flatten();
        layers.pop();
        x = self.refine1.forward(vec![x], &levels, act);
        for refine in refines {
            let layer = layers.pop().expect("a stage for each block");
            x = refine.forward(vec![layer, x], &levels, act);
        }
        let x = convolve(&self.end_conv, act.apply(self.normalizer.forward(x, &levels)));
        if self.config.architecture.is_conditional() {
            return x;
        }
        let sigmas = TensorData::from(&*self.sigmas.iter().map(|&sigma| sigma as f32).collect::<Vec<_>>());
        let sigmas = Tensor::<1>::from_data(sigmas, (&device, dtype)).select(0, levels);
        x / sigmas.reshape([batch, 1, 1, 1])
    }

    /// Standard deviations of the noise, the most first: those that a file has, or the configuration's.
    #[must_use]
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// What the network is made of.
    #[must_use]
    pub fn config(&self) -> &NcsnConfig {
        &self.config
    }

    /// The same with other levels of noise, as many.
    pub(super) fn with_sigmas(self, sigmas: Vec<f64>) -> Self {
        Self { sigmas, ..self }
    }
}
