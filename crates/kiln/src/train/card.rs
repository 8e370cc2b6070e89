//! The model that the options and the data ask for.

use anyhow::{Result, bail};
use burn::tensor::Device;
use kiln::attention::QkNorm;
use kiln::denoisers::unet2d::{DownBlockType, UpBlockType};
use kiln::denoisers::{NcsnConfig, SD3Transformer2DConfig, UNet2DConfig};
use kiln::diffusion::{Prediction, PredictorCorrector, ProcessConfig, SolverConfig, annealing};
use kiln::training::data::Pictures;
use kiln::{MmDitConfig, ModelCard, NetworkConfig, SamplingDefaults};

use super::levels;
use crate::cli::{Network, Train};

/// Network, process, prediction and defaults, as the options and the data ask for.
pub(super) fn card(options: &Train, data: &Pictures, device: &Device) -> Result<ModelCard> {
    let classes = data.class_names().to_vec();
    let network = match options.model {
        Network::Unet => NetworkConfig::UNet2D(unet(options, data, classes.len())?),
        Network::Mmdit => NetworkConfig::MmDit(mmdit(options, data, classes.len())),
        Network::Ncsn | Network::Ncsnv2 => return score_network(options, data, device),
    };
    let process = ProcessConfig::named(options.process.as_deref().unwrap_or("flow"))?;
    let prediction = match process {
        ProcessConfig::RectifiedFlow {} => Prediction::Velocity,
        ProcessConfig::VarianceExploding { .. } | ProcessConfig::Edm { .. } => {
            Prediction::Edm { sigma_data: 0.5 }
        }
        ProcessConfig::Ddpm { .. }
        | ProcessConfig::VariancePreserving { .. }
        | ProcessConfig::SubVariancePreserving { .. } => Prediction::V,
    };
    let sampling = SamplingDefaults { solver: SolverConfig::dpmpp_2m(), steps: 20, guidance: 1.5 };
    Ok(ModelCard { network, process, prediction, size: [data.height(), data.width()], classes, sampling })
}

/// SMLD's networks know levels of noise, between which they make the process; and no classes.
fn score_network(options: &Train, data: &Pictures, device: &Device) -> Result<ModelCard> {
    if options.process.as_deref().is_some_and(|process| process != "ve") {
        bail!("--model ncsn and ncsnv2 are for --process ve alone, with levels of their own");
    }
    let config = NcsnConfig {
        channels: data.channels(),
        ngf: options.width as usize,
        rescaled: true,
        ..match options.model {
            Network::Ncsn => levels::of_ncsn(),
            _ => levels::of_ncsnv2(data, device),
        }
    };
    let process =
        ProcessConfig::VarianceExploding { sigma_min: config.sigma_end, sigma_max: config.sigma_begin };
    let langevin = match options.model {
        // As the paper drew: 100 steps at each of ten levels, of 0.2 sigma².
        Network::Ncsn => PredictorCorrector::annealed_langevin(100, 0.2),
        _ => {
            let (most, least) = (config.sigma_begin, config.sigma_end);
            let ratio = annealing::geometric_ratio(most, least, config.num_classes);
            PredictorCorrector::annealed_langevin(5, annealing::step(ratio, 5))
        }
    };
    let sampling = SamplingDefaults {
        solver: SolverConfig::PredictorCorrector(langevin),
        steps: config.num_classes.saturating_sub(1).max(1),
        guidance: 1.0,
    };
    Ok(ModelCard {
        network: NetworkConfig::Ncsn(config),
        process,
        prediction: Prediction::Score,
        size: [data.height(), data.width()],
        classes: Vec::new(),
        sampling,
    })
}

fn unet(options: &Train, data: &Pictures, classes: usize) -> Result<UNet2DConfig> {
    let levels = options.channels.len();
    let groups = |channels: &usize| {
        [32, 16, 8, 4, 2].into_iter().find(|g| channels.is_multiple_of(*g) && channels / g >= 4)
    };
    let Some(groups) = options.channels.iter().map(|c| groups(c).unwrap_or(1)).min() else {
        bail!("--channels names no level");
    };
    if options.channels.contains(&0) {
        bail!("--channels: a level needs at least one channel");
    }
    // Attention where the pictures are smallest, as the coarsest level and the middle see the whole of them.
    let down = |level: usize| match level + 1 == levels && levels > 1 {
        true => DownBlockType::AttnDownBlock2D,
        false => DownBlockType::DownBlock2D,
    };
    let up = |level: usize| match level == 0 && levels > 1 {
        true => UpBlockType::AttnUpBlock2D,
        false => UpBlockType::UpBlock2D,
    };
    Ok(UNet2DConfig {
        in_channels: data.channels(),
        out_channels: data.channels(),
        down_block_types: (0..levels).map(down).collect(),
        up_block_types: (0..levels).map(up).collect(),
        block_out_channels: options.channels.clone(),
        layers_per_block: options.layers as usize,
        norm_num_groups: Some(groups),
        attention_head_dim: Some(options.channels[levels - 1].min(32)),
        num_class_embeds: (classes > 0).then_some(classes + 1),
        ..UNet2DConfig::default()
    })
}

/// MM-DiT at the size of the data, one row of positions a patch.
fn mmdit(options: &Train, data: &Pictures, classes: usize) -> MmDitConfig {
    /// Channels of an attention head.
    const HEAD: usize = 32;
    let (heads, patch) = (options.heads as usize, options.patch as usize);
    let side = data.height().max(data.width());
    let transformer = SD3Transformer2DConfig {
        sample_size: side,
        patch_size: patch,
        in_channels: data.channels(),
        num_layers: options.depth as usize,
        attention_head_dim: HEAD,
        num_attention_heads: heads,
        joint_attention_dim: heads * HEAD,
        caption_projection_dim: heads * HEAD,
        pooled_projection_dim: heads * HEAD,
        out_channels: Some(data.channels()),
        pos_embed_max_size: Some(side.div_ceil(patch)),
        dual_attention_layers: Vec::new(),
        qk_norm: options.qk_norm.then_some(QkNorm::RmsNorm),
    };
    MmDitConfig { transformer, classes: classes + 1 }
}
