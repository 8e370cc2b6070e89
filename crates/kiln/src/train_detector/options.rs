//! The options of `kiln train-detector`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::share;
use crate::device::Backend;

#[derive(Debug, Args)]
pub struct TrainDetector {
    /// What to learn from: a folder with annotations.json in COCO's form and, in images, its pictures
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// What to be scored on, a folder of the same form; without it, nothing is scored
    #[arg(long, value_name = "DIR")]
    pub test: Option<PathBuf>,
    /// COCO's file of what to learn from, where it is not annotations.json in --data; file names count from --data
    #[arg(long, value_name = "FILE")]
    pub annotations: Option<PathBuf>,
    /// The folder of the run: checkpoints, losses.csv, scores.csv, and the model in model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the run in --out, bit for bit as if it had not stopped
    #[arg(long)]
    pub resume: bool,
    /// A detector's folder to begin with; without it, a small one is made by the options below, with weights drawn anew
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Learn masks too: the mask head alone, on the detector of --model, which stays as it is; or all at once
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "head")]
    pub masks: Option<Learned>,
    /// Which detector is made
    #[arg(long, value_name = "NAME", default_value = "conditional")]
    pub kind: Kind,
    /// Channels of the backbone ahead of its stages, and of each stage
    #[arg(long, value_name = "N,N,…", default_value = "24,32,64", value_delimiter = ',')]
    pub channels: Vec<usize>,
    /// Residual layers of each stage
    #[arg(long, value_name = "N,N,…", default_value = "1,2", value_delimiter = ',')]
    pub depths: Vec<usize>,
    /// Width of the transformer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub width: usize,
    /// Width of its feed-forward layers
    #[arg(long, value_name = "N", default_value_t = 192)]
    pub feed_forward: usize,
    /// Attention heads; masks need --width and these together to be a multiple of 8
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub heads: usize,
    /// Layers of the encoder and of the decoder
    #[arg(long, value_name = "N,N", default_value = "2,3", value_delimiter = ',')]
    pub layers: Vec<usize>,
    /// How many objects can be found in a picture
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub queries: usize,
    /// The shorter side that pictures are brought to
    #[arg(long, value_name = "PIXELS", default_value_t = 96, value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub size: u32,
    /// The share of pictures that are flipped left for right (published: 0.5)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub flip: f64,
    /// The share of pictures of which a part is cut out (published: 0.5)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub crop: f64,
    /// Shorter sides drawn from 0.6 to 1 of --size, as published, in place of --size
    #[arg(long)]
    pub scales: bool,
    /// Weight of the loss of what the encoder alone says at each place, which teaches it faster; 0 for none, as published
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, value_parser = weight)]
    pub place_loss: f64,
    /// Steps of the whole run
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub steps: usize,
    /// Pictures in a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch_size: usize,
    /// The rate after the warm-up; it falls along a cosine to a hundredth at the end
    #[arg(long, value_name = "RATE", default_value_t = 6e-4)]
    pub learning_rate: f64,
    /// The backbone's rate as a share of --learning-rate (published: 0.1, for a backbone that can see already); 0 freezes it
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub backbone_rate: f64,
    /// Steps in which the rate rises
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub warmup: usize,
    /// Decay of the moving average of the weights, which is what is scored and kept
    #[arg(long, value_name = "SHARE", default_value_t = 0.998)]
    pub ema_decay: f64,
    /// The norm that gradients are clipped to
    #[arg(long, value_name = "NORM", default_value_t = 0.5)]
    pub clip_norm: f64,
    /// Weight decay of AdamW; norms and biases have none
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    pub weight_decay: f64,
    /// The seed of weights, order and changes
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub checkpoint_every: usize,
    /// Steps between scores
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub score_every: usize,
    #[command(flatten)]
    pub backend: Backend,
}

/// What of a network with masks learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Learned {
    /// The mask head
    Head,
    /// All of it
    All,
}

/// A detector that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// DETR
    Detr,
    /// Conditional DETR, which learns faster
    Conditional,
}

fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("must be a number from 0".to_owned()),
    }
}
