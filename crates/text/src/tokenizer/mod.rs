//! Tokenizers: prompts as the numbers that transformers gives them.
//!
//! ```text
//! CLIP  NFC, spaces made one, lower case; words, digits and the rest apart; bytes, merged pair by pair (BPE)
//! T5    characters made compatible (nmt_nfkc); split at white space; the likeliest pieces (unigram)
//! ```
//!
//! (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Kudo 2018, "Subword
//! Regularization".) CLIP's prompts are put between a token that starts and one that ends a text; T5's are ended.
//!
//! | file | what is in it |
//! |---|---|
//! | `folder` | which files of a folder make a tokenizer |
//! | `special` | special tokens, and what else the configs beside a tokenizer say |
//! | `clip`, `t5` | the two kinds, from files or built in |
//! | `charsmap` | whether T5's table of characters can be trusted |
//! | `template` | whether what is put around a prompt can be |
//! | `tokens` | a prompt as numbers, and as a tensor |
//! | `chunks` | a prompt with weights, in as many chunks as it takes |

mod charsmap;
mod chunks;
mod clip;
mod error;
mod folder;
mod special;
mod t5;
mod template;
mod tokens;

use std::path::Path;

use tokenizers::tokenizer::PostProcessor;
use tokenizers::{Encoding, TruncationDirection};

pub use chunks::Chunk;
pub use clip::ClipPad;
pub use error::TokenizerError;
pub use tokens::Tokens;

use special::{Settings, Side};

/// How long an encoded prompt shall be, tokens put around it included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As long as it is.
    AsItIs,
    /// So long at most: what is beyond is cut off.
    AtMost(usize),
    /// So long: what is beyond is cut off, and a shorter prompt is padded. It is what pipelines use.
    Exactly(usize),
}

/// A tokenizer of CLIP, T5, or any other kind that a `tokenizer.json` describes.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    backend: tokenizers::Tokenizer,
    pad: Option<u32>,
    max_length: Option<usize>,
    padding: Side,
    truncation: Side,
}

impl Tokenizer {
    /// The tokenizer of a folder: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`; with `tokenizer_config.json`,
    /// `special_tokens_map.json` and `added_tokens.json`, if they are there. No other file is read, whatever these say.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`], naming the file, if there is no tokenizer in the folder or it is not what it says.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        folder::open(folder.as_ref())
    }

    /// CLIP's tokenizer, for files of weights that come without: 49,408 tokens, prompts of up to 77. Stable Diffusion 1 and
    /// the first encoder of XL and 3 pad with the end of the text, Stable Diffusion 2 and the second encoder of XL and 3 with
    /// an exclamation mark.
    ///
    /// # Panics
    ///
    /// Never: its tests read what is built in.
    #[must_use]
    pub fn clip(pad: ClipPad) -> Self {
        clip::built_in(pad).expect("the built-in tokenizer is whole")
    }

    /// T5's tokenizer, for files of weights that come without: 32,100 tokens, prompts of up to 512.
    ///
    /// # Panics
    ///
    /// Never: its tests read what is built in.
    #[must_use]
    pub fn t5() -> Self {
        t5::built_in().expect("the built-in tokenizer is whole")
    }

    fn new(backend: tokenizers::Tokenizer, settings: &Settings) -> Self {
        let pad = settings.pad.as_ref().and_then(|token| backend.token_to_id(token));
        Self {
            backend,
            pad,
            max_length: settings.max_length,
            padding: settings.padding,
            truncation: settings.truncation,
        }
    }

    /// Number of tokens, added ones included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.backend.get_vocab_size(true)
    }

    /// The longest prompt of its model (`model_max_length`), if it says.
    #[must_use]
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The token that prompts are padded with, if there is one.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The number of a token, as it is spelled in the vocabulary.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.backend.token_to_id(token)
    }

    /// The spelling of a token in the vocabulary.
    #[must_use]
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.backend.id_to_token(id)
    }

    /// Encode a prompt.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NoRoom`] or [`TokenizerError::NoPad`] if it can't have that length;
    /// [`TokenizerError::Prompt`] if it has something in it that the vocabulary has no token for, not even one for the unknown.
    pub fn encode(&self, prompt: &str, length: Length) -> Result<Tokens, TokenizerError> {
        let failed = |error: tokenizers::Error| TokenizerError::Prompt { reason: error.to_string() };
        let mut encoding = self.backend.encode(prompt, false).map_err(failed)?;
        let post = self.backend.get_post_processor();
        let added = post.map_or(0, |post| post.added_tokens(false));
        let cut = match length {
            Length::AsItIs => None,
            Length::AtMost(length) | Length::Exactly(length) => {
                let room = length.checked_sub(added).ok_or(TokenizerError::NoRoom { length, added })?;
                self.truncate(&mut encoding, room, prompt)
            }
        };
        if let Some(post) = post {
            encoding = post.process(encoding, None, true).map_err(failed)?;
        }
        let mut tokens =
            Tokens { attention_mask: vec![true; encoding.len()], ids: encoding.get_ids().to_vec(), cut };
        if let Length::Exactly(length) = length {
            self.pad_to(length, &mut tokens)?;
        }
        Ok(tokens)
    }

    /// Encode several prompts.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_all<P: AsRef<str>>(
        &self,
        prompts: &[P],
        length: Length,
    ) -> Result<Vec<Tokens>, TokenizerError> {
        prompts.iter().map(|prompt| self.encode(prompt.as_ref(), length)).collect()
    }

    /// Cuts `encoding` to `room` tokens; what of `prompt` is gone then.
    fn truncate(&self, encoding: &mut Encoding, room: usize, prompt: &str) -> Option<String> {
        let gone = encoding.len().checked_sub(room).filter(|&gone| gone > 0)?;
        let offsets = encoding.get_offsets();
        let (gone, direction) = match self.truncation {
            Side::Right => (slice(prompt, offsets[room].0, prompt.len()), TruncationDirection::Right),
            Side::Left => (slice(prompt, 0, offsets[gone - 1].1), TruncationDirection::Left),
        };
        encoding.truncate(room, 0, direction);
        Some(gone.trim().to_owned())
    }

    fn pad_to(&self, length: usize, tokens: &mut Tokens) -> Result<(), TokenizerError> {
        let missing = length.saturating_sub(tokens.ids.len());
        if missing == 0 {
            return Ok(());
        }
        let pad = self.pad.ok_or(TokenizerError::NoPad)?;
        let at = match self.padding {
            Side::Right => tokens.ids.len(),
            Side::Left => 0,
        };
        tokens.ids.splice(at..at, std::iter::repeat_n(pad, missing));
        tokens.attention_mask.splice(at..at, std::iter::repeat_n(false, missing));
        Ok(())
    }
}

/// The bytes from `start` to `end` of `text`, and the rest of the characters that they begin or end in.
fn slice(text: &str, start: usize, end: usize) -> &str {
    let start = (0..=start.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let end = (end..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    &text[start.min(end)..end]
}
