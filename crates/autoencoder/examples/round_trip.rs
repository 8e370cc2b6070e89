//! A picture through an autoencoder and back: how much of it survives, and how long each way takes.
//!
//!     cargo run --release --example round_trip -- VAE_FOLDER PHOTO OUT.png [whole|tiles] [BACKEND]
//!
//! `VAE_FOLDER` is the `vae` of Stable Diffusion's folder, or any other `AutoencoderKL`.
#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use kiln_autoencoder::{AutoencoderKL, Pieces};
use kiln_checkpoint::{Contents, StoredModel};
use kiln_picture::{Channels, Picture};

fn model(path: &str) -> Result<StoredModel, Box<dyn Error>> {
    match Contents::open(path)? {
        Contents::Model(model) => Ok(model),
        _ => Err(format!("{path} holds no single network").into()),
    }
}

/// `[1, 3, height, width]` in -1..1.
fn to_tensor(picture: &Picture, device: &Device) -> Tensor<4> {
    let [height, width] = [picture.height() as usize, picture.width() as usize];
    let values: Vec<f32> = picture.samples().iter().map(|&value| f32::from(value) / 127.5 - 1.0).collect();
    let pixels = Tensor::<3>::from_data(TensorData::new(values, [height, width, 3]), device);
    pixels.permute([2, 0, 1]).unsqueeze()
}

fn to_picture(image: Tensor<4>) -> Result<Picture, Box<dyn Error>> {
    let [_, _, height, width] = image.dims();
    let pixels = ((image + 1.0) * 127.5).round().clamp(0.0, 255.0).permute([0, 2, 3, 1]);
    let samples = pixels.into_data().iter::<f32>().map(|value| value as u8).collect();
    Ok(Picture::new(u32::try_from(width)?, u32::try_from(height)?, Channels::Rgb, samples)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, photo, out, others @ ..] = arguments.as_slice() else {
        return Err("usage: round_trip VAE_FOLDER PHOTO OUT.png [whole|tiles] [BACKEND]".into());
    };
    let device = kiln_backend::open(others.get(1).map(String::as_str))?;
    let autoencoder: AutoencoderKL = model(folder)?.load(&device)?;
    let pieces = match others.first().map(String::as_str) {
        None | Some("whole") => Pieces::Whole,
        Some("tiles") => Pieces::Tiles(autoencoder.config().tiling()),
        Some(other) => return Err(format!("`{other}` is neither `whole` nor `tiles`").into()),
    };

    // Sides that the encoder halves evenly.
    let photo = Picture::open(photo)?.convert(Channels::Rgb);
    let unit = u32::try_from(autoencoder.config().reduction())?;
    let photo = photo.crop(0, 0, photo.width() / unit * unit, photo.height() / unit * unit)?;
    let image = to_tensor(&photo, &device);

    let start = Instant::now();
    let latent = autoencoder.encode_in(image.clone(), pieces).mode();
    device.sync()?;
    println!("{:?} to {:?} in {:.2} s", image.dims(), latent.dims(), start.elapsed().as_secs_f64());
    let start = Instant::now();
    let decoded = autoencoder.decode_in(latent, pieces);
    device.sync()?;
    println!("and back in {:.2} s", start.elapsed().as_secs_f64());

    let error: f32 = ((decoded.clone() - image) * 0.5).powi_scalar(2).mean().into_scalar();
    println!("PSNR {:.2} dB", -10.0 * error.log10());
    to_picture(decoded)?.write_png(out)?;
    Ok(())
}
