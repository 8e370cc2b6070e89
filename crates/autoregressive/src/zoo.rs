//! Every model by its configuration: for programs that choose one at run time, and files that say what they hold.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    AutoregressiveError, AutoregressiveModel, Canvas, FvsbnConfig, GatedPixelCnnConfig, IndependentConfig,
    MadeConfig, NadeConfig, OrderlessNadeConfig, PixelCnnConfig, PixelCnnPlusPlusConfig, PixelRnnConfig,
    RecurrentConfig, TransformerConfig, WaveNetConfig,
};

/// One of the models that are learnt by descent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the configuration of that name")]
pub enum ModelConfig {
    Independent(IndependentConfig),
    Fvsbn(FvsbnConfig),
    Nade(NadeConfig),
    OrderlessNade(OrderlessNadeConfig),
    Made(MadeConfig),
    Recurrent(RecurrentConfig),
    WaveNet(WaveNetConfig),
    Transformer(TransformerConfig),
    PixelRnn(PixelRnnConfig),
    PixelCnn(PixelCnnConfig),
    GatedPixelCnn(GatedPixelCnnConfig),
    PixelCnnPlusPlus(PixelCnnPlusPlusConfig),
}

/// What is done with a model, whichever it is.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<M: AutoregressiveModel>(self, model: M) -> Self::Output;
}

impl ModelConfig {
    /// The pictures that the model is of, where it is one of pictures.
    #[must_use]
    pub fn canvas(&self) -> Option<Canvas> {
        match self {
            Self::PixelRnn(config) => Some(config.canvas),
            Self::PixelCnn(config) => Some(config.canvas),
            Self::GatedPixelCnn(config) => Some(config.canvas),
            Self::PixelCnnPlusPlus(config) => Some(config.canvas),
            _ => None,
        }
    }

    /// Makes the model on `device` and hands it to the visitor.
    ///
    /// # Errors
    /// Those of the configuration.
    pub fn build<V: Visitor>(&self, device: &Device, visitor: V) -> Result<V::Output, AutoregressiveError> {
        Ok(match self {
            Self::Independent(config) => visitor.visit(config.init(device)?),
            Self::Fvsbn(config) => visitor.visit(config.init(device)?),
            Self::Nade(config) => visitor.visit(config.init(device)?),
            Self::OrderlessNade(config) => visitor.visit(config.init(device)?),
            Self::Made(config) => visitor.visit(config.init(device)?),
            Self::Recurrent(config) => visitor.visit(config.init(device)?),
            Self::WaveNet(config) => visitor.visit(config.init(device)?),
            Self::Transformer(config) => visitor.visit(config.init(device)?),
            Self::PixelRnn(config) => visitor.visit(config.init(device)?),
            Self::PixelCnn(config) => visitor.visit(config.init(device)?),
            Self::GatedPixelCnn(config) => visitor.visit(config.init(device)?),
            Self::PixelCnnPlusPlus(config) => visitor.visit(config.init(device)?),
        })
    }
}
