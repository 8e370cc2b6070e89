//! `CLIPTextModel` and its kin: `input_ids`, `attention_mask` to `last_hidden_state`, `pooler_output`, `text_embeds`, the
//! states between layers as `hidden_states.<i>`, and of these the last but one as `penultimate_hidden_state`.
//! `T5EncoderModel`, and the encoder of the models that have a decoder too: to `last_hidden_state`.

use anyhow::{Context, Result};
use burn::tensor::{Int, Tensor};
use kiln::attention::Mask;
use kiln::checkpoint::StoredModel;
use kiln::text::{ClipText, ClipTextConfig, T5Config, T5Encoder};

use super::Case;
use super::call::{
    Call,
    Side::{Any, Is},
};
use super::compare::Outputs;

pub const CLIP_TEXT: Case = clip_class("CLIPTextModel");
pub const CLIP_TEXT_PROJECTION: Case = clip_class("CLIPTextModelWithProjection");
pub const CLIP: Case = clip_class("CLIPModel");

pub const T5_ENCODER: Case = t5_class("T5EncoderModel");
pub const T5: Case = t5_class("T5Model");
pub const T5_GENERATION: Case = t5_class("T5ForConditionalGeneration");
pub const T5_LM_HEAD: Case = t5_class("T5WithLMHeadModel");

const fn t5_class(class: &'static str) -> Case {
    Case {
        class,
        check: |config| T5Config::from_json(config).map(drop),
        fits: |inputs| inputs.contains("input_ids"),
        run: t5,
    }
}

const fn clip_class(class: &'static str) -> Case {
    Case {
        class,
        check: |config| ClipTextConfig::from_json(config).map(drop),
        fits: |inputs| inputs.contains("input_ids"),
        run: clip,
    }
}

fn clip(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = ClipTextConfig::from_json(&model.config)?;
    let (ids, mask) = inputs(call, config.vocab_size)?;
    if ids.dims()[1] > config.max_position_embeddings {
        let (tokens, places) = (ids.dims()[1], config.max_position_embeddings);
        anyhow::bail!(
            "input.input_ids holds {tokens} tokens a prompt, and the network has places for {places}"
        );
    }
    call.understood()?;
    let network: ClipText = model.load(call.device())?;
    let output = network.forward_masked(ids, mask);
    let mut outputs = Outputs::default();
    outputs.push("penultimate_hidden_state", output.penultimate_hidden_state());
    for (index, states) in output.hidden_states.into_iter().enumerate() {
        outputs.push(format!("hidden_states.{index}"), states);
    }
    outputs.push("last_hidden_state", output.last_hidden_state);
    outputs.push("pooler_output", output.pooler_output);
    if let Some(text_embeds) = output.text_embeds {
        outputs.push("text_embeds", text_embeds);
    }
    Ok(outputs)
}

fn t5(model: &StoredModel, call: &Call<'_>) -> Result<Outputs> {
    let config = T5Config::from_json(&model.config)?;
    let (ids, mask) = inputs(call, config.vocab_size)?;
    call.understood()?;
    let network: T5Encoder = model.load(call.device())?;
    let mut outputs = Outputs::default();
    outputs.push("last_hidden_state", network.forward(ids, mask));
    Ok(outputs)
}

fn inputs(call: &Call<'_>, words: usize) -> Result<(Tensor<2, Int>, Option<Mask>)> {
    let ids = call
        .integers("input_ids", [Any("batch"), Any("tokens")], words)?
        .with_context(|| call.missing("input_ids"))?;
    let mask = call.mask("attention_mask", ids.dims().map(Is))?;
    Ok((ids, mask.map(|mask| Mask::visible_keys(mask.greater_elem(0.5).int()))))
}
