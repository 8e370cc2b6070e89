//! The program's options. What can be chosen by name is listed from the tables that the libraries keep.

use std::path::PathBuf;

use burn::tensor::FloatDType;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kiln::checkpoint::StoredDType;
use kiln::diffusion::{PROCESSES, SOLVERS, TimeSampling};

use crate::annotate::Annotate;
use crate::device::Backend;
use crate::generate::Prompted;
use crate::scenes::Scenes;
use crate::train_autoregressive::TrainAutoregressive;
use crate::train_control::TrainControl;
use crate::train_detector::TrainDetector;
use crate::upscale::Method;
use crate::worker::Worker;

/// Diffusion, detection and attention models in Rust
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw pictures with a model: without --model, digits with the small one in the program
    Generate(Generate),
    /// Train a model that draws, on a folder of pictures or an IDX data set
    Train(Train),
    /// Train a control network, which leads a model that draws by edges
    TrainControl(TrainControl),
    /// Make a photograph two or four times as large
    Upscale(Upscale),
    /// Draw what control networks are shown: a photograph's edges, or the skeletons of poses
    Annotate(Annotate),
    /// Find objects in photographs with a DETR: boxes drawn on them, and COCO's results
    Detect(Detect),
    /// Train a model of p(x) as a product of conditionals, on digits or other pictures
    TrainAutoregressive(TrainAutoregressive),
    /// Train a DETR on a data set in COCO's form
    TrainDetector(TrainDetector),
    /// Make a data set in COCO's form: digits on photographs, and where they are
    Scenes(Scenes),
    /// Score results against the truth as COCO does: its 12 numbers, or panoptic quality, as JSON
    Score(Score),
    /// Compute what a reference file asks of a checkpoint, and compare: status 0 if all is within the tolerance, 1 if not
    Verify(Verify),
    /// Tell what a model's file or folder holds, and what this build can do with it
    Info(Info),
    /// Write a model as a folder that diffusers or transformers read
    Convert(Convert),
    /// Tell what kind of quadratic form a polynomial is, its minimum, and how two methods get there
    Quadratic(Quadratic),
    /// Lend this machine's device to other machines, for their --backend remote
    Worker(Worker),
}

#[derive(Debug, Args)]
pub struct Generate {
    /// A model file, or the folder that `kiln train` or `kiln train-autoregressive` wrote; or owner/name[@revision] on the Hugging Face Hub
    #[arg(long, value_name = "PATH")]
    pub model: Option<String>,
    /// The class to draw, by name or number; without it, all classes in turn
    #[arg(long, value_name = "C")]
    pub class: Option<String>,
    /// The label of a model that takes a number: how difficult a terrain is to be, say
    #[arg(long, value_name = "NUMBER", value_parser = finite, allow_hyphen_values = true, conflicts_with = "class")]
    pub label: Option<f64>,
    /// Height and width in pixels, of a consistency model's pictures; without it, as the model was trained
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub size: Option<u32>,
    /// How many pictures: 16, or of a pipeline 1 of each prompt, if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: Option<u32>,
    /// The same seed gives the same pictures, on every backend; 0, if not given
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// One grid if it ends in .png; else a folder for 00000.png and so on
    #[arg(long, value_name = "PATH", default_value = "kiln.png")]
    pub out: PathBuf,
    /// Steps of the solver; without it, as the model says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: Option<u32>,
    /// How steps are taken; without it, as the model says
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(SOLVERS.iter().map(|s| s.name)))]
    pub solver: Option<String>,
    /// How far off a step of --solver dopri5 may be, as a share of the value and at least so much; 1e-5, if not given
    #[arg(long, value_name = "ERROR", value_parser = above_zero, requires = "solver")]
    pub tolerance: Option<f64>,
    /// The scale of classifier-free guidance, 1 for none; without it, as the model says
    #[arg(long, value_name = "SCALE", value_parser = finite)]
    pub guidance: Option<f64>,
    #[command(flatten)]
    pub backend: Backend,
    #[command(flatten)]
    pub pipeline: Prompted,
}

#[derive(Debug, Args)]
pub struct Train {
    /// A folder of pictures (one folder a class, or none), an IDX file, or a folder with MNIST's four files
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// The folder of the run: checkpoints, losses.csv, samples, model.safetensors
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the run in --out, bit for bit as if it had not stopped
    #[arg(long)]
    pub resume: bool,
    /// From data to noise: flow, if not given; NCSN's is always ve
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PROCESSES.iter().map(|p| p.name)))]
    pub process: Option<String>,
    /// How training times are drawn; without it, as suits the process
    #[arg(long, value_name = "NAME")]
    pub time: Option<Times>,
    /// The network
    #[arg(long, value_name = "NAME", default_value = "unet")]
    pub model: Network,
    /// MM-DiT: normalise queries and keys, which keeps the attention's logits small
    #[arg(long)]
    pub qk_norm: bool,
    /// MM-DiT: blocks
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub depth: u32,
    /// MM-DiT: attention heads, of 32 channels each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub heads: u32,
    /// MM-DiT: side of a patch in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub patch: u32,
    /// NCSN: how the score is learnt; without it, dsm
    #[arg(long, value_name = "NAME")]
    pub loss: Option<Loss>,
    /// NCSN: channels of the first stage
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=1024))]
    pub width: u32,
    /// Height and width of the pictures in pixels; IDX data keep their own
    #[arg(long, value_name = "PIXELS", default_value_t = 32, value_parser = clap::value_parser!(u32).range(4..=1024))]
    pub size: u32,
    /// Read pictures in grey (IDX data always are)
    #[arg(long)]
    pub grey: bool,
    /// Channels of the U-Net's levels, from the finest to the coarsest
    #[arg(long, value_name = "N,N,…", default_value = "32,64,96", value_delimiter = ',')]
    pub channels: Vec<usize>,
    /// Residual blocks in each level
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub layers: u32,
    /// Steps of the whole run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub steps: usize,
    /// Pictures in a step
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,
    /// The rate after the warm-up; it falls along a cosine to a hundredth at the end
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    pub learning_rate: f64,
    /// Steps in which the rate rises
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub warmup: usize,
    /// Decay of the moving average of the weights, which is what is drawn with
    #[arg(long, value_name = "SHARE", default_value_t = 0.999)]
    pub ema_decay: f64,
    /// The norm that gradients are clipped to
    #[arg(long, value_name = "NORM", default_value_t = 1.0)]
    pub clip_norm: f64,
    /// Weight decay of AdamW
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    pub weight_decay: f64,
    /// The share of pictures shown without their class, which guidance needs
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub unlabelled: f64,
    /// The seed of weights, order and noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub checkpoint_every: usize,
    /// Steps between pictures of samples
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub sample_every: usize,
    #[command(flatten)]
    pub backend: Backend,
}

#[derive(Debug, Args)]
pub struct Upscale {
    /// A PNG, JPEG or WebP picture
    #[arg(value_name = "PHOTO")]
    pub photo: PathBuf,
    /// How many times as wide and as high; realesr's network makes 4 times, and of that 2 is reduced
    #[arg(long, value_name = "N", default_value = "2")]
    pub scale: UpscaleFactor,
    /// How pixels between pixels are found
    #[arg(long, value_name = "NAME", default_value = "dat")]
    pub method: Method,
    /// The file to write, its format by its name: .png, .jpg, .jpeg or .webp (without loss); without it, a PNG beside PHOTO
    /// under its name and _x2 or _x4
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// A JPEG's quality
    #[arg(long, value_name = "1-100", default_value_t = 92, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    #[command(flatten)]
    pub backend: Backend,
}

/// How many times as large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UpscaleFactor {
    /// Twice
    #[value(name = "2")]
    Two,
    /// Four times
    #[value(name = "4")]
    Four,
}

impl UpscaleFactor {
    pub fn factor(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

#[derive(Debug, Args)]
pub struct Quadratic {
    /// As in "3x^2 + 2xy + 2y^2 - 2x + 8y"; variables are letters, with numbers or without: x, y, x1, x2
    #[arg(value_name = "POLYNOMIAL", allow_hyphen_values = true)]
    pub polynomial: String,
    /// Where the contours are drawn to, with both paths: a PNG file, for two variables
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// Where both methods start; without it, at 0
    #[arg(long, value_name = "X,Y,…", value_delimiter = ',', value_parser = finite, allow_hyphen_values = true)]
    pub start: Option<Vec<f64>>,
    /// Both end where the gradient is this share of what it was at the start, or of b
    #[arg(long, value_name = "SHARE", default_value_t = 1e-8, value_parser = tolerance)]
    pub tolerance: f64,
    /// Steps of either at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
}

#[derive(Debug, Args)]
pub struct Detect {
    /// Photographs, or folders of them
    #[arg(value_name = "PHOTO", required = true)]
    pub photos: Vec<PathBuf>,
    /// A detector's folder, or owner/name[@revision] on the Hugging Face Hub; without it, the small one of digits in the program
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// How probable an object must be
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = share)]
    pub threshold: f64,
    /// Also write where the network looked for each object, as NAME_attention.png
    #[arg(long)]
    pub attention: bool,
    /// Classes of which a picture has one segment at most (sky, grass), by name or number
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',')]
    pub stuff: Vec<String>,
    /// The folder for the pictures, results.json and, with masks, panoptic.json and its maps
    #[arg(long, value_name = "DIR", default_value = "detected")]
    pub out: PathBuf,
    #[command(flatten)]
    pub backend: Backend,
}

#[derive(Debug, Args)]
pub struct Score {
    /// COCO's file of the truth; with --panoptic, beside its folder of PNG maps
    #[arg(value_name = "TRUTH.json")]
    pub truth: PathBuf,
    /// A list of results; with --panoptic, a file as the truth's
    #[arg(value_name = "RESULTS.json")]
    pub results: PathBuf,
    /// Panoptic quality
    #[arg(long)]
    pub panoptic: bool,
    /// Compare masks where results have boxes too
    #[arg(long, conflicts_with = "panoptic")]
    pub masks: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// A model's folder or file, or owner/name[@revision] on the Hugging Face Hub
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: String,
    /// Tensors `input.<name>` and `output.<name>`, as Python's forward calls them
    #[arg(value_name = "REFERENCE")]
    pub reference: PathBuf,
    /// Where to write what was computed, as safetensors
    #[arg(long, value_name = "OUT.safetensors")]
    pub save: Option<PathBuf>,
    /// The largest error of an output, relative to its largest absolute value, that is let pass
    #[arg(long, value_name = "SHARE", default_value_t = 1e-3, value_parser = tolerance)]
    pub tolerance: f64,
    /// The part of a pipeline, or of a file of several networks: unet, vae, ...; without it, as the inputs tell
    #[arg(long, value_name = "NAME")]
    pub part: Option<String>,
    /// The variant of the weights: fp16, ...
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// The type to compute in
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: Float,
    #[command(flatten)]
    pub backend: Backend,
}

#[derive(Debug, Args)]
pub struct Info {
    /// A file or folder of any kind, or owner/name[@revision] on the Hugging Face Hub
    #[arg(value_name = "PATH")]
    pub path: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The variant of the weights: fp16, ...
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
}

#[derive(Debug, Args)]
pub struct Convert {
    /// A model's folder or file, or owner/name[@revision] on the Hugging Face Hub
    #[arg(value_name = "IN")]
    pub from: String,
    /// The folder to write, which is not there yet or empty
    #[arg(value_name = "OUT")]
    pub to: PathBuf,
    /// The type to store floats in; without it, each tensor keeps its own
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Float>,
    /// The variant of the weights to read: fp16, ...
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
}

/// A network that can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// A U-Net
    Unet,
    /// The transformer of Stable Diffusion 3, told a class in place of a prompt
    Mmdit,
    /// SMLD's score network, for ten levels of noise; draws without classes
    Ncsn,
    /// The second SMLD's, for as many levels as suit the data; draws without classes
    Ncsnv2,
}

/// How a score is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Loss {
    /// Denoising score matching
    Dsm,
    /// Sliced score matching, of noisy pictures too
    Ssm,
}

/// How training times are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Times {
    /// Evenly
    Uniform,
    /// The logistic function of a standard normal: more in the middle
    LogitNormal,
    /// More in the middle, with weight at both ends (Esser et al. 2024, scale 1.29)
    Mode,
    /// As the cosine schedule has it, for a flow
    Cosmap,
}

impl From<Times> for TimeSampling {
    fn from(times: Times) -> Self {
        match times {
            Times::Uniform => Self::Uniform,
            Times::LogitNormal => Self::LogitNormal { mean: 0.0, std: 1.0 },
            Times::Mode => Self::Mode { scale: 1.29 },
            Times::Cosmap => Self::CosMap,
        }
    }
}

/// A type of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Float {
    /// 32 bits
    F32,
    /// 16 bits, 11 of them precision
    F16,
    /// 16 bits, 8 of them precision
    Bf16,
}

impl From<Float> for FloatDType {
    fn from(float: Float) -> Self {
        match float {
            Float::F32 => Self::F32,
            Float::F16 => Self::F16,
            Float::Bf16 => Self::BF16,
        }
    }
}

impl From<Float> for StoredDType {
    fn from(float: Float) -> Self {
        match float {
            Float::F32 => Self::F32,
            Float::F16 => Self::F16,
            Float::Bf16 => Self::Bf16,
        }
    }
}

pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("must be a finite number".to_owned()),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    finite(text).and_then(|number| if number > 0.0 { Ok(number) } else { Err("must be above 0".to_owned()) })
}

fn tolerance(text: &str) -> Result<f64, String> {
    finite(text)
        .and_then(|number| if number < 0.0 { Err("must not be negative".to_owned()) } else { Ok(number) })
}

pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..1.0).contains(&number) => Ok(number),
        _ => Err("must be from 0 to below 1".to_owned()),
    }
}
