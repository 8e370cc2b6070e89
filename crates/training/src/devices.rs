//! One step on several devices at once.
//!
//! ```text
//! loss      = sum over devices of share_d loss_d            share_d: of the step's samples
//! gradients = sum over devices of share_d gradients_d       added up on the main device, which makes the step
//! ```
//!
//! Each device has a copy of the model, its own thread and its part of the batch: what Burn's multi-device strategy does where the
//! main device optimises (burn-train, `MultiDeviceOptim::OptimMainDevice`). Where the loss is a mean over samples, the sum is that of
//! the whole batch on one device but for the order of additions.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};

use crate::{BoxError, StepContext};

/// The loss of a step, of which it is a `share`, and its gradients.
pub(crate) fn gradients<M: Module>(
    loss_of: impl FnOnce(&M, &StepContext<'_>) -> Result<Tensor<1>, BoxError>,
    model: &M,
    context: &StepContext<'_>,
    share: f64,
) -> Result<(f32, GradientsParams), BoxError> {
    let loss = loss_of(model, context)?;
    assert!(loss.is_tracked(), "the loss of a step must depend on the model's parameters");
    let loss = if share == 1.0 { loss } else { loss * share };
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    Ok((loss.into_scalar(), gradients))
}

/// As [`gradients`], the samples dealt out to `devices`: as even parts as there are, the larger ones first.
pub(crate) fn on_all<M, L>(
    loss_of: &L,
    model: &M,
    context: &StepContext<'_>,
    devices: &[Device],
) -> Result<(f32, GradientsParams), BoxError>
where
    M: Module,
    L: Fn(&M, &StepContext<'_>) -> Result<Tensor<1>, BoxError> + Sync,
{
    let (batch, count) = (context.batch_size, devices.len().min(context.batch_size));
    let start = |nth: usize| nth * (batch / count) + nth.min(batch % count);
    // Copied here, since a model may be sent to a thread and not shared with it.
    let copies: Vec<M> = devices[..count].iter().map(|device| model.clone().fork(device)).collect();
    let found: Vec<_> = thread::scope(|scope| {
        let work = |(nth, copy): (usize, M)| {
            scope.spawn(move || {
                let (first, end) = (start(nth), start(nth + 1));
                let part = context.part(first, end - first, &devices[nth]);
                let share = (end - first) as f64 / batch as f64;
                // A remote device that goes away panics: the thread ends, and the step with it.
                catch_unwind(AssertUnwindSafe(|| gradients(loss_of, &copy, &part, share)))
            })
        };
        let threads: Vec<_> = copies.into_iter().enumerate().map(work).collect();
        threads.into_iter().map(|thread| thread.join().and_then(|found| found)).collect()
    });
    let mut sum = GradientsAccumulator::new();
    let mut loss = 0.0;
    for found in found {
        let (part, gradients) = found.unwrap_or_else(|panic| resume_unwind(panic))?;
        loss += part;
        sum.accumulate(model, gradients.to_device(context.device, model));
    }
    Ok((loss, sum.grads()))
}
