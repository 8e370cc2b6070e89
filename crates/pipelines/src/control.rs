//! What control networks are shown, where and when.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;
use kiln_conditioning::{ControlMode, ControlNet, ControlNetConfig, controlnet};
use kiln_denoisers::unet2d_condition::{Conditions, ControlResiduals};

use crate::PipelineError;
use crate::part::Part;
use crate::run::Call;

/// What a control network is shown, and how much it has to say.
#[derive(Clone, Debug)]
pub struct Control {
    /// Edges, depths, a skeleton: `[1 or pictures, channels, height, width]` in 0..1, of the size of the pictures that are drawn.
    pub picture: Tensor<4>,
    /// How strongly it counts.
    pub scale: f64,
    /// The share of the run before which it is silent.
    pub from: f64,
    /// The share of the run after which it is silent.
    pub to: f64,
    /// Whether it counts where there is no prompt (diffusers: `guess_mode`); the first network's counts for all.
    pub mode: ControlMode,
    /// Where it counts: from 0 to 1, `[1, 1, height, width]` of any size; everywhere, if not given.
    pub mask: Option<Tensor<4>>,
}

impl Control {
    /// A picture that counts fully, everywhere, from the first step to the last.
    #[must_use]
    pub fn new(picture: Tensor<4>) -> Self {
        Self { picture, scale: 1.0, from: 0.0, to: 1.0, mode: ControlMode::Prompted, mask: None }
    }

    /// The scale at a call.
    pub(crate) fn scale_at(&self, call: Call) -> f64 {
        if call.is_within(self.from, self.to) { self.scale } else { 0.0 }
    }

    /// The picture for each of `pictures`, if it has the sides of those that are drawn.
    pub(crate) fn shown(
        &self,
        pictures: usize,
        [height, width]: [usize; 2],
    ) -> Result<Tensor<4>, PipelineError> {
        let [rows, _, h, w] = self.picture.dims();
        if [h, w] != [height, width] {
            let reason = format!("is {h} x {w}, and pictures of {height} x {width} are drawn");
            return Err(PipelineError::request("a control picture", reason));
        }
        if !(self.scale.is_finite() && (0.0..=1.0).contains(&self.from) && self.from <= self.to) {
            let (from, to) = (self.from, self.to);
            let reason = format!("has scale {}, from {from} to {to} of the run", self.scale);
            return Err(PipelineError::request("a control picture", reason));
        }
        for_each(self.picture.clone(), rows, pictures, "control pictures")
    }

    /// The mask at a residual's size.
    fn mask_at(&self, sides: [usize; 2]) -> Option<Tensor<4>> {
        Some(adaptive_avg_pool2d(self.mask.clone()?, sides))
    }
}

/// One row for each picture.
pub(crate) fn for_each(
    x: Tensor<4>,
    rows: usize,
    pictures: usize,
    what: &'static str,
) -> Result<Tensor<4>, PipelineError> {
    match rows {
        _ if rows == pictures => Ok(x),
        1 => Ok(x.repeat_dim(0, pictures)),
        _ => {
            let reason = format!("are {rows} for {pictures} pictures; expected one, or one each");
            Err(PipelineError::request(what, reason))
        }
    }
}

/// A Stable Diffusion pipeline's control networks.
#[derive(Debug, Default)]
pub(crate) struct ControlNets {
    networks: Vec<(Part<ControlNet>, ControlNetConfig)>,
}

impl ControlNets {
    pub(crate) fn push(&mut self, network: Part<ControlNet>) -> Result<(), PipelineError> {
        let config = ControlNetConfig::from_json(network.config())?;
        self.networks.push((network, config));
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.networks.len()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part<ControlNet>> {
        self.networks.iter().map(|(network, _)| network)
    }

    /// The networks with what they are shown in a run.
    pub(crate) fn ready(
        &self,
        controls: &[Control],
        pictures: usize,
        sides: [usize; 2],
    ) -> Result<Controls, PipelineError> {
        if controls.len() != self.len() {
            let reason = format!("are {} for {} control networks", controls.len(), self.len());
            return Err(PipelineError::request("control pictures", reason));
        }
        let mut shown = Vec::with_capacity(self.len());
        for ((network, config), control) in self.networks.iter().zip(controls) {
            let picture = control.shown(pictures, sides)?;
            let (found, expected) = (picture.dims()[1], config.conditioning_channels);
            if found != expected {
                let reason = format!("has {found} channels, and its network looks at {expected}");
                return Err(PipelineError::request("a control picture", reason));
            }
            shown.push(Shown { network: network.get()?, picture, control: control.clone() });
        }
        // A network that pools its residuals says what there is, and is heard in the conditional half alone.
        let pools = self.networks.first().is_some_and(|(_, config)| config.global_pool_conditions);
        let guesses = controls.first().is_some_and(|control| control.mode == ControlMode::Guess);
        Ok(Controls {
            shown,
            mode: if pools || guesses { ControlMode::Guess } else { ControlMode::Prompted },
        })
    }
}

#[derive(Debug)]
struct Shown {
    network: ControlNet,
    picture: Tensor<4>,
    control: Control,
}

/// Control networks with what they are shown.
#[derive(Debug)]
pub(crate) struct Controls {
    shown: Vec<Shown>,
    mode: ControlMode,
}

impl Controls {
    /// What is added in the U-Net for `sample`, whose rows are, where it is `guided`, those of the unconditional half and then those of the
    /// conditional one.
    pub(crate) fn residuals(
        &self,
        sample: &Tensor<4>,
        times: &Tensor<1>,
        states: &Tensor<3>,
        call: Call,
        is_guided: bool,
    ) -> Option<ControlResiduals> {
        let rows = sample.dims()[0];
        let half = self.mode == ControlMode::Guess && is_guided;
        // The conditional half is the second.
        let first = if half { rows / 2 } else { 0 };
        let sample = sample.clone().narrow(0, first, rows - first);
        let times = times.clone().narrow(0, first, rows - first);
        let conditions = Conditions::prompt(states.clone().narrow(0, first, rows - first));
        let sum = self
            .shown
            .iter()
            .map(|Shown { network, picture, control }| {
                let repeats = (rows - first) / picture.dims()[0];
                let shown = controlnet::Control {
                    picture: picture.clone().repeat_dim(0, repeats),
                    scale: control.scale_at(call),
                    mode: self.mode,
                };
                let residuals = network.forward(sample.clone(), times.clone(), &conditions, shown);
                each(residuals, |x| match control.mask_at([x.dims()[2], x.dims()[3]]) {
                    Some(mask) => x * mask,
                    None => x,
                })
            })
            .reduce(ControlResiduals::plus)?;
        Some(if half { each(sum, |x| Tensor::cat(vec![x.zeros_like(), x], 0)) } else { sum })
    }
}

fn each(residuals: ControlResiduals, change: impl Fn(Tensor<4>) -> Tensor<4>) -> ControlResiduals {
    ControlResiduals { down: residuals.down.into_iter().map(&change).collect(), mid: change(residuals.mid) }
}
