//! Special tokens, and what else the configs beside a tokenizer say of it.

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// An end of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    #[default]
    Right,
    Left,
}

/// A token that is looked for in a prompt before it is split.
#[derive(Clone, Debug)]
pub(super) struct Special {
    pub content: String,
    token: AddedToken,
}

impl Special {
    fn named(content: &str) -> Self {
        Self { content: content.to_owned(), token: AddedToken::from(content, true) }
    }

    /// A string, or an object as transformers writes it; `None` for anything else.
    fn read(value: &Value, special: bool) -> Option<Self> {
        let object = match value {
            Value::String(content) => return Some(Self::named(content)),
            Value::Object(object) => object,
            _ => return None,
        };
        let content = object.get("content")?.as_str()?;
        let flag = |name: &str, default| object.get(name).and_then(Value::as_bool).unwrap_or(default);
        let special = flag("special", special);
        let token = AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special));
        Some(Self { content: content.to_owned(), token })
    }
}

/// What the files beside a vocabulary say.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// `bos_token`.
    pub start: Option<Special>,
    /// `eos_token`.
    pub end: Option<Special>,
    /// `unk_token`.
    pub unknown: Option<Special>,
    /// `pad_token`.
    pub pad: Option<String>,
    /// `model_max_length`.
    pub max_length: Option<usize>,
    /// `padding_side`.
    pub padding: Side,
    /// `truncation_side`.
    pub truncation: Side,
    /// Tokens to look for in prompts, in the order in which those that are new get their numbers.
    pub listed: Vec<Special>,
    /// Those that are named (`pad_token`, ...): looked for too, where they are not in the list.
    pub named: Vec<Special>,
}

/// The names of special tokens, in transformers' order.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Settings {
    /// From `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, and the added tokens of a
    /// `tokenizer.json`; the last three count only where the first does not list all added tokens itself
    /// (`added_tokens_decoder`). An error says what is wrong with the first.
    pub fn read(
        config: &Map<String, Value>,
        special_tokens_map: &Map<String, Value>,
        added_tokens: &Map<String, Value>,
        of_file: &[Value],
        defaults: &[(&str, &str)],
    ) -> Result<Self, String> {
        let listed = match config.get("added_tokens_decoder") {
            None | Some(Value::Null) => None,
            Some(Value::Object(listed)) => Some(numbered(listed)?),
            Some(_) => return Err("`added_tokens_decoder` is not an object".to_owned()),
        };
        let map = if listed.is_some() { &Map::new() } else { special_tokens_map };
        let mut all = listed.unwrap_or_else(|| {
            let mut numbered: Vec<(u64, Special)> = Vec::new();
            for (content, id) in added_tokens {
                let plain = AddedToken::from(content.as_str(), false).normalized(true);
                let token = Special { content: content.clone(), token: plain };
                numbered.extend(id.as_u64().map(|id| (id, token)));
            }
            numbered.extend(listed_in(of_file));
            numbered
        });
        all.sort_by_key(|(id, _)| *id);
        let all: Vec<Special> = all.into_iter().map(|(_, token)| token).collect();

        let named = |name: &str| -> Result<Option<Special>, String> {
            let value = match (map.get(name), config.get(name)) {
                (Some(value), _) => Special::read(value, true).map(Some),
                (None, None | Some(Value::Null)) => Some(
                    defaults.iter().find(|(field, _)| *field == name).map(|(_, token)| Special::named(token)),
                ),
                (None, Some(value)) => Special::read(value, false).map(Some),
            };
            let mut token = value
                .ok_or_else(|| format!("`{name}` is neither a token nor an object with its `content`"))?;
            if let Some(token) = &mut token {
                // What is said of it in the list of all tokens counts.
                if let Some(listed) = all.iter().find(|listed| listed.content == token.content) {
                    *token = listed.clone();
                }
                token.token.special = true;
            }
            Ok(token)
        };
        let mut settings = Self {
            start: named("bos_token")?,
            end: named("eos_token")?,
            unknown: named("unk_token")?,
            pad: named("pad_token")?.map(|token| token.content),
            max_length: max_length(config)?,
            padding: side(config, "padding_side")?,
            truncation: side(config, "truncation_side")?,
            listed: all.clone(),
            named: Vec::new(),
        };
        for name in NAMES {
            settings.named.extend(named(name)?);
        }
        for field in ["additional_special_tokens", "extra_special_tokens"] {
            let more = map.get(field).or_else(|| config.get(field)).and_then(Value::as_array);
            settings.named.extend(more.into_iter().flatten().filter_map(|token| Special::read(token, true)));
        }
        Ok(settings)
    }

    /// These, to be looked for too.
    pub fn with_named(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.named.extend(names.into_iter().map(|name| Special::named(name.as_ref())));
        self
    }

    /// Has `backend`, which looks for none yet, look for the special tokens. Of several that are spelled alike the last one
    /// says how, but a name says nothing of a token that is listed.
    pub fn add_to(&self, backend: &mut tokenizers::Tokenizer) {
        let mut all: Vec<AddedToken> = Vec::new();
        let mut add = |token: &AddedToken| match all.iter_mut().find(|known| known.content == token.content) {
            Some(known) => *known = token.clone(),
            None => all.push(token.clone()),
        };
        self.listed.iter().for_each(|listed| add(&listed.token));
        let is_listed = |content: &str| self.listed.iter().any(|listed| listed.content == content);
        self.named.iter().filter(|named| !is_listed(&named.content)).for_each(|named| add(&named.token));
        backend.add_tokens(&all);
    }
}

/// The tokens that a `tokenizer.json` lists, by their numbers.
pub(super) fn listed_in(file: &[Value]) -> Vec<(u64, Special)> {
    let number = |token: &Value| token.get("id").and_then(Value::as_u64);
    file.iter().filter_map(|token| number(token).zip(Special::read(token, false))).collect()
}

/// The tokens of `added_tokens_decoder`, each under its number.
fn numbered(listed: &Map<String, Value>) -> Result<Vec<(u64, Special)>, String> {
    let read = |(id, token): (&String, &Value)| {
        let wrong = || format!("`added_tokens_decoder`: `{id}` is not a number with a token");
        Ok((id.parse().map_err(|_| wrong())?, Special::read(token, false).ok_or_else(wrong)?))
    };
    listed.iter().map(read).collect()
}

/// `model_max_length`; transformers writes 10^30 where there is none.
fn max_length(config: &Map<String, Value>) -> Result<Option<usize>, String> {
    match config.get("model_max_length") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match (value.as_u64(), value.as_f64()) {
            (Some(0), _) | (_, None) => Err(format!("`model_max_length` is {value}")),
            (Some(length), _) => Ok(usize::try_from(length).ok()),
            (None, Some(length)) if length >= 1.0 => Ok((length < 1e9).then_some(length as usize)),
            (None, Some(_)) => Err(format!("`model_max_length` is {value}")),
        },
    }
}

fn side(config: &Map<String, Value>, field: &str) -> Result<Side, String> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(Side::default()),
        Some(Value::String(side)) if side == "right" => Ok(Side::Right),
        Some(Value::String(side)) if side == "left" => Ok(Side::Left),
        Some(value) => Err(format!("`{field}` is {value}; expected \"right\" or \"left\"")),
    }
}
