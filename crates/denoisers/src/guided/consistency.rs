//! A [`GuidedUNet`] as a consistency model: a function from a noisy picture to a clean one (Song et al. 2023, "Consistency
//! Models", appendix C; the preconditioning is that of Karras et al. 2022, "Elucidating the Design Space", table 1).
//!
//! ```text
//! f(x, s) = c_skip(s) x + c_out(s) F(c_in(s) x, 250 ln s)
//! c_skip = d² / ((s - s_min)² + d²)     c_out = d (s - s_min) / sqrt(s² + d²)     c_in = 1 / sqrt(s² + d²)
//! ```
//!
//! `d` is the standard deviation of the data. At the least noise, `s = s_min`, the picture is given back as it is; with
//! `s_min = 0` these are EDM's own factors.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::model::GuidedUNet;
use crate::ConfigError;
use crate::unet2d::ClassCondition;

/// The range of noise that a [`ConsistencyModel`] was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsistencyConfig {
    /// Standard deviation of the data.
    pub sigma_data: f64,
    /// The least noise, where the model changes nothing; 0 for a network that was trained as EDM has it.
    pub sigma_min: f64,
    /// The most noise, from which a picture is drawn.
    pub sigma_max: f64,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        Self { sigma_data: 0.5, sigma_min: 0.002, sigma_max: 80.0 }
    }
}

/// What is done about values that no picture has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputRange {
    /// Nothing.
    #[default]
    Free,
    /// They are brought to -1..1.
    Clamped,
}

/// A network that takes the noise out of a picture in one step; see the [module](self).
#[derive(Clone, Debug)]
pub struct ConsistencyModel {
    /// The network within.
    pub network: GuidedUNet,
    /// The range of noise.
    pub config: ConsistencyConfig,
}

/// The factors at one level of noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preconditioning {
    /// Of the noisy picture.
    pub c_skip: f64,
    /// Of the network's output.
    pub c_out: f64,
    /// Of the network's input.
    pub c_in: f64,
    /// What the network is told of the noise.
    pub c_noise: f64,
}

impl ConsistencyConfig {
    /// Read the fields from a JSON object, which may be that of the network's config; what it does not say is as OpenAI's
    /// models have it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; the message names the field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = kiln_checkpoint::config::read(text, &["GuidedUNet"])?;
        config.validate()?;
        Ok(config)
    }

    /// Check that the levels are in order.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Inconsistent`] with the field to change.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { sigma_data, sigma_min, sigma_max } = *self;
        let (field, value) = if !(sigma_data > 0.0 && sigma_data.is_finite()) {
            ("sigma_data", sigma_data)
        } else if !(sigma_min >= 0.0 && sigma_min.is_finite()) {
            ("sigma_min", sigma_min)
        } else if !(sigma_max > sigma_min && sigma_max.is_finite()) {
            ("sigma_max", sigma_max)
        } else {
            return Ok(());
        };
        let reason = format!("is {value}; expected sigma_data > 0 and 0 <= sigma_min < sigma_max");
        Err(ConfigError::Inconsistent { field, reason })
    }

    /// `network` as a consistency model of this range.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate).
    pub fn wrap(self, network: GuidedUNet) -> Result<ConsistencyModel, ConfigError> {
        self.validate()?;
        Ok(ConsistencyModel { network, config: self })
    }

    /// The factors at noise `sigma`, which is above 0.
    #[must_use]
    pub fn preconditioning(&self, sigma: f64) -> Preconditioning {
        let Self { sigma_data, sigma_min, .. } = *self;
        let above = sigma - sigma_min;
        Preconditioning {
            c_skip: sigma_data.powi(2) / (above.powi(2) + sigma_data.powi(2)),
            c_out: sigma_data * above / sigma.hypot(sigma_data),
            c_in: 1.0 / sigma.hypot(sigma_data),
            c_noise: 250.0 * sigma.ln(),
        }
    }
}

impl ConsistencyModel {
    /// The clean picture in `noisy`, `[batch, channels, height, width]`, whose samples carry noise of standard deviation
    /// `sigma`, one for each and above 0. The result has the shape of `noisy`; pictures are in -1..1.
    ///
    /// # Panics
    ///
    /// If `sigma` does not hold one level for each sample, or one is not above 0; and as [`GuidedUNet::forward`] does.
    #[must_use]
    pub fn denoise(
        &self,
        noisy: Tensor<4>,
        sigma: &[f64],
        label: Option<ClassCondition>,
        range: OutputRange,
    ) -> Tensor<4> {
        let [batch, _, _, _] = noisy.dims();
        assert_eq!(sigma.len(), batch, "one level of noise a sample");
        assert!(sigma.iter().all(|&sigma| sigma > 0.0), "noise is above 0: {sigma:?}");
        let (device, dtype) = (noisy.device(), noisy.dtype());
        let each = |of: fn(Preconditioning) -> f64| -> TensorData {
            let values = sigma.iter().map(|&sigma| of(self.config.preconditioning(sigma)) as f32);
            TensorData::new(values.collect::<Vec<_>>(), [batch])
        };
        let factor = |of| -> Tensor<4> {
            Tensor::<1>::from_data(each(of), (&device, dtype)).reshape([batch, 1, 1, 1])
        };
        // In f32 whatever the network computes in: it counts to -1,554.
        let times = Tensor::<1>::from_data(each(|c| c.c_noise), (&device, burn::tensor::DType::F32));
        let output = self.network.forward(noisy.clone() * factor(|c| c.c_in), times, label);
        let clean = noisy * factor(|c| c.c_skip) + output * factor(|c| c.c_out);
        match range {
            OutputRange::Free => clean,
            OutputRange::Clamped => clean.clamp(-1.0, 1.0),
        }
    }
}
