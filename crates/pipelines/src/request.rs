//! What is to be drawn.

use burn::tensor::Tensor;
use kiln_autoencoder::Pieces;
use kiln_diffusion::Guidance;
use serde::{Deserialize, Serialize};

use crate::{Control, Embeddings, Memory};

/// What is to be drawn, and how. [`Request::new`] asks for one picture of a prompt, in fifty steps, as diffusers does.
///
/// ```
/// use kiln_pipelines::Request;
///
/// let request = Request { steps: 30, seed: 7, size: Some([512, 768]), ..Request::new("a lighthouse in the rain") };
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    /// What the pictures show.
    pub prompt: Prompts,
    /// How prompts are read.
    pub wording: Wording,
    /// Pictures of each prompt.
    pub pictures: usize,
    /// Height and width in pixels; as the denoiser was trained, if not given.
    pub size: Option<[usize; 2]>,
    /// Steps of the solver.
    pub steps: usize,
    /// Classifier-free guidance; a scale up to 1 is none, and leaves negative prompts unread.
    pub guidance: Guidance,
    /// DDIM's eta, or TCD's gamma.
    pub eta: Option<f64>,
    /// Seeds the generator of all noise, which is PyTorch's on the CPU.
    pub seed: u64,
    /// The starting noise, `[pictures, channels, height, width]` of the latents, in place of the generator's.
    pub latents: Option<Tensor<4>>,
    /// What the run sets out from.
    pub start: Start,
    /// Pictures for the pipeline's control networks, one each.
    pub controls: Vec<Control>,
    /// Layers left out at the end of CLIP, beside those that the pipeline leaves out anyway (diffusers: `clip_skip`).
    pub clip_skip: Option<usize>,
    /// Tokens that T5 sees (Stable Diffusion 3).
    pub max_sequence_length: usize,
    /// How the autoencoder takes pictures: whole, or in tiles that save memory.
    pub pieces: Pieces,
    /// What becomes of networks that have done their part.
    pub memory: Memory,
}

/// What pictures show.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a request")]
pub enum Prompts {
    /// In words.
    Text {
        /// A picture of each.
        positive: Vec<String>,
        /// What they are to be unlike: one for all, one each, or none, which is the empty prompt.
        negative: Vec<String>,
    },
    /// As an encoder gave it.
    Embedded {
        /// A picture of each row.
        positive: Embeddings,
        /// What they are to be unlike, as many rows; needed where there is guidance.
        negative: Option<Embeddings>,
    },
}

/// How a prompt in words is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wording {
    /// Word by word, as diffusers does: brackets are characters, and what is beyond CLIP's 77 tokens is left out with a warning.
    #[default]
    Literal,
    /// With [weights](kiln_text::prompt), `(a kiln:1.3)`, and in as many chunks of CLIP's tokens as it takes. A prompt without weights and of one
    /// chunk is told as it is literally, to the bit. Stable Diffusion 3's T5 reads the words alone, and pooled states are the first chunk's.
    Weighted,
}

/// What a run sets out from.
#[derive(Clone, Debug, Default)]
#[allow(clippy::large_enum_variant, reason = "one in a request")]
pub enum Start {
    /// Noise.
    #[default]
    Noise,
    /// A picture, with noise of the step at which the run sets out (Meng et al. 2022, "SDEdit").
    Picture {
        /// `[1 or pictures, 3, height, width]` in 0..1.
        picture: Tensor<4>,
        /// How much of it is given up, from 0 to 1: the share of the steps that are made.
        strength: f64,
    },
    /// A picture of which one part is drawn anew.
    Inpaint {
        /// `[1 or pictures, 3, height, width]` in 0..1.
        picture: Tensor<4>,
        /// 1 where it is drawn anew and 0 where it stays, `[1 or pictures, 1, height, width]`; rounded.
        mask: Tensor<4>,
        /// As for a picture; at 1 nothing is seen of what is masked.
        strength: f64,
    },
}

impl Request {
    /// One picture of a prompt.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        let prompt = Prompts::Text { positive: vec![prompt.into()], negative: Vec::new() };
        Self {
            prompt,
            wording: Wording::Literal,
            pictures: 1,
            size: None,
            steps: 50,
            guidance: Guidance::new(7.5),
            eta: None,
            seed: 0,
            latents: None,
            start: Start::Noise,
            controls: Vec::new(),
            clip_skip: None,
            max_sequence_length: 256,
            pieces: Pieces::Whole,
            memory: Memory::Keep,
        }
    }

    /// The same with this as what it is to be unlike.
    #[must_use]
    pub fn unlike(mut self, text: impl Into<String>) -> Self {
        if let Prompts::Text { negative, .. } = &mut self.prompt {
            *negative = vec![text.into()];
        }
        self
    }

    /// Whether each picture takes the network twice.
    pub(crate) fn is_guided(&self) -> bool {
        self.guidance.scale > 1.0
    }
}
