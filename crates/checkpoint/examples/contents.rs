//! What a folder or a file holds.
//!
//!     cargo run --example contents -- PATH
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;

use kiln_checkpoint::{Checkpoint, Contents};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which folder or file?")?;
    match Contents::open(path)? {
        Contents::Model(model) => {
            println!("{}: {}", model.class()?.as_deref().unwrap_or("a model"), model.config);
            list(&model.weights);
        }
        Contents::Pipeline(pipeline) => {
            println!("{}", pipeline.class);
            for (part, model) in &pipeline.models {
                println!("\n{part}: {}", model.class()?.as_deref().unwrap_or("a model"));
                list(&model.weights);
            }
            for (part, folder) in &pipeline.folders {
                println!("\n{part}: {}", folder.display());
            }
        }
        Contents::Scheduler(config) => println!("{config}"),
        Contents::Tensors(tensors) => list(&tensors),
    }
    Ok(())
}

fn list(tensors: &Checkpoint) {
    for (key, value) in tensors.metadata() {
        println!("{key}: {value}");
    }
    let mut numbers = 0;
    for (name, info) in tensors.tensors() {
        println!("{:<8} {:<20} {name}", info.dtype.to_string(), format!("{:?}", info.shape));
        numbers += info.shape.iter().product::<usize>();
    }
    println!("{numbers} numbers in {} tensors of {}", tensors.tensors().count(), tensors.label());
}
