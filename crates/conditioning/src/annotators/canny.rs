//! Canny's edges: where brightness changes most across, and strongly enough.
//!
//! ```text
//! g = |Sobel(Gauss_1.4 * picture)|      kept where it is largest across the edge
//! edge: g >= high, or g >= low and joined to an edge
//! ```
//!
//! Canny 1986, "A Computational Approach to Edge Detection", as the `imageproc` crate computes it.

use image::GrayImage;
use kiln_picture::{Channels, Picture};

use super::AnnotatorError;

/// How strong an edge must be: from 0 to about 1,140, the gradient of black beside white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// From here on, an edge is gone on with.
    pub low: f32,
    /// From here on, an edge may begin.
    pub high: f32,
}

impl Default for Thresholds {
    /// 50 and 100: on the blurred picture about what OpenCV's 100 and 200, which the published networks were shown, find on
    /// one that is not.
    fn default() -> Self {
        Self { low: 50.0, high: 100.0 }
    }
}

/// The edges of `picture`, 255 on 0, in grey and as large as the picture. Opacity is not looked at.
///
/// # Errors
/// [`AnnotatorError::Thresholds`].
pub fn canny(picture: &Picture, thresholds: Thresholds) -> Result<Picture, AnnotatorError> {
    let Thresholds { low, high } = thresholds;
    if !(low.is_finite() && high.is_finite() && 0.0 <= low && low <= high) {
        return Err(AnnotatorError::Thresholds { low, high });
    }
    let (width, height) = (picture.width(), picture.height());
    let grey = picture.convert(Channels::Grey).into_samples();
    let grey = GrayImage::from_raw(width, height, grey).expect("a grey picture has one sample a pixel");
    let edges = imageproc::edges::canny(&grey, low, high);
    Ok(Picture::new(width, height, Channels::Grey, edges.into_raw())?)
}
