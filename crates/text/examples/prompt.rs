//! A prompt as its tokens, and what an encoder of them makes of it:
//!
//!     cargo run --example prompt -- "a photo of a lighthouse"
//!     cargo run --example prompt -- "a photo of a lighthouse" PIPELINE/tokenizer PIPELINE/text_encoder
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;

use burn::tensor::Device;
use kiln_checkpoint::Contents;
use kiln_text::{ClipPad, ClipText, ClipTextConfig, Length, T5Config, T5Encoder, Tokenizer, Tokens};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (prompt, tokenizer, encoder) = match &arguments[..] {
        [prompt] => (prompt, Tokenizer::clip(ClipPad::EndOfText), None),
        [prompt, folder] => (prompt, Tokenizer::open(folder)?, None),
        [prompt, folder, encoder] => (prompt, Tokenizer::open(folder)?, Some(encoder)),
        _ => return Err("give a prompt, and perhaps the folders of a tokenizer and of an encoder".into()),
    };
    let length = tokenizer.max_length().map_or(Length::AsItIs, Length::AtMost);
    let tokens = tokenizer.encode(prompt, length)?;
    for &id in &tokens.ids {
        println!("{id:>6}  {}", tokenizer.token_of(id).unwrap_or_default());
    }
    if let Some(cut) = &tokens.cut {
        println!("cut off: {cut}");
    }
    if let Some(encoder) = encoder {
        encode(encoder, tokens)?;
    }
    Ok(())
}

fn encode(folder: &str, tokens: Tokens) -> Result<(), Box<dyn Error>> {
    let Contents::Model(model) = Contents::open(folder)? else { return Err("no encoder is there".into()) };
    let device = Device::flex();
    if let Ok(config) = ClipTextConfig::from_json(&model.config) {
        tokens.check(config.vocab_size, Some(config.max_position_embeddings))?;
        let found = model.load::<ClipText>(&device)?.forward(Tokens::batch(&[tokens], &device));
        println!("states {:?}, pooled {:?}", found.last_hidden_state.dims(), found.pooler_output.dims());
        if let Some(embedding) = found.text_embeds {
            println!("projected {:?}", embedding.dims());
        }
    } else {
        tokens.check(T5Config::from_json(&model.config)?.vocab_size, None)?;
        let states = model.load::<T5Encoder>(&device)?.forward(Tokens::batch(&[tokens], &device), None);
        println!("states {:?}", states.dims());
    }
    Ok(())
}
