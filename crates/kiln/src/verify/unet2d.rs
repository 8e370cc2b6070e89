//! `UNet2DModel`: `sample`, `timestep`, `class_labels` to `sample`. A request that names `train_steps` trains it first.

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use kiln::checkpoint::StoredModel;
use kiln::denoisers::unet2d::{ClassCondition, ClassEmbedType, TimeEmbeddingType};
use kiln::denoisers::{UNet2D, UNet2DConfig};

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;
use super::train::Training;

pub const UNET_2D: Case = Case {
    class: "UNet2DModel",
    check: |config| UNet2DConfig::from_json(config).map(drop),
    fits: |inputs| {
        let has = |name| inputs.contains(name);
        has("sample") && has("timestep") && !has("encoder_hidden_states") && !has("sigma")
    },
    run,
};

fn run(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = UNet2DConfig::from_json(&model.config)?;
    let sample = call.need("sample", [Any("batch"), Is(config.in_channels), Any("height"), Any("width")])?;
    let [batch, _, height, width] = sample.dims();
    let halvings = config.block_out_channels.len() - 1;
    if ![height, width].iter().all(|side| side.is_multiple_of(1 << halvings.min(32))) {
        bail!("input.sample: {height} x {width} can't be halved {halvings} times, as the network does");
    }
    let timesteps = times(&config, call, batch)?;
    let condition = class(&config, call, batch)?;
    let training = Training::take(&config, call)?;
    call.understood()?;

    let mut outputs = Outputs::default();
    let network = match training {
        Some(training) => {
            let (network, losses) = training.run(Training::load(model, call.device())?);
            outputs.push_data("losses", losses);
            network
        }
        None => model.load::<UNet2D>(call.device())?,
    };
    outputs.push("sample", network.forward_with(sample, timesteps, condition));
    Ok(outputs)
}

fn times(config: &UNet2DConfig, call: &Call<'_>, batch: usize) -> Result<Tensor<1>> {
    let times = call.times("timestep", batch)?.with_context(|| call.missing("timestep"))?;
    if let (TimeEmbeddingType::Learned, Some(rows)) = (config.time_embedding_type, config.num_train_timesteps)
    {
        let mut numbers = times.to_data().iter::<f32>().collect::<Vec<_>>().into_iter();
        if let Some(time) = numbers.find(|time| time.fract() != 0.0 || *time < 0.0 || *time >= rows as f32) {
            bail!("input.timestep holds {time}, and the network's table has rows 0 to {}", rows - 1);
        }
    }
    Ok(times)
}

fn class(config: &UNet2DConfig, call: &Call<'_>, batch: usize) -> Result<Option<ClassCondition>> {
    const NAME: &str = "class_labels";
    let condition = match (config.class_embed_type, config.num_class_embeds) {
        (Some(ClassEmbedType::Timestep), _) => call.times(NAME, batch)?.map(ClassCondition::Numbers),
        (Some(ClassEmbedType::Identity), _) => {
            let channels = config.time_embedding_dim.unwrap_or(4 * config.block_out_channels[0]);
            call.floats(NAME, [Is(batch), Is(channels)])?.map(ClassCondition::Vectors)
        }
        (None, Some(rows)) => call.integers(NAME, [Is(batch)], rows)?.map(ClassCondition::Labels),
        (None, None) => return Ok(None),
    };
    condition.with_context(|| call.missing(NAME)).map(Some)
}
