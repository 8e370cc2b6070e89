//! `AutoencoderKL`: `image` to `latent_mean` and `latent_logvar`; `latent`, as it is, to `image`.

use anyhow::{Result, bail};
use kiln::autoencoder::{AutoencoderKL, AutoencoderKLConfig};
use kiln::checkpoint::StoredModel;

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;

pub const AUTOENCODER_KL: Case = Case {
    class: "AutoencoderKL",
    check: |config| AutoencoderKLConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("image") || inputs.contains("latent"),
    run,
};

fn run(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = AutoencoderKLConfig::from_json(&model.config)?;
    let image = call.floats("image", [Any("batch"), Is(config.in_channels), Any("height"), Any("width")])?;
    let latent =
        call.floats("latent", [Any("batch"), Is(config.latent_channels), Any("height"), Any("width")])?;
    call.understood()?;
    let reduction = config.reduction();
    match &image {
        None if latent.is_none() => bail!("{}, and so is input.latent", call.missing("image")),
        Some(image) if image.dims()[2..].iter().any(|&side| side < reduction) => {
            bail!("input.image has shape {:?}; a side has at least {reduction} pixels", image.dims())
        }
        _ => {}
    }
    let network: AutoencoderKL = model.load(call.device())?;
    let mut outputs = Outputs::default();
    if let Some(image) = image {
        let posterior = network.encode(image);
        outputs.push("latent_mean", posterior.mean);
        outputs.push("latent_logvar", posterior.log_variance);
    }
    if let Some(latent) = latent {
        outputs.push("image", network.decode(latent));
    }
    Ok(outputs)
}
