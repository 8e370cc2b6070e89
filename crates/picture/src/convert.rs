//! Changes of layout, with the values of PIL's `Image.convert`.
//!
//! - colour → grey: `L = (19595 R + 38470 G + 7471 B + 32768) >> 16`, ITU-R 601-2 luma in 16-bit fixed point
//!   (libImaging/Convert.c, `L24`);
//! - grey → colour: the value three times;
//! - to a layout with alpha: 255, opaque;
//! - from a layout with alpha: the alpha is dropped; nothing is blended onto a background.

use crate::{Channels, Picture};

impl Picture {
    /// The picture in another layout, with the values of PIL's `Image.convert`.
    ///
    /// ```
    /// use kiln_picture::{Channels, Picture};
    /// # fn main() -> Result<(), kiln_picture::PictureError> {
    /// let orange = Picture::new(1, 1, Channels::Rgb, vec![255, 128, 0])?;
    /// assert_eq!(orange.convert(Channels::GreyAlpha).samples(), [151, 255]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn convert(&self, channels: Channels) -> Picture {
        use Channels::{Grey, GreyAlpha, Rgb, Rgba};
        let samples = match (self.channels(), channels) {
            (from, to) if from == to => return self.clone(),
            (Grey, GreyAlpha) => self.map_pixels(|[l]: [u8; 1]| [l, OPAQUE]),
            (Grey, Rgb) => self.map_pixels(|[l]: [u8; 1]| [l; 3]),
            (Grey, _) => self.map_pixels(|[l]: [u8; 1]| [l, l, l, OPAQUE]),
            (GreyAlpha, Grey) => self.map_pixels(|[l, _]: [u8; 2]| [l]),
            (GreyAlpha, Rgb) => self.map_pixels(|[l, _]: [u8; 2]| [l; 3]),
            (GreyAlpha, _) => self.map_pixels(|[l, a]: [u8; 2]| [l, l, l, a]),
            (Rgb, Grey) => self.map_pixels(|[r, g, b]: [u8; 3]| [luma(r, g, b)]),
            (Rgb, GreyAlpha) => self.map_pixels(|[r, g, b]: [u8; 3]| [luma(r, g, b), OPAQUE]),
            (Rgb, _) => self.map_pixels(|[r, g, b]: [u8; 3]| [r, g, b, OPAQUE]),
            (Rgba, Grey) => self.map_pixels(|[r, g, b, _]: [u8; 4]| [luma(r, g, b)]),
            (Rgba, GreyAlpha) => self.map_pixels(|[r, g, b, a]: [u8; 4]| [luma(r, g, b), a]),
            (Rgba, _) => self.map_pixels(|[r, g, b, _]: [u8; 4]| [r, g, b]),
        };
        Picture::from_parts(self.width(), self.height(), channels, samples)
    }

    fn map_pixels<const FROM: usize, const TO: usize>(&self, f: impl Fn([u8; FROM]) -> [u8; TO]) -> Vec<u8> {
        let (pixels, rest) = self.samples().as_chunks::<FROM>();
        debug_assert!(rest.is_empty());
        pixels.iter().copied().map(f).collect::<Vec<_>>().into_flattened()
    }
}

const OPAQUE: u8 = 255;

/// ITU-R 601-2 luma: the weights add up to 2^16, so that white stays 255.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}
