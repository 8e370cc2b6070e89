//! Tokenizers that are not what they say: an error that names the file, never a panic.

use std::fs;
use std::path::Path;

use kiln_text::{Length, Tokenizer, TokenizerError};
use proptest::prelude::*;
use proptest::sample::Index;
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers").join(name))
        .unwrap()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[track_caller]
fn error_of(files: &[(&str, &str)]) -> TokenizerError {
    let folder = folder(files);
    Tokenizer::open(folder.path()).expect_err("it is malformed")
}

#[track_caller]
fn assert_names(error: &TokenizerError, parts: [&str; 2]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_folder_without_a_tokenizer_says_what_it_may_hold() {
    assert_names(&error_of(&[]), ["no tokenizer", "vocab.json and merges.txt"]);
    assert_names(&error_of(&[("vocab.json", "{}")]), ["no tokenizer", "merges.txt"]);
    assert_names(&error_of(&[("spiece.model", "")]), ["spiece.model", "save_pretrained"]);
    let error = Tokenizer::open("/no/such/folder").unwrap_err();
    assert!(matches!(error, TokenizerError::Folder { .. }), "{error}");
}

#[rstest]
#[case::not_json("vocab.json", "{\"a\": 1", "not a JSON object")]
#[case::list("vocab.json", "[1, 2]", "not a JSON object")]
#[case::negative("vocab.json", r#"{"a": -1}"#, "the number of `a` is -1")]
#[case::word("vocab.json", r#"{"a": "one"}"#, "the number of `a`")]
#[case::without_specials("vocab.json", r#"{"a": 0}"#, "no `<|endoftext|>`")]
#[case::one_token("merges.txt", "#version: 0.2\na b\nc\n", "line 3")]
#[case::three_tokens("merges.txt", "a b c", "line 1")]
#[case::config("tokenizer_config.json", "{", "not a JSON object")]
#[case::side("tokenizer_config.json", r#"{"padding_side": "top"}"#, "`padding_side`")]
#[case::length("tokenizer_config.json", r#"{"model_max_length": "long"}"#, "`model_max_length`")]
#[case::no_length("tokenizer_config.json", r#"{"model_max_length": 0}"#, "`model_max_length`")]
#[case::token("tokenizer_config.json", r#"{"bos_token": 3}"#, "`bos_token`")]
#[case::listed("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": "y"}}"#, "`added_tokens_decoder`")]
#[case::map("special_tokens_map.json", "3", "not a JSON object")]
#[case::added("added_tokens.json", "", "not a JSON object")]
fn a_malformed_clip_is_told_by_its_file(#[case] file: &str, #[case] text: &str, #[case] part: &str) {
    let (vocab, merges) = (golden("clip/vocab.json"), golden("clip/merges.txt"));
    // What is written last counts.
    let error = error_of(&[("vocab.json", &vocab), ("merges.txt", &merges), (file, text)]);
    assert_names(&error, [file, part]);
}

#[test]
fn merges_of_tokens_that_are_not_there_are_told() {
    let (vocab, merges) = (golden("clip/vocab.json"), golden("clip/merges.txt"));
    let error = error_of(&[("vocab.json", &vocab), ("merges.txt", &format!("{merges}xyzzy plugh\n"))]);
    assert_names(&error, ["vocab.json", "xyzzy"]);
}

#[test]
fn binary_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), [0xFF, 0xFE, 0x00]).unwrap();
    let error = Tokenizer::open(folder.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::Io { .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

/// Configs may name other files, as transformers' old ones do; none is opened.
#[test]
fn paths_in_a_config_are_not_followed() {
    let outside = folder(&[("vocab.json", "{}")]);
    let away = outside.path().join("vocab.json").display().to_string();
    let config =
        json!({"vocab_file": away, "tokenizer_file": "../../etc/passwd", "merges_file": "/dev/zero"});
    let files = [
        ("vocab.json", golden("clip/vocab.json")),
        ("merges.txt", golden("clip/merges.txt")),
        ("tokenizer_config.json", config.to_string()),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let folder = folder(&files);
    assert_eq!(Tokenizer::open(folder.path()).unwrap().vocabulary(), 632);
}

fn t5() -> Value {
    serde_json::from_str(&golden("t5/tokenizer.json")).unwrap()
}

#[track_caller]
fn assert_t5(file: &Value, class: &str, part: &str) {
    let config = json!({"tokenizer_class": class}).to_string();
    let error = error_of(&[("tokenizer.json", &file.to_string()), ("tokenizer_config.json", &config)]);
    assert_names(&error, ["tokenizer.json", part]);
}

#[test]
fn a_malformed_tokenizer_json_is_told() {
    for class in ["", "T5Tokenizer"] {
        let mut file = t5();
        file["model"]["vocab"] = json!([]);
        assert_t5(&file, class, "tokenizer.json");
        file["model"]["vocab"] = json!([["a", "b"]]);
        assert_t5(&file, class, "tokenizer.json");
        file["model"]["vocab"] = json!([["</s>", 0.0]]);
        assert_t5(&file, class, "UnkId");
        let mut file = t5();
        file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "%"});
        assert_t5(&file, class, "base64");
        file["normalizer"]["precompiled_charsmap"] = json!("AAAA");
        assert_t5(&file, class, "contradicts itself");
    }
    let mut file = t5();
    file["model"] = json!({"type": "Nonsense"});
    assert_t5(&file, "", "tokenizer.json");
    assert_t5(&file, "CLIPTokenizer", "merges");
    file["model"] = json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]});
    assert_t5(&file, "CLIPTokenizer", "no `<|endoftext|>`");
    assert_t5(&file, "", "b");
    file["model"]["continuing_subword_prefix"] = json!("####");
    assert_t5(&file, "", "continuing_subword_prefix");
}

/// What is put around a prompt is looked up by name, and its places by number.
#[rstest]
#[case::not_listed(json!({"SpecialToken": {"id": "<s>", "type_id": 0}}), "puts `<s>` around")]
#[case::second(json!({"Sequence": {"id": "B", "type_id": 0}}), "second prompt")]
fn a_template_that_cannot_be_filled_is_told(#[case] piece: Value, #[case] part: &str) {
    let mut file = t5();
    file["post_processor"]["single"][1] = piece;
    assert_t5(&file, "", part);
    let steps = json!([{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}, file["post_processor"]]);
    file["post_processor"] = json!({"type": "Sequence", "processors": steps});
    assert_t5(&file, "", part);
}

#[test]
fn a_template_after_another_is_told() {
    let mut file = t5();
    let step = file["post_processor"].take();
    file["post_processor"] = json!({"type": "Sequence", "processors": [step, step]});
    assert_t5(&file, "", "after another");
}

/// A trie of 256 units whose root points out of it: what walks it would too.
#[test]
fn a_table_that_leads_out_of_itself_is_refused() {
    let table = |root: u32| {
        let mut bytes = 1024_u32.to_le_bytes().to_vec();
        bytes.extend(root.to_le_bytes());
        bytes.resize(4 + 1024, 0);
        let mut file = t5();
        file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": base64(&bytes)});
        file
    };
    assert_t5(&table(300 << 10), "", "contradicts itself");
    let file = table(0).to_string();
    let folder = folder(&[("tokenizer.json", &file)]);
    assert!(
        Tokenizer::open(folder.path()).unwrap().encode("a", Length::AsItIs).is_ok(),
        "an empty one is whole"
    );
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits =
            group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        let digit = |at: usize| DIGITS[(bits >> (18 - 6 * at)) as usize & 63] as char;
        (0..4).map(|at| if at <= group.len() { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn padding_without_a_token_for_it_is_an_error() {
    let mut file = t5();
    file["padding"] = Value::Null;
    let folder = folder(&[("tokenizer.json", &file.to_string())]);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert!(tokenizer.encode("a", Length::AtMost(4)).is_ok());
    let error = tokenizer.encode("a", Length::Exactly(9)).unwrap_err();
    assert!(matches!(error, TokenizerError::NoPad), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A tokenizer.json with some of its bytes changed, or cut short, opens or does not, and then encodes or does not.
    #[test]
    fn changed_bytes_cause_no_panic(
        changes in prop::collection::vec((0_usize..6000, any::<u8>()), 0..4),
        cut in prop::option::weighted(0.2, 0_usize..6000),
        class in prop::sample::select(vec!["", "T5Tokenizer", "CLIPTokenizer"]),
        prompt in "\\PC{0,12}",
    ) {
        let mut bytes = golden("t5/tokenizer.json").into_bytes();
        for (at, byte) in changes {
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        open_and_encode(&bytes, class, &prompt);
    }

    /// The same of a tokenizer.json with some of its parts gone, or another part in their places.
    #[test]
    fn changed_parts_cause_no_panic(
        changes in prop::collection::vec((any::<Index>(), prop::option::of(any::<Index>())), 1..4),
        class in prop::sample::select(vec!["", "T5Tokenizer", "CLIPTokenizer"]),
        prompt in "\\PC{0,12}",
    ) {
        let mut file = t5();
        // A piece more or less makes no difference, and most of the file is pieces.
        file["model"]["vocab"].as_array_mut().unwrap().truncate(20);
        let parts = parts(&file);
        for (at, other) in changes {
            let other = other.map_or(Value::Null, |other| file.pointer(other.get(&parts).as_str()).cloned().unwrap_or_default());
            if let Some(part) = file.pointer_mut(at.get(&parts).as_str()) {
                *part = other;
            }
        }
        open_and_encode(file.to_string().as_bytes(), class, &prompt);
    }
}

fn open_and_encode(tokenizer_json: &[u8], class: &str, prompt: &str) {
    let folder = folder(&[("tokenizer_config.json", &json!({"tokenizer_class": class}).to_string())]);
    fs::write(folder.path().join("tokenizer.json"), tokenizer_json).unwrap();
    if let Ok(tokenizer) = Tokenizer::open(folder.path()) {
        let _ = tokenizer.encode(prompt, Length::Exactly(9));
        let _ = tokenizer.encode(prompt, Length::AsItIs);
    }
}

/// JSON pointers to all that is inside of `value`.
fn parts(value: &Value) -> Vec<String> {
    let inside: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.replace('/', "~1"), field)).collect()
        }
        _ => Vec::new(),
    };
    let below = |(name, item): (String, &Value)| {
        std::iter::once(format!("/{name}"))
            .chain(parts(item).into_iter().map(move |part| format!("/{name}{part}")))
            .collect::<Vec<_>>()
    };
    inside.into_iter().flat_map(below).collect()
}
