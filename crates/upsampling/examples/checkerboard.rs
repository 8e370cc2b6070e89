//! The checkerboards of layers at their start: what each makes of a picture of one value.
//!
//! ```text
//! cargo run --release --package kiln-upsampling --example checkerboard -- [SHEET.png]
//! ```
//!
//! Every pixel of 64 channels is 1, so that an output without a checkerboard is a constant, away from the edges. The table gives
//! the standard deviation over the places of a block of factor x factor pixels, as a share of the root of the mean square, over
//! 64 channels of output. SHEET shows one channel of each, in the table's order, from its least to its greatest value.

use std::error::Error;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2dConfig, ConvTranspose2dConfig};
use burn::tensor::{Device, Tensor};
use kiln_picture::{Channels, Filter, Picture, grid};
use kiln_upsampling::{
    CarafeConfig, DySampleConfig, Mode, PixelShuffleConfig, ResizeConvolution, Target, Upsample,
    bed_of_nails, bilinear_transposed, convolve_transposed, icnr_convolution, nearest,
};

const CHANNELS: usize = 64;
const SIDE: usize = 16;
const FACTOR: usize = 2;
/// Pixels of the result that the picture's edge reaches.
const EDGE: usize = 8;

/// Each layer's name, and what it makes of a constant.
fn made(device: &Device) -> Vec<(&'static str, Tensor<4>)> {
    let x = || Tensor::<4>::ones([1, CHANNELS, SIDE, SIDE], device);
    let transposed = |kernel: usize, out: usize| {
        let config = ConvTranspose2dConfig::new([CHANNELS; 2], [kernel; 2]).with_stride([FACTOR; 2]);
        let layer = config.with_padding([1; 2]).with_padding_out([out; 2]).init(device);
        convolve_transposed(&layer, x())
    };
    let conv = Conv2dConfig::new([CHANNELS, FACTOR * FACTOR * CHANNELS], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device);
    let icnr = icnr_convolution([CHANNELS; 2], 3, FACTOR, device);
    let shuffle = PixelShuffleConfig::new(FACTOR).init();
    let upsample = |mode| Upsample::new(Target::Factor([FACTOR as f64; 2]), mode).forward(x());
    vec![
        ("bed of nails, max unpooling", bed_of_nails(x(), [FACTOR; 2])),
        ("nearest", nearest(x(), [FACTOR * SIDE; 2])),
        ("bilinear", upsample(Mode::Bilinear)),
        ("bicubic", upsample(Mode::Bicubic)),
        ("transposed convolution 3 x 3", transposed(3, 1)),
        ("transposed convolution 4 x 4", transposed(4, 0)),
        (
            "the same, bilinear start",
            convolve_transposed(&bilinear_transposed(CHANNELS, FACTOR, device), x()),
        ),
        ("convolution, pixel shuffle", shuffle.forward(conv.forward(x()))),
        ("the same, ICNR start", shuffle.forward(icnr.forward(x()))),
        (
            "resize convolution",
            ResizeConvolution::new([CHANNELS; 2], 3, FACTOR, Mode::Nearest, device).forward(x()),
        ),
        ("CARAFE", CarafeConfig::new(CHANNELS).init(device).forward(x())),
        ("DySample", DySampleConfig::new(CHANNELS).init(device).forward(x())),
    ]
}

/// The middle, which no edge reaches.
fn inner(y: Tensor<4>) -> Tensor<4> {
    let side = FACTOR * SIDE - 2 * EDGE;
    y.narrow(2, EDGE, side).narrow(3, EDGE, side)
}

/// Deviation between the places of a block, as a share of the root of the mean square.
fn checkerboard(y: Tensor<4>) -> f64 {
    let square = f64::from(y.clone().square().mean().into_scalar::<f32>());
    let [_, channels, height, width] = y.dims();
    let (rows, columns) = (height / FACTOR, width / FACTOR);
    let blocks = y.reshape([channels, rows, FACTOR, columns, FACTOR]).mean_dim(1).mean_dim(3);
    let blocks: Tensor<2> = blocks.reshape([channels, FACTOR * FACTOR]);
    let off = blocks.clone() - blocks.mean_dim(1);
    (f64::from(off.square().mean().into_scalar::<f32>()) / square).sqrt()
}

fn shown(y: Tensor<4>) -> Result<Picture, Box<dyn Error>> {
    let values: Vec<f32> = y.narrow(1, 0, 1).into_data().iter::<f32>().collect();
    let (least, greatest) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    let side = (FACTOR * SIDE - 2 * EDGE) as u32;
    // What rounding alone makes is shown as the constant that it is.
    let span = greatest - least;
    let level = |v: f32| if span < 1e-4 { 0.5 } else { (v - least) / span };
    let samples = values.iter().map(|&v| (255.0 * level(v)).round() as u8).collect();
    Ok(Picture::new(side, side, Channels::Grey, samples)?.resize(96, 96, Filter::Nearest)?)
}

#[allow(clippy::print_stdout, reason = "an example's result")]
fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    device.seed(0);
    println!("| layer at its start | checkerboard |");
    println!("|---|---:|");
    let mut shots = Vec::new();
    for (name, y) in made(&device) {
        let y = inner(y);
        println!("| {name} | {:.3} |", checkerboard(y.clone()));
        shots.push(shown(y)?);
    }
    if let Some(sheet) = std::env::args().nth(1) {
        grid(&shots, 6, 4)?.write_png(sheet)?;
    }
    Ok(())
}
