//! Noise levels and rungs, spaced as diffusers spaces them. "Level" is sigma / alpha.

use statrs::distribution::{Beta, ContinuousCDF};

use super::fields::{Fields, Spacing};
use crate::{DiffusionError, Process};

/// The rungs of a run of `steps`, from the noisiest down, as the network counts them; whole but for `Fractional`. Those from `end` on are not
/// used, of a ladder of `count`.
pub(super) fn rungs(
    spacing: Spacing,
    [count, end]: [usize; 2],
    steps: usize,
    offset: usize,
    rounding: Rounding,
) -> Vec<f64> {
    match spacing {
        Spacing::Linspace => {
            let points = match rounding {
                Rounding::OneMore => steps + 1,
                Rounding::Whole | Rounding::Fractional => steps,
            };
            let last = (end - 1) as f64;
            let line = |i: usize| if points > 1 { last * i as f64 / (points - 1) as f64 } else { 0.0 };
            let first = points - steps;
            let spaced = (first..points).rev().map(line);
            match rounding {
                Rounding::Fractional => spaced.collect(),
                Rounding::Whole | Rounding::OneMore => spaced.map(f64::round_ties_even).collect(),
            }
        }
        Spacing::Leading => {
            let points = match rounding {
                Rounding::OneMore => steps + 1,
                Rounding::Whole | Rounding::Fractional => steps,
            };
            let stride = end / points;
            (points - steps..points).rev().map(|i| (i * stride + offset) as f64).collect()
        }
        Spacing::Trailing => {
            let stride = count as f64 / steps as f64;
            let down = (0..steps).map(|i| end as f64 - i as f64 * stride);
            down.take_while(|place| *place > 0.0).map(|place| place.round_ties_even() - 1.0).collect()
        }
    }
}

/// How a class rounds its rungs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To whole rungs.
    Whole,
    /// To whole rungs, from a grid with one point more whose last is left out.
    OneMore,
    /// Not at all.
    Fractional,
}

/// The level of every rung, the least first; to f32, as diffusers keeps them: whether a level between two rungs is cut down to the one below
/// hangs on the last place.
pub(super) fn of_ladder(process: &dyn Process) -> Vec<f64> {
    let count = process.rungs().unwrap_or(0);
    (0..count)
        .map(|i| process.law((i + 1) as f64 / count as f64).noise_ratio())
        .map(|level| f64::from(level as f32))
        .collect()
}

/// The level at a rung, between rungs on the straight line.
pub(super) fn at_rung(levels: &[f64], rung: f64) -> f64 {
    let rung = rung.clamp(0.0, (levels.len() - 1) as f64);
    let low = (rung.floor() as usize).min(levels.len().saturating_sub(2));
    let share = rung - low as f64;
    levels[low] + share * (levels[low + 1] - levels[low])
}

/// The rung of a level, between rungs by the logarithm; the nearest end for a level outside.
pub(super) fn rung_of(process: &dyn Process, level: f64) -> f64 {
    let logs: Vec<f64> = of_ladder(process).into_iter().map(f64::ln).collect();
    rung_in(&logs, level)
}

pub(super) fn rung_in(logs: &[f64], level: f64) -> f64 {
    let log = level.max(1e-10).ln();
    let low = logs.partition_point(|&l| l <= log).saturating_sub(1).min(logs.len().saturating_sub(2));
    let share = ((logs[low] - log) / (logs[low] - logs[low + 1])).clamp(0.0, 1.0);
    low as f64 + share
}

/// Karras et al.'s levels from `max` down to `min`.
pub(super) fn karras(min: f64, max: f64, steps: usize, rho: f64) -> Vec<f64> {
    let (low, high) = (min.powf(1.0 / rho), max.powf(1.0 / rho));
    ramp(steps).map(|share| (high + share * (low - high)).powf(rho)).collect()
}

/// Levels even in their logarithm.
pub(super) fn exponential(min: f64, max: f64, steps: usize) -> Vec<f64> {
    ramp(steps).map(|share| (max.ln() + share * (min.ln() - max.ln())).exp()).collect()
}

/// Levels at the quantiles of Beta(0.6, 0.6): Lee et al. 2024, "Beta sampling is all you need".
pub(super) fn beta(min: f64, max: f64, steps: usize) -> Vec<f64> {
    let quantiles =
        Beta::new(0.6, 0.6).map(|beta| ramp(steps).map(|p| beta.inverse_cdf(1.0 - p)).collect::<Vec<_>>());
    quantiles.unwrap_or_default().into_iter().map(|q| min + q * (max - min)).collect()
}

/// 0 to 1 in even steps; 0 alone for one.
fn ramp(steps: usize) -> impl Iterator<Item = f64> {
    let last = steps.saturating_sub(1).max(1) as f64;
    (0..steps).map(move |i| i as f64 / last)
}

/// Levels replaced as the config's `use_*_sigmas` ask; `None` where it asks for nothing.
pub(super) fn respaced(
    fields: &Fields,
    min: f64,
    max: f64,
    steps: usize,
) -> Result<Option<Vec<f64>>, DiffusionError> {
    let asked = |flag: Option<bool>| flag.unwrap_or(false);
    let [karras_asked, exponential_asked, beta_asked] =
        [fields.use_karras_sigmas, fields.use_exponential_sigmas, fields.use_beta_sigmas].map(asked);
    if usize::from(karras_asked) + usize::from(exponential_asked) + usize::from(beta_asked) > 1 {
        return Err(super::fields::config(
            "use_karras_sigmas",
            "only one of the spacings of sigmas can be asked for",
        ));
    }
    if fields.use_lu_lambdas == Some(true) && !karras_asked {
        // Lu et al. 2022, "DPM-Solver": even in lambda, which is minus the logarithm.
        return Ok(Some(exponential(min, max, steps)));
    }
    let (min, max) = (fields.sigma_min.unwrap_or(min), fields.sigma_max.unwrap_or(max));
    Ok(if karras_asked {
        Some(karras(min, max, steps, 7.0))
    } else if exponential_asked {
        Some(exponential(min, max, steps))
    } else if beta_asked {
        Some(beta(min, max, steps))
    } else {
        None
    })
}
