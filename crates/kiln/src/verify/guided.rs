//! `GuidedUNet`, OpenAI's U-Net under its own names: `sample`, `timestep`, `class_labels` to `sample`. With `sigma` in place of
//! `timestep` it is a consistency model, preconditioned as EDM has it: to `denoised`, which a request may ask to be clipped to
//! -1..1 (`clip_denoised`).

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use kiln::checkpoint::StoredModel;
use kiln::denoisers::guided::OutputRange;
use kiln::denoisers::unet2d::ClassCondition;
use kiln::denoisers::{ConsistencyConfig, GuidedUNet, GuidedUNetConfig};

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;

pub const GUIDED_UNET: Case = Case {
    class: "GuidedUNet",
    check: |config| GuidedUNetConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("sample") && (inputs.contains("timestep") || inputs.contains("sigma")),
    run,
};

fn run(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = GuidedUNetConfig::from_json(&model.config)?;
    let sample = call.need("sample", [Any("batch"), Is(config.in_channels), Any("height"), Any("width")])?;
    let [batch, _, height, width] = sample.dims();
    let halvings = config.channel_mult.len() - 1;
    if ![height, width].iter().all(|side| side.is_multiple_of(1 << halvings.min(32))) {
        bail!("input.sample: {height} x {width} can't be halved {halvings} times, as the network does");
    }
    let label = label(&config, call, batch)?;
    let timesteps = call.times("timestep", batch)?;
    let sigma = call.times("sigma", batch)?;
    let range = match call.option::<bool>("clip_denoised")? {
        Some(true) => OutputRange::Clamped,
        Some(false) | None => OutputRange::Free,
    };
    call.understood()?;
    let load = || -> Result<GuidedUNet> { Ok(model.load(call.device())?) };
    let mut outputs = Outputs::default();
    match (timesteps, sigma) {
        (Some(timesteps), None) => {
            outputs.push("sample", clipped(load()?.forward(sample, timesteps, label), range));
        }
        (None, Some(sigma)) => {
            let sigma: Vec<f64> = sigma.into_data().iter().collect();
            if let Some(level) = sigma.iter().find(|level| !(level.is_finite() && **level > 0.0)) {
                bail!("input.sigma holds {level}; a level of noise is above 0");
            }
            let network = ConsistencyConfig::from_json(&model.config)?.wrap(load()?)?;
            if config.in_channels != config.out_channels {
                bail!(
                    "input.sigma asks for a denoised sample, and the network predicts other channels than it takes"
                );
            }
            outputs.push("denoised", network.denoise(sample, &sigma, label, range));
        }
        (Some(_), Some(_)) => bail!("input.timestep and input.sigma exclude each other"),
        (None, None) => bail!("{}, and so is input.sigma", call.missing("timestep")),
    }
    Ok(outputs)
}

fn clipped(sample: Tensor<4>, range: OutputRange) -> Tensor<4> {
    match range {
        OutputRange::Free => sample,
        OutputRange::Clamped => sample.clamp(-1.0, 1.0),
    }
}

fn label(config: &GuidedUNetConfig, call: &Call<'_>, batch: usize) -> Result<Option<ClassCondition>> {
    const NAME: &str = "class_labels";
    let label = match (config.num_classes, config.label_channels) {
        (Some(rows), _) => call.integers(NAME, [Is(batch)], rows)?.map(ClassCondition::Labels),
        // One number a sample, as [batch] or [batch, 1].
        (None, Some(1)) if call.shape(NAME).is_some_and(|shape| shape.len() < 2) => {
            call.times(NAME, batch)?.map(ClassCondition::Numbers)
        }
        (None, Some(channels)) => call.floats(NAME, [Is(batch), Is(channels)])?.map(ClassCondition::Vectors),
        (None, None) => return Ok(None),
    };
    label.with_context(|| call.missing(NAME)).map(Some)
}
