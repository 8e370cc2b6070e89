//! What a path holds: one network, or a pipeline of several, wherever and in whatever layout they are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::{
    Adapter, Arrangement, Checkpoint, CheckpointError, Pretrained, View, config, folder, layout, lora,
    parameters,
};

/// One network: its `config.json` and its weights, under the names of diffusers or transformers.
#[derive(Clone, Debug)]
pub struct StoredModel {
    /// The JSON of its config.
    pub config: String,
    /// Its weights.
    pub weights: Checkpoint,
    /// Where the config comes from, as errors name it: its own file, or that of the weights whose keys it was read off.
    pub origin: String,
}

/// The parts of a pipeline.
#[derive(Clone, Debug)]
pub struct StoredPipeline {
    /// The pipeline's class, as in `model_index.json`.
    pub class: String,
    /// Its networks by the name of their part: `unet`, `vae`, `text_encoder`, ...
    pub models: BTreeMap<String, StoredModel>,
    /// The folders of its parts without weights: `scheduler`, `tokenizer`, ...
    pub folders: BTreeMap<String, PathBuf>,
    /// The configs of parts that are in no folder: the scheduler that a file with a whole model was published with.
    pub configs: BTreeMap<String, String>,
    /// The text of its `model_index.json`, if it is a folder.
    pub index: Option<String>,
}

/// What a path holds.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in a program")]
pub enum Contents {
    /// One network.
    Model(StoredModel),
    /// A pipeline.
    Pipeline(StoredPipeline),
    /// A scheduler's config alone.
    Scheduler(String),
    /// Tensors of no layout that is known here.
    Tensors(Checkpoint),
}

/// Which of several files is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// The variant of the weights, as in `model.fp16.safetensors`; without one, those of no variant are taken, and any
    /// variant only where there is nothing else.
    pub variant: Option<String>,
}

impl Contents {
    /// What is at `path`: a folder of a model, a pipeline or a scheduler, or one file of weights. Which format and layout a
    /// file has is read off its content. Headers are checked now; no tensor is read.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`], if it is none of these or any file of it is not what it says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// As [`open`](Self::open), with a choice.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and if there are no weights of the variant asked for.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        if path.is_dir() {
            return folder::open(path, options);
        }
        match Self::of(Checkpoint::open(path)?)? {
            // One of several files of weights in a model's folder.
            Self::Tensors(weights) => folder::beside(path, weights),
            recognised => Ok(recognised),
        }
    }

    /// What the tensors of one file are, by their names.
    pub(crate) fn of(weights: Checkpoint) -> Result<Self, CheckpointError> {
        Ok(layout::recognise(&weights)?.unwrap_or(Self::Tensors(weights)))
    }
}

impl StoredModel {
    /// A network whose config was read off the keys of its weights.
    #[must_use]
    pub fn new(config: String, weights: Checkpoint) -> Self {
        let origin = weights.label().to_owned();
        Self { config, weights, origin }
    }

    /// The class that the config names, if it does.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`], if the config is no JSON object.
    pub fn class(&self) -> Result<Option<String>, CheckpointError> {
        config::class_of(&self.config).map_err(|source| self.config_error(source))
    }

    /// The file of the weights, or the index of several; as in errors.
    #[must_use]
    pub fn label(&self) -> &str {
        self.weights.label()
    }

    /// The network with its weights, in the device's float type (but [kernels](Pretrained::keeps_narrow_kernels) that may stay narrower). No weight is drawn, and the file is read tensor by tensor.
    ///
    /// Tensors of the file that the network has no use for and that formats are known to carry (`position_ids`,
    /// `num_batches_tracked`, a training's moving average, a schedule's tables) are passed over, and so is the rest of a larger
    /// network that this one [knows itself a part of](Pretrained::ignores); any other is a warning, and so are weights that
    /// are not finite.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Config`], and those of [`Checkpoint::load_into`].
    pub fn load<M: Pretrained>(&self, device: &Device) -> Result<M, CheckpointError> {
        self.load_with(&[], device)
    }

    /// As [`load`](Self::load), with what each LoRA's [`Adapter`] adds, times its weight.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with<M: Pretrained>(
        &self,
        adapters: &[(&Adapter, f64)],
        device: &Device,
    ) -> Result<M, CheckpointError> {
        let module = M::from_config(&self.config, device).map_err(|source| self.config_error(source))?;
        let weights = self.weights_of(&module)?;
        let wanted = |name: &str| weights.info(name).is_some() || !M::computes(name);
        let keep_narrow = M::keeps_narrow_kernels(device);
        let loaded = weights.load_sums_into(module, wanted, &lora::sums(adapters), keep_narrow)?;
        let is_known = |name: &str| is_known_surplus(name) || M::ignores(name);
        for tensor in loaded.surplus.iter().filter(|name| !is_known(name)) {
            tracing::warn!("{}: tensor `{tensor}` is not part of the network", self.label());
        }
        Ok(loaded.module)
    }

    /// A network that was loaded from here, with other weights of its adapters: the parameters that `changed` add to are read again, and get
    /// what `adapters` add now; all others stay. Without adapters they are the stored ones to the bit.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn adapt<M: Pretrained>(
        &self,
        module: M,
        changed: &[&Adapter],
        adapters: &[(&Adapter, f64)],
    ) -> Result<M, CheckpointError> {
        let names: BTreeSet<&str> = changed.iter().flat_map(|adapter| adapter.parameters()).collect();
        let weights = self.weights_of(&module)?;
        let wanted = |name: &str| names.contains(name);
        let keep_narrow = module.devices().first().is_some_and(M::keeps_narrow_kernels);
        Ok(weights.load_sums_into(module, wanted, &lora::sums(adapters), keep_narrow)?.module)
    }

    /// The weights under the names of today.
    fn weights_of<M: Pretrained>(&self, module: &M) -> Result<Checkpoint, CheckpointError> {
        let wanted = parameters(module);
        let is_matrix = |name: &str| wanted.iter().any(|known| known.name == name && known.shape.len() == 2);
        let renamed = self.weights.tensors().map(|(name, info)| {
            // A file may hold a tensor under its old name and its new one: then the new one counts.
            let today = M::rename(name).filter(|today| self.weights.info(today).is_none());
            let Some(today) = today else { return View::renamed(name, name) };
            let mut view = View::renamed(today, name);
            if let [outputs, inputs, 1, 1] = *info.shape
                && is_matrix(&view.name)
            {
                view.arrangement = Arrangement::Reshaped(vec![outputs, inputs]);
            }
            view
        });
        self.weights.view(renamed.collect())
    }

    fn config_error(&self, source: crate::ConfigError) -> CheckpointError {
        CheckpointError::Config { file: self.origin.clone(), source }
    }
}

/// Whether formats are known to carry a tensor of this name beside what a network needs.
pub(crate) fn is_known_surplus(name: &str) -> bool {
    /// Buffers that PyTorch modules register and never learn.
    const LAST: &[&str] = &["position_ids", "num_batches_tracked"];
    /// A schedule's tables, in files that hold a whole diffusion model or a scheduler.
    const SCHEDULE: &[&str] = &[
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "lvlb_weights",
        "logvar",
    ];
    let last = name.rsplit('.').next().unwrap_or(name);
    LAST.contains(&last) || SCHEDULE.contains(&name) || name.starts_with("model_ema.")
}
