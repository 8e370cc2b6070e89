//! The crate's integration tests, in one binary.

#[path = "attention/cache.rs"]
mod cache;
#[path = "attention/gated.rs"]
mod gated;
#[path = "attention/gradients.rs"]
mod gradients;
#[path = "attention/grouped.rs"]
mod grouped;
#[path = "attention/joint.rs"]
mod joint;
#[path = "attention/language_model.rs"]
mod language_model;
#[path = "attention/linear.rs"]
mod linear;
#[path = "attention/mask.rs"]
mod mask;
#[path = "attention/positions.rs"]
mod positions;
#[path = "attention/recommend.rs"]
mod recommend;
#[path = "attention/sincos.rs"]
mod sincos;
#[path = "attention/softmax.rs"]
mod softmax;
#[path = "attention/softmax_laws.rs"]
mod softmax_laws;
#[path = "attention/sparse.rs"]
mod sparse;
#[path = "attention/support.rs"]
mod support;
#[path = "attention/t5.rs"]
mod t5;
