//! Grids: the decreasing times that a solver walks, from plain functions.
//!
//! A grid of n steps has n + 1 times, from noise to data. On a process that has a clean time (all but variance exploding) the last
//! one is that time, so that the last step gives the data.

use crate::{Clock, DiffusionError, Process};

/// Even steps in t, from [`Process::t_max`] to the clean time, or to [`Process::t_min`] where there is none.
///
/// # Errors
/// If there are no steps.
pub fn uniform(process: &dyn Process, steps: usize) -> Result<Vec<f64>, DiffusionError> {
    at_least_one(steps)?;
    let (start, end) = (process.t_max(), process.clean_time().unwrap_or(process.t_min()));
    Ok((0..=steps).map(|i| start + (end - start) * i as f64 / steps as f64).collect())
}

/// What suits the process: [`trailing`] on a ladder, [`karras`] with rho 7 where the clock is the noise ratio, else [`uniform`].
///
/// # Errors
/// If there are no steps, or more than rungs.
pub fn natural(process: &dyn Process, steps: usize) -> Result<Vec<f64>, DiffusionError> {
    if process.clock() == Clock::NoiseRatio && steps > 1 {
        return karras(process, steps, 7.0);
    }
    process.rungs().map_or_else(|| uniform(process, steps), |rungs| trailing(rungs, steps))
}

/// Every k-th rung from the last one down, then the data: indices `round(N - i N / n) - 1` (diffusers' "trailing").
///
/// # Errors
/// If there are no steps, or more than rungs.
pub fn trailing(rungs: usize, steps: usize) -> Result<Vec<f64>, DiffusionError> {
    on_ladder(rungs, steps, |i| rungs as f64 - i as f64 * rungs as f64 / steps as f64 - 1.0)
}

/// Every k-th rung from `offset` up, taken backwards, then the data: indices `i floor(N / n) + offset` (diffusers' "leading").
///
/// # Errors
/// If there are no steps, more than rungs, or the offset leads beyond the last rung.
pub fn leading(rungs: usize, steps: usize, offset: usize) -> Result<Vec<f64>, DiffusionError> {
    let stride = rungs / steps.max(1);
    on_ladder(rungs, steps, |i| ((steps - 1 - i) * stride + offset) as f64)
}

/// Rungs evenly from the last one to the first one, then the data: indices `round(i (N - 1) / (n - 1))` (diffusers' "linspace").
///
/// # Errors
/// If there are no steps, or more than rungs.
pub fn linspace(rungs: usize, steps: usize) -> Result<Vec<f64>, DiffusionError> {
    let intervals = steps.saturating_sub(1).max(1) as f64;
    // One step alone starts from the noise.
    let first = if steps == 1 { 1 } else { 0 };
    on_ladder(rungs, steps, |i| (rungs - 1) as f64 * ((steps - 1 - i + first) as f64 / intervals))
}

/// Karras et al.'s grid: `(sigma / alpha)^(1 / rho)` even between [`Process::t_max`] and [`Process::t_min`], then the data if there is a clean time.
///
/// ```text
/// level_i = (max^(1/rho) + i / (n - 1) (min^(1/rho) - max^(1/rho)))^rho
/// ```
///
/// Source: Karras et al. 2022, equation 5, with rho = 7 there. Where sigma / alpha is infinite at t_max or 0 at t_min (rectified flow), the
/// ends are those of log-SNR -12 and 12.
///
/// # Errors
/// If there are fewer than two steps, or rho is not above 0.
pub fn karras(process: &dyn Process, steps: usize, rho: f64) -> Result<Vec<f64>, DiffusionError> {
    crate::error::require("steps of a Karras grid", "at least 2", steps as f64, steps >= 2)?;
    crate::error::require("rho of a Karras grid", "above 0", rho, rho > 0.0)?;
    const STEEPEST: f64 = 12.0;
    let root = |t: f64| (-process.log_snr(t).clamp(-STEEPEST, STEEPEST) / 2.0 / rho).exp();
    let (high, low) = (root(process.t_max()), root(process.t_min()));
    let intervals = match process.clean_time() {
        Some(_) => steps - 1,
        None => steps,
    };
    let mut times: Vec<f64> = (0..=intervals)
        .map(|i| high + (low - high) * i as f64 / intervals as f64)
        .map(|level| process.time_at_log_snr(-2.0 * rho * level.ln()))
        .collect();
    times.extend(process.clean_time());
    check(&times)?;
    Ok(times)
}

/// The times at which `sigma / alpha` is each of these levels, the highest first: SMLD's and NCSN's ladders, geometric or not.
///
/// # Errors
/// If the levels are fewer than two or not decreasing, or the process has not these levels.
pub fn at_levels(process: &dyn Process, levels: &[f64]) -> Result<Vec<f64>, DiffusionError> {
    let ratio = |t: f64| process.law(t).noise_ratio();
    let (low, high) = (ratio(process.t_min()), ratio(process.t_max()));
    let inside = |level: &f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(level);
    if let Some(level) = levels.iter().find(|level| !inside(level)) {
        let problem = format!("level {level} is not between {low} and {high}, the levels of the process");
        return Err(DiffusionError::Grid { problem });
    }
    let times: Vec<f64> = levels.iter().map(|level| process.time_at_log_snr(-2.0 * level.ln())).collect();
    check(&times)?;
    Ok(times)
}

/// Pushes times in `[0, 1]` towards noise, for larger pictures: `t ← shift t / (1 + (shift - 1) t)`.
///
/// Source: Esser et al. 2024 (Stable Diffusion 3), equation 23, where shift is `sqrt(m / n)` for m pixels in place of n, and 3 in use.
///
/// # Errors
/// If the shift is not above 0.
pub fn shifted(times: &[f64], shift: f64) -> Result<Vec<f64>, DiffusionError> {
    crate::error::require("the shift of a grid", "above 0", shift, shift > 0.0)?;
    Ok(times.iter().map(|t| shift * t / (1.0 + (shift - 1.0) * t)).collect())
}

/// Rungs at `index(i)`, rounded to the nearest (halves to even, as NumPy does), as times; then the data.
fn on_ladder(rungs: usize, steps: usize, index: impl Fn(usize) -> f64) -> Result<Vec<f64>, DiffusionError> {
    at_least_one(steps)?;
    if steps > rungs {
        return Err(DiffusionError::Grid { problem: format!("{steps} steps on a ladder of {rungs} rungs") });
    }
    let mut times = Vec::with_capacity(steps + 1);
    for i in 0..steps {
        let rung = index(i).round_ties_even();
        if !(0.0..rungs as f64).contains(&rung) {
            return Err(DiffusionError::Grid { problem: format!("rung {rung} of a ladder of {rungs}") });
        }
        times.push((rung + 1.0) / rungs as f64);
    }
    times.push(0.0);
    check(&times)?;
    Ok(times)
}

fn at_least_one(steps: usize) -> Result<(), DiffusionError> {
    crate::error::require("the number of steps", "at least 1", steps as f64, steps >= 1).map(drop)
}

/// Two times or more, finite and decreasing.
pub(crate) fn check(times: &[f64]) -> Result<(), DiffusionError> {
    if times.len() < 2 {
        return Err(DiffusionError::Grid {
            problem: format!("{} times: two or more make a step", times.len()),
        });
    }
    if let Some(t) = times.iter().find(|t| !t.is_finite()) {
        return Err(DiffusionError::Grid { problem: format!("{t} is no time") });
    }
    match times.windows(2).position(|pair| pair[1] >= pair[0]) {
        Some(i) => {
            let problem =
                format!("time {} is {}, not below the one before, {}", i + 1, times[i + 1], times[i]);
            Err(DiffusionError::Grid { problem })
        }
        None => Ok(()),
    }
}

/// Decreasing times lie where the process has a law.
pub(crate) fn check_within(times: &[f64], process: &dyn Process) -> Result<(), DiffusionError> {
    let end = process.clean_time().unwrap_or(process.t_min());
    let slack = 1e-9 * process.t_max();
    let outside = |t: &&f64| **t > process.t_max() + slack || **t < end - slack;
    match times.iter().find(outside) {
        Some(t) => {
            let problem =
                format!("{t} is not between {end} and {}, the times of the process", process.t_max());
            Err(DiffusionError::Grid { problem })
        }
        None => Ok(()),
    }
}
