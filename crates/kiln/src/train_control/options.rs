//! The options of `kiln train-control`.

use std::path::PathBuf;

use clap::Args;
use kiln::conditioning::annotators::Thresholds;

use crate::cli::{finite, share};
use crate::device::Backend;

#[derive(Debug, Args)]
pub struct TrainControl {
    /// Pictures of the model's size: an IDX file, a folder with MNIST's four files, or a folder of pictures. The test set is held out,
    /// or else every tenth picture
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// The folder of the run: checkpoints, losses.csv, control.csv, overlap.csv, samples, scores.json, control.safetensors
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The model that is controlled, a file or folder that `kiln train` wrote; without it, the small one of digits in the program
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Go on with the run in --out, bit for bit as if it had not stopped
    #[arg(long)]
    pub resume: bool,
    /// Canny: how strong an edge must be to be gone on with, from 0 to about 1140
    #[arg(long, value_name = "GRADIENT", default_value_t = 50.0, value_parser = finite)]
    pub low: f64,
    /// Canny: how strong an edge must be to begin
    #[arg(long, value_name = "GRADIENT", default_value_t = 100.0, value_parser = finite)]
    pub high: f64,
    /// Steps of the whole run
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub steps: usize,
    /// Pictures in a step
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch_size: usize,
    /// The rate after the warm-up; it falls along a cosine to a hundredth at the end
    #[arg(long, value_name = "RATE", default_value_t = 5e-4)]
    pub learning_rate: f64,
    /// Steps in which the rate rises
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub warmup: usize,
    /// Decay of the moving average of the weights, which is what is drawn with
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = share)]
    pub ema_decay: f64,
    /// The norm that gradients are clipped to
    #[arg(long, value_name = "NORM", default_value_t = 1.0)]
    pub clip_norm: f64,
    /// Weight decay of AdamW
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    pub weight_decay: f64,
    /// The share of pictures shown without their class, so that the edges alone must say what there is
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub unlabelled: f64,
    /// The seed of order and noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub checkpoint_every: usize,
    /// Steps between drawings that are judged
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub judge_every: usize,
    /// Pictures held out that are judged at the end
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub judged: u32,
    #[command(flatten)]
    pub backend: Backend,
}

impl TrainControl {
    pub fn thresholds(&self) -> Thresholds {
        Thresholds { low: self.low as f32, high: self.high as f32 }
    }
}
