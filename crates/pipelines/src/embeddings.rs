//! Prompts as denoisers are told them.
//!
//! ```text
//! Stable Diffusion 1, 2   CLIP's last states                                   [pictures, 77, width]; 77 a chunk
//! Stable Diffusion 3      CLIP L's and G's penultimate states side by side,    [pictures, 77 + T5's tokens, T5's width]
//!                         padded to T5's width; then T5's
//!                         and both pooled, side by side                        [pictures, L's + G's width]
//! ```

use burn::tensor::{DType, Device, Tensor};
use kiln_backend::watch::Place;
use kiln_checkpoint::{LoraPart, StoredPipeline};
use kiln_text::{ClipPad, ClipTextConfig, Length, T5Config, T5Encoder, Tokenizer, Tokens, WeightedPrompt};

use crate::clip::{ClipPrompts, States};
use crate::lora::Networks;
use crate::part::Part;
use crate::{Memory, PipelineError, Prompts, Request, Wording};

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
pub(crate) fn tokenizer(
    pipeline: &StoredPipeline,
    name: &str,
    otherwise: impl FnOnce() -> Tokenizer,
) -> Result<Tokenizer, PipelineError> {
    Ok(match pipeline.folders.get(name) {
        Some(folder) => Tokenizer::open(folder)?,
        None => otherwise(),
    })
}

pub(crate) fn warn_of_cut(prompts: &[Tokens], length: usize) {
    for cut in prompts.iter().filter_map(|tokens| tokens.cut.as_deref()).filter(|cut| !cut.is_empty()) {
        tracing::warn!("the prompt is longer than {length} tokens; left out: {cut}");
    }
}

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

    /// In how many chunks CLIP reads the longest of them.
    pub(crate) fn chunks(&self, prompts: &[String], wording: Wording) -> Result<usize, PipelineError> {
        let length = self.clip_l.length();
        let (l, g) =
            (self.clip_l.chunks(prompts, length, wording)?, self.clip_g.chunks(prompts, length, wording)?);
        Ok(l.max(g))
    }

    /// `width` is that of the states; T5 sees `t5_length` tokens, or none but zeros where there is no T5.
    pub(crate) fn encode(
        &self,
        prompts: &[String],
        asked: Asked,
        [t5_length, width]: [usize; 2],
        device: &Device,
    ) -> Result<Embeddings, PipelineError> {
        let length = self.clip_l.length();
        let encode = |clip: &ClipPrompts| clip.encode(prompts, length, States::Penultimate, asked, device);
        let (l, pooled_l) = encode(&self.clip_l)?;
        let (g, pooled_g) = encode(&self.clip_g)?;
        let clip = Tensor::cat(vec![l, g], 2);
        let [batch, n, channels] = clip.dims();
        let dtype = clip.dtype();
        let t5 = match &self.t5 {
            None => Tensor::zeros([batch, t5_length, width], (device, dtype)),
            Some(t5) => {
                let plain = match asked.wording {
                    Wording::Literal => prompts.to_vec(),
                    Wording::Weighted => {
                        prompts.iter().map(|prompt| WeightedPrompt::parse(prompt).plain()).collect()
                    }
                };
                t5.encode(&plain, t5_length, device)?.cast(dtype)
            }
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

    /// What a place in one of them is called.
    pub(crate) fn place(&self, place: Place) -> Option<String> {
        let clips = [("text_encoder", &self.clip_l), ("text_encoder_2", &self.clip_g)];
        let named = clips.into_iter().find_map(|(name, clip)| clip.place(name, place));
        named.or_else(|| self.t5.as_ref()?.encoder.place("text_encoder_3", place))
    }

    pub(crate) fn done(&self, memory: Memory) {
        self.clip_l.done(memory);
        self.clip_g.done(memory);
        if let Some(t5) = &self.t5 {
            t5.encoder.done(memory);
        }
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

/// How prompts are to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) wording: Wording,
    /// In how many chunks: what is shorter is filled up with empty ones.
    pub(crate) chunks: usize,
    /// Layers that are left out.
    pub(crate) skip: usize,
}

/// The prompts of a request. `chunks` says in how many an encoder reads the longest of some prompts.
pub(crate) fn told(
    request: &Request,
    is_guided: bool,
    widths: Widths,
    device: &Device,
    chunks: impl Fn(&[String], Wording) -> Result<usize, PipelineError>,
    encode: impl Fn(&[String], Asked) -> Result<Embeddings, PipelineError>,
) -> Result<Told, PipelineError> {
    let (positive, negative) = match &request.prompt {
        Prompts::Text { positive, .. } if positive.is_empty() => {
            return Err(PipelineError::request("the prompt", "is missing"));
        }
        Prompts::Text { positive, negative } => {
            let wording = request.wording;
            let negative = is_guided.then(|| negatives(negative, positive.len())).transpose()?;
            let of_negative = negative.as_ref().map_or(Ok(1), |negative| chunks(negative, wording))?;
            let chunks = chunks(positive, wording)?.max(of_negative);
            let negative = negative.map(|negative| encode(&negative, Asked { wording, chunks, skip: 0 }));
            let skip = request.clip_skip.unwrap_or(0);
            (encode(positive, Asked { wording, chunks, skip })?, negative.transpose()?)
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
