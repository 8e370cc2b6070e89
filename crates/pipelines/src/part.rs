//! A network of a pipeline, in memory only while it is needed.

use std::cell::RefCell;

use burn::tensor::Device;
use kiln_backend::watch::Place;
use kiln_checkpoint::{Adapter, CheckpointError, Pretrained, StoredModel, StoredPipeline};

use crate::PipelineError;
use crate::finite::name_in;

/// What becomes of a network that has done its part of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// It stays for the next picture.
    #[default]
    Keep,
    /// It goes: text encoders before the denoiser comes, that one before the decoder. Each picture loads them anew.
    Release,
}

/// A network that is loaded when it is first asked for.
#[derive(Debug)]
pub(crate) struct Part<M> {
    stored: StoredModel,
    device: Device,
    loaded: RefCell<Option<M>>,
    /// What LoRAs add, each with its weight.
    pub(crate) adapters: Vec<(Adapter, f64)>,
}

impl<M: Pretrained + Clone> Part<M> {
    /// Checks the config; no tensor is read yet.
    pub(crate) fn new(stored: StoredModel, device: &Device) -> Result<Self, PipelineError> {
        let new = Self { stored, device: device.clone(), loaded: RefCell::new(None), adapters: Vec::new() };
        new.outline()?;
        Ok(new)
    }

    /// The network without its weights.
    pub(crate) fn outline(&self) -> Result<M, PipelineError> {
        let stored = &self.stored;
        Ok(M::from_config(&stored.config, &self.device)
            .map_err(|source| CheckpointError::Config { file: stored.origin.clone(), source })?)
    }

    /// Weighs the adapters anew. Of a network that is loaded, what they add to is read again; if that fails, the network goes, and the next
    /// that asks for it is told why.
    pub(crate) fn set_weights(&mut self, weights: &[f64]) -> Result<(), PipelineError> {
        let before: Vec<f64> = self.adapters.iter().map(|(_, weight)| *weight).collect();
        for ((_, weight), new) in self.adapters.iter_mut().zip(weights) {
            *weight = *new;
        }
        let Some(loaded) = self.loaded.take() else { return Ok(()) };
        let each = self.adapters.iter().zip(before);
        let changed: Vec<&Adapter> =
            each.filter(|((_, weight), before)| weight != before).map(|((adapter, _), _)| adapter).collect();
        let adapted = self.stored.adapt(loaded, &changed, &self.adapted())?;
        self.loaded.replace(Some(adapted));
        Ok(())
    }

    fn adapted(&self) -> Vec<(&Adapter, f64)> {
        self.adapters.iter().map(|(adapter, weight)| (adapter, *weight)).collect()
    }

    /// The part of this name.
    pub(crate) fn of(
        pipeline: &mut StoredPipeline,
        name: &'static str,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        Self::maybe(pipeline, name, device)?.ok_or(PipelineError::Part { part: name })
    }

    /// The part of this name, if the pipeline has it.
    pub(crate) fn maybe(
        pipeline: &mut StoredPipeline,
        name: &'static str,
        device: &Device,
    ) -> Result<Option<Self>, PipelineError> {
        pipeline.models.remove(name).map(|stored| Self::new(stored, device)).transpose()
    }

    pub(crate) fn config(&self) -> &str {
        &self.stored.config
    }

    /// The network; a module's clone shares its tensors.
    pub(crate) fn get(&self) -> Result<M, PipelineError> {
        if let Some(loaded) = &*self.loaded.borrow() {
            return Ok(loaded.clone());
        }
        let _span = tracing::info_span!("load", file = self.stored.label()).entered();
        let loaded: M = self.stored.load_with(&self.adapted(), &self.device)?;
        self.loaded.replace(Some(loaded.clone()));
        Ok(loaded)
    }

    /// What a place in the network is called, after the part's `name`; `None` if it is in another network, or this one is not loaded.
    pub(crate) fn place(&self, name: &str, place: Place) -> Option<String> {
        let found = name_in(self.loaded.borrow().as_ref()?, place)?;
        Some(format!("{name}.{found}"))
    }

    /// Gives the network up, where memory is short.
    pub(crate) fn done(&self, memory: Memory) {
        if memory == Memory::Release {
            self.loaded.take();
        }
    }
}
