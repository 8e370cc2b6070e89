//! Which files of a folder make a tokenizer.
//!
//! | files | tokenizer |
//! |---|---|
//! | `tokenizer.json` | what it says; of `CLIPTokenizer` and `T5Tokenizer` (in `tokenizer_config.json`) only the vocabulary counts, as in transformers |
//! | `vocab.json`, `merges.txt` | CLIP's |

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::models::bpe::Vocab;

use super::special::{self, Settings};
use super::{Tokenizer, TokenizerError, charsmap, clip, t5, template};

/// The largest vocabulary published is 33 MB.
const MAX_FILE: u64 = 1 << 27;

pub(super) fn open(folder: &Path) -> Result<Tokenizer, TokenizerError> {
    let beside = Beside::read(folder)?;
    let whole = folder.join("tokenizer.json");
    if whole.is_file() {
        return from_whole(&whole, &beside);
    }
    let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    if vocab.is_file() && merges.is_file() {
        return from_pair(&vocab, &merges, &beside);
    }
    let reason = if folder.join("spiece.model").is_file() {
        "holds a spiece.model alone, which is not read; save a tokenizer.json beside it (transformers' \
         `AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`)"
    } else {
        "holds no tokenizer: neither tokenizer.json, nor vocab.json and merges.txt"
    };
    Err(TokenizerError::Folder { folder: folder.display().to_string(), reason: reason.to_owned() })
}

/// The small files beside a vocabulary.
struct Beside {
    config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    added_tokens: Map<String, Value>,
    /// The first, for errors.
    label: String,
}

impl Beside {
    fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let config = folder.join("tokenizer_config.json");
        Ok(Self {
            special_tokens_map: object(&folder.join("special_tokens_map.json"))?,
            added_tokens: object(&folder.join("added_tokens.json"))?,
            config: object(&config)?,
            label: config.display().to_string(),
        })
    }

    fn settings(&self, of_file: &[Value], defaults: &[(&str, &str)]) -> Result<Settings, TokenizerError> {
        Settings::read(&self.config, &self.special_tokens_map, &self.added_tokens, of_file, defaults)
            .map_err(|reason| TokenizerError::File { file: self.label.clone(), reason })
    }
}

/// How transformers' `CLIPTokenizer` names its special tokens where no config does.
const CLIP_DEFAULTS: &[(&str, &str)] = &[
    ("bos_token", clip::START),
    ("eos_token", clip::END),
    ("unk_token", clip::END),
    ("pad_token", clip::END),
];

fn from_pair(vocab: &Path, merges: &Path, beside: &Beside) -> Result<Tokenizer, TokenizerError> {
    let words = numbers(Value::Object(object(vocab)?)).map_err(|reason| at(vocab, reason))?;
    let pairs = clip::merges(&read_text(merges)?).map_err(|reason| at(merges, reason))?;
    let settings = beside.settings(&[], CLIP_DEFAULTS)?;
    clip::build(words, pairs, &settings).map_err(|reason| at(vocab, reason))
}

fn from_whole(path: &Path, beside: &Beside) -> Result<Tokenizer, TokenizerError> {
    let mut file = Value::Object(object(path)?);
    let added = file["added_tokens"].as_array().cloned().unwrap_or_default();
    let class = beside.config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    match class.trim_end_matches("Fast") {
        "CLIPTokenizer" => {
            let settings = beside.settings(&added, CLIP_DEFAULTS)?;
            let model = file["model"].take();
            let pairs = pairs(&model["merges"]).map_err(|reason| at(path, reason))?;
            let words = numbers(model["vocab"].clone()).map_err(|reason| at(path, reason))?;
            clip::build(words, pairs, &settings).map_err(|reason| at(path, reason))
        }
        "T5Tokenizer" => {
            let settings = beside.settings(&added, t5::DEFAULTS)?;
            t5::build(&file, &settings).map_err(|reason| at(path, reason))
        }
        _ => {
            let mut settings = beside.settings(&added, &[])?;
            // What it pads with is said there too.
            if settings.pad.is_none() {
                settings.pad = file["padding"]["pad_token"].as_str().map(str::to_owned);
            }
            // Its own tokens come first, unless the config says more of them.
            let own = special::listed_in(&added).into_iter().map(|(_, token)| token);
            settings.listed = own.chain(settings.listed).collect();
            file["added_tokens"] = Value::Array(Vec::new());
            let mut backend = parse(&file).map_err(|reason| at(path, reason))?;
            backend.with_padding(None);
            backend.with_truncation(None).map_err(|error| at(path, error.to_string()))?;
            settings.add_to(&mut backend);
            Ok(Tokenizer::new(backend, &settings))
        }
    }
}

/// A tokenizer as a `tokenizer.json` describes it; an error says what is wrong with it.
pub(super) fn parse(file: &Value) -> Result<tokenizers::Tokenizer, String> {
    charsmap::check(&file["normalizer"])?;
    let model = &file["model"];
    // Merges are told from each other without it, byte by byte.
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    if !prefix.is_empty() && pairs(&model["merges"])?.iter().any(|(_, right)| !right.starts_with(prefix)) {
        return Err(format!("a merge's second token lacks `{prefix}`, the `continuing_subword_prefix`"));
    }
    let backend: tokenizers::Tokenizer =
        serde_json::from_value(file.clone()).map_err(|error| error.to_string())?;
    backend.get_post_processor().map_or(Ok(()), template::check)?;
    Ok(backend)
}

/// The merges of a `tokenizer.json`: each a list of two tokens, or a string with a space between them.
fn pairs(merges: &Value) -> Result<Vec<(String, String)>, String> {
    let wrong = || "its merges are not pairs of tokens".to_owned();
    let pair = |merge: &Value| match merge {
        Value::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
        Value::Array(two) => match two.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        _ => None,
    };
    merges.as_array().ok_or_else(wrong)?.iter().map(|merge| pair(merge).ok_or_else(wrong)).collect()
}

/// The numbers of a vocabulary.
fn numbers(vocab: Value) -> Result<Vocab, String> {
    let Value::Object(vocab) = vocab else { return Err("its vocabulary is not an object".to_owned()) };
    let number = |(token, id): (String, Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok((token, id)),
        None => Err(format!("the number of `{token}` is {id}")),
    };
    vocab.into_iter().map(number).collect()
}

/// The JSON object in a file; empty if there is no such file.
fn object(path: &Path) -> Result<Map<String, Value>, TokenizerError> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    serde_json::from_str(&read_text(path)?).map_err(|error| at(path, format!("not a JSON object: {error}")))
}

fn read_text(path: &Path) -> Result<String, TokenizerError> {
    let io = |source| TokenizerError::Io { file: path.display().to_string(), source };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)).map_err(io)?;
    if text.len() as u64 > MAX_FILE {
        let reason = format!("is longer than the {MAX_FILE} bytes that a tokenizer may have");
        return Err(io(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(text)
}

fn at(path: &Path, reason: String) -> TokenizerError {
    TokenizerError::File { file: path.display().to_string(), reason }
}
