//! What a model file says of its network, beside the weights.

use kiln_denoisers::ncsn::SigmaSpacing;
use kiln_denoisers::{NcsnConfig, UNet2DConfig};
use kiln_diffusion::{Prediction, ProcessConfig, SolverConfig};
use serde::{Deserialize, Serialize};

use crate::{MmDitConfig, ModelError, NetworkConfig};

/// The metadata key that the card stands under, as JSON.
pub(crate) const KEY: &str = "kiln.picture_model";

/// Everything that is needed to draw with a network: kept in the model file's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct ModelCard {
    /// The network, in diffusers' terms.
    pub network: NetworkConfig,
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

/// A card as it stands in a file: the network under its kind.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unet2d: Option<UNet2DConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mmdit: Option<MmDitConfig>,
    /// With its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ncsn: Option<serde_json::Value>,
    process: ProcessConfig,
    prediction: Prediction,
    size: [usize; 2],
    classes: Vec<String>,
    sampling: SamplingDefaults,
}

impl TryFrom<Fields> for ModelCard {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let Fields { unet2d, mmdit, ncsn, process, prediction, size, classes, sampling } = fields;
        let network = match (unet2d, mmdit, ncsn) {
            (Some(config), None, None) => NetworkConfig::UNet2D(config),
            (None, Some(config), None) => NetworkConfig::MmDit(config),
            (None, None, Some(config)) => {
                NetworkConfig::Ncsn(NcsnConfig::from_json(&config.to_string()).map_err(|e| e.to_string())?)
            }
            _ => return Err("expected a network: one of `unet2d`, `mmdit`, `ncsn`".to_owned()),
        };
        Ok(Self { network, process, prediction, size, classes, sampling })
    }
}

impl From<ModelCard> for Fields {
    fn from(card: ModelCard) -> Self {
        let ModelCard { network, process, prediction, size, classes, sampling } = card;
        let (unet2d, mmdit, ncsn) = match network {
            NetworkConfig::UNet2D(config) => (Some(config), None, None),
            NetworkConfig::MmDit(config) => (None, Some(config), None),
            NetworkConfig::Ncsn(config) => (None, None, Some(config.to_json())),
        };
        Self { unet2d, mmdit, ncsn, process, prediction, size, classes, sampling }
    }
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
        let [height, width] = self.size;
        if height == 0 || width == 0 || height > 4096 || width > 4096 {
            return fail(format!("the size {height} x {width} is not between 1 and 4096"));
        }
        match &self.network {
            NetworkConfig::UNet2D(config) => self.check_unet(config)?,
            NetworkConfig::MmDit(config) => self.check_mmdit(config)?,
            NetworkConfig::Ncsn(config) => self.check_ncsn(config)?,
        }
        if self.sampling.steps == 0 || !self.sampling.guidance.is_finite() {
            return fail("the default steps must be at least 1 and the default guidance finite".to_owned());
        }
        Ok(())
    }

    fn check_unet(&self, unet2d: &UNet2DConfig) -> Result<(), ModelError> {
        if let Err(error) = unet2d.validate() {
            return fail(error.to_string());
        }
        check_channels(unet2d.in_channels, unet2d.out_channels)?;
        if let Some(kind) = unet2d.class_embed_type {
            return fail(format!("its classes are a table, and `class_embed_type` asks for {kind:?}"));
        }
        let embedded = unet2d.num_class_embeds.unwrap_or(0);
        let expected = if self.classes.is_empty() { 0 } else { self.classes.len() + 1 };
        self.check_classes(embedded, expected)?;
        let [height, width] = self.size;
        let levels = unet2d.block_out_channels.len();
        if levels > 12 {
            return fail(format!("{levels} levels halve the largest size, 4096, away"));
        }
        let coarsest = 1_usize << (levels - 1);
        if !height.is_multiple_of(coarsest) || !width.is_multiple_of(coarsest) {
            return fail(format!(
                "the size {height} x {width} is no multiple of {coarsest}, as the network's levels ask"
            ));
        }
        Ok(())
    }

    fn check_mmdit(&self, mmdit: &MmDitConfig) -> Result<(), ModelError> {
        let transformer = &mmdit.transformer;
        if let Err(error) = transformer.validate() {
            return fail(error.to_string());
        }
        check_channels(transformer.in_channels, transformer.out_channels.unwrap_or(transformer.in_channels))?;
        // It is always told a class, even if that is "no class" alone.
        self.check_classes(mmdit.classes, self.classes.len() + 1)?;
        let [height, width] = self.size;
        let patch = transformer.patch_size;
        let most = transformer.pos_embed_max_size.map_or(4096, |side| side * patch);
        if [height, width].iter().any(|side| !side.is_multiple_of(patch) || *side > most) {
            return fail(format!(
                "the size {height} x {width} is not made of patches of {patch}, or larger than {most}, as the network asks"
            ));
        }
        Ok(())
    }

    fn check_ncsn(&self, ncsn: &NcsnConfig) -> Result<(), ModelError> {
        if let Err(error) = ncsn.validate() {
            return fail(error.to_string());
        }
        check_channels(ncsn.channels, ncsn.channels)?;
        if !self.classes.is_empty() {
            return fail(format!("its network knows no classes, and {} are named", self.classes.len()));
        }
        if !ncsn.rescaled || ncsn.logit_transform || ncsn.sigma_dist != SigmaSpacing::Geometric {
            return fail(
                "its network is not for pictures in -1 to 1 at geometric levels of noise".to_owned(),
            );
        }
        let levels =
            ProcessConfig::VarianceExploding { sigma_min: ncsn.sigma_end, sigma_max: ncsn.sigma_begin };
        if ncsn.num_classes < 2 || self.process != levels || self.prediction != Prediction::Score {
            return fail("its network tells scores at two levels of noise or more, and its process and prediction are others".to_owned());
        }
        let [height, width] = self.size;
        let divisor = 1 << ncsn.halvings();
        match height.is_multiple_of(divisor) && width.is_multiple_of(divisor) {
            true => Ok(()),
            false => fail(format!(
                "the size {height} x {width} is no multiple of {divisor}, as the network's stages ask"
            )),
        }
    }

    fn check_classes(&self, embedded: usize, expected: usize) -> Result<(), ModelError> {
        match embedded == expected {
            true => Ok(()),
            false => fail(format!(
                "{} classes and \"no class\" need {expected} embeddings, and the network has {embedded}",
                self.classes.len()
            )),
        }
    }

    /// Whether the network is told a class for every picture, be it "no class".
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        !self.classes.is_empty() || matches!(self.network, NetworkConfig::MmDit(_))
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

fn fail(reason: String) -> Result<(), ModelError> {
    Err(ModelError::Card { reason })
}

fn check_channels(from: usize, to: usize) -> Result<(), ModelError> {
    match from == to && matches!(from, 1 | 3) {
        true => Ok(()),
        false => fail(format!("pictures have 1 or 3 channels, and the network takes {from} and gives {to}")),
    }
}
