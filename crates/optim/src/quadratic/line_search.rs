//! A step α along a direction d that fulfils the strong Wolfe conditions, with φ(α) = f(x + α d):
//!
//! ```text
//! φ(α) ≤ φ(0) + c₁ α φ'(0)             it falls enough
//! |φ'(α)| ≤ c₂ |φ'(0)|                 it is nearly level there
//! ```
//!
//! Nocedal and Wright, "Numerical optimization", 2nd edition, algorithms 3.5 and 3.6, with the minimum of the cubic through
//! both ends of an interval (equation 3.59) where that is well inside of it.

/// c₁.
const FALL: f64 = 1e-4;
/// c₂: less than 1/2, which Fletcher-Reeves needs to go down always.
const LEVEL: f64 = 0.1;
/// Evaluations in all.
const MAX_EVALUATIONS: usize = 60;

/// φ at one α.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) alpha: f64,
    pub(super) value: f64,
    pub(super) slope: f64,
}

/// How a search ended.
pub(super) enum Found {
    /// A step that fulfils both conditions; it was evaluated last.
    Step(Sample),
    /// The lowest point found, if it is below the start: it was evaluated last. φ is flat to its last digits there.
    Flat(Sample),
    /// None.
    Nothing,
}

/// Searches from α = `first`; `evaluate` gives φ and φ'.
pub(super) fn strong_wolfe(start: Sample, first: f64, mut evaluate: impl FnMut(f64) -> Sample) -> Found {
    let mut evaluations = 0;
    let mut at = |alpha: f64| {
        evaluations += 1;
        (evaluations <= MAX_EVALUATIONS).then(|| evaluate(alpha))
    };
    let falls = |s: &Sample| s.value <= start.value + FALL * s.alpha * start.slope;
    let level = |s: &Sample| s.slope.abs() <= -LEVEL * start.slope;
    let mut before = start;
    let mut alpha = first;
    // Outwards, until the minimum lies between two samples.
    let (mut low, mut high) = loop {
        let Some(here) = at(alpha) else { return Found::Nothing };
        if !here.value.is_finite() || !here.slope.is_finite() {
            // Too far: the function has no value there.
            alpha = before.alpha + (alpha - before.alpha) / 10.0;
            continue;
        }
        if !falls(&here) || (before.alpha > 0.0 && here.value >= before.value) {
            break (before, here);
        }
        if level(&here) {
            return Found::Step(here);
        }
        if here.slope >= 0.0 {
            break (here, before);
        }
        // Not less than twice as far, and not more than ten times.
        let reach = here.alpha - before.alpha;
        let guess = minimum_of_cubic(&before, &here).unwrap_or(f64::INFINITY);
        alpha = guess.clamp(here.alpha + reach, here.alpha + 9.0 * reach);
        before = here;
    };
    // Inwards: `low` falls enough and is the lowest so far, and its slope points to `high`.
    loop {
        let width = (high.alpha - low.alpha).abs();
        if width <= 1e-15 * low.alpha.max(high.alpha) {
            break;
        }
        let (left, right) = (low.alpha.min(high.alpha), low.alpha.max(high.alpha));
        let inside = left + 0.1 * width..=right - 0.1 * width;
        let guess = minimum_of_cubic(&low, &high).filter(|guess| inside.contains(guess));
        let Some(here) = at(guess.unwrap_or_else(|| f64::midpoint(left, right))) else { break };
        if !(falls(&here) && here.value < low.value) {
            // A value that is rounded to that of `low` still has a slope that tells more.
            if level(&here)
                && here.value <= start.value
                && here.alpha > 0.0
                && (here.value - low.value).abs() <= rounding(&low)
            {
                return Found::Step(here);
            }
            high = here;
            continue;
        }
        if level(&here) {
            return Found::Step(here);
        }
        if here.slope * (high.alpha - low.alpha) >= 0.0 {
            high = low;
        }
        low = here;
    }
    if low.alpha > 0.0 && low.value <= start.value {
        Found::Flat(evaluate(low.alpha))
    } else {
        Found::Nothing
    }
}

fn rounding(sample: &Sample) -> f64 {
    4.0 * f64::EPSILON * sample.value.abs()
}

/// Where the cubic that has the values and slopes of both samples is lowest.
fn minimum_of_cubic(a: &Sample, b: &Sample) -> Option<f64> {
    let d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.alpha - b.alpha);
    let square = d1 * d1 - a.slope * b.slope;
    let d2 = (b.alpha - a.alpha).signum() * square.sqrt();
    let minimum = b.alpha - (b.alpha - a.alpha) * (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2);
    minimum.is_finite().then_some(minimum)
}
