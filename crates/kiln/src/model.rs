//! A network with all that is needed to draw with it, in one safetensors file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use kiln_checkpoint::{Checkpoint, SaveOptions, StoredDType};
use kiln_diffusion::Process;

use crate::card::KEY;
use crate::{ModelCard, ModelError, PictureNetwork};

/// The small class-conditional model of digits that is in the program; README says how it was trained.
const DIGITS: &[u8] = include_bytes!("../models/digits.safetensors");

/// A network that draws pictures, with its process and its classes.
#[derive(Debug)]
pub struct PictureModel {
    pub(crate) card: ModelCard,
    pub(crate) network: PictureNetwork,
    pub(crate) process: Box<dyn Process>,
    pub(crate) device: Device,
}

impl PictureModel {
    /// Joins a network and its card.
    ///
    /// # Errors
    /// [`ModelError::Card`] or [`ModelError::Diffusion`] where the card's parts do not fit together.
    pub fn new(card: ModelCard, network: PictureNetwork, device: &Device) -> Result<Self, ModelError> {
        card.check()?;
        let process = card.process.build()?;
        card.prediction.check(process.as_ref())?;
        Ok(Self { card, network, process, device: device.clone() })
    }

    /// The model of digits that is in the program: ten classes, 28 x 28, grey.
    ///
    /// # Errors
    /// None but those of a device that can't hold it.
    pub fn digits(device: &Device) -> Result<Self, ModelError> {
        Self::read(&Checkpoint::from_bytes(Cow::Borrowed(DIGITS))?, device)
    }

    /// Reads the file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`ModelError`], with the file and what is wrong in it.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self, ModelError> {
        Self::read(&Checkpoint::open(path)?, device)
    }

    fn read(file: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        let _span = tracing::info_span!("load", file = file.label()).entered();
        let Some(text) = file.metadata().get(KEY) else {
            return Err(ModelError::Kind { file: file.label().to_owned(), key: KEY });
        };
        let describe = |reason: String| ModelError::Description { file: file.label().to_owned(), reason };
        let card: ModelCard = serde_json::from_str(text).map_err(|error| describe(error.to_string()))?;
        card.check().map_err(|error| describe(error.to_string()))?;
        let network = card.network.init(device).map_err(|error| describe(error.to_string()))?;
        let loaded = file.load_into(network)?;
        if let Some(surplus) = loaded.surplus.first() {
            tracing::warn!(
                file = file.label(),
                tensor = surplus,
                "the file holds a tensor that the network has not"
            );
        }
        Self::new(card, loaded.module, device)
    }

    /// Writes the model to one safetensors file, whole or not at all. Weights are stored as `dtype`.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] if the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>, dtype: StoredDType) -> Result<(), ModelError> {
        save(&self.card, &self.network, path.as_ref(), dtype)
    }

    /// Its network.
    #[must_use]
    pub fn network(&self) -> &PictureNetwork {
        &self.network
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the model is.
    #[must_use]
    pub fn card(&self) -> &ModelCard {
        &self.card
    }
}

/// Writes a network with its card.
pub(crate) fn save(
    card: &ModelCard,
    network: &PictureNetwork,
    path: &Path,
    dtype: StoredDType,
) -> Result<(), ModelError> {
    let text = serde_json::to_string(card).map_err(|error| ModelError::Card { reason: error.to_string() })?;
    let metadata = BTreeMap::from([(KEY.to_owned(), text)]);
    kiln_checkpoint::save(network, path, &SaveOptions { dtype, metadata })?;
    Ok(())
}
