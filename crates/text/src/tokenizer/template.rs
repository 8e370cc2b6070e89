//! What a `tokenizer.json` puts around a prompt (its `post_processor`): whether it can be put there.
//!
//! What follows a template trusts that it lists its tokens, and has places only for prompts that there are.

use tokenizers::PostProcessorWrapper;
use tokenizers::processors::template::{Piece, Sequence, TemplateProcessing};

/// What is wrong with it for single prompts, if anything is.
pub(super) fn check(post: &PostProcessorWrapper) -> Result<(), String> {
    match templates(post).as_slice() {
        [] => Ok(()),
        [template] => check_template(template),
        // The second would take the pieces of the first for prompts.
        _ => Err("its `post_processor` has a template after another".to_owned()),
    }
}

fn templates(post: &PostProcessorWrapper) -> Vec<&TemplateProcessing> {
    match post {
        PostProcessorWrapper::Template(template) => vec![template],
        PostProcessorWrapper::Sequence(steps) => steps.as_ref().iter().flat_map(templates).collect(),
        _ => Vec::new(),
    }
}

fn check_template(template: &TemplateProcessing) -> Result<(), String> {
    // Its pieces are shown by serde alone.
    let pieces = serde_json::to_value(&template.single).and_then(serde_json::from_value::<Vec<Piece>>);
    let listed = &template.get_special_tokens().0;
    pieces.map_err(|error| error.to_string())?.iter().try_for_each(|piece| match piece {
        Piece::SpecialToken { id, .. } if !listed.contains_key(id) => {
            Err(format!("its `post_processor` puts `{id}` around a prompt, and does not list it"))
        }
        Piece::Sequence { id: Sequence::B, .. } => {
            Err("its `post_processor` wants a second prompt in a single one's place".to_owned())
        }
        _ => Ok(()),
    })
}
