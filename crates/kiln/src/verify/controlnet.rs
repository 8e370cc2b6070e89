//! `ControlNetModel`: what a U-Net is given, with `controlnet_cond`, `conditioning_scale` and `guess_mode`, to
//! `down_block_res_samples.<i>` and `mid_block_res_sample`.

use anyhow::{Result, bail};
use kiln::checkpoint::StoredModel;
use kiln::conditioning::{Control, ControlMode, ControlNet, ControlNetConfig};

use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;
use super::{Case, unet2d_condition};

pub const CONTROLNET: Case = Case {
    class: "ControlNetModel",
    check: |config| ControlNetConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("controlnet_cond") && inputs.contains("sample"),
    run,
};

fn run(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = ControlNetConfig::from_json(&model.config)?;
    let (sample, timesteps, conditions) = unet2d_condition::inputs(&config.encoder, call)?;
    let [batch, _, height, width] = sample.dims();
    let shape = [Is(batch), Is(config.conditioning_channels), Any("height"), Any("width")];
    let picture = call.need("controlnet_cond", shape)?;
    let [_, _, shown_height, shown_width] = picture.dims();
    let halvings = config.conditioning_embedding_out_channels.len() - 1;
    let becomes = |side: usize| (0..halvings).fold(side, |side, _| side.div_ceil(2));
    if [shown_height, shown_width].map(becomes) != [height, width] {
        bail!(
            "input.controlnet_cond: {shown_height} x {shown_width}, halved {halvings} times, is not the sample's {height} x {width}"
        );
    }
    let control = Control {
        picture,
        scale: call.number("conditioning_scale")?.unwrap_or(1.0),
        mode: if call.flag("guess_mode")? { ControlMode::Guess } else { ControlMode::Prompted },
    };
    call.understood()?;
    let network: ControlNet = model.load(call.device())?;
    let residuals = network.forward(sample, timesteps, &conditions, control);
    let mut outputs = Outputs::default();
    for (index, residual) in residuals.down.into_iter().enumerate() {
        outputs.push(format!("down_block_res_samples.{index}"), residual);
    }
    outputs.push("mid_block_res_sample", residuals.mid);
    Ok(outputs)
}
