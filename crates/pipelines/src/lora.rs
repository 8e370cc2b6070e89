//! LoRAs of a pipeline: which of its networks each is added to, and how much it weighs.

use kiln_checkpoint::{Adapter, Lora, LoraError, LoraPart, Parameter, Pretrained, parameters};

use crate::PipelineError;
use crate::part::Part;

/// A network that LoRAs are added to.
pub(crate) trait Adaptable {
    /// The names and shapes of its parameters; no tensor is read.
    fn parameters(&self) -> Result<Vec<Parameter>, PipelineError>;

    /// One more adapter, of weight 0.
    fn push(&mut self, adapter: Adapter);

    /// As many weights as there are adapters. If the network is loaded, what changes is read again now.
    fn weigh(&mut self, weights: &[f64]) -> Result<(), PipelineError>;
}

impl<M: Pretrained + Clone> Adaptable for Part<M> {
    fn parameters(&self) -> Result<Vec<Parameter>, PipelineError> {
        Ok(parameters(&self.outline()?))
    }

    fn push(&mut self, adapter: Adapter) {
        self.adapters.push((adapter, 0.0));
    }

    fn weigh(&mut self, weights: &[f64]) -> Result<(), PipelineError> {
        self.set_weights(weights)
    }
}

/// The LoRAs of a pipeline, as far as it knows them itself: their weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loras {
    weights: Vec<f64>,
}

/// A pipeline's networks by what LoRAs call them.
pub(crate) type Networks<'a> = Vec<(LoraPart, &'a mut dyn Adaptable)>;

impl Loras {
    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// One more. Nothing has changed if it goes with none of the networks.
    pub(crate) fn push(
        &mut self,
        lora: &Lora,
        weight: f64,
        mut networks: Networks<'_>,
    ) -> Result<(), PipelineError> {
        let known: Vec<LoraPart> = networks.iter().map(|(part, _)| *part).collect();
        if let Some(error) = lora.beyond(&known) {
            return Err(error.into());
        }
        let each = networks.iter().map(|(part, network)| Ok(lora.adapter(*part, &network.parameters()?)?));
        let adapters = each.collect::<Result<Vec<_>, PipelineError>>()?;
        for ((_, network), adapter) in networks.iter_mut().zip(adapters) {
            network.push(adapter);
        }
        let weights = [&self.weights[..], &[weight]].concat();
        self.weights.push(0.0);
        self.weigh(&weights, networks)
    }

    /// Other weights, one for each.
    pub(crate) fn weigh(&mut self, weights: &[f64], networks: Networks<'_>) -> Result<(), PipelineError> {
        if weights.len() != self.weights.len() {
            let reason = format!("are {} for {} LoRAs", weights.len(), self.weights.len());
            return Err(PipelineError::request("the weights of LoRAs", reason));
        }
        if let Some(weight) = weights.iter().find(|weight| !weight.is_finite()) {
            return Err(PipelineError::request("the weight of a LoRA", format!("is {weight}")));
        }
        for (_, network) in networks {
            network.weigh(weights)?;
        }
        self.weights = weights.to_vec();
        Ok(())
    }
}

impl From<LoraError> for PipelineError {
    fn from(error: LoraError) -> Self {
        match error {
            LoraError::Checkpoint(error) => Self::Checkpoint(error),
            error => Self::Lora(error),
        }
    }
}
