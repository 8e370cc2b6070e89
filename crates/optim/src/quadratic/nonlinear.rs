//! Conjugate gradients for functions that need not be quadratic:
//!
//! ```text
//! d ← -g + β d,   with y = g - g before
//!
//! Fletcher-Reeves       β = g·g / g before · g before
//! Polak-Ribière+        β = max(0, g·y / g before · g before)
//! Hestenes-Stiefel      β = max(0, g·y / d·y)
//! Dai-Yuan              β = g·g / d·y
//! ```
//!
//! with steps that fulfil the strong Wolfe conditions. On a quadratic function with exact steps the four are one, and they
//! are [`conjugate_gradients`](super::conjugate_gradients). The direction starts anew from -g where it does not go down, and
//! where g has lost its right angle to the one before (|g · g before| ≥ 0.2 g · g; Powell 1977). Nocedal and Wright, 2nd
//! edition, §5.2; Dai and Yuan 1999.

use super::QuadraticError;
use super::error::finite;
use super::line_search::{Found, Sample, strong_wolfe};
use super::trace::{Ended, Options, Recorder, Trace};
use super::vector::{dot, norm, turn};

/// How much of the direction before a step keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Beta {
    /// g·g / g₀·g₀.
    FletcherReeves,
    /// max(0, g·(g - g₀) / g₀·g₀).
    #[default]
    PolakRibierePlus,
    /// max(0, g·(g - g₀) / d·(g - g₀)).
    HestenesStiefel,
    /// g·g / d·(g - g₀).
    DaiYuan,
}

impl Beta {
    /// All four.
    pub const ALL: [Self; 4] =
        [Self::FletcherReeves, Self::PolakRibierePlus, Self::HestenesStiefel, Self::DaiYuan];

    fn of(self, g: &[f64], before: &[f64], d: &[f64]) -> f64 {
        // Sums of products with y = g - before, without making y.
        let change = |v: &[f64]| dot(v, g) - dot(v, before);
        match self {
            Self::FletcherReeves => dot(g, g) / dot(before, before),
            Self::PolakRibierePlus => (change(g) / dot(before, before)).max(0.0),
            Self::HestenesStiefel => (change(g) / change(d)).max(0.0),
            Self::DaiYuan => dot(g, g) / change(d),
        }
    }
}

/// Minimises f from `options.start`, which says how many variables there are. `f` writes the gradient at its first argument
/// into its second, and gives the value.
///
/// ```
/// use kiln_optim::quadratic::{Beta, Ended, Options, nonlinear_conjugate_gradients};
///
/// // Rosenbrock's valley.
/// let valley = |x: &[f64], g: &mut [f64]| {
///     let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
///     g[0] = -2.0 * a - 400.0 * x[0] * b;
///     g[1] = 200.0 * b;
///     a * a + 100.0 * b * b
/// };
/// let options = Options { start: Some(vec![-1.2, 1.0]), ..Options::default() };
/// let trace = nonlinear_conjugate_gradients(valley, Beta::PolakRibierePlus, &options)?;
/// assert_eq!(trace.ended, Ended::Converged);
/// assert!((trace.x[0] - 1.0).abs() < 1e-6 && (trace.x[1] - 1.0).abs() < 1e-6);
/// # Ok::<(), kiln_optim::quadratic::QuadraticError>(())
/// ```
///
/// # Errors
///
/// [`QuadraticError::Size`] without a start, [`NotFinite`](QuadraticError::NotFinite) for one that is not finite,
/// [`Diverged`](QuadraticError::Diverged) where f has no value at it, [`LineSearch`](QuadraticError::LineSearch).
pub fn nonlinear_conjugate_gradients(
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
    beta: Beta,
    options: &Options,
) -> Result<Trace, QuadraticError> {
    let mut x = options.start.clone().unwrap_or_default();
    let n = x.len();
    if n == 0 {
        return Err(QuadraticError::Size { what: "the start", expected: 1, found: 0 });
    }
    finite("the start", &x)?;
    let (mut g, mut before) = (vec![0.0; n], vec![0.0; n]);
    let mut value = f(&x, &mut g);
    let mut evaluations = 1;
    if !value.is_finite() || g.iter().any(|g| !g.is_finite()) {
        return Err(QuadraticError::Diverged { step: 0 });
    }
    let mut recorder = Recorder::new(options, n, norm(&g));
    let mut d: Vec<f64> = g.iter().map(|g| -g).collect();
    let mut trial = x.clone();
    let mut alpha = None;
    loop {
        let square = dot(&g, &g);
        if let Some(ended) = recorder.push(&x, square.sqrt()) {
            return Ok(recorder.end(x, evaluations, ended));
        }
        let mut slope = dot(&g, &d);
        if slope >= 0.0 {
            d.iter_mut().zip(&g).for_each(|(d, g)| *d = -g);
            slope = -square;
        }
        // The first step as long as that of the step before would promise the same fall; at first, of length 1 at most.
        let first = match alpha {
            Some((alpha, slope_before)) => alpha * slope_before / slope,
            None => 1.0_f64.min(1.0 / norm(&d)),
        };
        std::mem::swap(&mut g, &mut before);
        let found = strong_wolfe(Sample { alpha: 0.0, value, slope }, first, |alpha| {
            evaluations += 1;
            trial.iter_mut().zip(x.iter().zip(&d)).for_each(|(t, (x, d))| *t = x + alpha * d);
            let value = f(&trial, &mut g);
            Sample { alpha, value, slope: dot(&g, &d) }
        });
        let (sample, flat) = match found {
            Found::Step(sample) => (sample, false),
            Found::Flat(sample) => (sample, sample.value >= value),
            Found::Nothing => {
                // Down to rounding is no failure of the search.
                let attainable = f64::EPSILON.sqrt() * (1.0 + value.abs());
                if square.sqrt() <= attainable {
                    return Ok(recorder.end(x, evaluations, Ended::Rounding));
                }
                return Err(QuadraticError::LineSearch { step: recorder.next() });
            }
        };
        std::mem::swap(&mut x, &mut trial);
        value = sample.value;
        alpha = Some((sample.alpha, slope));
        if flat {
            recorder.push(&x, norm(&g));
            return Ok(recorder.end(x, evaluations, Ended::Rounding));
        }
        let kept = beta.of(&g, &before, &d);
        let anew = dot(&g, &before).abs() >= 0.2 * dot(&g, &g) || !kept.is_finite();
        let minus: Vec<f64> = g.iter().map(|g| -g).collect();
        turn(&mut d, &minus, if anew { 0.0 } else { kept });
    }
}
