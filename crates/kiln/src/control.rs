//! A network that controls a picture model by a picture, in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use kiln_checkpoint::{Checkpoint, SaveOptions, StoredDType};
use kiln_conditioning::annotators::{Thresholds, canny};
use kiln_conditioning::{Control, UNet2DControlNet, UNet2DControlNetConfig};
use kiln_denoisers::unet2d::ClassCondition;
use kiln_denoisers::unet2d_condition::ControlResiduals;
use kiln_picture::{Channels, Picture};
use serde::{Deserialize, Serialize};

use crate::{ModelCard, ModelError, NetworkConfig};

/// The metadata key that the card stands under, as JSON.
const KEY: &str = "kiln.picture_control";

/// What a control network's file says of it, beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlCard {
    /// The network, with that of the model which it controls.
    pub network: UNet2DControlNetConfig,
    /// Height and width of its pictures in pixels.
    pub size: [usize; 2],
    /// The thresholds of the edges that it was trained with, lower and upper.
    pub canny: [f32; 2],
}

/// A control network for a [`PictureModel`](crate::PictureModel) whose network is a U-Net, trained to draw inside edges.
#[derive(Debug)]
pub struct PictureControl {
    card: ControlCard,
    network: UNet2DControlNet,
}

/// What a drawing is controlled by.
#[derive(Debug, Clone, Copy)]
pub struct Controlled<'a> {
    /// The network.
    pub control: &'a PictureControl,
    /// Edges, white on black: one picture for all that are drawn, or one each.
    pub pictures: &'a [Picture],
    /// Multiplies the residuals.
    pub scale: f64,
}

impl ControlCard {
    /// The card of a control network for the model of this card, told Canny's edges with these thresholds.
    ///
    /// # Errors
    /// [`ModelError::Card`] for a model whose network is no U-Net.
    pub fn beside(model: &ModelCard, thresholds: Thresholds) -> Result<Self, ModelError> {
        let NetworkConfig::UNet2D(unet2d) = &model.network else {
            let reason = "only a model whose network is a U-Net can be controlled".to_owned();
            return Err(ModelError::Card { reason });
        };
        let canny = [thresholds.low, thresholds.high];
        Ok(Self { network: UNet2DControlNetConfig::beside(unet2d), size: model.size, canny })
    }

    /// The edges of a picture as the network is shown them, white on black.
    ///
    /// # Errors
    /// [`ModelError::Card`] where the thresholds are none.
    pub fn edges(&self, picture: &Picture) -> Result<Picture, ModelError> {
        let [low, high] = self.canny;
        canny(picture, Thresholds { low, high })
            .map_err(|error| ModelError::Card { reason: error.to_string() })
    }

    /// Pictures of edges as the network takes them, 0 to 1, `[pictures, 1, height, width]`.
    ///
    /// # Errors
    /// [`ModelError::Card`] for a picture of another size.
    pub fn tensor(&self, pictures: &[Picture], device: &Device) -> Result<Tensor<4>, ModelError> {
        let [height, width] = self.size;
        let mut values = Vec::with_capacity(pictures.len() * height * width);
        for picture in pictures {
            let found = [picture.height() as usize, picture.width() as usize];
            if found != self.size {
                let reason = format!(
                    "its control network takes pictures of {height} x {width}, and this one is {} x {}",
                    found[0], found[1]
                );
                return Err(ModelError::Card { reason });
            }
            let grey = picture.convert(Channels::Grey);
            values.extend(grey.samples().iter().map(|&sample| f32::from(sample) / 255.0));
        }
        let data = burn::tensor::TensorData::new(values, [pictures.len(), 1, height, width]);
        Ok(Tensor::from_data(data, device))
    }
}

impl PictureControl {
    /// Joins a network and its card.
    #[must_use]
    pub fn new(card: ControlCard, network: UNet2DControlNet) -> Self {
        Self { card, network }
    }

    /// Reads the file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`ModelError`], with the file and what is wrong in it.
    pub fn open(path: impl AsRef<Path>, device: &Device) -> Result<Self, ModelError> {
        let file = Checkpoint::open(path)?;
        let Some(text) = file.metadata().get(KEY) else {
            return Err(ModelError::Kind { file: file.label().to_owned(), key: KEY });
        };
        let describe = |reason: String| ModelError::Description { file: file.label().to_owned(), reason };
        let card: ControlCard = serde_json::from_str(text).map_err(|error| describe(error.to_string()))?;
        let network = card.network.init(device).map_err(|error| describe(error.to_string()))?;
        Ok(Self { network: file.load_into(network)?.module, card })
    }

    /// Writes the network to one safetensors file, whole or not at all. Weights are stored as `dtype`.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] if the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>, dtype: StoredDType) -> Result<(), ModelError> {
        let text = serde_json::to_string(&self.card)
            .map_err(|error| ModelError::Card { reason: error.to_string() })?;
        let metadata = BTreeMap::from([(KEY.to_owned(), text)]);
        kiln_checkpoint::save(&self.network, path.as_ref(), &SaveOptions { dtype, metadata })?;
        Ok(())
    }

    /// What the network is.
    #[must_use]
    pub fn card(&self) -> &ControlCard {
        &self.card
    }

    /// Whether it is one for the model of this card.
    ///
    /// # Errors
    /// [`ModelError::Card`] if it is not.
    pub fn check(&self, model: &ModelCard) -> Result<(), ModelError> {
        let of_model = ControlCard::beside(model, Thresholds::default())?;
        match (&of_model.network.unet2d, of_model.size) == (&self.card.network.unet2d, self.card.size) {
            true => Ok(()),
            false => {
                let reason = "the control network was trained for a model of another network or size";
                Err(ModelError::Card { reason: reason.to_owned() })
            }
        }
    }

    /// What the network adds to the model's at `x`, for the edges `shown`.
    pub(crate) fn residuals(
        &self,
        x: Tensor<4>,
        times: Tensor<1>,
        labels: Option<Tensor<1, Int>>,
        shown: Tensor<4>,
        scale: f64,
    ) -> ControlResiduals {
        let control = Control { scale, ..Control::new(shown) };
        self.network.forward(x, times, labels.map(ClassCondition::Labels), control)
    }
}
