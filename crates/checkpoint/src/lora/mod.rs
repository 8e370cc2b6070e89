//! LoRA: small factors that are added to a network's weights (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models").
//!
//! ```text
//! file ──names──> Lora ──a network's parameters──> Adapter ──weights──> the network, W + w (alpha / rank) U D
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `keys` | which network, layer and factor a tensor is, in the layouts of PEFT, diffusers and kohya |
//! | `metadata` | what notes in the file say of the scale |
//! | `delta` | the sum |
//!
//! What is added is never subtracted again: another weight is another sum from the stored one, so that a LoRA of weight 0 leaves no trace.

mod delta;
mod error;
mod keys;
mod metadata;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::DType;

pub(crate) use delta::{Delta, added};
pub use error::LoraError;

use crate::entry::Orientation;
use crate::{Checkpoint, Parameter, layout};
use delta::Factor;
use keys::{Key, Refused, Role};
use metadata::Metadata;

/// The part of a pipeline that a LoRA's layers are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoraPart {
    /// The U-Net or transformer.
    Denoiser,
    /// The only text encoder, or the first.
    TextEncoder,
    /// The second text encoder.
    TextEncoder2,
    /// The third text encoder: Stable Diffusion 3's T5.
    TextEncoder3,
}

impl LoraPart {
    /// What notes call it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Denoiser => &["unet", "transformer"],
            Self::TextEncoder => &["text_encoder"],
            Self::TextEncoder2 => &["text_encoder_2"],
            Self::TextEncoder3 => &["text_encoder_3"],
        }
    }
}

/// A LoRA's file: factors for layers of one network or several. Headers and names are checked when it is opened; factors are read when they are
/// added.
#[derive(Clone, Debug)]
pub struct Lora {
    label: String,
    layers: BTreeMap<LoraPart, Vec<Layer>>,
}

/// The factors of one layer.
#[derive(Clone, Debug)]
struct Layer {
    /// With underscores for points.
    name: String,
    up: Factor,
    down: Factor,
    mid: Option<Factor>,
    scale: f64,
}

/// A LoRA's factors for one network, by the parameters that they are added to.
#[derive(Clone, Debug, Default)]
pub struct Adapter {
    deltas: BTreeMap<String, Vec<Arc<Delta>>>,
}

impl Lora {
    /// Open a file: safetensors, or PyTorch's own. In a folder it is diffusers' `pytorch_lora_weights.safetensors`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and if the file can't be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoraError> {
        let path = path.as_ref();
        let inside = path.is_dir().then(|| path.join("pytorch_lora_weights.safetensors"));
        Self::read(&Checkpoint::open(inside.as_deref().unwrap_or(path))?)
    }

    /// The LoRA that a file's tensors are.
    ///
    /// # Errors
    ///
    /// [`LoraError::Kind`] for DoRA, LoHa, LoKr and others, [`Unknown`](LoraError::Unknown) for a name that no LoRA has,
    /// [`Incomplete`](LoraError::Incomplete) for a factor without the others, [`Metadata`](LoraError::Metadata) for notes that can't be used.
    pub fn read(file: &Checkpoint) -> Result<Self, LoraError> {
        let label = file.label().to_owned();
        let notes = Metadata::read(&label, file.metadata())?;
        let mut factors: BTreeMap<_, BTreeMap<Role, Factor>> = BTreeMap::new();
        let mut dotted = BTreeMap::new();
        for (name, _) in file.tensors() {
            let key = Key::read(name).map_err(|refused| match refused {
                Refused::Kind(kind) => LoraError::Kind { file: label.clone(), key: name.to_owned(), kind },
                Refused::Unknown => LoraError::Unknown { file: label.clone(), key: name.to_owned() },
            })?;
            let layer = (key.part, key.layer);
            if let Some(name) = key.dotted {
                dotted.insert(layer.clone(), name);
            }
            let factor = Factor { key: name.to_owned(), entry: Arc::clone(file.entry(name)?) };
            if let Some(other) = factors.entry(layer).or_default().insert(key.role, factor) {
                let (file, key) = (label, name.to_owned());
                return Err(LoraError::Twice { file, key, other: other.key });
            }
        }
        let mut layers: BTreeMap<LoraPart, Vec<Layer>> = BTreeMap::new();
        for ((part, name), mut factors) in factors {
            let some_key = factors.values().next().map(|factor| factor.key.clone()).unwrap_or_default();
            let mut take = |role, lacks| {
                let (file, key) = (label.clone(), some_key.clone());
                factors.remove(&role).ok_or(LoraError::Incomplete { file, key, lacks })
            };
            let up = take(Role::Up, "factor that widens (`lora_B`, `lora_up`)")?;
            let down = take(Role::Down, "factor that narrows (`lora_A`, `lora_down`)")?;
            let mid = factors.remove(&Role::Mid);
            let rank = down.entry.shape.first().copied().unwrap_or(0);
            let scale = match factors.remove(&Role::Alpha) {
                Some(alpha) => number(&label, &alpha)? / rank as f64,
                None => {
                    let dotted = dotted.get(&(part, name.clone())).map(String::as_str);
                    notes.scale(part, dotted, rank).unwrap_or(1.0)
                }
            };
            layers.entry(part).or_default().push(Layer { name, up, down, mid, scale });
        }
        Ok(Self { label, layers })
    }

    /// The file's path, or a note that it is bytes in memory; as in errors.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The parts of a pipeline that it has factors for.
    pub fn parts(&self) -> impl Iterator<Item = LoraPart> + '_ {
        self.layers.keys().copied()
    }

    /// The factors for the network of `parameters` (see [`parameters`](crate::parameters)); none, if the file has none for this part.
    ///
    /// # Errors
    ///
    /// [`LoraError::Unmatched`] for layers that the network does not have, [`LoraError::Shape`] for factors that are not of their shape.
    pub fn adapter(&self, part: LoraPart, parameters: &[Parameter]) -> Result<Adapter, LoraError> {
        let network = Network::new(parameters);
        let mut adapter = Adapter::default();
        let mut unmatched = Vec::new();
        for layer in self.layers.get(&part).map_or(&[][..], Vec::as_slice) {
            let targets = network.targets(part, layer);
            if targets.is_empty() {
                unmatched.push(&layer.down.key);
            }
            for (parameter, rows) in targets {
                let (up, down, mid) = (layer.up.clone(), layer.down.clone(), layer.mid.clone());
                let delta = Delta { up, down, mid, scale: layer.scale, rows };
                delta.check(&self.label, &parameter.name, &parameter.shape)?;
                adapter.deltas.entry(parameter.name.clone()).or_default().push(Arc::new(delta));
            }
        }
        match unmatched.first() {
            None => Ok(adapter),
            Some(key) => Err(LoraError::Unmatched {
                file: self.label.clone(),
                key: (*key).clone(),
                others: unmatched.len() - 1,
            }),
        }
    }

    /// The error for a part that a pipeline lacks, if the file has factors for it.
    #[must_use]
    pub fn beyond(&self, parts: &[LoraPart]) -> Option<LoraError> {
        let (_, layers) = self.layers.iter().find(|(part, _)| !parts.contains(part))?;
        let key = layers.first()?.down.key.clone();
        Some(LoraError::Unmatched { file: self.label.clone(), key, others: layers.len() - 1 })
    }
}

impl Adapter {
    /// The names of the parameters that it adds to.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.deltas.keys().map(String::as_str)
    }
}

/// What several adapters, each with its weight, add to each parameter. A weight of 0 adds nothing at all.
pub(crate) fn sums(adapters: &[(&Adapter, f64)]) -> BTreeMap<String, Vec<(Arc<Delta>, f64)>> {
    let mut sums: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (adapter, weight) in adapters.iter().filter(|(_, weight)| *weight != 0.0) {
        for (name, deltas) in &adapter.deltas {
            let deltas = deltas.iter().map(|delta| (Arc::clone(delta), *weight));
            sums.entry(name.clone()).or_default().extend(deltas);
        }
    }
    sums
}

/// A network's weights by their layers' names, with underscores for points.
struct Network<'a> {
    layers: BTreeMap<String, &'a Parameter>,
}

type Target<'a> = (&'a Parameter, Vec<std::ops::Range<usize>>);

impl<'a> Network<'a> {
    fn new(parameters: &'a [Parameter]) -> Self {
        let weights = parameters.iter().filter(|parameter| parameter.shape.len() >= 2);
        let named = weights.filter_map(|parameter| {
            Some((parameter.name.strip_suffix(".weight")?.replace('.', "_"), parameter))
        });
        Self { layers: named.collect() }
    }

    fn layer(&self, part: LoraPart, name: &str) -> Option<&'a Parameter> {
        let found = self.layers.get(name).copied();
        // transformers 5 leaves the prefix out that all before it wrote.
        let prefixed = || self.layers.get(&format!("text_model_{name}")).copied();
        found.or_else(|| if part == LoraPart::Denoiser { None } else { prefixed() })
    }

    /// The weights that a layer's factors are added to, and which rows of their product; by the names of SD3's authors it may be three.
    fn targets(&self, part: LoraPart, layer: &Layer) -> Vec<Target<'a>> {
        if let Some(parameter) = self.layer(part, &layer.name) {
            return vec![(parameter, Vec::new())];
        }
        if part != LoraPart::Denoiser {
            return Vec::new();
        }
        let gives = layer.up.entry.shape.first().copied().unwrap_or(0);
        let is_block =
            |block: usize| self.layers.contains_key(&format!("transformer_blocks_{block}_norm1_linear"));
        let named = layout::sd3_layers(&layer.name, gives, is_block);
        let found = named.into_iter().map(|(name, rows)| Some((self.layer(part, &name)?, rows)));
        found.collect::<Option<_>>().unwrap_or_default()
    }
}

/// The one number of a tensor.
fn number(file: &str, factor: &Factor) -> Result<f64, LoraError> {
    let data = factor.entry.read_as(&factor.key, DType::F64, Orientation::AsStored)?;
    match data.as_slice::<f64>() {
        Ok([number]) => Ok(*number),
        _ => Err(LoraError::Shape {
            file: file.to_owned(),
            key: factor.key.clone(),
            found: factor.entry.shape.clone(),
            expected: "one number".to_owned(),
        }),
    }
}
