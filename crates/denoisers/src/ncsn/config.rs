//! What an [`Ncsn`](super::Ncsn) is made of.

use burn::tensor::Tensor;
use burn::tensor::activation::{leaky_relu, relu};
use kiln_backend::ops::{Activation, activation};
use kiln_checkpoint::config::{class_of, refuse_others};
use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// Which of the published networks: how it learns of the level of noise, and how deep it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Architecture {
    /// NCSN: four stages, conditional norms (28 and 32 pixels).
    Ncsn,
    /// NCSN with five stages.
    NcsnDeeper,
    /// NCSNv2: four stages, the output divided by sigma (32 and 64 pixels).
    #[default]
    NcsnV2,
    /// NCSNv2 with five stages (96 and 128 pixels).
    NcsnV2Deeper,
    /// NCSNv2 with six stages (256 pixels).
    NcsnV2Deepest,
}

impl Architecture {
    /// The published classes with what they are here.
    pub(super) const CLASSES: [(&'static str, Self); 6] = [
        ("CondRefineNetDilated", Self::Ncsn),
        ("NCSN", Self::Ncsn),
        ("NCSNdeeper", Self::NcsnDeeper),
        ("NCSNv2", Self::NcsnV2),
        ("NCSNv2Deeper", Self::NcsnV2Deeper),
        ("NCSNv2Deepest", Self::NcsnV2Deepest),
    ];

    /// Its name among the published classes; of two, that of the paper's repository today.
    #[must_use]
    pub fn class(self) -> &'static str {
        let mut names = Self::CLASSES.iter().rev().filter(|(_, known)| *known == self);
        names.next().expect("each has a class").0
    }

    /// Whether the norms know the level of noise.
    #[must_use]
    pub fn is_conditional(self) -> bool {
        matches!(self, Self::Ncsn | Self::NcsnDeeper)
    }

    /// Channels of each stage, as multiples of `ngf`.
    pub(super) fn widths(self) -> &'static [usize] {
        match self {
            Self::Ncsn | Self::NcsnV2 => &[1, 2, 2, 2],
            Self::NcsnDeeper | Self::NcsnV2Deeper => &[1, 2, 2, 4, 4],
            Self::NcsnV2Deepest => &[1, 2, 2, 2, 4, 4],
        }
    }

    /// Pixels between the taps of a stage's convolutions, where they are dilated: the last two stages.
    pub(super) fn dilation(self, stage: usize) -> Option<usize> {
        match self.widths().len() - stage {
            2 => Some(2),
            1 => Some(4),
            _ => None,
        }
    }
}

/// The activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nonlinearity {
    /// x above 0, `exp(x) - 1` below.
    #[default]
    Elu,
    /// x above 0.
    Relu,
    /// x above 0, 0.2 x below.
    Lrelu,
    /// `x / (1 + exp(-x))`.
    Swish,
}

impl Nonlinearity {
    pub(super) fn apply(self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Elu => activation(x, Activation::Elu),
            Self::Relu => relu(x),
            Self::Lrelu => leaky_relu(x, 0.2),
            Self::Swish => activation(x, Activation::Silu),
        }
    }
}

/// How levels of noise lie between the first and the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigmaSpacing {
    /// With one quotient.
    #[default]
    Geometric,
    /// With one difference.
    Uniform,
}

/// Configuration of an [`Ncsn`](super::Ncsn): the fields of the published configurations, with the class as `_class_name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NcsnConfig {
    /// Which network; in JSON the class.
    #[serde(skip)]
    pub architecture: Architecture,
    /// Channels of a picture.
    pub channels: usize,
    /// Width of the first stage.
    pub ngf: usize,
    /// Levels of noise.
    pub num_classes: usize,
    /// Standard deviation of the most noise, level 0.
    pub sigma_begin: f64,
    /// Standard deviation of the least noise, the last level.
    pub sigma_end: f64,
    /// The levels between.
    pub sigma_dist: SigmaSpacing,
    /// The activation.
    pub nonlinearity: Nonlinearity,
    /// Whether pictures come in -1 to 1; otherwise they come in 0 to 1, and the network doubles and shifts them.
    pub rescaled: bool,
    /// Whether pictures come as logits, which are taken as they are.
    pub logit_transform: bool,
}

impl Default for NcsnConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::NcsnV2,
            channels: 3,
            ngf: 128,
            num_classes: 10,
            sigma_begin: 1.0,
            sigma_end: 0.01,
            sigma_dist: SigmaSpacing::Geometric,
            nonlinearity: Nonlinearity::Elu,
            rescaled: false,
            logit_transform: false,
        }
    }
}

impl NcsnConfig {
    /// Read a JSON object of these fields.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let classes = Architecture::CLASSES.map(|(class, _)| class);
        let mut config: Self = kiln_checkpoint::config::read(text, &classes)?;
        let only = [("normalization", "InstanceNorm++".into()), ("spec_norm", false.into())];
        refuse_others(text, &only)?;
        let class = class_of(text)?;
        let known = Architecture::CLASSES.iter().find(|(known, _)| class.as_deref() == Some(known));
        // The class alone tells how deep the network is.
        let Some((_, architecture)) = known else {
            let reason = format!("is missing; expected one of {}", classes.join(", "));
            return Err(ConfigError::Field { field: "_class_name".to_owned(), reason });
        };
        config.architecture = *architecture;
        config.validate()?;
        Ok(config)
    }

    /// The JSON object that [`from_json`](Self::from_json) reads.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::to_value(self).expect("numbers and names");
        object["_class_name"] = self.architecture.class().into();
        object
    }

    /// How often a picture is halved on the way to the deepest stage.
    #[must_use]
    pub fn halvings(&self) -> usize {
        self.architecture.widths().len() - 3
    }

    /// Check that the fields together make a network.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |field, reason: &str| Err(ConfigError::Inconsistent { field, reason: reason.to_owned() });
        match self {
            Self { channels: 0, .. } => fail("channels", "is 0"),
            // Instance norm++ compares the channels with each other.
            Self { ngf: 0 | 1, .. } => fail("ngf", "is below 2, and a variance over channels needs two"),
            Self { ngf, .. } if *ngf > 1 << 16 => fail("ngf", "is above 65,536"),
            Self { num_classes: 0, .. } => fail("num_classes", "is 0"),
            Self { num_classes, .. } if *num_classes > 1 << 20 => fail("num_classes", "is above a million"),
            Self { sigma_end, .. } if !(*sigma_end > 0.0 && sigma_end.is_finite()) => {
                fail("sigma_end", "is not above 0")
            }
            Self { sigma_begin, sigma_end, .. } if !(sigma_begin >= sigma_end && sigma_begin.is_finite()) => {
                fail("sigma_begin", "is below sigma_end")
            }
            _ => Ok(()),
        }
    }

    /// Standard deviations of the noise, the most first.
    #[must_use]
    pub fn sigmas(&self) -> Vec<f64> {
        let last = self.num_classes.saturating_sub(1).max(1) as f64;
        let between = |from: f64, to: f64, i: usize| from + (to - from) * i as f64 / last;
        let level = |i| match self.sigma_dist {
            SigmaSpacing::Geometric => between(self.sigma_begin.ln(), self.sigma_end.ln(), i).exp(),
            SigmaSpacing::Uniform => between(self.sigma_begin, self.sigma_end, i),
        };
        (0..self.num_classes).map(level).collect()
    }
}
