//! Tokenizers: the numbers of transformers (tests/reference/text.py), lengths, and what was cut off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use burn::tensor::Device;
use kiln_text::{ClipPad, Length, Tokenizer, TokenizerError, Tokens};
use rstest::rstest;
use serde::Deserialize;
use serde_json::Value;

/// What transformers gives for every prompt.
#[derive(Deserialize)]
struct Golden {
    ids: Vec<Vec<u32>>,
    fixed: BTreeMap<String, Fixed>,
    pad: u32,
    vocabulary: usize,
    #[serde(default)]
    base: Option<String>,
    #[serde(default)]
    files: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Fixed {
    ids: Vec<Vec<u32>>,
    mask: Vec<String>,
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

static GOLDENS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(&fs::read_to_string(golden_folder().join("tokenizers.json")).unwrap()).unwrap()
});
static CLIP: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::clip(ClipPad::EndOfText));
static EXCLAMATION: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::clip(ClipPad::ExclamationMark));
static T5: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::t5);

fn prompts() -> Vec<String> {
    serde_json::from_value(GOLDENS["prompts"].clone()).unwrap()
}

fn golden(name: &str) -> Golden {
    serde_json::from_value(GOLDENS[name].clone()).unwrap()
}

#[track_caller]
fn assert_golden(name: &str, tokenizer: &Tokenizer) {
    let (prompts, golden) = (prompts(), golden(name));
    assert!(prompts.len() >= 60);
    let failures: Vec<_> = prompts
        .iter()
        .zip(&golden.ids)
        .filter_map(|(prompt, expected)| {
            let found = tokenizer.encode(prompt, Length::AsItIs).unwrap();
            (found.ids != *expected)
                .then(|| format!("{prompt:?}\n found    {:?}\n expected {expected:?}", found.ids))
        })
        .collect();
    assert!(failures.is_empty(), "{name}: {} prompts differ\n{}", failures.len(), failures.join("\n"));
    for (length, expected) in &golden.fixed {
        let length = Length::Exactly(length.parse().unwrap());
        for (at, prompt) in prompts.iter().enumerate() {
            let found = tokenizer.encode(prompt, length).unwrap();
            let mask: String =
                found.attention_mask.iter().map(|&visible| if visible { '1' } else { '0' }).collect();
            assert_eq!(found.ids, expected.ids[at], "{name}, {length:?}: {prompt:?}");
            assert_eq!(mask, expected.mask[at], "{name}, {length:?}: {prompt:?}");
        }
    }
    if !golden.fixed.is_empty() {
        assert_eq!(tokenizer.pad(), Some(golden.pad), "{name}");
    }
    assert_eq!(tokenizer.vocabulary(), golden.vocabulary, "{name}");
}

#[test]
fn the_built_in_clip_is_that_of_transformers() {
    assert_golden("clip", &CLIP);
    assert_eq!(CLIP.max_length(), Some(77));
}

#[test]
fn padded_with_exclamation_marks_those_of_a_prompt_are_padding_too() {
    assert_golden("clip_exclamation", &EXCLAMATION);
}

#[test]
fn the_built_in_t5_is_that_of_transformers() {
    assert_golden("t5", &T5);
    assert_eq!(T5.max_length(), Some(512));
}

#[test]
fn a_tokenizer_json_of_no_class_is_taken_at_its_word() {
    use std::io::Read;

    let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/t5_tokenizer.json.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(asset).unwrap()).read_to_string(&mut text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), text).unwrap();
    assert_golden("t5_as_it_says", &Tokenizer::open(folder.path()).unwrap());
}

/// The big vocabulary from the files that it is published in.
#[test]
fn vocabulary_and_merges_are_the_built_in_clip() {
    use std::io::Read;

    let asset = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/bpe_simple_vocab_16e6.txt.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(asset).unwrap()).read_to_string(&mut text).unwrap();
    let merges: Vec<_> = text.lines().skip(1).take(49_152 - 256 - 2).collect();
    let vocab: BTreeMap<String, u32> = (0..49_408).map(|id| (CLIP.token_of(id).unwrap(), id)).collect();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    fs::write(folder.path().join("vocab.json"), serde_json::to_string(&vocab).unwrap()).unwrap();
    assert_golden("clip", &Tokenizer::open(folder.path()).unwrap());
}

#[rstest]
fn folders_are_read_as_transformers_does(
    #[values(
        "tiny_clip",
        "tiny_clip_published",
        "tiny_clip_published_2",
        "tiny_clip_later",
        "tiny_clip_concept",
        "tiny_clip_left",
        "tiny_clip_saved",
        "tiny_t5",
        "tiny_t5_class"
    )]
    name: &str,
) {
    let golden = golden(name);
    let folder = tempfile::tempdir().unwrap();
    if let Some(base) = &golden.base {
        let base = golden_folder().join("tokenizers").join(base);
        for entry in fs::read_dir(base).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if golden.files.is_empty() || ["vocab.json", "merges.txt", "tokenizer.json"].contains(&file) {
                fs::copy(&path, folder.path().join(file)).unwrap();
            }
        }
    }
    for (file, content) in &golden.files {
        fs::write(folder.path().join(file), content.to_string()).unwrap();
    }
    assert_golden(name, &Tokenizer::open(folder.path()).unwrap());
}

#[test]
fn what_is_cut_off_is_told() {
    let prompt = "a photo of a lighthouse, very detailed";
    let cut = |tokenizer: &Tokenizer, length| tokenizer.encode(prompt, Length::AtMost(length)).unwrap().cut;
    assert_eq!(cut(&CLIP, 77), None);
    assert_eq!(cut(&CLIP, 10), None, "eight tokens, and two around them");
    assert_eq!(cut(&CLIP, 9).as_deref(), Some("detailed"));
    assert_eq!(cut(&CLIP, 7).as_deref(), Some(", very detailed"));
    assert_eq!(cut(&CLIP, 2).as_deref(), Some(prompt), "nothing fits");
    assert_eq!(cut(&T5, 7).as_deref(), Some("lighthouse, very detailed"));
    // An emoji is several tokens; told is the whole.
    let emoji = CLIP.encode("cat 🫠 dog", Length::AtMost(4)).unwrap();
    assert_eq!(emoji.ids.len(), 4);
    assert_eq!(emoji.cut.as_deref(), Some("🫠 dog"));
}

#[test]
fn a_length_is_what_was_asked_for() {
    for (tokenizer, added) in [(&*CLIP, 2), (&*T5, 1)] {
        for prompt in prompts() {
            let all = tokenizer.encode(&prompt, Length::AsItIs).unwrap();
            for length in [added, added + 1, 20, 77] {
                let exactly = tokenizer.encode(&prompt, Length::Exactly(length)).unwrap();
                let at_most = tokenizer.encode(&prompt, Length::AtMost(length)).unwrap();
                assert_eq!(exactly.ids.len(), length);
                assert_eq!(exactly.attention_mask.len(), length);
                assert_eq!(at_most.ids.len(), length.min(all.ids.len()));
                assert_eq!(exactly.ids[..at_most.ids.len()], at_most.ids, "padded at the end");
                assert_eq!(exactly.cut.is_some(), all.ids.len() > length);
            }
        }
        let error = tokenizer.encode("a", Length::Exactly(added - 1)).unwrap_err();
        assert!(matches!(error, TokenizerError::NoRoom { .. }), "{error}");
    }
}

#[test]
fn several_prompts_are_a_tensor() {
    let device = Device::flex();
    let prompts = CLIP.encode_all(&["a cat", "a dog"], Length::Exactly(5)).unwrap();
    assert_eq!(
        Tokens::batch(&prompts, &device).into_data().iter::<i64>().collect::<Vec<_>>(),
        [49406, 320, 2368, 49407, 49407, 49406, 320, 1929, 49407, 49407]
    );
    assert_eq!(Tokens::mask(&prompts, &device).dims(), [2, 1, 1, 5]);
}

#[test]
fn tokens_that_an_encoder_cannot_take_are_told() {
    let prompt = CLIP.encode("a cat", Length::Exactly(77)).unwrap();
    assert!(prompt.check(49_408, Some(77)).is_ok());
    let error = prompt.check(632, Some(77)).unwrap_err().to_string();
    assert!(error.contains("token 49406 is not among the 632"), "{error}");
    let error = prompt.check(49_408, Some(16)).unwrap_err().to_string();
    assert!(error.contains("77 tokens are more than the 16"), "{error}");
    assert!(prompt.check(49_408, None).is_ok());
}

#[test]
#[should_panic(expected = "pad them")]
fn prompts_of_several_lengths_are_no_batch() {
    let _ = Tokens::batch(&[CLIP.encode("a", Length::AsItIs).unwrap(), Tokens::default()], &Device::flex());
}
