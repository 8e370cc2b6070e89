//! The backward passes, written once for every backend: a kernel of the inner backend serves training too.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use crate::ops::{Activation, Causality, FeatureFunction, Taps};
use crate::{AttentionMask, Bias, FusedOps, composed};

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn activation(x: FloatTensor<Self>, act: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match ActivationGrad.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x.clone(), act), B::activation(x, act)),
            OpsKind::UnTracked(prep) => prep.finish(B::activation(x, act)),
        }
    }

    fn group_norm_act(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        eps: f64,
        act: Activation,
    ) -> FloatTensor<Self> {
        let ((x, nx), (w, nw), (b, nb)) = (x.into_parts(), weight.into_parts(), bias.into_parts());
        match GroupNormGrad.prepare::<C>([nx, nw, nb]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = GroupNormState { inputs: [x.clone(), w.clone(), b.clone()], groups, eps, act };
                prep.finish(state, B::group_norm_act(x, w, b, groups, eps, act))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::group_norm_act(x, w, b, groups, eps, act)),
        }
    }

    fn scaled_dot_product_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: AttentionMask<Self>,
        causality: Causality,
        scale: f64,
    ) -> FloatTensor<Self> {
        let mask = match mask {
            AttentionMask::None => AttentionMask::None,
            // A mask that learns (a relative position bias) takes the composed form, which Burn differentiates.
            AttentionMask::Additive(m) if is_tracked::<B, C>(&m) => {
                let mask = AttentionMask::Additive(m);
                return composed::attention::forward::<Self>(query, key, value, mask, causality, scale);
            }
            AttentionMask::Additive(m) => AttentionMask::Additive(m.into_primitive()),
        };
        let ((q, nq), (k, nk), (v, nv)) = (query.into_parts(), key.into_parts(), value.into_parts());
        match AttentionGrad.prepare::<C>([nq, nk, nv]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let inputs = [q.clone(), k.clone(), v.clone()];
                let state = AttentionState::<B> { inputs, mask: mask.clone(), causality, scale };
                prep.finish(state, B::scaled_dot_product_attention(q, k, v, mask, causality, scale))
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::scaled_dot_product_attention(q, k, v, mask, causality, scale))
            }
        }
    }

    fn linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        function: FeatureFunction,
        floor: f64,
    ) -> FloatTensor<Self> {
        // Where a gradient is wanted, the composed form, whose products Burn differentiates.
        if [&query, &key, &value].into_iter().any(is_tracked::<B, C>) {
            return composed::linear_attention::forward::<Self>(query, key, value, function, floor);
        }
        let (query, key, value) = (query.into_primitive(), key.into_primitive(), value.into_primitive());
        <Self as AutodiffBackend>::from_inner(B::linear_attention(query, key, value, function, floor))
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        if [&x, &weight].into_iter().any(is_tracked::<B, C>) {
            return composed::rms_norm::forward::<Self>(x, weight, eps);
        }
        <Self as AutodiffBackend>::from_inner(B::rms_norm(x.into_primitive(), weight.into_primitive(), eps))
    }

    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Bias<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let weight = composed::conv::widened::<Self>(weight, &x);
        let ((x, nx), (w, nw)) = (x.into_parts(), weight.into_parts());
        match bias {
            Bias::None => match ConvGrad.prepare::<C>([nx, nw]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep
                    .finish((x.clone(), w.clone(), options.clone()), B::convolve(x, w, Bias::None, options)),
                OpsKind::UnTracked(prep) => prep.finish(B::convolve(x, w, Bias::None, options)),
            },
            Bias::PerChannel(bias) => {
                let (b, nb) = bias.into_parts();
                match ConvGrad.prepare::<C>([nx, nw, nb]).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => {
                        let state = (x.clone(), w.clone(), options.clone());
                        prep.finish(state, B::convolve(x, w, Bias::PerChannel(b), options))
                    }
                    OpsKind::UnTracked(prep) => prep.finish(B::convolve(x, w, Bias::PerChannel(b), options)),
                }
            }
        }
    }

    fn resample(x: FloatTensor<Self>, rows: Taps, columns: Taps) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match ResampleGrad.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((rows.clone(), columns.clone()), B::resample(x, rows, columns))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::resample(x, rows, columns)),
        }
    }

    fn convolve_transposed(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Bias<Self>,
        options: ConvTransposeOptions<2>,
    ) -> FloatTensor<Self> {
        let ((x, nx), (w, nw)) = (x.into_parts(), weight.into_parts());
        let state = (x.clone(), w.clone(), options.clone());
        match bias {
            Bias::None => match ConvTransposeGrad.prepare::<C>([nx, nw]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => {
                    prep.finish(state, B::convolve_transposed(x, w, Bias::None, options))
                }
                OpsKind::UnTracked(prep) => prep.finish(B::convolve_transposed(x, w, Bias::None, options)),
            },
            Bias::PerChannel(bias) => {
                let (b, nb) = bias.into_parts();
                let bias = Bias::PerChannel(b);
                match ConvTransposeGrad.prepare::<C>([nx, nw, nb]).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => prep.finish(state, B::convolve_transposed(x, w, bias, options)),
                    OpsKind::UnTracked(prep) => prep.finish(B::convolve_transposed(x, w, bias, options)),
                }
            }
        }
    }

    fn pixel_shuffle(x: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match ShuffleGrad.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(factor, B::pixel_shuffle(x, factor)),
            OpsKind::UnTracked(prep) => prep.finish(B::pixel_shuffle(x, factor)),
        }
    }

    fn pixel_unshuffle(x: FloatTensor<Self>, factor: usize) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match UnshuffleGrad.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(factor, B::pixel_unshuffle(x, factor)),
            OpsKind::UnTracked(prep) => prep.finish(B::pixel_unshuffle(x, factor)),
        }
    }

    fn max_unpool(x: FloatTensor<Self>, indices: IntTensor<Self>, outputs: usize) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match UnpoolGrad.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(indices.clone(), B::max_unpool(x, indices, outputs)),
            OpsKind::UnTracked(prep) => prep.finish(B::max_unpool(x, indices, outputs)),
        }
    }
}

/// Whether a gradient would flow back into `x`: it is known by preparing an operation on it.
fn is_tracked<B: FusedOps, C: CheckpointStrategy>(x: &FloatTensor<Autodiff<B, C>>) -> bool {
    let prepared = <ActivationGrad as Backward<B, 1>>::prepare::<C>(ActivationGrad, [x.node()]);
    matches!(prepared.compute_bound().stateful(), OpsKind::Tracked(_))
}

#[derive(Debug)]
struct ActivationGrad;

impl<B: FusedOps> Backward<B, 1> for ActivationGrad {
    type State = (FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, act) = ops.state;
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::activation_backward(x, grad, act));
        }
    }
}

#[derive(Debug)]
struct GroupNormGrad;

#[derive(Debug, Clone)]
struct GroupNormState<T> {
    inputs: [T; 3],
    groups: usize,
    eps: f64,
    act: Activation,
}

impl<B: FusedOps> Backward<B, 3> for GroupNormGrad {
    type State = GroupNormState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let GroupNormState { inputs: [x, weight, bias], groups, eps, act } = ops.state;
        let (dx, dw, db) = B::group_norm_act_backward(x, weight, bias, grad, groups, eps, act);
        for (parent, gradient) in ops.parents.into_iter().zip([dx, dw, db]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct AttentionGrad;

#[derive(Debug, Clone)]
struct AttentionState<B: Backend> {
    inputs: [FloatTensor<B>; 3],
    mask: AttentionMask<B>,
    causality: Causality,
    scale: f64,
}

impl<B: FusedOps> Backward<B, 3> for AttentionGrad {
    type State = AttentionState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let AttentionState { inputs: [q, k, v], mask, causality, scale } = ops.state;
        let (dq, dk, dv) = B::scaled_dot_product_attention_backward(q, k, v, mask, grad, causality, scale);
        for (parent, gradient) in ops.parents.into_iter().zip([dq, dk, dv]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// With a bias, or without.
#[derive(Debug)]
struct ConvGrad;

impl<B: FusedOps, const N: usize> Backward<B, N> for ConvGrad {
    type State = (FloatTensor<B>, FloatTensor<B>, ConvOptions<2>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, options) = ops.state;
        let (dx, dw, db) = B::convolve_backward(x, weight, grad, options);
        for (parent, gradient) in ops.parents.into_iter().zip([dx, dw, db]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct ResampleGrad;

impl<B: FusedOps> Backward<B, 1> for ResampleGrad {
    type State = (Taps, Taps);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (rows, columns) = ops.state;
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::resample(grad, rows.transpose(), columns.transpose()));
        }
    }
}

/// With a bias, or without.
#[derive(Debug)]
struct ConvTransposeGrad;

impl<B: FusedOps, const N: usize> Backward<B, N> for ConvTransposeGrad {
    type State = (FloatTensor<B>, FloatTensor<B>, ConvTransposeOptions<2>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, options) = ops.state;
        let (dx, dw, db) = B::convolve_transposed_backward(x, weight, grad, options);
        for (parent, gradient) in ops.parents.into_iter().zip([dx, dw, db]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct ShuffleGrad;

impl<B: FusedOps> Backward<B, 1> for ShuffleGrad {
    type State = usize;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::pixel_unshuffle(grad, ops.state));
        }
    }
}

#[derive(Debug)]
struct UnshuffleGrad;

impl<B: FusedOps> Backward<B, 1> for UnshuffleGrad {
    type State = usize;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::pixel_shuffle(grad, ops.state));
        }
    }
}

#[derive(Debug)]
struct UnpoolGrad;

impl<B: FusedOps> Backward<B, 1> for UnpoolGrad {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, B::max_unpool_backward(grad, ops.state));
        }
    }
}
