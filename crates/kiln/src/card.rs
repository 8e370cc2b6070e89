//! What a model file says of its network, beside the weights.

use kiln_denoisers::UNet2DConfig;
use kiln_diffusion::{Prediction, ProcessConfig, SolverConfig};
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// The metadata key that the card stands under, as JSON.
pub(crate) const KEY: &str = "kiln.picture_model";

/// Everything that is needed to draw with a network: kept in the model file's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// The network, in diffusers' terms.
    pub unet2d: UNet2DConfig,
    /// The process it was trained for.
    pub process: ProcessConfig,
    /// What its output means.
    pub prediction: Prediction,
    /// Height and width of its pictures in pixels.
    pub size: [usize; 2],
    /// The names of its classes; empty for a model without.
    pub classes: Vec<String>,
    /// How to draw where nothing else is asked for.
    pub sampling: SamplingDefaults,
}

/// How to draw where nothing else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingDefaults {
    /// The solver.
    pub solver: SolverConfig,
    /// Its steps.
    pub steps: usize,
    /// The scale of classifier-free guidance; 1 for none.
    pub guidance: f64,
}

impl ModelCard {
    /// Whether the parts fit together.
    ///
    /// # Errors
    /// [`ModelError::Card`] with what does not.
    pub fn check(&self) -> Result<(), ModelError> {
        let fail = |reason: String| Err(ModelError::Card { reason });
        if let Err(error) = self.unet2d.validate() {
            return fail(error.to_string());
        }
        let channels = self.unet2d.in_channels;
        if channels != self.unet2d.out_channels || !matches!(channels, 1 | 3) {
            return fail(format!(
                "pictures have 1 or 3 channels, and the network takes {channels} and gives {}",
                self.unet2d.out_channels
            ));
        }
        if let Some(kind) = self.unet2d.class_embed_type {
            return fail(format!("its classes are a table, and `class_embed_type` asks for {kind:?}"));
        }
        let embedded = self.unet2d.num_class_embeds.unwrap_or(0);
        let expected = if self.classes.is_empty() { 0 } else { self.classes.len() + 1 };
        if embedded != expected {
            return fail(format!(
                "{} classes and \"no class\" need {expected} embeddings, and the network has {embedded}",
                self.classes.len()
            ));
        }
        let [height, width] = self.size;
        let levels = self.unet2d.block_out_channels.len();
        if levels > 12 {
            return fail(format!("{levels} levels halve the largest size, 4096, away"));
        }
        let coarsest = 1_usize << (levels - 1);
        if height == 0 || width == 0 || height > 4096 || width > 4096 {
            return fail(format!("the size {height} x {width} is not between 1 and 4096"));
        }
        if !height.is_multiple_of(coarsest) || !width.is_multiple_of(coarsest) {
            return fail(format!(
                "the size {height} x {width} is no multiple of {coarsest}, as the network's levels ask"
            ));
        }
        if self.sampling.steps == 0 || !self.sampling.guidance.is_finite() {
            return fail("the default steps must be at least 1 and the default guidance finite".to_owned());
        }
        Ok(())
    }

    /// The row of the class table that stands for "no class".
    #[must_use]
    pub fn no_class(&self) -> usize {
        self.classes.len()
    }

    /// The class of this name or number.
    ///
    /// # Errors
    /// [`ModelError::NoClasses`] or [`ModelError::Class`].
    pub fn class(&self, wanted: &str) -> Result<usize, ModelError> {
        if self.classes.is_empty() {
            return Err(ModelError::NoClasses { wanted: wanted.to_owned() });
        }
        let named = self.classes.iter().position(|name| name == wanted);
        let number = || wanted.parse().ok().filter(|&class: &usize| class < self.classes.len());
        named.or_else(number).ok_or_else(|| ModelError::Class {
            wanted: wanted.to_owned(),
            count: self.classes.len(),
            last: self.classes.len() - 1,
        })
    }
}
