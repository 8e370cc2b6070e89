//! `kiln train`: a network learns to draw.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{Int, Tensor, TensorData};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::attention::QkNorm;
use kiln::backend::noise::{NoiseKey, uniform_values};
use kiln::checkpoint::StoredDType;
use kiln::denoisers::unet2d::{DownBlockType, UpBlockType};
use kiln::denoisers::{SD3Transformer2DConfig, UNet2DConfig, seeded};
use kiln::diffusion::{Objective, Prediction, Process, ProcessConfig, SolverConfig, TimeSampling};
use kiln::picture::{Channels, grid};
use kiln::training::data::{FolderOptions, OpenOptions, Pictures};
use kiln::training::{
    BoxError, Observer, Outcome, Schedule, StepContext, StepReport, Trainer, TrainerConfig,
};
use kiln::{DrawOptions, Drawing, MmDitConfig, ModelCard, NetworkConfig, PictureModel, SamplingDefaults};
use serde_json::json;

use crate::cli::{Network, Train};
use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;

/// The finished model in a run's folder.
pub const MODEL_FILE: &str = "model.safetensors";

pub fn run(options: &Train) -> Result<()> {
    let data = open_data(options)?;
    let device = kiln::backend::open(options.backend.name.as_deref())?;
    let card = card(options, &data)?;
    card.check()?;
    let process = card.process.build()?;
    let objective = objective(options, &card);
    objective.check(process.as_ref())?;

    let run = Run { options, data, card, process, objective };
    match &run.card.network {
        NetworkConfig::UNet2D(config) => run.learn(config.init(&device)?),
        NetworkConfig::MmDit(config) => run.learn(config.init(&device)?),
    }
}

/// What is learnt from what.
struct Run<'a> {
    options: &'a Train,
    data: Pictures,
    card: ModelCard,
    process: Box<dyn Process>,
    objective: Objective,
}

impl Run<'_> {
    fn learn<M: Drawing>(&self, network: M) -> Result<()> {
        let Self { options, data, card, process, objective } = self;
        let config = trainer_config(options, card, objective, data);
        let network = seeded(network, options.seed);
        let parameters = network.num_params();
        let mut trainer = match options.resume {
            true => Trainer::resume(config, network, &options.out)?,
            false => Trainer::new(config, network, &options.out)?,
        };
        eprintln!(
            "{} pictures of {} x {}, {} classes; a network of {parameters} parameters; from step {} to {}",
            data.len(),
            data.height(),
            data.width(),
            card.classes.len(),
            trainer.step(),
            options.steps
        );
        set_on_interrupt(trainer.stop_flag())?;
        let mut logits = LogitLog::open(&options.out, trainer.step())?;
        let loss = |network: &M, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
            let batch = data.batch(&context.indices(data.len()));
            let labels = self.shown(batch.labels, context);
            let pictures = TensorData::new(batch.pixels, batch.shape);
            let pictures = Tensor::<4>::from_data(pictures, context.device);
            let pair = objective.pair(process.as_ref(), pictures, context.noise_key(0));
            if LogitLog::is_due(context.step)
                && let Some(largest) =
                    network.largest_logits(pair.input.clone(), pair.network_times.clone(), labels.clone())
            {
                logits.write(context.step, largest)?;
            }
            let output = network.predict(pair.input.clone(), pair.network_times.clone(), labels);
            Ok(pair.loss(output))
        };
        let mut report = Report::new(card, &options.out)?;
        report.bar.set_position(trainer.step() as u64);
        report.bar.set_length(options.steps as u64);
        let outcome = trainer.run(loss, &mut report)?;
        report.bar.finish();
        match outcome {
            Outcome::Finished { .. } => print(options.out.join(MODEL_FILE).display()),
            Outcome::Stopped { step } => {
                let again = "go on with the same command and --resume";
                bail!(Interrupted(format!("; the checkpoint of step {step} is written: {again}")))
            }
        }
    }

    /// The classes as the network is told them: without its class now and then, so that it also learns what guidance leads
    /// away from.
    fn shown(&self, labels: Option<Vec<u32>>, context: &StepContext<'_>) -> Option<Tensor<1, Int>> {
        if !self.card.is_labelled() {
            return None;
        }
        let no_class = self.card.no_class() as i64;
        let labels = labels.map_or_else(
            || vec![no_class; context.batch_size],
            |labels| labels.into_iter().map(i64::from).collect(),
        );
        let shown = labels.into_iter().zip(0..).map(|(label, row)| {
            let key = context.noise_key(1);
            let key = NoiseKey { sample: key.sample + row, ..key };
            let hidden = f64::from(uniform_values(1, key)[0]) < self.options.unlabelled;
            if hidden { no_class } else { label }
        });
        let shown: Vec<i64> = shown.collect();
        Some(Tensor::from_data(TensorData::new(shown.clone(), [shown.len()]), context.device))
    }
}

fn open_data(options: &Train) -> Result<Pictures> {
    let channels = if options.grey { Channels::Grey } else { Channels::Rgb };
    let folder = FolderOptions { size: options.size, channels, ..FolderOptions::default() };
    let data = Pictures::open(&options.data, &OpenOptions { folder, ..OpenOptions::default() })?;
    if data.is_empty() {
        bail!("{} holds no pictures", options.data.display());
    }
    Ok(data)
}

/// The model that the options and the data ask for.
fn card(options: &Train, data: &Pictures) -> Result<ModelCard> {
    let classes = data.class_names().to_vec();
    let network = match options.model {
        Network::Unet => NetworkConfig::UNet2D(unet(options, data, classes.len())?),
        Network::Mmdit => NetworkConfig::MmDit(mmdit(options, data, classes.len())),
    };
    let process = ProcessConfig::named(&options.process)?;
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

fn objective(options: &Train, card: &ModelCard) -> Objective {
    if let Some(times) = options.time {
        return Objective { times: times.into(), ..Objective::new(card.prediction) };
    }
    let times = match card.process {
        // Evenly over the noise levels, next to none would be as low as those at which a picture is decided.
        ProcessConfig::Edm { .. } => TimeSampling::LogNormal { mean: -1.2, std: 1.2 },
        // The middle of a straight path is where its direction is hardest to tell.
        ProcessConfig::RectifiedFlow {} => TimeSampling::LogitNormal { mean: 0.0, std: 1.0 },
        _ => TimeSampling::Uniform,
    };
    Objective { times, ..Objective::new(card.prediction) }
}

fn trainer_config(
    options: &Train,
    card: &ModelCard,
    objective: &Objective,
    data: &Pictures,
) -> TrainerConfig {
    TrainerConfig {
        steps: options.steps,
        batch_size: options.batch_size,
        learning_rate: options.learning_rate,
        warmup_steps: options.warmup,
        schedule: Schedule::Cosine { floor: 0.01, horizon: None },
        weight_decay: options.weight_decay,
        clip_norm: Some(options.clip_norm),
        ema_decay: options.ema_decay,
        seed: options.seed,
        checkpoint_every: options.checkpoint_every,
        sample_every: Some(options.sample_every),
        log_every: 1,
        task: json!({
            "model": card,
            "objective": objective,
            "unlabelled": options.unlabelled.to_string(),
            "pictures": data.len(),
        }),
    }
}

/// How large attention's logits are in the course of a run, block by block: `logits.csv`.
struct LogitLog {
    path: PathBuf,
    rows: Vec<String>,
}

impl LogitLog {
    /// Steps between rows: each costs a forward pass.
    const EVERY: usize = 50;

    fn is_due(step: usize) -> bool {
        step.is_multiple_of(Self::EVERY)
    }

    /// The log of a run that has made so many steps; rows of later ones are made again.
    fn open(folder: &Path, steps: usize) -> Result<Self> {
        let path = folder.join("logits.csv");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
        };
        let made = |row: &&str| {
            row.split(',').next().and_then(|i| i.parse::<usize>().ok()).is_some_and(|i| i < steps)
        };
        Ok(Self { rows: text.lines().filter(made).map(str::to_owned).collect(), path })
    }

    fn write(&mut self, step: usize, largest: Tensor<1>) -> Result<(), BoxError> {
        let values: Vec<f32> = largest.into_data().iter().collect();
        let values: Vec<String> = values.iter().map(f32::to_string).collect();
        self.rows.push(format!("{step},{}", values.join(",")));
        let head: Vec<String> = (0..values.len()).map(|block| format!("block{block}")).collect();
        let text = format!("step,{}\n{}\n", head.join(","), self.rows.join("\n"));
        Ok(std::fs::write(&self.path, text)?)
    }
}

/// Shows and keeps what a run does.
struct Report {
    card: ModelCard,
    folder: PathBuf,
    bar: ProgressBar,
    loss: Option<f32>,
}

impl Report {
    fn new(card: &ModelCard, folder: &Path) -> Result<Self> {
        let samples = folder.join("samples");
        std::fs::create_dir_all(&samples)
            .with_context(|| format!("the folder {} can't be made", samples.display()))?;
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
            .context("the progress bar's template")?;
        Ok(Self {
            card: card.clone(),
            folder: folder.to_owned(),
            bar: ProgressBar::new(0).with_style(style),
            loss: None,
        })
    }

    fn model<M: Drawing>(&self, network: &M) -> Result<PictureModel, BoxError> {
        let device = network.devices().into_iter().next().ok_or("the network has no parameters")?;
        Ok(PictureModel::new(self.card.clone(), network.clone().into_network(), &device)?)
    }
}

impl<M: Drawing> Observer<M> for Report {
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let smooth = self.loss.map_or(report.loss, |loss| 0.98 * loss + 0.02 * report.loss);
        self.loss = Some(smooth);
        self.bar.set_position(report.step as u64);
        let left = indicatif::HumanDuration(report.eta);
        self.bar.set_message(format!(
            "loss {smooth:.4}, {:.0} pictures/s, {left} left",
            report.samples_per_second
        ));
        // Where no bar can be drawn, a line now and then.
        if self.bar.is_hidden() && (report.step.is_multiple_of(100) || report.step == report.steps) {
            eprintln!(
                "step {}/{}: loss {smooth:.4}, {:.0} pictures/s, {left} left",
                report.step, report.steps, report.samples_per_second
            );
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, _: &Path, averaged: &M) -> Result<(), BoxError> {
        self.model(averaged)?.save(self.folder.join(MODEL_FILE), StoredDType::F16)?;
        Ok(())
    }

    fn on_sample(&mut self, step: usize, averaged: &M) -> Result<(), BoxError> {
        let classes = self.card.classes.len();
        let (rows, columns) = if classes == 0 { (4, 4) } else { (2, classes.min(16)) };
        let wanted: Vec<_> = (0..rows * columns).map(|i| (classes > 0).then(|| i % columns)).collect();
        let pictures = self.model(averaged)?.draw(&wanted, &DrawOptions::default(), |_| Ok(()))?;
        let path = self.folder.join("samples").join(format!("step-{step:08}.png"));
        grid(&pictures, columns, 2)?.write_png(path)?;
        Ok(())
    }
}
