//! What can go wrong with a tokenizer.

use std::io;

use thiserror::Error;

/// A tokenizer that can't be read, or a prompt that can't be used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The operating system refused.
    #[error("{file}: can't read: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder without a tokenizer.
    #[error("{folder}: {reason}")]
    Folder {
        /// The folder.
        folder: String,
        /// What it lacks, and what it may hold.
        reason: String,
    },
    /// A file that is not what its name says.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A prompt was to be padded, with no token to pad it with.
    #[error(
        "the tokenizer names no `pad_token`; encode without padding, or name one in tokenizer_config.json"
    )]
    NoPad,
    /// A length that the tokens around a prompt alone exceed.
    #[error("a length of {length} has no room for the {added} tokens that are put around a prompt")]
    NoRoom {
        /// The length asked for.
        length: usize,
        /// How many tokens are put around a prompt.
        added: usize,
    },
    /// A prompt that the tokenizer can't split.
    #[error("the prompt can't be tokenized: {reason}")]
    Prompt {
        /// Why not.
        reason: String,
    },
    /// A token that an encoder does not have: tokenizer and encoder do not belong together.
    #[error(
        "token {id} is not among the {vocabulary} that the encoder knows; is the tokenizer another model's?"
    )]
    Vocabulary {
        /// The token.
        id: u32,
        /// How many the encoder knows.
        vocabulary: usize,
    },
    /// A prompt of more tokens than an encoder has positions for.
    #[error("{found} tokens are more than the {most} that the encoder takes")]
    TooLong {
        /// Tokens of the prompt.
        found: usize,
        /// Positions of the encoder.
        most: usize,
    },
}
