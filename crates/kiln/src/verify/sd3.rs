//! `SD3Transformer2DModel`: `hidden_states`, `timestep`, `encoder_hidden_states`, `pooled_projections` to `sample`; residuals
//! enter as `block_controlnet_hidden_states.<i>`. `SD3ControlNetModel`: the same with `controlnet_cond` and
//! `conditioning_scale`, to `controlnet_block_samples.<i>`.

use anyhow::{Context, Result, bail};
use kiln::checkpoint::StoredModel;
use kiln::conditioning::sd3::ControlledSample;
use kiln::conditioning::{SD3ControlNet, SD3ControlNetConfig};
use kiln::denoisers::{SD3Extras, SD3Transformer2D, SD3Transformer2DConfig};

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;

pub const SD3_TRANSFORMER: Case = Case {
    class: "SD3Transformer2DModel",
    check: |config| SD3Transformer2DConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("hidden_states") && !inputs.contains("controlnet_cond"),
    run: transformer,
};

pub const SD3_CONTROLNET: Case = Case {
    class: "SD3ControlNetModel",
    check: |config| SD3ControlNetConfig::from_json(config).map(drop),
    fits: |inputs| inputs.contains("hidden_states") && inputs.contains("controlnet_cond"),
    run: controlnet,
};

fn transformer(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    const CONTROLS: &str = "block_controlnet_hidden_states";
    let config = SD3Transformer2DConfig::from_json(&model.config)?;
    let sample =
        call.need("hidden_states", [Any("batch"), Is(config.in_channels), Any("height"), Any("width")])?;
    let [batch, _, height, width] = sample.dims();
    check_sides(height, width, config.patch_size, config.pos_embed_max_size)?;
    let tokens = (height / config.patch_size) * (width / config.patch_size);
    let timesteps = call.times("timestep", batch)?.with_context(|| call.missing("timestep"))?;
    let states =
        call.need("encoder_hidden_states", [Is(batch), Any("tokens"), Is(config.joint_attention_dim)])?;
    let pooled = call.need("pooled_projections", [Is(batch), Is(config.pooled_projection_dim)])?;
    let controls = (0..call.count(CONTROLS))
        .map(|index| {
            let shape = [Is(batch), Is(tokens), Is(config.channels())];
            call.need(&format!("{CONTROLS}.{index}"), shape)
        })
        .collect::<Result<Vec<_>>>()?;
    if controls.len() > config.num_layers {
        bail!("input.{CONTROLS}: {} for {} blocks", controls.len(), config.num_layers);
    }
    let extras = SD3Extras { controls, skip_layers: call.option("skip_layers")?.unwrap_or_default() };
    call.understood()?;
    let network: SD3Transformer2D = model.load(call.device())?;
    let mut outputs = Outputs::default();
    outputs.push("sample", network.forward_with(sample, timesteps, states, pooled, &extras));
    Ok(outputs)
}

fn controlnet(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = SD3ControlNetConfig::from_json(&model.config)?;
    let condition_channels = config.in_channels + config.extra_conditioning_channels;
    let shape = [Any("batch"), Is(condition_channels), Any("height"), Any("width")];
    let condition = call.need("controlnet_cond", shape)?;
    let [batch, _, height, width] = condition.dims();
    check_sides(height, width, config.patch_size, config.pos_embed_max_size)?;
    let sample = if config.use_pos_embed {
        let shape = [Is(batch), Is(config.in_channels), Is(height), Is(width)];
        ControlledSample::Latent(call.need("hidden_states", shape)?)
    } else {
        let tokens = (height / config.patch_size) * (width / config.patch_size);
        ControlledSample::Tokens(call.need("hidden_states", [Is(batch), Is(tokens), Is(config.channels())])?)
    };
    let timesteps = call.times("timestep", batch)?.with_context(|| call.missing("timestep"))?;
    let states = match config.joint_attention_dim {
        Some(channels) => Some(call.need("encoder_hidden_states", [Is(batch), Any("tokens"), Is(channels)])?),
        None => None,
    };
    let pooled = call.need("pooled_projections", [Is(batch), Is(config.pooled_projection_dim)])?;
    let scale = call.number("conditioning_scale")?.unwrap_or(1.0);
    call.understood()?;
    let network: SD3ControlNet = model.load(call.device())?;
    let residuals = network.forward(sample, condition, timesteps, states, pooled, scale);
    let mut outputs = Outputs::default();
    for (index, residual) in residuals.into_iter().enumerate() {
        outputs.push(format!("controlnet_block_samples.{index}"), residual);
    }
    Ok(outputs)
}

fn check_sides(height: usize, width: usize, patch: usize, largest: Option<usize>) -> Result<()> {
    let whole = height.is_multiple_of(patch) && width.is_multiple_of(patch);
    let within = largest.is_none_or(|largest| height.max(width) / patch <= largest);
    if !(whole && within) {
        let table = largest.map(|side| format!(", at most {side} along a side")).unwrap_or_default();
        bail!("a latent of {height} x {width} can't be cut into patches of {patch} x {patch}{table}");
    }
    Ok(())
}
