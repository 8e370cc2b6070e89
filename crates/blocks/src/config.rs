//! Fields that the configs of several networks have.

use kiln_backend::ops::Activation;
use serde::{Deserialize, Serialize};

/// Height and width of the pictures that a network was trained on; it takes others too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "neither a number nor a list of two")]
pub enum SampleSize {
    /// One number for both.
    Square(usize),
    /// Height, then width.
    Rectangle([usize; 2]),
}

impl SampleSize {
    /// Height and width.
    #[must_use]
    pub fn sides(self) -> [usize; 2] {
        match self {
            Self::Square(side) => [side, side],
            Self::Rectangle(sides) => sides,
        }
    }
}

/// An activation by the name that diffusers gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationName {
    /// SiLU, also called swish.
    #[default]
    #[serde(alias = "swish")]
    Silu,
    /// GELU with the exact error function.
    Gelu,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Self {
        match name {
            ActivationName::Silu => Self::Silu,
            ActivationName::Gelu => Self::Gelu,
        }
    }
}
