//! A prompt in as many chunks as it takes.

use tokenizers::tokenizer::PostProcessor;

use super::{Tokenizer, TokenizerError, Tokens};
use crate::prompt::WeightedPrompt;

/// As much of a prompt as an encoder reads at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Its tokens, those around and those that pad it included.
    pub tokens: Tokens,
    /// The weight of each.
    pub weights: Vec<f32>,
}

impl Tokenizer {
    /// Encode a prompt in chunks of `length` tokens each: one at least, a new one at each `BREAK` and whenever one is full.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_weighted(
        &self,
        prompt: &WeightedPrompt,
        length: usize,
    ) -> Result<Vec<Chunk>, TokenizerError> {
        let (before, after) = self.around()?;
        let added = before.len() + after.len();
        let room = length.checked_sub(added).filter(|room| *room > 0);
        let room = room.ok_or(TokenizerError::NoRoom { length, added })?;
        let mut chunks: Vec<Vec<(u32, f32)>> = Vec::new();
        for (segment, is_last) in prompt.segments.iter().zip((1..).map(|nth| nth == prompt.segments.len())) {
            let mut tokens = Vec::new();
            for words in segment {
                let ids = self.bare(&words.text)?;
                tokens.extend(ids.into_iter().map(|id| (id, words.weight as f32)));
            }
            if tokens.is_empty() && (!is_last || chunks.is_empty()) {
                chunks.push(Vec::new());
            }
            chunks.extend(tokens.chunks(room).map(<[_]>::to_vec));
        }
        let whole = |chunk: Vec<(u32, f32)>| {
            let ids: Vec<u32> = before
                .iter()
                .copied()
                .chain(chunk.iter().map(|(id, _)| *id))
                .chain(after.iter().copied())
                .collect();
            let mut tokens = Tokens { attention_mask: vec![true; ids.len()], ids, cut: None };
            self.pad_to(length, &mut tokens)?;
            let mut weights = vec![1.0; length];
            // A tokenizer may pad on the left.
            let first =
                tokens.attention_mask.iter().position(|is_token| *is_token).unwrap_or(0) + before.len();
            for (to, (_, weight)) in weights[first..].iter_mut().zip(chunk) {
                *to = weight;
            }
            Ok(Chunk { tokens, weights })
        };
        chunks.into_iter().map(whole).collect()
    }

    /// Tokens of a text, without those that are put around it.
    fn bare(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.backend.encode(text, false);
        let failed = |error: tokenizers::Error| TokenizerError::Prompt { reason: error.to_string() };
        Ok(encoding.map_err(failed)?.get_ids().to_vec())
    }

    /// The tokens that are put before a text and after it.
    fn around(&self) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
        let failed = |error: tokenizers::Error| TokenizerError::Prompt { reason: error.to_string() };
        let Some(post) = self.backend.get_post_processor() else { return Ok(Default::default()) };
        let bare = self.backend.encode("a", false).map_err(failed)?;
        let text = bare.get_ids().to_vec();
        let framed = post.process(bare, None, true).map_err(failed)?;
        let framed = framed.get_ids();
        let at = framed.windows(text.len().max(1)).position(|window| window == text).unwrap_or(framed.len());
        Ok((framed[..at].to_vec(), framed[(at + text.len()).min(framed.len())..].to_vec()))
    }
}
