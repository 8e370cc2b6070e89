//! A prompt as numbers.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kiln_attention::Mask;

use super::TokenizerError;

/// A prompt as an encoder takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The numbers of its tokens, with those that are put around it and those that it was padded with.
    pub ids: Vec<u32>,
    /// For each of them, whether it is a token of the prompt, or put around it; false for what pads it.
    pub attention_mask: Vec<bool>,
    /// What did not fit: the prompt's words from the first token on that was cut off (up to the last one, where the tokenizer
    /// cuts at the start).
    pub cut: Option<String>,
}

impl Tokens {
    /// Check that an encoder of so many tokens, and positions if it has such, can take this prompt.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Vocabulary`] or [`TokenizerError::TooLong`].
    pub fn check(&self, vocabulary: usize, positions: Option<usize>) -> Result<(), TokenizerError> {
        let unknown = |id: &&u32| usize::try_from(**id).map_or(true, |id| id >= vocabulary);
        if let Some(&id) = self.ids.iter().find(unknown) {
            return Err(TokenizerError::Vocabulary { id, vocabulary });
        }
        match positions {
            Some(most) if self.ids.len() > most => {
                Err(TokenizerError::TooLong { found: self.ids.len(), most })
            }
            _ => Ok(()),
        }
    }

    /// The numbers of several prompts, `[batch, n]`.
    ///
    /// # Panics
    ///
    /// If they are not of one length.
    #[must_use]
    pub fn batch(prompts: &[Self], device: &Device) -> Tensor<2, Int> {
        Self::rows(prompts, device, |prompt| prompt.ids.iter().map(|&id| i64::from(id)).collect())
    }

    /// Shows the tokens of several prompts, and hides what pads them: over `[batch, heads, n, n]`.
    ///
    /// # Panics
    ///
    /// If they are not of one length.
    #[must_use]
    pub fn mask(prompts: &[Self], device: &Device) -> Mask {
        let visible =
            |prompt: &Self| prompt.attention_mask.iter().map(|&visible| i64::from(visible)).collect();
        Mask::visible_keys(Self::rows(prompts, device, visible))
    }

    fn rows(prompts: &[Self], device: &Device, row: impl Fn(&Self) -> Vec<i64>) -> Tensor<2, Int> {
        let n = prompts.first().map_or(0, |prompt| prompt.ids.len());
        let rows: Vec<i64> = prompts.iter().flat_map(row).collect();
        assert!(
            prompts.iter().all(|prompt| prompt.ids.len() == n),
            "prompts of several lengths in one batch: pad them"
        );
        Tensor::from_data(TensorData::new(rows, [prompts.len(), n]), device)
    }
}
