//! Write what a path holds as a folder that diffusers and transformers read:
//! `cargo run --example convert -- model.safetensors OUT [f32|f16|bf16]`.

use std::env;
use std::error::Error;

use kiln_checkpoint::{Contents, StoredDType, write_folder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (input, out, dtype) = match &arguments[..] {
        [input, out] => (input, out, None),
        [input, out, dtype] => (input, out, Some(dtype.as_str())),
        _ => return Err("give the path of a model, a folder to write, and perhaps a type".into()),
    };
    let dtype = match dtype {
        None => None,
        Some("f32") => Some(StoredDType::F32),
        Some("f16") => Some(StoredDType::F16),
        Some("bf16") => Some(StoredDType::Bf16),
        Some(other) => return Err(format!("`{other}` is no type; give f32, f16 or bf16").into()),
    };
    write_folder(&Contents::open(input)?, out, dtype)?;
    Ok(())
}
