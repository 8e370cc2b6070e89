//! T5's tokenizer: the likeliest pieces of each word, as transformers' `T5Tokenizer` does it.
//!
//! ```text
//! text --nmt_nfkc--> words --a mark ahead of each--> "▁cat" --argmax of the sum of log p--> tokens, </s>
//! ```

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::special::Settings;
use super::{Tokenizer, TokenizerError, folder};

/// How transformers' `T5Tokenizer` names its special tokens where no config does.
pub(super) const DEFAULTS: &[(&str, &str)] =
    &[("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")];

/// From the content of a `tokenizer.json`, of which only the pieces and the table of characters count; an error says what is
/// wrong with it.
pub(super) fn build(file: &Value, settings: &Settings) -> Result<Tokenizer, String> {
    let end = settings.end.as_ref().map_or("</s>", |token| token.content.as_str());
    let pieces = file["model"]["vocab"].as_array().ok_or("its model has no list of pieces")?;
    let id = pieces
        .iter()
        .position(|piece| piece[0].as_str() == Some(end))
        .ok_or_else(|| format!("the vocabulary has no `{end}`, which every prompt needs"))?;
    let words = json!({"type": "WhitespaceSplit"});
    let mark = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let rebuilt = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": precompiled(&file["normalizer"]),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, mark.clone()]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {end: {"id": end, "ids": [id], "tokens": [end]}},
        },
        "decoder": mark,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": false},
    });
    let mut backend = folder::parse(&rebuilt)?;
    // Places for the spans that its training hid.
    let spans = (0..100).map(|span| format!("<extra_id_{span}>"));
    settings.clone().with_named(spans).add_to(&mut backend);
    Ok(Tokenizer::new(backend, settings))
}

/// The first table of characters in a normalizer.
fn precompiled(normalizer: &Value) -> Value {
    let all = match &normalizer["normalizers"] {
        Value::Array(all) => all.as_slice(),
        _ => std::slice::from_ref(normalizer),
    };
    all.iter().find(|step| step["type"] == "Precompiled").cloned().unwrap_or(Value::Null)
}

pub(super) fn built_in() -> Result<Tokenizer, TokenizerError> {
    const FILE: &[u8] = include_bytes!("../../assets/t5_tokenizer.json.gz");
    let fail = |reason| TokenizerError::File { file: "the built-in T5 tokenizer".to_owned(), reason };
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    let file: Value = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    let none = serde_json::Map::new();
    let added = file["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let settings = Settings::read(&none, &none, &none, added, DEFAULTS).map_err(fail)?;
    build(&file, &Settings { max_length: Some(512), ..settings }).map_err(fail)
}
