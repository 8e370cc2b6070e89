//! Prompts with weights: the notation, the chunks, the states.

use std::sync::LazyLock;

use burn::tensor::{Distribution, Tensor};
use kiln_backend::testing;
use kiln_text::prompt::{WeightedPrompt, weigh};
use kiln_text::{Chunk, ClipPad, Length, Tokenizer, TokenizerError};
use proptest::prelude::*;
use rstest::rstest;

/// `words@weight|words@weight`, a `/` at each break.
fn written(prompt: &str) -> String {
    let segments = WeightedPrompt::parse(prompt).segments.into_iter().map(|segment| {
        let words = segment.iter().map(|words| format!("{}@{:.3}", words.text, words.weight));
        words.collect::<Vec<_>>().join("|")
    });
    segments.collect::<Vec<_>>().join("/")
}

#[rstest]
#[case::nothing("", "")]
#[case::plain("a red kiln", "a red kiln@1.000")]
#[case::literal(r"\(literal\]", "(literal]@1.000")]
#[case::needless("(unnecessary)(parens)", "unnecessaryparens@1.100")]
#[case::weight("a (red:1.3) kiln", "a @1.000|red@1.300| kiln@1.000")]
#[case::less("[red] kiln", "red@0.909| kiln@1.000")]
#[case::nested("((a) b)", "a@1.210| b@1.100")]
#[case::mixed(
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
    "a @1.000|house@1.573| @1.100|on@1.000| a @1.100|hill@0.550|, sun, @1.100|sky@1.464|.@1.100"
)]
#[case::product("((red:2):3)", "red@6.000")]
#[case::spaces("(red: 1.5 )", "red@1.500")]
#[case::negative("(red:-1)", "red@-1.000")]
#[case::open("a (red [kiln", "a @1.000|red @1.100|kiln@1.000")]
#[case::closed("a) red] kiln", "a) red] kiln@1.000")]
#[case::no_number("(a:b)", "a:b@1.100")]
#[case::no_weight("(a:1.2.3)", "a:1.2.3@1.100")]
#[case::not_a_weight("(a:inf) (b:1e3)", "a:inf@1.100| @1.000|b:1e3@1.100")]
#[case::no_bracket("a:1.3) b", "a:1.3) b@1.000")]
#[case::square("[a:1.3]", "a:1.3@0.909")]
#[case::backslash(r"a\b \\ \", r"a\b \ \@1.000")]
#[case::a_break("a red BREAK kiln", "a red@1.000/kiln@1.000")]
#[case::breaks("BREAK BREAK a", "//a@1.000")]
#[case::break_inside("(a BREAK b:2)", "a@2.000/b@2.000")]
#[case::no_break("aBREAK BREAKs BREAK_ break", "aBREAK BREAKs BREAK_ break@1.000")]
#[case::accents("(Köln:1.2) 窯", "Köln@1.200| 窯@1.000")]
fn the_notation(#[case] prompt: &str, #[case] expected: &str) {
    assert_eq!(written(prompt), expected);
}

#[rstest]
#[case("a (red:1.3) [kiln] BREAK in \\(the\\) rain", "a red kiln in (the) rain")]
#[case("BREAK a BREAK", "a")]
#[case("(:1.3)", "")]
fn words_alone(#[case] prompt: &str, #[case] expected: &str) {
    assert_eq!(WeightedPrompt::parse(prompt).plain(), expected);
}

static CLIP: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::clip(ClipPad::EndOfText));

fn chunks(prompt: &str) -> Vec<Chunk> {
    CLIP.encode_weighted(&WeightedPrompt::parse(prompt), 77).expect("chunks")
}

#[test]
fn a_short_prompt_is_one_chunk_as_it_is_without_weights() {
    for prompt in ["", "a photo of a lighthouse", "it's 3 o'clock, señor", &"a ".repeat(75)] {
        let found = chunks(prompt);
        assert_eq!(found.len(), 1, "{prompt}");
        assert_eq!(found[0].tokens, CLIP.encode(prompt, Length::Exactly(77)).expect("tokens"), "{prompt}");
        assert_eq!(found[0].weights, [1.0; 77]);
    }
}

#[test]
fn weights_stand_at_their_tokens() {
    let found = chunks("a (photo of:1.5) a [lighthouse]");
    let less = (1.0f64 / 1.1) as f32;
    assert_eq!(found[0].tokens.ids[..7], [49406, 320, 1125, 539, 320, 13717, 49407]);
    assert_eq!(found[0].weights[..7], [1.0, 1.0, 1.5, 1.5, 1.0, less, 1.0]);
}

#[test]
fn what_does_not_fit_goes_on_in_the_next_chunk() {
    let found = chunks(&format!("{} (kiln:2)", "a ".repeat(76)));
    assert_eq!(found.len(), 2);
    let [first, second] = &found[..] else { panic!("two") };
    assert!(first.tokens.ids[1..76].iter().all(|id| *id == 320) && first.tokens.ids[76] == 49407);
    let kiln = CLIP.encode("kiln", Length::AsItIs).expect("tokens").ids;
    let kiln = &kiln[1..kiln.len() - 1];
    assert_eq!(second.tokens.ids[..2], [49406, 320]);
    assert_eq!(second.tokens.ids[2..][..kiln.len()], *kiln);
    assert_eq!(second.weights[2..][..kiln.len()], vec![2.0; kiln.len()]);
    assert_eq!(second.weights[2 + kiln.len()..], vec![1.0; 75 - kiln.len()]);
    assert_eq!(second.tokens.attention_mask.iter().filter(|is_token| **is_token).count(), 3 + kiln.len());
    assert_eq!(chunks(&"a ".repeat(151)).len(), 3);
}

#[test]
fn breaks_begin_chunks() {
    let lengths = |prompt: &str| {
        let tokens = |chunk: &Chunk| chunk.tokens.attention_mask.iter().filter(|is| **is).count() - 2;
        chunks(prompt).iter().map(tokens).collect::<Vec<_>>()
    };
    assert_eq!(lengths("a BREAK a a"), [1, 2]);
    assert_eq!(lengths("a BREAK"), [1]);
    assert_eq!(lengths("BREAK a"), [0, 1]);
    assert_eq!(lengths("BREAK"), [0]);
    assert_eq!(lengths("a BREAK BREAK a"), [1, 0, 1]);
    assert_eq!(lengths(&format!("{}BREAK a", "a ".repeat(75))), [75, 1]);
}

#[test]
fn there_must_be_room() {
    let none = CLIP.encode_weighted(&WeightedPrompt::parse("a"), 2);
    assert!(matches!(none, Err(TokenizerError::NoRoom { length: 2, added: 2 })), "{none:?}");
}

#[test]
fn the_mean_is_restored() {
    for (backend, device) in testing::devices() {
        let z = Tensor::<3>::random([2, 5, 4], Distribution::Uniform(0.5, 1.5), &device);
        let weights = [vec![1.0, 1.4, 0.5, -0.2, 1.0], vec![1.0; 5]];
        let weighted = weigh(z.clone(), &weights);
        let mean = |x: &Tensor<3>, row: usize| -> f32 {
            let row: Vec<f32> = x.clone().narrow(0, row, 1).into_data().iter::<f32>().collect();
            row.iter().sum::<f32>() / row.len() as f32
        };
        assert!((mean(&weighted, 0) - mean(&z, 0)).abs() < 1e-5, "{backend}");
        let numbers = |x: Tensor<3>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        let (found, given) = (numbers(weighted.clone()), numbers(z.clone()));
        assert_eq!(found[20..], given[20..], "{backend}: a row without weights");
        // All tokens keep their direction: their ratios are those of the weights.
        let scale = found[0] / given[0];
        for (at, (found, given)) in found[..20].iter().zip(&given).enumerate() {
            assert!((found / given - scale * weights[0][at / 4]).abs() < 1e-5, "{backend}: {at}");
        }
        assert_eq!(numbers(weigh(z.clone(), &[vec![1.0; 5], vec![1.0; 5]])), given, "{backend}");
        // Nothing left: nothing to restore.
        let nothing = numbers(weigh(z, &[vec![0.0; 5], vec![1.0; 5]]));
        assert!(nothing[..20].iter().all(|number| *number == 0.0), "{backend}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_prompt(prompt in "[()\\[\\]\\\\:.0-9aBREAK ]{0,40}") {
        let parsed = WeightedPrompt::parse(&prompt);
        prop_assert!(!parsed.segments.is_empty());
        for words in parsed.segments.iter().flatten() {
            prop_assert!(!words.text.is_empty());
            prop_assert!(!words.weight.is_nan());
        }
        prop_assert!(!chunks(&prompt).is_empty());
    }
}
