//! CLIP's tokenizer: byte-pair encoding of lower-case words, as transformers' `CLIPTokenizer` does it.
//!
//! ```text
//! text --NFC, white space to one space, lower case--> words, digits one by one, runs of the rest (spaces dropped)
//!      --bytes as letters--> "cat</w>" --the merge learned first, again and again--> tokens
//! ```

use std::io::Read;

use flate2::read::GzDecoder;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, normalizers};

use super::Tokenizer;
use super::special::{Settings, Special};

/// What CLIP's prompts are padded with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClipPad {
    /// The token that ends a text.
    #[default]
    EndOfText,
    /// Token 0, an exclamation mark. One in a prompt then is that token too, as in transformers.
    ExclamationMark,
}

pub(super) const START: &str = "<|startoftext|>";
pub(super) const END: &str = "<|endoftext|>";

/// Words, with the contractions of English apart; each digit; runs of what is neither.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// From a vocabulary and its merges; an error says what is wrong with them.
pub(super) fn build(vocab: Vocab, merges: Merges, settings: &Settings) -> Result<Tokenizer, String> {
    let named = |token: &Option<Special>, default: &str| {
        token.as_ref().map_or_else(|| default.to_owned(), |token| token.content.clone())
    };
    let (start, end) = (named(&settings.start, START), named(&settings.end, END));
    let id = |token: &str| {
        vocab
            .get(token)
            .copied()
            .ok_or_else(|| format!("the vocabulary has no `{token}`, which every prompt needs"))
    };
    let post = RobertaProcessing::new((end.clone(), id(&end)?), (start.clone(), id(&start)?))
        .trim_offsets(false)
        .add_prefix_space(false);
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .unk_token(named(&settings.unknown, END))
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|error| error.to_string())?;
    let mut backend = tokenizers::Tokenizer::new(bpe);
    let spaces = normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned());
    let spaces = Replace::new(spaces, " ").map_err(|error| error.to_string())?;
    let steps: Vec<NormalizerWrapper> = vec![NFC.into(), spaces.into(), Lowercase.into()];
    backend.with_normalizer(Some(Normalizers::new(steps)));
    let split = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true)
        .map_err(|error| error.to_string())?;
    let steps: Vec<PreTokenizerWrapper> = vec![split.into(), ByteLevel::new(false, true, true).into()];
    backend.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    backend.with_post_processor(Some(post));
    settings.add_to(&mut backend);
    let pad = settings.pad.clone().unwrap_or_else(|| END.to_owned());
    Ok(Tokenizer::new(backend, &Settings { pad: Some(pad), ..settings.clone() }))
}

/// The lines of a `merges.txt`: two tokens each, that make one.
pub(super) fn merges(text: &str) -> Result<Merges, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version"));
    let pair = |(at, line): (usize, &str)| match line.split(' ').collect::<Vec<_>>()[..] {
        [left, right] => Ok((left.to_owned(), right.to_owned())),
        _ => Err(format!("line {} is not two tokens with a space between them", at + 1)),
    };
    lines.map(pair).collect()
}

/// OpenAI's vocabulary of 16 million merges, of which the first 48,894 are used: bytes, bytes that end a word, what each
/// merge makes, and the two tokens around a text.
pub(super) fn built_in(pad: ClipPad) -> Result<Tokenizer, String> {
    const FILE: &[u8] = include_bytes!("../../assets/bpe_simple_vocab_16e6.txt.gz");
    const MERGES: usize = 49_152 - 256 - 2;
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let used = text.splitn(MERGES + 3, '\n').skip(1).take(MERGES).collect::<Vec<_>>().join("\n");
    let merges = merges(&used)?;
    let letters: Vec<String> = letters().map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let made = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let around = [START, END].map(str::to_owned);
    let all = letters.iter().cloned().chain(ends).chain(made).chain(around);
    let vocab: Vocab = all.zip(0..).collect();
    let settings = Settings {
        pad: Some(match pad {
            ClipPad::EndOfText => END.to_owned(),
            ClipPad::ExclamationMark => "!".to_owned(),
        }),
        max_length: Some(77),
        ..Settings::default()
    };
    let mut settings = settings.with_named([START, END]);
    if pad == ClipPad::ExclamationMark {
        settings = settings.with_named(["!"]);
    }
    build(vocab, merges, &settings)
}

/// A letter for each byte: itself if it can be seen, and the next one from U+0100 on if not; in the vocabulary's order.
fn letters() -> impl Iterator<Item = char> {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let unseen = (0..=255).filter(move |byte| !seen(byte)).zip('\u{100}'..).map(|(_, letter)| letter);
    (0..=255).filter(seen).map(char::from).chain(unseen)
}
