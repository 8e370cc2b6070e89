//! What a sample costs: with what a decoder keeps, and naively, by a pass over all for each conditional.
//!
//! ```sh
//! RAYON_NUM_THREADS=1 cargo run --release --package kiln-autoregressive --example sampling
//! ```
//!
//! Draws pictures of 28 x 28 in both ways from the same numbers, and prints the two times, their ratio, how far the conditionals are
//! apart at most and how many of the drawn pixels differ. `--count` says how many pictures are drawn at once.

// A program that answers on its standard output.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use kiln_autoregressive::{
    AutoregressiveModel, Canvas, Decoder, GatedPixelCnnConfig, NadeConfig, Order, PixelCnnConfig, Replay,
    TransformerConfig, WaveNetConfig,
};
use kiln_backend::noise::NoiseKey;

const SIDE: usize = 28;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = match &arguments[..] {
        [] => 1,
        [flag, count] if flag == "--count" => count.parse()?,
        _ => return Err("usage: sampling [--count N]".into()),
    };
    let device = Device::flex();
    let order = || Order::natural(SIDE * SIDE);
    let canvas = Canvas::binary(SIDE, SIDE);
    println!("{count} pictures of {SIDE} x {SIDE}\n");
    println!("| model | kept | naive | ratio | conditionals apart | pixels that differ |");
    println!("|---|---|---|---|---|---|");
    compare("NADE, 500 hidden", &NadeConfig::new(order(), 500).init(&device)?, count);
    let pixel_cnn = PixelCnnConfig::new(canvas).with_features(32).with_blocks(5);
    compare("PixelCNN, 32 features, 5 blocks", &pixel_cnn.init(&device)?, count);
    let gated = GatedPixelCnnConfig::new(canvas).with_features(24).with_layers(5);
    compare("gated PixelCNN, 24 features, 5 layers", &gated.init(&device)?, count);
    let wave_net =
        WaveNetConfig::new(order()).with_channels(24).with_skip_channels(48).with_layers(10).with_stacks(1);
    compare("WaveNet, 24 channels, 10 layers", &wave_net.init(&device)?, count);
    compare("transformer, width 64, 2 layers", &TransformerConfig::new(order()).init(&device)?, count);
    Ok(())
}

fn compare<M: AutoregressiveModel>(name: &str, model: &M, count: usize) {
    // Memory is fetched and kernels are chosen before anything is timed.
    drop(drawn(model, model.decoder(count, None).as_mut(), 20));
    let decoders: [Box<dyn Decoder + '_>; 2] =
        [model.decoder(count, None), Box::new(Replay::new(model, count, None))];
    let [kept, naive] = decoders.map(|mut decoder| {
        let started = Instant::now();
        let drawn = drawn(model, decoder.as_mut(), model.sites());
        (started.elapsed().as_secs_f64(), drawn)
    });
    let apart = |i: usize| (kept.1[i].clone() - naive.1[i].clone()).abs();
    println!(
        "| {name} | {:.2} s | {:.2} s | {:.0} | {:.0e} | {} |",
        kept.0,
        naive.0,
        naive.0 / kept.0,
        apart(0).max().into_scalar::<f32>(),
        apart(1).sum().into_scalar::<f32>(),
    );
}

/// The numbers of the first conditionals, and what was drawn by them, `[count, places x width]` and `[count, places]`.
fn drawn<M: AutoregressiveModel>(model: &M, decoder: &mut dyn Decoder, places: usize) -> [Tensor<2>; 2] {
    let key = NoiseKey::new(7);
    let each = (0..places).map(|place| {
        let numbers = decoder.next();
        let value = model.family().draw(numbers.clone(), key.at_step(place as u64));
        decoder.push(value.clone());
        (numbers, value)
    });
    let (numbers, values): (Vec<_>, Vec<_>) = each.unzip();
    [Tensor::cat(numbers, 1), Tensor::cat(values, 1)]
}
