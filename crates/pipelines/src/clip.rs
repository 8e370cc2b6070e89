//! CLIP and its tokenizer: a prompt's states, chunk after chunk.

use burn::tensor::{Device, Tensor};
use kiln_backend::watch::Place;
use kiln_checkpoint::{StoredPipeline, config};
use kiln_text::prompt::weigh;
use kiln_text::{Chunk, ClipPad, ClipText, ClipTextConfig, Length, Tokenizer, Tokens, WeightedPrompt};
use serde::Deserialize;

use crate::embeddings::{Asked, tokenizer, warn_of_cut};
use crate::lora::Adaptable;
use crate::part::Part;
use crate::{Memory, PipelineError, Wording};

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

    /// The network, for LoRAs.
    pub(crate) fn network(&mut self) -> &mut dyn Adaptable {
        &mut self.encoder
    }

    /// In how many chunks of `length` tokens the longest of these prompts is read.
    pub(crate) fn chunks(
        &self,
        prompts: &[String],
        length: usize,
        wording: Wording,
    ) -> Result<usize, PipelineError> {
        let read = self.read(prompts, length, wording)?;
        Ok(read.iter().map(Vec::len).max().unwrap_or(1))
    }

    /// The chunks of each prompt.
    fn read(
        &self,
        prompts: &[String],
        length: usize,
        wording: Wording,
    ) -> Result<Vec<Vec<Chunk>>, PipelineError> {
        let read = |prompt: &String| match wording {
            Wording::Literal => {
                let tokens = self.tokenizer.encode(prompt, Length::Exactly(length))?;
                let weights = vec![1.0; tokens.ids.len()];
                Ok(vec![Chunk { tokens, weights }])
            }
            Wording::Weighted => {
                Ok(self.tokenizer.encode_weighted(&WeightedPrompt::parse(prompt), length)?)
            }
        };
        prompts.iter().map(read).collect()
    }

    /// States `[prompts, chunks x length, channels]`, and the first chunk's pooled state, projected where the encoder has a projection.
    pub(crate) fn encode(
        &self,
        prompts: &[String],
        length: usize,
        states: States,
        asked: Asked,
        device: &Device,
    ) -> Result<(Tensor<3>, Tensor<2>), PipelineError> {
        let mut read = self.read(prompts, length, asked.wording)?;
        if let [empty] = &self.read(&[String::new()], length, asked.wording)?[..] {
            for chunks in &mut read {
                chunks.extend(empty.iter().cycle().take(asked.chunks.saturating_sub(chunks.len())).cloned());
            }
        }
        let mut all = Vec::with_capacity(asked.chunks);
        let mut first_pooled = None;
        for nth in 0..asked.chunks {
            let chunks = read.iter().filter_map(|chunks| chunks.get(nth).cloned());
            let (tokens, weights): (Vec<_>, Vec<_>) =
                chunks.map(|chunk| (chunk.tokens, chunk.weights)).unzip();
            let (states, pooled) = self.encode_chunk(&tokens, length, states, asked.skip, device)?;
            all.push(weigh(states, &weights));
            first_pooled.get_or_insert(pooled);
        }
        let states = if all.len() == 1 { all.remove(0) } else { Tensor::cat(all, 1) };
        match first_pooled {
            Some(pooled) => Ok((states, pooled)),
            None => Err(PipelineError::request("the prompt", "is read in no chunk")),
        }
    }

    fn encode_chunk(
        &self,
        tokens: &[Tokens],
        length: usize,
        states: States,
        skip: usize,
        device: &Device,
    ) -> Result<(Tensor<3>, Tensor<2>), PipelineError> {
        warn_of_cut(tokens, length);
        for tokens in tokens {
            tokens.check(self.config.vocab_size, Some(self.config.max_position_embeddings))?;
        }
        let encoder = self.encoder.get()?;
        let mask = self.masked.then(|| Tokens::mask(tokens, device));
        let output = encoder.forward_masked(Tokens::batch(tokens, device), mask);
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

    /// What a place in the encoder is called.
    pub(crate) fn place(&self, name: &str, place: Place) -> Option<String> {
        self.encoder.place(name, place)
    }

    pub(crate) fn done(&self, memory: Memory) {
        self.encoder.done(memory);
    }
}

/// `architectures` of the encoder's config.
const CLIP: [&str; 2] = ["CLIPTextModel", "CLIPTextModelWithProjection"];
