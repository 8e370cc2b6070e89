//! `kiln train-detector`: a DETR learns from a data set in COCO's form.

mod options;
mod scores;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::Tensor;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use kiln::checkpoint::{Contents, SaveOptions, save, write_atomically};
use kiln::detection::coco::{CocoFolder, Masks};
use kiln::detection::processor::{Processor, TargetSize};
use kiln::detection::training::{Augmentation, Criterion, Sample, batch};
use kiln::detection::{Detr, DetrConfig, ModelType};
use kiln::optim::{AdamW, AdamWConfig, Group, NORMS_AND_BIASES};
use kiln::picture::Picture;
use kiln::training::{
    BoxError, Observer, Outcome, Schedule, StepContext, StepReport, Trainer, TrainerConfig,
};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
pub use options::{Kind, TrainDetector};
use scores::Scores;

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
    let device = options.backend.open()?;
    let processor = processor(options.size);
    let network = match &given {
        Some((stored, _)) => stored.load(&device)?,
        None => {
            device.seed(options.seed);
            let network = config.init(&device)?;
            let shown = (0..data.len().min(CALIBRATION)).map(|index| data.sample(index, Masks::Left));
            let shown: Vec<Sample> = shown.collect::<Result<_, _>>()?;
            let shown = changed(&Augmentation::none(options.size), shown, |_| Default::default())?;
            let (pixels, _) = batch(shown.iter().map(|sample| &sample.picture), &processor, &device);
            network.calibrate(pixels)
        }
    };
    let parameters = network.num_params();
    let trainer_config = trainer_config(options, &config, &data);
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
    let criterion = Criterion::from(&config);
    let loss = |network: &Detr, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
        let samples = context.indices(data.len()).into_iter().map(|index| data.sample(index, Masks::Left));
        let samples: Vec<Sample> = samples.collect::<Result<_, _>>()?;
        let first = context.noise_key(0);
        let samples = changed(&augmentation, samples, |row| first.at_sample(first.sample + row))?;
        let targets: Vec<_> = samples.iter().map(|sample| sample.target(context.device)).collect();
        let pictures = samples.iter().map(|sample| &sample.picture);
        let (pixels, mask) = batch(pictures, &processor, context.device);
        if options.place_loss == 0.0 {
            return Ok(criterion.forward(&network.forward(pixels, mask), None, &targets)?.total);
        }
        let (output, places) = network.forward_with_places(pixels, mask);
        let loss = criterion.forward(&output, None, &targets)?.total;
        Ok(loss + criterion.of_predictions(&places, &targets)? * options.place_loss)
    };
    let mut report = Report {
        folder: options.out.join("model"),
        description: description(&config)?,
        preprocessor: preprocessor(options.size),
        scores: test
            .map(|test| Scores::open(test, processor.clone(), &options.out, trainer.step()))
            .transpose()?,
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
fn given(path: &Path) -> Result<(kiln::checkpoint::StoredModel, DetrConfig)> {
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
    let of_backbone = NORMS_AND_BIASES.map(|pattern| format!("model.backbone.{pattern}"));
    vec![
        Group::new(of_backbone, plain.build()).with_rate(options.backbone_rate),
        Group::new(["model.backbone.**"], decaying.build()).with_rate(options.backbone_rate),
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
        task: json!({
            "model": config,
            "pictures": data.len(),
            "size": options.size,
            "flip": options.flip.to_string(),
            "crop": options.crop.to_string(),
            "scales": options.scales,
            "place_loss": options.place_loss.to_string(),
            "backbone_rate": options.backbone_rate.to_string(),
        }),
    }
}

/// What pictures are made ready by.
fn processor(size: u32) -> Processor {
    Processor::default().with_size(target_size(size))
}

fn longest(size: u32) -> u32 {
    (u64::from(size) * 1333 / 800) as u32
}

fn target_size(size: u32) -> TargetSize {
    TargetSize { shortest_edge: Some(size), longest_edge: Some(longest(size)), ..TargetSize::default() }
}

/// The same for other programs.
fn preprocessor(size: u32) -> Value {
    json!({
        "image_processor_type": "DetrImageProcessor",
        "do_resize": true,
        "size": {"shortest_edge": size, "longest_edge": longest(size)},
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_pad": true,
    })
}

/// `config.json`, as transformers reads it.
fn description(config: &DetrConfig) -> Result<Value> {
    let Value::Object(mut fields) = serde_json::to_value(config)? else { bail!("the network's config") };
    fields.retain(|_, value| !value.is_null());
    let class = match config.model_type {
        ModelType::Detr => "DetrForObjectDetection",
        ModelType::ConditionalDetr => "ConditionalDetrForObjectDetection",
    };
    fields.insert("architectures".to_owned(), json!([class]));
    if let Some(names) = &config.id2label {
        let numbers: Map<String, Value> =
            names.iter().map(|(id, name)| (name.clone(), json!(id.parse::<u64>().unwrap_or(0)))).collect();
        fields.insert("label2id".to_owned(), Value::Object(numbers));
    }
    Ok(Value::Object(fields))
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

impl Observer<Detr> for Report {
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

    fn on_checkpoint(&mut self, _: &Path, averaged: &Detr) -> Result<(), BoxError> {
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

    fn on_sample(&mut self, step: usize, averaged: &Detr) -> Result<(), BoxError> {
        let Some(scores) = &mut self.scores else { return Ok(()) };
        let found = scores.take(step, averaged)?;
        let told = format!("step {step}: AP {:.4}, AP50 {:.4}, AP75 {:.4}", found.AP, found.AP50, found.AP75);
        match self.bar.is_hidden() {
            true => eprintln!("{told}"),
            false => self.bar.println(told),
        }
        Ok(())
    }
}

/// What a network finds in pictures, whatever its score.
pub fn look(
    network: &Detr,
    processor: &Processor,
    pictures: &[Picture],
    device: &burn::tensor::Device,
) -> Result<Vec<Vec<kiln::detection::results::Found>>, kiln::picture::PictureError> {
    let resized = pictures.iter().map(|picture| {
        let (width, height) = processor.resized(picture.width(), picture.height());
        if (width, height) == (picture.width(), picture.height()) {
            Ok(picture.clone())
        } else {
            picture.resize(width, height, kiln::picture::Filter::Bilinear)
        }
    });
    let resized: Vec<Picture> = resized.collect::<Result<_, _>>()?;
    let (pixels, mask) = batch(&resized, processor, device);
    let sizes: Vec<(u32, u32)> = pictures.iter().map(|p| (p.width(), p.height())).collect();
    let predictions = network.forward(pixels, mask).predictions;
    Ok(kiln::detection::results::objects(&predictions, &sizes, 0.0))
}
