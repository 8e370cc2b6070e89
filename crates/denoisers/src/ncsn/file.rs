//! Files of training: `torch.save` of a list whose first item holds the weights, under `module.`, and whose last may hold their
//! average, without. A file with the weights alone is read too.

use burn::tensor::Device;
use kiln_checkpoint::{Checkpoint, CheckpointError, View};

use super::config::{Architecture, NcsnConfig};
use super::model::Ncsn;

/// Which weights of a file: what was trained, or its moving average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// The average, where the file has one: what NCSNv2 draws with. Otherwise what was trained.
    #[default]
    Averaged,
    /// What was trained.
    Trained,
}

/// Every network has it.
const MARK: &str = "begin_conv.weight";

impl Ncsn {
    /// The network in a file of training, whose sizes its tensors tell. What no tensor tells is as published: ELU, pictures in
    /// 0 to 1, and for NCSN geometric levels from 1 to 0.01 (NCSNv2 keeps its levels in the file).
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`] if `file` holds no such network, and those of [`Checkpoint::load_into`].
    pub fn from_checkpoint(
        file: &Checkpoint,
        weights: Weights,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let marks = file.tensors().filter_map(|(name, _)| name.strip_suffix(MARK));
        let mut parts: Vec<&str> = marks.filter(|part| part.is_empty() || part.ends_with('.')).collect();
        parts.sort_by_key(|part| (part.split('.').next().and_then(|i| i.parse::<usize>().ok()), part.len()));
        let missing = || missing(file, MARK);
        let trained = *parts.first().ok_or_else(missing)?;
        let chosen = match weights {
            Weights::Trained => trained,
            Weights::Averaged => *parts.last().ok_or_else(missing)?,
        };
        let part = file.part(chosen);
        let sigmas = match file.info(&format!("{trained}sigmas")) {
            Some(_) => {
                Some(file.part(trained).tensor("sigmas")?.convert::<f64>().iter::<f64>().collect::<Vec<_>>())
            }
            None => None,
        };
        let config = describe(&part, sigmas.as_deref())?;
        let network = config.init(device).map_err(|error| CheckpointError::Entry {
            file: file.label().to_owned(),
            tensor: format!("{chosen}{MARK}"),
            reason: error.to_string(),
        })?;
        let names = part.tensors().map(|(name, _)| name).filter(|name| *name != "sigmas");
        let views = names.map(|name| View::renamed(today(name).unwrap_or_else(|| name.to_owned()), name));
        let network = part.view(views.collect())?.load_into(network)?.module;
        Ok(match sigmas {
            Some(sigmas) => network.with_sigmas(sigmas),
            None => network,
        })
    }
}

fn missing(file: &Checkpoint, tensor: &str) -> CheckpointError {
    CheckpointError::Missing { file: file.label().to_owned(), tensor: tensor.to_owned(), others: 0 }
}

/// The config that the names and shapes of `part` tell.
fn describe(part: &Checkpoint, sigmas: Option<&[f64]>) -> Result<NcsnConfig, CheckpointError> {
    let side = |name: &str, axis: usize| {
        let info = part.info(name).ok_or_else(|| missing(part, name))?;
        info.shape.get(axis).copied().ok_or_else(|| CheckpointError::Entry {
            file: part.label().to_owned(),
            tensor: name.to_owned(),
            reason: format!("has {} dimensions", info.shape.len()),
        })
    };
    let (ngf, channels) = (side(MARK, 0)?, side(MARK, 1)?);
    let conditional = part.info("normalizer.embed.weight").is_some();
    let has = |stage: &str| part.info(&format!("{stage}.0.conv1.weight")).is_some();
    let architecture = match (conditional, has("res5"), has("res31")) {
        (true, false, _) => Architecture::Ncsn,
        (true, true, _) => Architecture::NcsnDeeper,
        (false, false, _) => Architecture::NcsnV2,
        (false, true, false) => Architecture::NcsnV2Deeper,
        (false, true, true) => Architecture::NcsnV2Deepest,
    };
    let num_classes = match (conditional, sigmas) {
        (true, _) => side("normalizer.embed.weight", 0)?,
        (false, Some(sigmas)) => sigmas.len(),
        (false, None) => return Err(missing(part, "sigmas")),
    };
    Ok(NcsnConfig { architecture, channels, ngf, num_classes, ..NcsnConfig::default() })
}

/// The name here of a tensor that is called `name` in a file: a number is no name of a field, so `1_2_conv`, the second
/// convolution of the first unit, is `units.0.1.conv`.
pub(super) fn today(name: &str) -> Option<String> {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let segments = name.split('.').map(|segment| {
        let mut parts = segment.splitn(3, '_');
        let mut place = || parts.next()?.parse::<usize>().ok()?.checked_sub(1);
        match (place(), place(), parts.next()) {
            (Some(unit), Some(place), Some(kind @ ("norm" | "conv"))) => {
                format!("units.{unit}.{place}.{kind}")
            }
            _ => segment.to_owned(),
        }
    });
    Some(segments.collect::<Vec<_>>().join("."))
}
