//! What can go wrong between a prompt and a picture.

use kiln_checkpoint::{CheckpointError, ConfigError, LoraError};
use kiln_denoisers::sd3::LatentSizeError;
use kiln_diffusion::DiffusionError;
use kiln_picture::PictureError;
use kiln_text::TokenizerError;
use thiserror::Error;

/// What can go wrong between a prompt and a picture.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A file of the pipeline can't be read, or is not what it says.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A LoRA can't be used, or does not go with the pipeline's networks.
    #[error(transparent)]
    Lora(LoraError),
    /// A config makes no network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The scheduler's config, or the steps asked for, can't be used.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// A tokenizer can't be read, or a prompt can't be told with it.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The transformer can't take latents of this size.
    #[error(transparent)]
    LatentSize(#[from] LatentSizeError),
    /// A picture can't be made.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The checkpoint is another pipeline's.
    #[error("a `{found}` is no pipeline that is known here; known are {known}")]
    Class {
        /// What it says it is.
        found: String,
        /// What can be opened.
        known: String,
    },
    /// A part that the pipeline can't do without is not in the checkpoint.
    #[error("the pipeline has no part `{part}`")]
    Part {
        /// Its name, as in `model_index.json`.
        part: &'static str,
    },
    /// What was asked for can't be drawn.
    #[error("{what}: {reason}")]
    Request {
        /// Which field of the request.
        what: &'static str,
        /// What is wrong with it, and what it may be.
        reason: String,
    },
    /// A network gave numbers that are not finite.
    #[error(
        "{part} gave numbers that are not finite{}{}; {advice}",
        step.map_or(String::new(), |step| format!(" at step {}", step + 1)),
        layer.as_ref().map_or(String::new(), |layer| format!(", first in `{layer}`"))
    )]
    NotFinite {
        /// The part.
        part: String,
        /// The step, from 0, if it was one of the denoiser's.
        step: Option<usize>,
        /// The layer or block that gave them first, as the checkpoint names it, where it could be found: `unet.mid_block.resnets.0`.
        layer: Option<String>,
        /// What to do.
        advice: &'static str,
    },
    /// The observer ended the run.
    #[error("stopped after step {step} of {steps}")]
    Stopped {
        /// Steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
}

impl PipelineError {
    pub(crate) fn request(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Request { what, reason: reason.into() }
    }
}
