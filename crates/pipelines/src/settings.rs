//! A request in words and numbers, by diffusers' names: for files, command lines and a picture's own text chunk.

use burn::tensor::Tensor;
use kiln_conditioning::ControlMode;
use kiln_diffusion::Guidance;
use serde::{Deserialize, Serialize};

use crate::{Control, PipelineError, Prompts, Request, Start};

/// What diffusers' pipelines are told beside pictures, by the names of their arguments; what is absent is as the pipeline has it.
///
/// ```
/// use kiln_pipelines::{Inputs, Request, Settings};
///
/// let settings: Settings = serde_json::from_str(r#"{"prompt": "a lighthouse", "num_inference_steps": 30, "seed": 7}"#)?;
/// let request = settings.request(Request::new(""), Inputs::default())?;
/// assert_eq!((request.steps, request.seed), (30, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What pictures show: one or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<OneOrMany<String>>,
    /// What they are to be unlike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<OneOrMany<String>>,
    /// Pictures of each prompt.
    #[serde(skip_serializing_if = "Option::is_none", alias = "batch_size")]
    pub num_images_per_prompt: Option<usize>,
    /// Height in pixels, with `width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<usize>,
    /// Width in pixels, with `height`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Steps of the solver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_inference_steps: Option<usize>,
    /// The scale of classifier-free guidance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    /// See [`Guidance::rescale`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f64>,
    /// DDIM's eta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// The seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How much of the picture to set out from is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Layers of CLIP that are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<usize>,
    /// Tokens that T5 sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sequence_length: Option<usize>,
    /// How strongly each control counts: one for all, or one each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controlnet_conditioning_scale: Option<OneOrMany<f64>>,
    /// The share of the run before which each is silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_guidance_start: Option<OneOrMany<f64>>,
    /// The share of the run after which each is silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_guidance_end: Option<OneOrMany<f64>>,
    /// Whether controls count where there is no prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guess_mode: Option<bool>,
}

/// What a run is given in tensors: pictures in 0..1, `[1 or pictures, channels, height, width]`.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The starting noise.
    pub latents: Option<Tensor<4>>,
    /// The picture to set out from.
    pub image: Option<Tensor<4>>,
    /// 1 where it is drawn anew.
    pub mask_image: Option<Tensor<4>>,
    /// One for each control network.
    pub control_images: Vec<Tensor<4>>,
}

/// One value, or a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    /// The value, or all of them.
    #[must_use]
    pub fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }

    fn for_each(self, count: usize, what: &'static str) -> Result<Vec<T>, PipelineError> {
        match self {
            Self::One(one) => Ok(vec![one; count]),
            Self::Many(many) if many.len() == count => Ok(many),
            Self::Many(many) => {
                let reason = format!("has {} entries for {count} control pictures", many.len());
                Err(PipelineError::request(what, reason))
            }
        }
    }
}

impl Settings {
    /// A request: what is not said here is as in `base`, a pipeline's own.
    ///
    /// # Errors
    /// [`PipelineError::Request`] for one of height and width alone, a mask without a picture, or lists that don't go with the control pictures.
    pub fn request(self, base: Request, inputs: Inputs) -> Result<Request, PipelineError> {
        let size = match (self.height, self.width) {
            (Some(height), Some(width)) => Some([height, width]),
            (None, None) => base.size,
            _ => return Err(PipelineError::request("the size", "is given by height and width both")),
        };
        let prompt = match self.prompt {
            Some(positive) => Prompts::Text {
                positive: positive.list(),
                negative: self.negative_prompt.map(OneOrMany::list).unwrap_or_default(),
            },
            None => base.prompt,
        };
        let start = match (inputs.image, inputs.mask_image) {
            (None, None) => base.start,
            (Some(picture), None) => {
                Start::Picture { picture, strength: self.strength.unwrap_or(PICTURE_STRENGTH) }
            }
            (Some(picture), Some(mask)) => {
                Start::Inpaint { picture, mask, strength: self.strength.unwrap_or(INPAINT_STRENGTH) }
            }
            (None, Some(_)) => return Err(PipelineError::request("the mask", "goes with a picture")),
        };
        let count = inputs.control_images.len();
        let each = |given: Option<OneOrMany<f64>>, default, what| {
            given.unwrap_or(OneOrMany::One(default)).for_each(count, what)
        };
        let scales = each(self.controlnet_conditioning_scale, 1.0, "the scale of controls")?;
        let from = each(self.control_guidance_start, 0.0, "the start of controls")?;
        let to = each(self.control_guidance_end, 1.0, "the end of controls")?;
        let mode = match self.guess_mode {
            Some(true) => ControlMode::Guess,
            _ => ControlMode::Prompted,
        };
        let shares = scales.into_iter().zip(from.into_iter().zip(to));
        let controls = inputs.control_images.into_iter().zip(shares);
        Ok(Request {
            prompt,
            wording: base.wording,
            size,
            start,
            pictures: self.num_images_per_prompt.unwrap_or(base.pictures),
            steps: self.num_inference_steps.unwrap_or(base.steps),
            guidance: Guidance {
                scale: self.guidance_scale.unwrap_or(base.guidance.scale),
                rescale: self.guidance_rescale.unwrap_or(base.guidance.rescale),
                ..base.guidance
            },
            eta: self.eta.or(base.eta),
            seed: self.seed.unwrap_or(base.seed),
            latents: inputs.latents.or(base.latents),
            controls: controls
                .map(|(picture, (scale, (from, to)))| Control {
                    scale,
                    from,
                    to,
                    mode,
                    ..Control::new(picture)
                })
                .collect(),
            clip_skip: self.clip_skip.or(base.clip_skip),
            max_sequence_length: self.max_sequence_length.unwrap_or(base.max_sequence_length),
            pieces: base.pieces,
            memory: base.memory,
        })
    }
}

/// How much of a picture is given up, if nothing is said: diffusers' defaults.
const PICTURE_STRENGTH: f64 = 0.8;
const INPAINT_STRENGTH: f64 = 1.0;
