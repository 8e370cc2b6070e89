//! `kiln train`: a U-Net learns to draw.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::backend::noise::{NoiseKey, uniform_values};
use kiln::checkpoint::StoredDType;
use kiln::denoisers::unet2d::{DownBlockType, UpBlockType};
use kiln::denoisers::{UNet2D, UNet2DConfig, seeded};
use kiln::diffusion::{Objective, Prediction, ProcessConfig, SolverConfig, TimeSampling};
use kiln::picture::{Channels, grid};
use kiln::training::data::{FolderOptions, OpenOptions, Pictures};
use kiln::training::{
    BoxError, Observer, Outcome, Schedule, StepContext, StepReport, Trainer, TrainerConfig,
};
use kiln::{DrawOptions, ModelCard, PictureModel, SamplingDefaults};
use serde_json::json;

use crate::cli::Train;
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
    let objective = objective(&card);
    objective.check(process.as_ref())?;

    let config = trainer_config(options, &card, &objective, &data);
    let network = seeded(card.unet2d.init(&device)?, options.seed);
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

    let no_class = card.no_class() as i64;
    let loss = |network: &UNet2D, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
        let batch = data.batch(&context.indices(data.len()));
        let pictures = Tensor::<4>::from_data(TensorData::new(batch.pixels, batch.shape), context.device);
        let labels = batch.labels.map(|labels| {
            let shown = labels.iter().zip(0..).map(|(&label, row)| {
                let key = context.noise_key(1);
                let key = NoiseKey { sample: key.sample + row, ..key };
                // Without its class now and then, so that the network also learns what guidance leads away from.
                let hidden = f64::from(uniform_values(1, key)[0]) < options.unlabelled;
                if hidden { no_class } else { i64::from(label) }
            });
            let shown: Vec<i64> = shown.collect();
            Tensor::<1, Int>::from_data(TensorData::new(shown.clone(), [shown.len()]), context.device)
        });
        let pair = objective.pair(process.as_ref(), pictures, context.noise_key(0));
        let output = network.forward(pair.input.clone(), pair.network_times.clone(), labels);
        Ok(pair.loss(output))
    };
    let mut report = Report::new(&card, &options.out)?;
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
    let levels = options.channels.len();
    let classes = data.class_names().to_vec();
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
    let unet2d = UNet2DConfig {
        in_channels: data.channels(),
        out_channels: data.channels(),
        down_block_types: (0..levels).map(down).collect(),
        up_block_types: (0..levels).map(up).collect(),
        block_out_channels: options.channels.clone(),
        layers_per_block: options.layers as usize,
        norm_num_groups: Some(groups),
        attention_head_dim: Some(options.channels[levels - 1].min(32)),
        num_class_embeds: (!classes.is_empty()).then_some(classes.len() + 1),
        ..UNet2DConfig::default()
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
    Ok(ModelCard { unet2d, process, prediction, size: [data.height(), data.width()], classes, sampling })
}

fn objective(card: &ModelCard) -> Objective {
    let times = match card.process {
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

    fn model(&self, network: &UNet2D) -> Result<PictureModel, BoxError> {
        let device = network.devices().into_iter().next().ok_or("the network has no parameters")?;
        Ok(PictureModel::new(self.card.clone(), network.clone(), &device)?)
    }
}

impl Observer<UNet2D> for Report {
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

    fn on_checkpoint(&mut self, _: &Path, averaged: &UNet2D) -> Result<(), BoxError> {
        self.model(averaged)?.save(self.folder.join(MODEL_FILE), StoredDType::F16)?;
        Ok(())
    }

    fn on_sample(&mut self, step: usize, averaged: &UNet2D) -> Result<(), BoxError> {
        let classes = self.card.classes.len();
        let (rows, columns) = if classes == 0 { (4, 4) } else { (2, classes.min(16)) };
        let wanted: Vec<_> = (0..rows * columns).map(|i| (classes > 0).then(|| i % columns)).collect();
        let pictures = self.model(averaged)?.draw(&wanted, &DrawOptions::default(), |_| Ok(()))?;
        let path = self.folder.join("samples").join(format!("step-{step:08}.png"));
        grid(&pictures, columns, 2)?.write_png(path)?;
        Ok(())
    }
}
