//! The law of state at one time: `x_t = alpha x_0 + sigma eps`, and how it moves.

/// alpha, sigma and their derivatives in t, at one t.
///
/// Everything that a prediction or a solver needs of a process at a time is a function of these four numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// What is left of the data.
    pub alpha: f64,
    /// The standard deviation of the noise.
    pub sigma: f64,
    /// d alpha / dt.
    pub alpha_dot: f64,
    /// d sigma / dt; infinite where a variance-preserving process leaves the data (t = 0).
    pub sigma_dot: f64,
}

impl Law {
    /// The law of a variance-preserving process from `ln alpha_bar` (`alpha = sqrt(alpha_bar)`, `sigma = sqrt(1 - alpha_bar)`) and its
    /// derivative in t.
    pub(crate) fn from_log_alpha_bar(log: f64, log_dot: f64) -> Self {
        let alpha = (log / 2.0).exp();
        let sigma = (-log.exp_m1()).max(0.0).sqrt();
        Self {
            alpha,
            sigma,
            alpha_dot: alpha * log_dot / 2.0,
            sigma_dot: -log.exp() * log_dot / (2.0 * sigma),
        }
    }

    /// sigma / alpha: the noise level that k-diffusion and EDM call sigma. Infinite where alpha is 0.
    #[must_use]
    pub fn noise_ratio(&self) -> f64 {
        self.sigma / self.alpha
    }

    /// `ln(alpha² / sigma²)`: plus infinity at clean data, minus infinity at pure noise.
    #[must_use]
    pub fn log_snr(&self) -> f64 {
        2.0 * (self.alpha.ln() - self.sigma.ln())
    }

    /// `sqrt(alpha² + sigma²)`: the scale of `x_t` for data of variance 1.
    #[must_use]
    pub fn norm(&self) -> f64 {
        self.alpha.hypot(self.sigma)
    }

    /// The angle from data to noise, `atan2(sigma, alpha)`, from 0 to pi / 2.
    #[must_use]
    pub fn angle(&self) -> f64 {
        self.sigma.atan2(self.alpha)
    }
}
