//! What the network is asked for, and how its answer is marked.

use anyhow::{Result, bail};
use kiln::diffusion::{
    DiffusionError, Objective, Process, ProcessConfig, SlicedScoreMatching, TimeSampling, Weighting,
};
use kiln::{ModelCard, NetworkConfig};
use serde::Serialize;

use super::levels::AtLevels;
use crate::cli::{Loss, Train};

/// A loss with all that it has to be told.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Lesson {
    /// A known answer, and its squared error.
    Regression(Objective),
    /// No answer is known: Hyvärinen's loss in random directions.
    Slices(SlicedScoreMatching),
}

impl Lesson {
    /// As the options say, and where they don't, as suits the process.
    pub(super) fn new(options: &Train, card: &ModelCard) -> Result<Self> {
        let times = match (options.time, card.process) {
            (Some(times), _) => times.into(),
            // Evenly over the noise levels, next to none would be as low as those at which a picture is decided.
            (None, ProcessConfig::Edm { .. }) => TimeSampling::LogNormal { mean: -1.2, std: 1.2 },
            // The middle of a straight path is where its direction is hardest to tell.
            (None, ProcessConfig::RectifiedFlow {}) => TimeSampling::LogitNormal { mean: 0.0, std: 1.0 },
            (None, _) => TimeSampling::Uniform,
        };
        let objective = Objective { times, ..Objective::new(card.prediction) };
        Ok(match (&card.network, options.loss) {
            (NetworkConfig::Ncsn(_), Some(Loss::Ssm)) => {
                Self::Slices(SlicedScoreMatching { times, ..SlicedScoreMatching::default() })
            }
            (NetworkConfig::Ncsn(_), _) => {
                Self::Regression(Objective { weighting: Weighting::ScoreMatching, ..objective })
            }
            (_, None) => Self::Regression(objective),
            (_, Some(_)) => {
                bail!("--loss is for --model ncsn and ncsnv2; the others regress on what they predict")
            }
        })
    }

    pub(super) fn check(&self, process: &dyn Process) -> Result<(), DiffusionError> {
        match self {
            Self::Regression(objective) => objective.check(process),
            Self::Slices(slices) => slices.check(),
        }
    }
}

/// The process that a card's network is trained with: SMLD's networks know levels only.
pub(super) fn process(card: &ModelCard) -> Result<Box<dyn Process>, DiffusionError> {
    Ok(match &card.network {
        NetworkConfig::Ncsn(config) => Box::new(AtLevels::new(config)?),
        NetworkConfig::UNet2D(_) | NetworkConfig::MmDit(_) => card.process.build()?,
    })
}
