//! `kiln train-detector`: a DETR learns from a data set in COCO's form, boxes or masks too.

mod files;
mod learner;
mod options;
mod scores;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use kiln::checkpoint::{Contents, SaveOptions, StoredModel, save, write_atomically};
use kiln::detection::coco::{CocoFolder, Masks};
use kiln::detection::processor::Processor;
use kiln::detection::training::{Augmentation, Criterion, Sample, batch};
use kiln::detection::{Detr, DetrConfig, ModelType};
use kiln::optim::{AdamW, AdamWConfig, Group, NORMS_AND_BIASES};
use kiln::training::{
    BoxError, Observer, Outcome, Schedule, StepContext, StepReport, Trainer, TrainerConfig,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
use files::{description, preprocessor, target_size};
use learner::{Learner, Lesson};
use options::Learned;
pub use options::{Kind, TrainDetector};
use scores::{Examination, Scores};

pub fn run(options: &TrainDetector) -> Result<()> {
    let given = options.model.as_ref().map(|path| given(path)).transpose()?;
    let known = given.as_ref().map(|(_, config)| config.classes() as u64);
    let data = match &options.annotations {
        None => CocoFolder::open(&options.data, known)?,
        Some(file) => CocoFolder::with_pictures(file, &options.data, known)?,
    };
    let config = match &given {
        Some((_, config)) => config.clone(),
        None => made(options, &data)?,
    };
    let test = match &options.test {
        None => None,
        Some(folder) => Some(CocoFolder::open(folder, Some(config.classes() as u64))?),
    };
    let drawn = match &given {
        Some((stored, _)) => stored.class()?.is_some_and(|class| class.ends_with("ForSegmentation")),
        None => false,
    };
    let device = options.backend.open()?;
    let Some(learned) = options.masks else {
        if drawn {
            bail!("the model has masks: --masks trains its mask head, and --masks all all of it");
        }
        let network = begin(options, given.as_ref().map(|(stored, _)| stored), &config, &data, &device)?;
        return train(options, &config, &data, test, network);
    };
    have_masks(&data, &options.data)?;
    if let (Some(test), Some(folder)) = (&test, &options.test) {
        have_masks(test, folder)?;
    }
    let (network, config) = match &given {
        Some((stored, _)) if drawn => (stored.load(&device)?, config),
        Some((stored, _)) => {
            // The same weights, of which more maps are given.
            let config = config.with_maps();
            config.validate_masks()?;
            let mut stored = stored.clone();
            stored.config = description(&config, Masks::Left)?.to_string();
            device.seed(options.seed);
            (config.add_masks(stored.load(&device)?, &device)?, config)
        }
        None if learned == Learned::Head => {
            bail!(
                "--masks draws on a detector that is trained: name it by --model, or train all of it, by --masks all"
            )
        }
        None => {
            let config = config.with_maps();
            config.validate_masks()?;
            let detector = begin(options, None, &config, &data, &device)?;
            (config.add_masks(detector, &device)?, config)
        }
    };
    let network = match learned {
        Learned::Head => network.freeze_detector(),
        Learned::All => network,
    };
    train(options, &config, &data, test, network)
}

/// Masks that are learnt are all there.
fn have_masks(data: &CocoFolder, folder: &Path) -> Result<()> {
    match data.without_masks()[..] {
        [] => Ok(()),
        [first, ref others @ ..] => {
            let others =
                if others.is_empty() { String::new() } else { format!(" (nor have {} more)", others.len()) };
            bail!(
                "{}: annotation {first} has no mask{others}, and --masks learns from them",
                folder.display()
            )
        }
    }
}

/// The detector that is begun with.
fn begin(
    options: &TrainDetector,
    given: Option<&StoredModel>,
    config: &DetrConfig,
    data: &CocoFolder,
    device: &Device,
) -> Result<Detr> {
    if let Some(stored) = given {
        return Ok(stored.load(device)?);
    }
    device.seed(options.seed);
    let network = config.init(device)?;
    let shown = (0..data.len().min(CALIBRATION)).map(|index| data.sample(index, Masks::Left));
    let shown: Vec<Sample> = shown.collect::<Result<_, _>>()?;
    let shown = changed(&Augmentation::none(options.size), shown, |_| Default::default())?;
    let (pixels, _) = batch(shown.iter().map(|sample| &sample.picture), &processor(options.size), device);
    Ok(network.calibrate(pixels))
}

fn train<L: Learner>(
    options: &TrainDetector,
    config: &DetrConfig,
    data: &CocoFolder,
    test: Option<CocoFolder>,
    network: L,
) -> Result<()> {
    let parameters = network.num_params();
    let processor = processor(options.size);
    let trainer_config = trainer_config(options, config, data);
    let mut trainer = match options.resume {
        true => Trainer::resume(trainer_config, network, &options.out)?,
        false => Trainer::new(trainer_config, network, &options.out)?,
    };
    for group in groups(options) {
        trainer = trainer.with_group(group);
    }
    eprintln!(
        "{} pictures, {} classes; a network of {parameters} parameters; from step {} to {}",
        data.len(),
        config.classes(),
        trainer.step(),
        options.steps
    );
    set_on_interrupt(trainer.stop_flag())?;
    let augmentation = augmentation(options);
    let lesson = Lesson {
        criterion: Criterion::from(config),
        place_loss: options.place_loss,
        learned: options.masks.unwrap_or(Learned::All),
    };
    let loss = |network: &L, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
        let samples = context.indices(data.len()).into_iter().map(|index| data.sample(index, L::MASKS));
        let samples: Vec<Sample> = samples.collect::<Result<_, _>>()?;
        let first = context.noise_key(0);
        let samples = changed(&augmentation, samples, |row| first.at_sample(first.sample + row))?;
        let targets: Vec<_> = samples.iter().map(|sample| sample.target(context.device)).collect();
        let pictures = samples.iter().map(|sample| &sample.picture);
        network.loss(&lesson, batch(pictures, &processor, context.device), &targets)
    };
    let mut report = Report {
        folder: options.out.join("model"),
        description: description(config, L::MASKS)?,
        preprocessor: preprocessor(options.size),
        scores: match (test, &options.test) {
            (Some(test), Some(folder)) => Some(Scores::open(
                Examination { test, panoptic: folder.join("panoptic.json"), masks: L::MASKS },
                processor.clone(),
                &options.out,
                trainer.step(),
            )?),
            _ => None,
        },
        bar: bar(trainer.step(), options.steps)?,
        loss: None,
    };
    let outcome = trainer.run(loss, &mut report)?;
    report.bar.finish();
    match outcome {
        Outcome::Finished { .. } => print(report.folder.display()),
        Outcome::Stopped { step } => {
            let again = "go on with the same command and --resume";
            bail!(Interrupted(format!("; the checkpoint of step {step} is written: {again}")))
        }
    }
}

/// Pictures by which a new backbone is calibrated.
const CALIBRATION: usize = 32;

fn changed(
    augmentation: &Augmentation,
    samples: Vec<Sample>,
    key: impl Fn(u64) -> kiln::backend::noise::NoiseKey,
) -> Result<Vec<Sample>, kiln::picture::PictureError> {
    samples.into_iter().zip(0..).map(|(sample, row)| augmentation.apply(sample, key(row))).collect()
}

/// The detector of a folder.
fn given(path: &Path) -> Result<(StoredModel, DetrConfig)> {
    let Contents::Model(stored) = Contents::open(path)? else {
        bail!("{} is no detector's folder", path.display());
    };
    let config = DetrConfig::from_json(&stored.config).with_context(|| stored.origin.clone())?;
    Ok((stored, config))
}

/// The detector that the options describe.
fn made(options: &TrainDetector, data: &CocoFolder) -> Result<DetrConfig> {
    let [stem, stages @ ..] = &options.channels[..] else { bail!("--channels names no stage") };
    let [encoder, decoder] = options.layers[..] else {
        bail!("--layers takes two numbers: of the encoder, of the decoder")
    };
    let names = (0..data.classes()).map(|class| {
        let category = data.data().categories.iter().find(|category| category.id == class as u64);
        (class.to_string(), category.map_or_else(|| "N/A".to_owned(), |category| category.name.clone()))
    });
    let backbone = json!({
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": stem,
        "hidden_sizes": stages,
        "depths": options.depths,
        "out_features": [format!("stage{}", stages.len())],
    });
    let Value::Object(backbone) = backbone else { bail!("the backbone's config") };
    let config = DetrConfig {
        model_type: match options.kind {
            Kind::Detr => ModelType::Detr,
            Kind::Conditional => ModelType::ConditionalDetr,
        },
        class_cost: match options.kind {
            Kind::Detr => 1.0,
            Kind::Conditional => 2.0,
        },
        num_queries: options.queries,
        encoder_layers: encoder,
        decoder_layers: decoder,
        encoder_ffn_dim: options.feed_forward,
        decoder_ffn_dim: options.feed_forward,
        encoder_attention_heads: options.heads,
        decoder_attention_heads: options.heads,
        d_model: options.width,
        auxiliary_loss: true,
        id2label: Some(names.collect()),
        use_timm_backbone: Some(false),
        backbone_config: Some(backbone),
        ..DetrConfig::default()
    };
    config.validate()?;
    Ok(config)
}

fn augmentation(options: &TrainDetector) -> Augmentation {
    let published = Augmentation::at(options.size);
    let sizes = if options.scales { published.sizes.clone() } else { vec![options.size] };
    Augmentation { flip: options.flip, crop: options.crop, sizes, ..published }
}

/// Norms and biases without decay, the backbone at a rate of its own.
fn groups(options: &TrainDetector) -> Vec<Group<AdamW>> {
    let decaying = AdamWConfig::new().with_weight_decay(options.weight_decay);
    let plain = AdamWConfig::new().with_weight_decay(0.0);
    // Alone, or within a network with masks.
    let backbones = ["", "detr.", "conditional_detr."].map(|detector| format!("{detector}model.backbone."));
    let within = |pattern: &str| {
        backbones.iter().map(move |backbone| format!("{backbone}{pattern}")).collect::<Vec<_>>()
    };
    let of_backbone = NORMS_AND_BIASES.iter().flat_map(|pattern| within(pattern));
    vec![
        Group::new(of_backbone, plain.build()).with_rate(options.backbone_rate),
        Group::new(within("**"), decaying.build()).with_rate(options.backbone_rate),
        Group::new(NORMS_AND_BIASES, plain.build()),
    ]
}

fn trainer_config(options: &TrainDetector, config: &DetrConfig, data: &CocoFolder) -> TrainerConfig {
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
        sample_every: options.test.is_some().then_some(options.score_every),
        log_every: 1,
        task: task(options, config, data),
    }
}

fn task(options: &TrainDetector, config: &DetrConfig, data: &CocoFolder) -> Value {
    let mut task = json!({
            "model": config,
            "pictures": data.len(),
            "size": options.size,
            "flip": options.flip.to_string(),
            "crop": options.crop.to_string(),
            "scales": options.scales,
            "place_loss": options.place_loss.to_string(),
            "backbone_rate": options.backbone_rate.to_string(),
    });
    if let Some(learned) = options.masks {
        task["masks"] = json!(format!("{learned:?}"));
    }
    task
}

/// What pictures are made ready by.
fn processor(size: u32) -> Processor {
    Processor::default().with_size(target_size(size))
}

fn bar(step: usize, steps: usize) -> Result<ProgressBar> {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").context("the progress bar's template")?;
    let bar = ProgressBar::new(steps as u64).with_style(style);
    bar.set_position(step as u64);
    Ok(bar)
}

/// Shows and keeps what a run does.
struct Report {
    folder: PathBuf,
    description: Value,
    preprocessor: Value,
    scores: Option<Scores>,
    bar: ProgressBar,
    loss: Option<f32>,
}

impl<L: Learner> Observer<L> for Report {
    fn on_step(&mut self, report: &StepReport) -> Result<(), BoxError> {
        let smooth = self.loss.map_or(report.loss, |loss| 0.98 * loss + 0.02 * report.loss);
        self.loss = Some(smooth);
        self.bar.set_position(report.step as u64);
        let pace = report.samples_per_second;
        let told = format!("loss {smooth:.4}, {pace:.0} pictures/s, {} left", HumanDuration(report.eta));
        // Where no bar can be drawn, a line now and then.
        if self.bar.is_hidden() && (report.step.is_multiple_of(100) || report.step == report.steps) {
            eprintln!("step {}/{}: {told}", report.step, report.steps);
        }
        self.bar.set_message(told);
        Ok(())
    }

    fn on_checkpoint(&mut self, _: &Path, averaged: &L) -> Result<(), BoxError> {
        std::fs::create_dir_all(&self.folder)?;
        for (name, value) in
            [("config.json", &self.description), ("preprocessor_config.json", &self.preprocessor)]
        {
            let text = serde_json::to_string_pretty(value)?;
            write_atomically::<std::io::Error>(&self.folder.join(name), |file| {
                file.write_all(text.as_bytes())
            })?;
        }
        Ok(save(averaged, self.folder.join("model.safetensors"), &SaveOptions::default())?)
    }

    fn on_sample(&mut self, step: usize, averaged: &L) -> Result<(), BoxError> {
        let Some(scores) = &mut self.scores else { return Ok(()) };
        let found = scores.take(step, averaged)?;
        let told = format!("step {step}: {found}");
        match self.bar.is_hidden() {
            true => eprintln!("{told}"),
            false => self.bar.println(told),
        }
        Ok(())
    }
}
