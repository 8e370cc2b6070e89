//! Dormand and Prince's embedded pair: fifth order, with an error estimate of fourth order for nothing, and steps that each sample chooses for itself.
//!
//! ```text
//! k_i   = f(tau + c_i h, y + h sum_j a_ij k_j),   y' = y + h sum_j b_j k_j,   k_7 = f(tau + h, y')
//! error = rms(h sum_j e_j k_j / (absolute + relative max(|y|, |y'|)))          over a sample's own coordinates
//! h    <- 0.9 h error^-0.17 error_before^0.04                                    at least a fifth, at most ten times; kept if error <= 1
//! ```
//!
//! The last slope of a step that is kept is the first of the next. All samples go through the field as one batch, each at its own tau with its own h; one that has arrived has h = 0.
//! What is tensor stays on the device; one number a sample, its error, is read for each attempt, since the law of state at the next times is
//! computed on the host in f64.
//!
//! Sources: Dormand, Prince, "A family of embedded Runge-Kutta formulae", 1980; Hairer, Norsett, Wanner, "Solving ordinary differential equations I", II.4
//! (starting step, equation 4.14) and Hairer, Wanner, II, IV.2 (the controller with memory, beta = 0.04).

use burn::tensor::{Bool, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::blend::{column, sum};

const C: [f64; 6] = [1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];

/// Rows 2 to 7 of the tableau; the last holds the weights of the result.
const A: [&[f64]; 6] = [
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
];

/// The fifth order's weights without the fourth's.
const E: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0];

/// Steps are not cut below this share of the way: what a field's rounding allows is then taken as it is.
const LEAST_SHARE: f64 = 1e-6;

/// How far off a step may be, coordinate by coordinate: `absolute + relative |y|`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tolerance {
    /// As a share of the value.
    pub relative: f64,
    /// In the value's own unit.
    pub absolute: f64,
}

impl Default for Tolerance {
    /// 1e-5 and 1e-5 (Song et al. 2021).
    fn default() -> Self {
        Self::of(1e-5)
    }
}

impl Tolerance {
    /// The same number for both.
    #[must_use]
    pub const fn of(value: f64) -> Self {
        Self { relative: value, absolute: value }
    }

    /// Whether both are numbers above 0.
    ///
    /// # Errors
    /// If not.
    pub fn check(self) -> Result<(), crate::DiffusionError> {
        let [relative, absolute] = [self.relative, self.absolute];
        crate::error::require("the relative tolerance", "above 0", relative, relative > 0.0)?;
        crate::error::require("the absolute tolerance", "above 0", absolute, absolute > 0.0).map(drop)
    }
}

/// What a run with a step size of its own has cost, sample by sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Evaluations of the denoiser while the sample was on its way.
    pub evaluations: Vec<usize>,
    /// Steps that were taken back.
    pub rejected: Vec<usize>,
}

/// What is kept of each sample between calls: the next step's length and the last error, and what it has cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    pub(super) length: Vec<f64>,
    pub(super) error: Vec<f64>,
    pub(super) tally: Tally,
}

impl Pace {
    fn count(&mut self, moving: &[bool], evaluations: usize) {
        self.tally.evaluations.resize(moving.len(), 0);
        self.tally.rejected.resize(moving.len(), 0);
        for (count, moving) in std::iter::zip(&mut self.tally.evaluations, moving) {
            *count += evaluations * usize::from(*moving);
        }
    }

    /// One evaluation of every sample, made by the caller.
    pub(crate) fn count_one(&mut self, batch: usize) {
        self.count(&vec![true; batch], 1);
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// dy/dtau, `[batch, n]`, of y `[batch, n]` with a tau for each sample.
pub(crate) trait Field: FnMut(&Tensor<2>, &[f64]) -> Tensor<2> {}

impl<F: FnMut(&Tensor<2>, &[f64]) -> Tensor<2>> Field for F {}

/// The stages after the first: y at the step's end with all slopes, the last of which is the one there, if it is asked for.
fn stages(
    field: &mut impl Field,
    y: &Tensor<2>,
    first: Tensor<2>,
    at: &[f64],
    h: &[f64],
    count: usize,
) -> (Tensor<2>, Vec<Tensor<2>>) {
    let step = column(h, y);
    let mut slopes = vec![first];
    let mut end = y.clone();
    for (row, c) in std::iter::zip(A, C) {
        end = y.clone() + step.clone() * sum(std::iter::zip(row.iter().copied(), slopes.iter().cloned()));
        if slopes.len() < count {
            let times: Vec<f64> = std::iter::zip(at, h).map(|(at, h)| at + c * h).collect();
            slopes.push(field(&end, &times));
        }
    }
    (end, slopes)
}

/// One step of this length for all samples: five evaluations beside the first.
pub(crate) fn fixed_step(
    field: &mut impl Field,
    y: &Tensor<2>,
    first: Tensor<2>,
    [from, to]: [f64; 2],
    pace: &mut Pace,
) -> Tensor<2> {
    let batch = y.dims()[0];
    pace.count(&vec![true; batch], 5);
    stages(field, y, first, &vec![from; batch], &vec![to - from; batch], 6).0
}

/// From `from` to `to` in steps that each sample chooses; `first` is the slope at `from`.
pub(crate) fn integrate(
    field: &mut impl Field,
    mut y: Tensor<2>,
    mut first: Tensor<2>,
    [from, to]: [f64; 2],
    tolerance: Tolerance,
    pace: &mut Pace,
) -> Tensor<2> {
    let batch = y.dims()[0];
    let (way, sign) = ((to - from).abs(), (to - from).signum());
    if pace.length.len() != batch {
        pace.length = starting_lengths(field, &y, &first, [from, to], tolerance);
        pace.error = vec![1e-4; batch];
        pace.count(&vec![true; batch], 1);
    }
    let mut at = vec![from; batch];
    let mut held_back = vec![false; batch];
    loop {
        let left: Vec<f64> = at.iter().map(|at| (to - at).abs()).collect();
        let moving: Vec<bool> = left.iter().map(|left| *left > 0.0).collect();
        if !moving.contains(&true) {
            return y;
        }
        let least = LEAST_SHARE * way;
        let lengths: Vec<f64> =
            std::iter::zip(&left, &pace.length).map(|(left, length)| length.max(least).min(*left)).collect();
        let h: Vec<f64> = lengths.iter().map(|length| sign * length).collect();
        let (end, slopes) = stages(field, &y, first.clone(), &at, &h, 7);
        pace.count(&moving, 6);
        let last = slopes[6].clone();
        let error = column(&h, &y) * sum(std::iter::zip(E, slopes));
        let error = rms(&(error / allowed(&y.clone().abs().max_pair(end.clone().abs()), tolerance)));

        let mut keep = vec![false; batch];
        for row in (0..batch).filter(|&row| moving[row]) {
            let (error, length) = (error[row], lengths[row]);
            let cut = length >= left[row];
            if error <= 1.0 || length <= least {
                let wanted = 0.9 * error.max(1e-10).powf(-0.17) * pace.error[row].powf(0.04);
                let factor = wanted.clamp(0.2, if held_back[row] { 1.0 } else { 10.0 });
                let next = length * factor;
                // A step that was cut at the end says little of the length that could be.
                pace.length[row] = if cut { next.max(pace.length[row]) } else { next };
                pace.error[row] = error.max(1e-4);
                // A field that is not finite leads nowhere: the sample is left as it is.
                let lost = !error.is_finite();
                at[row] = if cut || lost { to } else { at[row] + h[row] };
                (keep[row], held_back[row]) = (true, false);
                if lost {
                    (pace.length[row], pace.error[row]) = (way, 1e-4);
                }
            } else {
                let factor = if error.is_finite() { (0.9 * error.powf(-0.2)).max(0.2) } else { 0.2 };
                pace.length[row] = length * factor;
                pace.tally.rejected[row] += 1;
                held_back[row] = true;
            }
        }
        let kept =
            Tensor::<2, Bool>::from_data(TensorData::new(keep, [batch, 1]), &y.device()).expand(y.dims());
        y = y.mask_where(kept.clone(), end);
        first = first.mask_where(kept, last);
    }
}

/// How far off each coordinate may be.
fn allowed(size: &Tensor<2>, tolerance: Tolerance) -> Tensor<2> {
    size.clone().mul_scalar(tolerance.relative).add_scalar(tolerance.absolute)
}

/// The root of the mean square of each sample.
fn rms(x: &Tensor<2>) -> Vec<f64> {
    x.clone().square().mean_dim(1).sqrt().into_data().iter::<f64>().collect()
}

/// A first step that is small against the scale on which the slope changes: one evaluation.
fn starting_lengths(
    field: &mut impl Field,
    y: &Tensor<2>,
    slope: &Tensor<2>,
    [from, to]: [f64; 2],
    tolerance: Tolerance,
) -> Vec<f64> {
    let way = (to - from).abs();
    let allowed = allowed(&y.clone().abs(), tolerance);
    let size = rms(&(y.clone() / allowed.clone()));
    let speed = rms(&(slope.clone() / allowed.clone()));
    let tried: Vec<f64> = std::iter::zip(&size, &speed)
        .map(|(size, speed)| if *size < 1e-5 || *speed < 1e-5 { 1e-6 } else { 0.01 * size / speed })
        .map(|length| length.min(way))
        .collect();
    let h: Vec<f64> = tried.iter().map(|length| (to - from).signum() * length).collect();
    let times: Vec<f64> = h.iter().map(|h| from + h).collect();
    let ahead = field(&(y.clone() + column(&h, y) * slope.clone()), &times);
    let change = rms(&((ahead - slope.clone()) / allowed));
    (0..tried.len())
        .map(|row| {
            let fastest = speed[row].max(change[row] / tried[row]);
            let length =
                if fastest <= 1e-15 { (tried[row] * 1e-3).max(1e-6) } else { (0.01 / fastest).powf(0.2) };
            let length = length.min(100.0 * tried[row]).min(way);
            if length.is_finite() { length } else { way * LEAST_SHARE }
        })
        .collect()
}
