//! How a photograph is enlarged.
//!
//! Filters are PIL's, to the bit, and work on whole pictures. Networks are those in the program; they see colours as they are
//! stored, tile by tile, and opacity is enlarged by the bicubic filter beside them. Grey pictures are shown to them as colour.

use anyhow::Result;
use burn::tensor::Tensor;
use clap::ValueEnum;
use kiln::checkpoint::Checkpoint;
use kiln::picture::{Channels, Filter, Picture};
use kiln::upsampling::{DatConfig, Next, SrVggConfig, Tiles, enlarge, enlarge_by_bands, weights};

use super::halved::Halved;
use crate::device::Backend;

/// How a photograph is enlarged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Pixels repeated
    Nearest,
    /// Linear between neighbours
    Bilinear,
    /// Cubic convolution, as PIL
    Bicubic,
    /// Windowed sinc of three lobes, as PIL
    Lanczos,
    /// A transformer that restores detail: DAT-light
    Dat,
    /// Sharp lines, for drawings: Real-ESRGAN's animevideov3
    Realesr,
}

impl Method {
    /// What enlarges by a fixed filter; none for a network.
    fn filter(self) -> Option<Filter> {
        match self {
            Self::Nearest => Some(Filter::Nearest),
            Self::Bilinear => Some(Filter::Bilinear),
            Self::Bicubic => Some(Filter::Bicubic),
            Self::Lanczos => Some(Filter::Lanczos),
            Self::Dat | Self::Realesr => None,
        }
    }
}

/// What is to be done.
pub struct Scaled<'a> {
    pub scale: u32,
    /// Width and height of the result.
    pub size: (u32, u32),
    pub method: Method,
    pub backend: &'a Backend,
}

impl Scaled<'_> {
    pub fn enlarge(&self, picture: &Picture, progress: impl FnMut(usize, usize) -> Next) -> Result<Picture> {
        let (width, height) = self.size;
        if let Some(filter) = self.method.filter() {
            return Ok(picture.resize(width, height, filter)?);
        }
        let colours = self.by_network(picture, progress)?;
        match picture.channels() {
            Channels::Rgb => Ok(colours),
            Channels::Grey => Ok(colours.convert(Channels::Grey)),
            Channels::GreyAlpha | Channels::Rgba => {
                let opacity = opacity(picture)?.resize(width, height, Filter::Bicubic)?;
                let mut samples = colours.convert(picture.channels()).into_samples();
                let pixels = samples.chunks_exact_mut(picture.channels().count());
                for (pixel, opacity) in pixels.zip(opacity.samples()) {
                    if let Some(alpha) = pixel.last_mut() {
                        *alpha = *opacity;
                    }
                }
                Ok(Picture::new(width, height, picture.channels(), samples)?)
            }
        }
    }

    fn by_network(&self, picture: &Picture, progress: impl FnMut(usize, usize) -> Next) -> Result<Picture> {
        let device = self.backend.open()?;
        if self.method == Method::Realesr {
            let config = SrVggConfig::anime_video_v3();
            let network =
                Checkpoint::from_bytes(weights::REALESR_ANIME_X4)?.load_into(config.init(&device))?.module;
            // What a pixel depends on is in the margin: tiles give what the whole picture would.
            let tiles = Tiles { side: 192, margin: config.reach(), blend: 0 };
            let run = |x: Tensor<4>| network.forward(x);
            if self.scale as usize == config.scale {
                return Ok(enlarge(picture, config.scale, tiles, &device, run, progress)?);
            }
            // There is one network, for four times; half of that is reduced, as it comes.
            let (width, height) = self.size;
            let mut halved = Halved::new(2 * width as usize, 2 * height as usize)?;
            let take = |rows: &[u8]| halved.take(rows);
            enlarge_by_bands(picture, config.scale, tiles, &device, run, progress, take)?;
            return Ok(halved.finish()?);
        }
        let (bytes, scale) = match self.scale {
            2 => (weights::DAT_LIGHT_X2, 2),
            _ => (weights::DAT_LIGHT_X4, 4),
        };
        let network = Checkpoint::from_bytes(bytes)?.load_into(DatConfig::light(scale).init(&device))?.module;
        // With the margin, a tile is five windows of 32 pixels.
        let tiles = Tiles { side: 128, margin: 16, blend: 8 };
        let run = |x: Tensor<4>| network.forward(x);
        Ok(enlarge(picture, scale, tiles, &device, run, progress)?)
    }
}

/// The last channel alone.
fn opacity(picture: &Picture) -> Result<Picture> {
    let last =
        picture.samples().chunks_exact(picture.channels().count()).filter_map(|pixel| pixel.last().copied());
    Ok(Picture::new(picture.width(), picture.height(), Channels::Grey, last.collect())?)
}
