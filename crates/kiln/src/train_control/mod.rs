//! `kiln train-control`: a control network learns to lead a model that stays as it is.
//!
//! ```text
//! loss      = |U-Net(x_t, t, class + residuals) - target|²       the U-Net's weights are constants
//! residuals = control network(x_t, t, class, Canny's edges of x_0)
//! norm      = sqrt(mean(residuals²))                             of each step, in control.csv
//! ```
//!
//! Zhang et al. 2023, section 3.3: half of the classes are hidden, and for a while nothing is seen to change, then within few steps
//! drawings follow the edges ("sudden convergence"). When that is, overlap.csv shows.

mod judge;
mod options;
mod overlap;
mod report;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln::conditioning::{Control, UNet2DControlNet};
use kiln::denoisers::UNet2D;
use kiln::denoisers::unet2d::ClassCondition;
use kiln::denoisers::unet2d_condition::ControlResiduals;
use kiln::diffusion::{Objective, Process};
use kiln::picture::Channels;
use kiln::training::data::{FolderOptions, OpenOptions, Pictures, Split};
use kiln::training::{BoxError, Outcome, Schedule, StepContext, Trainer, TrainerConfig};
use kiln::{ControlCard, PictureControl, PictureModel, PictureNetwork};
use serde_json::json;

use self::judge::Judge;
pub use self::options::TrainControl;
pub use self::report::CONTROL_FILE;
use self::report::{Log, Report};
use crate::interrupt::{Interrupted, set_on_interrupt};
use crate::output::print;
use crate::train::{MODEL_FILE, hidden_at_times};

pub fn run(options: &TrainControl) -> Result<()> {
    let device = options.backend.open()?;
    let model = match &options.model {
        None => PictureModel::digits(&device)?,
        Some(path) if path.is_dir() => PictureModel::open(path.join(MODEL_FILE), &device)?,
        Some(path) => PictureModel::open(path, &device)?,
    };
    let card = ControlCard::beside(model.card(), options.thresholds())?;
    let data = Data::open(options, &model, &card)?;
    let PictureNetwork::UNet2D(unet) = model.network() else {
        bail!("only a model whose network is a U-Net can be controlled");
    };
    // Drawn at random is only the way in for pictures.
    device.seed(options.seed);
    let network = UNet2DControlNet::from_unet(unet, &card.network.unet2d, &device)?;
    Run { options, model: &model, unet, card: &card, data: &data }.learn(network, &device)
}

/// What is learnt from, and what is judged by.
struct Data {
    pictures: Pictures,
    /// Their edges, 0 or 255, one after the other.
    edges: Vec<u8>,
    judge: Judge,
}

impl Data {
    fn open(options: &TrainControl, model: &PictureModel, card: &ControlCard) -> Result<Self> {
        let [height, width] = card.size;
        let channels = if model.card().network.channels() == 1 { Channels::Grey } else { Channels::Rgb };
        let folder = FolderOptions { size: height as u32, channels, ..FolderOptions::default() };
        let open = |split| Pictures::open(&options.data, &OpenOptions { split, folder: folder.clone() });
        let all = open(Split::Train)?;
        let (shape, asked) = (all.shape(), [channels.count(), height, width]);
        if shape[1..] != asked {
            bail!(
                "{}: its pictures are {:?}, channels, height and width, and the model draws {asked:?}",
                options.data.display(),
                &shape[1..]
            );
        }
        let (known, found) = (model.card().classes.len(), all.class_names().len());
        if known > 0 && found != known {
            bail!("{}: it has {found} classes, and the model {known}", options.data.display());
        }
        let seed = options.seed;
        let of = |pictures: &Pictures, indices: &[usize]| {
            let judged = options.judged as usize;
            Judge::new(pictures, &indices[..indices.len().min(judged)], card, seed)
        };
        let test = options.data.is_dir().then(|| Pictures::idx(&options.data, Split::Test).ok()).flatten();
        let (judge, learnt): (_, Vec<usize>) = match test {
            Some(test) if test.shape()[1..] == shape[1..] => {
                (of(&test, &(0..test.len()).collect::<Vec<_>>())?, (0..all.len()).collect())
            }
            _ => {
                let (held_out, learnt): (Vec<_>, Vec<_>) = (0..all.len()).partition(|i| i % 10 == 9);
                if held_out.is_empty() {
                    bail!("{} holds fewer than ten pictures: none can be held out", options.data.display());
                }
                (of(&all, &held_out)?, learnt)
            }
        };
        let samples = learnt.iter().flat_map(|&i| all.sample(i)).copied().collect();
        let pictures = Pictures::new([learnt.len(), shape[1], shape[2], shape[3]], samples)?;
        let pictures = match all.labels() {
            Some(labels) => {
                let labels = learnt.iter().map(|&i| labels[i]).collect();
                pictures.with_labels(labels, all.class_names().to_vec())?
            }
            None => pictures,
        };
        let mut edges = Vec::with_capacity(pictures.len() * height * width);
        for index in 0..pictures.len() {
            edges.extend(card.edges(&pictures.picture(index))?.samples());
        }
        Ok(Self { pictures, edges, judge })
    }

    /// Edges of some pictures, 0 to 1, `[batch, 1, height, width]`.
    fn edges(&self, indices: &[usize], device: &Device) -> Tensor<4> {
        let [_, _, height, width] = self.pictures.shape();
        let area = height * width;
        let each = indices.iter().flat_map(|&i| &self.edges[i * area..][..area]);
        let values: Vec<f32> = each.map(|&edge| f32::from(edge) / 255.0).collect();
        Tensor::from_data(TensorData::new(values, [indices.len(), 1, height, width]), device)
    }
}

/// The root of the mean square of all that a control network adds.
fn norm(residuals: &ControlResiduals) -> f64 {
    let all = || residuals.down.iter().chain([&residuals.mid]);
    let squares: f64 =
        all().map(|residual| residual.clone().inner().square().sum().into_scalar::<f64>()).sum();
    let count: usize = all().map(|residual| residual.dims().iter().product::<usize>()).sum();
    (squares / count as f64).sqrt()
}

/// What is learnt from what.
struct Run<'a> {
    options: &'a TrainControl,
    model: &'a PictureModel,
    unet: &'a UNet2D,
    card: &'a ControlCard,
    data: &'a Data,
}

impl Run<'_> {
    fn learn(&self, network: UNet2DControlNet, device: &Device) -> Result<()> {
        let Self { options, model, card, data, .. } = *self;
        let parameters = network.num_params();
        let config = self.trainer_config();
        let mut trainer = match options.resume {
            true => Trainer::resume(config, network, &options.out)?,
            false => Trainer::new(config, network, &options.out)?,
        };
        eprintln!(
            "{} pictures to learn from, {} to be judged by; a control network of {parameters} parameters; from step {} to {}",
            data.pictures.len(),
            data.judge.len(),
            trainer.step(),
            options.steps
        );
        set_on_interrupt(trainer.stop_flag())?;
        let mut norms = Log::open(&options.out.join("control.csv"), "step,residuals", trainer.step())?;
        // Its weights are constants, and gradients pass through it all the same.
        let base = self.unet.clone().train().no_grad();
        let (process, objective) = (model.card().process.build()?, Objective::new(model.card().prediction));
        let process: &dyn Process = process.as_ref();
        let loss = |network: &UNet2DControlNet, context: &StepContext<'_>| -> Result<Tensor<1>, BoxError> {
            let indices = context.indices(data.pictures.len());
            let batch = data.pictures.batch(&indices);
            let condition = self.shown(batch.labels, context).map(ClassCondition::Labels);
            let pictures = TensorData::new(batch.pixels, batch.shape);
            let pictures = Tensor::<4>::from_data(pictures, context.device);
            let pair = objective.pair(process, pictures, context.noise_key(0));
            let (x, times) = (pair.input.clone(), pair.network_times.clone());
            let edges = Control::new(data.edges(&indices, context.device));
            let residuals = network.forward(x.clone(), times.clone(), condition.clone(), edges);
            norms.push(&format!("{},{}", context.step + 1, norm(&residuals)))?;
            Ok(pair.loss(base.forward_controlled(x, times, condition, Some(residuals))))
        };
        let mut report = Report::new(model, card, &data.judge, &options.out, trainer.step(), options.steps)?;
        let outcome = trainer.run(loss, &mut report)?;
        report.bar.finish();
        if let Outcome::Stopped { step } = outcome {
            let again = "go on with the same command and --resume";
            bail!(Interrupted(format!("; the checkpoint of step {step} is written: {again}")))
        }
        let file = options.out.join(CONTROL_FILE);
        // As it will be drawn with: in the precision of the file.
        let control = PictureControl::open(&file, device).context("the control network just written")?;
        let scores = data.judge.judge(model, &control, &options.out)?;
        let told = [scores.controlled, scores.controlled_without_class, scores.uncontrolled]
            .map(|overlap| format!("{:.3} ({:.3} on the pixel)", overlap.f1, overlap.exact_f1));
        print(format_args!(
            "edges of {} pictures held out, F1 within a pixel: {} with the control, {} with it and no class, {} without it",
            scores.pictures, told[0], told[1], told[2]
        ))?;
        print(file.display())
    }

    /// The classes as both networks are told them: without, for the share that is to be read off the edges.
    fn shown(&self, labels: Option<Vec<u32>>, context: &StepContext<'_>) -> Option<Tensor<1, Int>> {
        let card = self.model.card();
        if !card.is_labelled() {
            return None;
        }
        let labels = labels?.into_iter().map(i64::from).collect();
        let shown = hidden_at_times(labels, self.options.unlabelled, card.no_class() as i64, context);
        Some(Tensor::from_data(shown.as_slice(), context.device))
    }

    fn trainer_config(&self) -> TrainerConfig {
        let Self { options, model, card, data, .. } = self;
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
            sample_every: Some(options.judge_every),
            log_every: 1,
            task: json!({
                "model": model.card(),
                "control": card,
                "unlabelled": options.unlabelled.to_string(),
                "pictures": data.pictures.len(),
            }),
        }
    }
}
