//! What a safetensors file holds.
//!
//!     cargo run --example contents -- model.safetensors
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;

use kiln_checkpoint::Checkpoint;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let file = Checkpoint::open(path)?;
    for (key, value) in file.metadata() {
        println!("{key}: {value}");
    }
    let mut parameters = 0;
    for (name, info) in file.tensors() {
        println!("{:<8} {:<20} {name}", info.dtype.to_string(), format!("{:?}", info.shape));
        parameters += info.shape.iter().product::<usize>();
    }
    println!("{parameters} numbers in {} tensors", file.tensors().count());
    Ok(())
}
