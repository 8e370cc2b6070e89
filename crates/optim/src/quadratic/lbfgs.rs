//! L-BFGS: Burn's, on a function of numbers.
//!
//! The direction is -H g, with H made of the last `history` changes of x and g (Nocedal 1980; Liu and Nocedal 1989), and
//! steps fulfil the strong Wolfe conditions. [`burn::optim::LBFGS`] does it; here are the loop, the end and the history of
//! residuals.

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, LBFGSConfig, LineSearchFn};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::QuadraticError;
use super::error::finite;
use super::trace::{Ended, Options, Recorder, Trace};
use super::vector::norm;

/// Evaluations of one step at most.
const MAX_EVALUATIONS: usize = 25;

#[derive(Module, Debug)]
struct Point {
    x: Param<Tensor<1>>,
}

/// Minimises f from `options.start` with `history` pairs remembered, in f64 on `device`, which has to have it: any on the
/// CPU. `f` is as for [`nonlinear_conjugate_gradients`](super::nonlinear_conjugate_gradients).
///
/// # Errors
///
/// [`QuadraticError::Size`] without a start, [`NotFinite`](QuadraticError::NotFinite) for one that is not finite,
/// [`Diverged`](QuadraticError::Diverged) where a step ends at what is no number.
///
/// # Panics
///
/// Panics if the device fails or has no f64.
pub fn lbfgs(
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
    history: usize,
    options: &Options,
    device: &Device,
) -> Result<Trace, QuadraticError> {
    let start = options.start.clone().unwrap_or_default();
    let n = start.len();
    if n == 0 {
        return Err(QuadraticError::Size { what: "the start", expected: 1, found: 0 });
    }
    finite("the start", &start)?;
    // Burn's L-BFGS asks for it, though no gradient here is autodiff's.
    let device = device.clone().autodiff();
    let tensor =
        |values: Vec<f64>| Tensor::<1>::from_data(TensorData::new(values, [n]), (&device, DType::F64));
    let mut point = Point { x: Param::from_tensor(tensor(start)) };
    let mut burns = LBFGSConfig::new()
        .with_max_iter(1)
        .with_max_eval(Some(MAX_EVALUATIONS))
        .with_history_size(history.max(1))
        .with_tolerance_grad(0.0)
        .with_tolerance_change(f64::MIN_POSITIVE)
        .with_line_search_fn(LineSearchFn::StrongWolfe)
        .init();
    let mut evaluations = 0;
    let mut recorder: Option<Recorder> = None;
    loop {
        // The first evaluation of a step is at the point that the step before ended at.
        let mut here: Option<(Vec<f64>, f64)> = None;
        let before = point.clone();
        let (next, _) = burns.step(1.0, point, |trial: Point| {
            let x: Vec<f64> = trial.x.val().to_data().iter::<f64>().collect();
            let mut g = vec![0.0; n];
            let value = f(&x, &mut g);
            evaluations += 1;
            here.get_or_insert_with(|| (x, norm(&g)));
            let mut gradients = GradientsParams::new();
            gradients.register(trial.x.id, tensor(g).without_autodiff());
            (value, gradients)
        });
        let Some((x, residual)) = here else { return Err(QuadraticError::Diverged { step: 0 }) };
        let recorder_of = |residual| Recorder::new(options, n, residual);
        let steps = recorder.get_or_insert_with(|| recorder_of(residual));
        if !residual.is_finite() {
            return Err(QuadraticError::Diverged { step: steps.next() });
        }
        let moved = values(&next) != values(&before);
        let ended = steps.push(&x, residual).or(if moved { None } else { Some(Ended::Rounding) });
        if let (Some(ended), Some(recorder)) = (ended, recorder.take_if(|_| ended.is_some())) {
            return Ok(recorder.end(x, evaluations, ended));
        }
        point = next;
    }
}

fn values(point: &Point) -> Vec<f64> {
    point.x.val().to_data().iter::<f64>().collect()
}
