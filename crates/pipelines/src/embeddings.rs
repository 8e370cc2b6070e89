//! Prompts as denoisers are told them.
//!
//! ```text
//! Stable Diffusion 1, 2   CLIP's last states                                   [pictures, 77, width]
//! Stable Diffusion 3      CLIP L's and G's penultimate states side by side,    [pictures, 77 + T5's tokens, T5's width]
//!                         padded to T5's width; then T5's
//!                         and both pooled, side by side                        [pictures, L's + G's width]
//! ```

use burn::tensor::{DType, Device, Tensor};
use kiln_checkpoint::{LoraPart, StoredPipeline, config};
use kiln_text::{ClipPad, ClipText, ClipTextConfig, Length, T5Config, T5Encoder, Tokenizer, Tokens};
use serde::Deserialize;

use crate::lora::{Adaptable, Networks};
use crate::part::Part;
use crate::{Memory, PipelineError, Prompts, Request};

/// A prompt as a denoiser is told it.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Its states, `[pictures, tokens, channels]`.
    pub states: Tensor<3>,
    /// Its pooled form, `[pictures, channels]`, for denoisers that are told it.
    pub pooled: Option<Tensor<2>>,
}

impl Embeddings {
    /// Each row `count` times in a row.
    fn repeated(self, count: usize) -> Self {
        fn repeat<const D: usize>(x: &Tensor<D>, count: usize) -> Tensor<D> {
            let rows = x.dims()[0];
            let each = (0..rows).flat_map(|i| std::iter::repeat_n(x.clone().narrow(0, i, 1), count));
            Tensor::cat(each.collect(), 0)
        }
        if count == 1 {
            return self;
        }
        Self { states: repeat(&self.states, count), pooled: self.pooled.map(|pooled| repeat(&pooled, count)) }
    }

    /// The rows of both, `self`'s first.
    fn followed_by(self, other: Self) -> Self {
        Self {
            states: Tensor::cat(vec![self.states, other.states], 0),
            pooled: self.pooled.zip(other.pooled).map(|(a, b)| Tensor::cat(vec![a, b], 0)),
        }
    }
}

/// The tokenizer of this name, or the one that published weights without one mean.
fn tokenizer(
    pipeline: &StoredPipeline,
    name: &str,
    otherwise: impl FnOnce() -> Tokenizer,
) -> Result<Tokenizer, PipelineError> {
    Ok(match pipeline.folders.get(name) {
        Some(folder) => Tokenizer::open(folder)?,
        None => otherwise(),
    })
}

fn warn_of_cut(prompts: &[Tokens], length: usize) {
    for cut in prompts.iter().filter_map(|tokens| tokens.cut.as_deref()).filter(|cut| !cut.is_empty()) {
        tracing::warn!("the prompt is longer than {length} tokens; left out: {cut}");
    }
}

/// CLIP and its tokenizer.
#[derive(Debug)]
pub(crate) struct ClipPrompts {
    tokenizer: Tokenizer,
    encoder: Part<ClipText>,
    config: ClipTextConfig,
    /// Whether what pads a prompt is hidden.
    masked: bool,
}

/// Which of CLIP's states are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// The last, through the final norm.
    Last,
    /// Those ahead of the last layer, as they are.
    Penultimate,
}

impl ClipPrompts {
    pub(crate) fn open(
        pipeline: &mut StoredPipeline,
        [tokenizer_name, encoder_name]: [&'static str; 2],
        pad: impl FnOnce(&ClipTextConfig) -> ClipPad,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Extra {
            use_attention_mask: Option<bool>,
        }
        let encoder: Part<ClipText> = Part::of(pipeline, encoder_name, device)?;
        let config = ClipTextConfig::from_json(encoder.config())?;
        let extra: Extra = config::read(encoder.config(), &[CLIP[0], CLIP[1]])?;
        let tokenizer = tokenizer(pipeline, tokenizer_name, || Tokenizer::clip(pad(&config)))?;
        Ok(Self { tokenizer, encoder, config, masked: extra.use_attention_mask.unwrap_or(false) })
    }

    /// Tokens of a prompt, those around it and those that pad it included.
    pub(crate) fn length(&self) -> usize {
        self.tokenizer.max_length().unwrap_or(self.config.max_position_embeddings)
    }

    /// States `[prompts, length, channels]`, and the pooled state, projected where the encoder has a projection.
    pub(crate) fn encode(
        &self,
        prompts: &[String],
        length: usize,
        states: States,
        skip: usize,
        device: &Device,
    ) -> Result<(Tensor<3>, Tensor<2>), PipelineError> {
        let tokens = self.tokenizer.encode_all(prompts, Length::Exactly(length))?;
        warn_of_cut(&tokens, length);
        for tokens in &tokens {
            tokens.check(self.config.vocab_size, Some(self.config.max_position_embeddings))?;
        }
        let encoder = self.encoder.get()?;
        let mask = self.masked.then(|| Tokens::mask(&tokens, device));
        let output = encoder.forward_masked(Tokens::batch(&tokens, device), mask);
        let layers = self.config.num_hidden_layers;
        let skipped = |count: usize| {
            output.hidden_state(count).ok_or_else(|| {
                let reason = format!("leaves out {count} of the text encoder's {layers} layers");
                PipelineError::request("clip_skip", reason)
            })
        };
        let states = match (states, skip) {
            (States::Last, 0) => output.last_hidden_state.clone(),
            (States::Last, skip) => encoder.normalise(skipped(skip)?),
            (States::Penultimate, skip) => skipped(skip + 1)?,
        };
        Ok((states, output.text_embeds.unwrap_or(output.pooler_output)))
    }

    pub(crate) fn done(&self, memory: Memory) {
        self.encoder.done(memory);
    }
}

const CLIP: [&str; 2] = ["CLIPTextModel", "CLIPTextModelWithProjection"];

/// Stable Diffusion 1's and 2's one encoder.
pub(crate) fn open_clip(
    pipeline: &mut StoredPipeline,
    device: &Device,
) -> Result<ClipPrompts, PipelineError> {
    // Stable Diffusion 2 has OpenCLIP's H, which pads with an exclamation mark.
    let pad = |config: &ClipTextConfig| match config.hidden_size {
        1024 => ClipPad::ExclamationMark,
        _ => ClipPad::EndOfText,
    };
    ClipPrompts::open(pipeline, ["tokenizer", "text_encoder"], pad, device)
}

/// Stable Diffusion 3's three encoders, the last of which may be left out.
#[derive(Debug)]
pub(crate) struct ThreeEncoders {
    clip_l: ClipPrompts,
    clip_g: ClipPrompts,
    t5: Option<T5Prompts>,
}

#[derive(Debug)]
struct T5Prompts {
    tokenizer: Tokenizer,
    encoder: Part<T5Encoder>,
    vocabulary: usize,
}

impl ThreeEncoders {
    pub(crate) fn open(pipeline: &mut StoredPipeline, device: &Device) -> Result<Self, PipelineError> {
        let clip_l =
            ClipPrompts::open(pipeline, ["tokenizer", "text_encoder"], |_| ClipPad::EndOfText, device)?;
        let clip_g = ClipPrompts::open(
            pipeline,
            ["tokenizer_2", "text_encoder_2"],
            |_| ClipPad::ExclamationMark,
            device,
        )?;
        let t5 = match Part::maybe(pipeline, "text_encoder_3", device)? {
            None => None,
            Some(encoder) => {
                let encoder: Part<T5Encoder> = encoder;
                let vocabulary = T5Config::from_json(encoder.config())?.vocab_size;
                Some(T5Prompts {
                    tokenizer: tokenizer(pipeline, "tokenizer_3", Tokenizer::t5)?,
                    encoder,
                    vocabulary,
                })
            }
        };
        Ok(Self { clip_l, clip_g, t5 })
    }

    /// `width` is that of the states; T5 sees `t5_length` tokens, or none but zeros where there is no T5.
    pub(crate) fn encode(
        &self,
        prompts: &[String],
        skip: usize,
        [t5_length, width]: [usize; 2],
        device: &Device,
    ) -> Result<Embeddings, PipelineError> {
        let length = self.clip_l.length();
        let encode = |clip: &ClipPrompts| clip.encode(prompts, length, States::Penultimate, skip, device);
        let (l, pooled_l) = encode(&self.clip_l)?;
        let (g, pooled_g) = encode(&self.clip_g)?;
        let clip = Tensor::cat(vec![l, g], 2);
        let [batch, n, channels] = clip.dims();
        let dtype = clip.dtype();
        let t5 = match &self.t5 {
            None => Tensor::zeros([batch, t5_length, width], (device, dtype)),
            Some(t5) => t5.encode(prompts, t5_length, device)?.cast(dtype),
        };
        let [_, _, wide] = t5.dims();
        let missing = wide.checked_sub(channels).ok_or_else(|| {
            let reason = format!("are {wide} wide, and CLIP's {channels}, which are to be padded to them");
            PipelineError::request("T5's states", reason)
        })?;
        let clip = if missing > 0 {
            Tensor::cat(vec![clip, Tensor::zeros([batch, n, missing], (device, dtype))], 2)
        } else {
            clip
        };
        Ok(Embeddings {
            states: Tensor::cat(vec![clip, t5], 1),
            pooled: Some(Tensor::cat(vec![pooled_l, pooled_g], 1)),
        })
    }

    pub(crate) fn done(&self, memory: Memory) {
        self.clip_l.done(memory);
        self.clip_g.done(memory);
        if let Some(t5) = &self.t5 {
            t5.encoder.done(memory);
        }
    }
}

impl ClipPrompts {
    pub(crate) fn network(&mut self) -> &mut dyn Adaptable {
        &mut self.encoder
    }
}

impl ThreeEncoders {
    /// The encoders by what LoRAs call them.
    pub(crate) fn networks(&mut self) -> Networks<'_> {
        let mut networks = vec![
            (LoraPart::TextEncoder, self.clip_l.network()),
            (LoraPart::TextEncoder2, self.clip_g.network()),
        ];
        if let Some(t5) = &mut self.t5 {
            networks.push((LoraPart::TextEncoder3, &mut t5.encoder));
        }
        networks
    }
}

impl T5Prompts {
    fn encode(&self, prompts: &[String], length: usize, device: &Device) -> Result<Tensor<3>, PipelineError> {
        let tokens = self.tokenizer.encode_all(prompts, Length::Exactly(length))?;
        warn_of_cut(&tokens, length);
        for tokens in &tokens {
            tokens.check(self.vocabulary, None)?;
        }
        Ok(self.encoder.get()?.forward(Tokens::batch(&tokens, device), None))
    }
}

/// What a denoiser is told in a run.
#[derive(Debug)]
pub(crate) struct Told {
    /// The rows of what pictures show, one for each picture.
    pub(crate) positive: Embeddings,
    /// Where there is guidance, as many rows of what they are to be unlike, and then those.
    pub(crate) both: Embeddings,
    pub(crate) pictures: usize,
}

/// Channels of what a denoiser is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths {
    pub(crate) states: Option<usize>,
    pub(crate) pooled: Option<usize>,
}

/// The prompts of a request. `encode` is given prompts, and how many layers it leaves out.
pub(crate) fn told(
    request: &Request,
    is_guided: bool,
    widths: Widths,
    device: &Device,
    encode: impl Fn(&[String], usize) -> Result<Embeddings, PipelineError>,
) -> Result<Told, PipelineError> {
    let (positive, negative) = match &request.prompt {
        Prompts::Text { positive, .. } if positive.is_empty() => {
            return Err(PipelineError::request("the prompt", "is missing"));
        }
        Prompts::Text { positive, negative } => {
            let negative = is_guided.then(|| encode(&negatives(negative, positive.len())?, 0)).transpose()?;
            (encode(positive, request.clip_skip.unwrap_or(0))?, negative)
        }
        Prompts::Embedded { positive, negative } => {
            let positive = given(positive, widths, device)?;
            let shape = positive.states.dims();
            let negative = match negative {
                _ if !is_guided => None,
                Some(negative) if negative.states.dims() == shape => Some(given(negative, widths, device)?),
                _ => {
                    let reason = format!("of what pictures are to be unlike are needed too, {shape:?}");
                    return Err(PipelineError::request("prompt embeddings", reason));
                }
            };
            (positive, negative)
        }
    };
    if request.pictures == 0 {
        return Err(PipelineError::request("the number of pictures", "is 0"));
    }
    let positive = positive.repeated(request.pictures);
    let both = match negative {
        Some(negative) => negative.repeated(request.pictures).followed_by(positive.clone()),
        None => positive.clone(),
    };
    Ok(Told { pictures: positive.states.dims()[0], positive, both })
}

/// As many negative prompts as positive ones.
fn negatives(negative: &[String], count: usize) -> Result<Vec<String>, PipelineError> {
    match negative {
        [] => Ok(vec![String::new(); count]),
        [one] => Ok(vec![one.clone(); count]),
        each if each.len() == count => Ok(each.to_vec()),
        each => Err(PipelineError::request(
            "negative prompts",
            format!("are {} for {count} prompts; expected none, one, or one each", each.len()),
        )),
    }
}

/// Embeddings that were given, if a denoiser can be told them.
fn given(given: &Embeddings, widths: Widths, device: &Device) -> Result<Embeddings, PipelineError> {
    let [rows, _, channels] = given.states.dims();
    if let Some(width) = widths.states
        && width != channels
    {
        let reason = format!("have {channels} channels, and the denoiser takes {width}");
        return Err(PipelineError::request("prompt embeddings", reason));
    }
    let found = given.pooled.as_ref().map(Tensor::dims);
    let expected = widths.pooled.map(|channels| [rows, channels]);
    if expected.is_some() && found != expected {
        let reason = format!("are {found:?} in their pooled form, expected {expected:?}");
        return Err(PipelineError::request("prompt embeddings", reason));
    }
    let dtype = DType::from(device.settings().float_dtype);
    Ok(Embeddings {
        states: given.states.clone().cast(dtype),
        pooled: given.pooled.clone().map(|pooled| pooled.cast(dtype)),
    })
}
