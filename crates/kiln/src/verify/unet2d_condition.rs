//! `UNet2DConditionModel`: `sample`, `timestep`, `encoder_hidden_states` and the other conditions to `sample`; residuals of a
//! control network enter as `down_block_additional_residuals.<i>` and `mid_block_additional_residual`.

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use kiln::checkpoint::StoredModel;
use kiln::denoisers::unet2d_condition::{
    AdditionEmbedType, ClassCondition, ClassEmbedType, Conditions, ControlResiduals, DownBlockType,
    EncoderConfig, EncoderHidDimType, MidBlockType, OneOrEach,
};
use kiln::denoisers::{UNet2DCondition, UNet2DConditionConfig};

use super::Case;
use super::call::{
    Call,
    Side::{self, Any, Is},
};
use super::compare::Outputs;

pub const UNET_2D_CONDITION: Case = Case {
    class: "UNet2DConditionModel",
    check: |config| UNet2DConditionConfig::from_json(config).map(drop),
    fits: |inputs| {
        let has = |name| inputs.contains(name);
        has("sample") && has("timestep") && has("encoder_hidden_states") && !has("controlnet_cond")
    },
    run,
};

fn run(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = UNet2DConditionConfig::from_json(&model.config)?;
    let (sample, timesteps, conditions) = inputs(&config.encoder, call)?;
    let residuals = residuals(call)?;
    call.understood()?;
    let network: UNet2DCondition = model.load(call.device())?;
    let mut outputs = Outputs::default();
    outputs.push("sample", network.forward(sample, timesteps, &conditions, residuals));
    Ok(outputs)
}

/// What a U-Net and a control network are given alike.
pub fn inputs(config: &EncoderConfig, call: &Call<'_>) -> Result<(Tensor<4>, Tensor<1>, Conditions)> {
    let sample = call.need("sample", [Any("batch"), Is(config.in_channels), Any("height"), Any("width")])?;
    let batch = Is(sample.dims()[0]);
    let timesteps = call.times("timestep", sample.dims()[0])?.with_context(|| call.missing("timestep"))?;
    // What the network goes without is left for `understood` to name.
    let states = call.floats("encoder_hidden_states", [batch, Any("tokens"), context_width(config)])?;
    if states.is_none() && needs_states(config) {
        bail!(call.missing("encoder_hidden_states"));
    }
    let tokens = states.as_ref().map_or(Any("tokens"), |states| Is(states.dims()[1]));
    let conditions = Conditions {
        encoder_hidden_states: states,
        encoder_attention_mask: call.mask("encoder_attention_mask", [batch, tokens])?,
        class_labels: class(config, call, sample.dims()[0])?,
        timestep_cond: match config.time_cond_proj_dim {
            Some(width) => call.floats("timestep_cond", [batch, Is(width)])?,
            None => None,
        },
        ..additions(config, call, batch)?
    };
    Ok((sample, timesteps, conditions))
}

/// Whether some layer looks at the prompt's states.
fn needs_states(config: &EncoderConfig) -> bool {
    use DownBlockType::{CrossAttnDownBlock2D, SimpleCrossAttnDownBlock2D};
    use MidBlockType::{UNetMidBlock2DCrossAttn, UNetMidBlock2DSimpleCrossAttn};
    let down = [CrossAttnDownBlock2D, SimpleCrossAttnDownBlock2D];
    let middle = [UNetMidBlock2DCrossAttn, UNetMidBlock2DSimpleCrossAttn];
    // There an image embedding takes their place.
    config.encoder_hid_dim_type != Some(EncoderHidDimType::ImageProj)
        && (config.down_block_types.iter().any(|stage| down.contains(stage))
            || config.mid_block_type.is_some_and(|stage| middle.contains(&stage)))
}

/// The width of the prompt's states, as they are given.
fn context_width(config: &EncoderConfig) -> Side {
    match (&config.cross_attention_dim, config.encoder_hid_dim) {
        (_, Some(width)) if config.encoder_hid_dim_type != Some(EncoderHidDimType::ImageProj) => Is(width),
        (OneOrEach::One(width), _) => Is(*width),
        (OneOrEach::Each(_), _) => Any("channels"),
    }
}

fn class(config: &EncoderConfig, call: &Call<'_>, batch: usize) -> Result<Option<ClassCondition>> {
    const NAME: &str = "class_labels";
    let condition = match (config.class_embed_type, config.num_class_embeds) {
        (Some(ClassEmbedType::Timestep), _) => call.times(NAME, batch)?.map(ClassCondition::Numbers),
        (Some(ClassEmbedType::Identity), _) => {
            let channels = config.time_embedding_dim.unwrap_or(4 * config.block_out_channels[0]);
            call.floats(NAME, [Is(batch), Is(channels)])?.map(ClassCondition::Vectors)
        }
        (Some(ClassEmbedType::Projection | ClassEmbedType::SimpleProjection), _) => {
            let width = config.projection_class_embeddings_input_dim.map_or(Any("channels"), Is);
            call.floats(NAME, [Is(batch), width])?.map(ClassCondition::Vectors)
        }
        (None, Some(rows)) => call.integers(NAME, [Is(batch)], rows)?.map(ClassCondition::Labels),
        (None, None) => return Ok(None),
    };
    condition.with_context(|| call.missing(NAME)).map(Some)
}

/// What diffusers calls `added_cond_kwargs`.
fn additions(config: &EncoderConfig, call: &Call<'_>, batch: Side) -> Result<Conditions> {
    let width = Any("channels");
    let text = || call.floats("added_cond_kwargs.text_embeds", [batch, width]);
    let image = || call.floats("added_cond_kwargs.image_embeds", [batch, width]);
    let mut added = match config.addition_embed_type {
        None | Some(AdditionEmbedType::Text) => Conditions::default(),
        Some(AdditionEmbedType::TextTime) => Conditions {
            text_embeds: text()?,
            time_ids: call.numbers_exactly("added_cond_kwargs.time_ids", [batch, Any("numbers")])?,
            ..Conditions::default()
        },
        Some(AdditionEmbedType::Image) => Conditions { image_embeds: image()?, ..Conditions::default() },
        Some(AdditionEmbedType::TextImage) => {
            Conditions { text_embeds: text()?, image_embeds: image()?, ..Conditions::default() }
        }
    };
    if let (Some(EncoderHidDimType::ImageProj | EncoderHidDimType::TextImageProj), None) =
        (config.encoder_hid_dim_type, &added.image_embeds)
    {
        added.image_embeds = image()?;
    }
    if let (Some(expected), Some(text), Some(ids)) =
        (config.projection_class_embeddings_input_dim, &added.text_embeds, &added.time_ids)
    {
        let found = text.dims()[1] + ids.dims()[1] * config.addition_time_embed_dim.unwrap_or(0);
        if found != expected {
            bail!(
                "input.added_cond_kwargs: text_embeds {:?} and time_ids {:?} make {found} channels, and the network takes {expected}",
                text.dims(),
                ids.dims()
            );
        }
    }
    Ok(added)
}

fn residuals(call: &Call<'_>) -> Result<Option<ControlResiduals>> {
    const DOWN: &str = "down_block_additional_residuals";
    let any = || [Any("batch"), Any("channels"), Any("height"), Any("width")];
    let down: Vec<_> = (0..call.count(DOWN))
        .map(|index| call.need(&format!("{DOWN}.{index}"), any()))
        .collect::<Result<_>>()?;
    match (call.floats("mid_block_additional_residual", any())?, down.is_empty()) {
        (None, true) => Ok(None),
        (Some(mid), false) => Ok(Some(ControlResiduals { down, mid })),
        _ => bail!(
            "input.{DOWN}.<i> and input.mid_block_additional_residual belong together, and one is missing"
        ),
    }
}
