//! The crate's integration tests, in one binary.

#[path = "attention/joint.rs"]
mod joint;
#[path = "attention/mask.rs"]
mod mask;
#[path = "attention/sincos.rs"]
mod sincos;
#[path = "attention/softmax.rs"]
mod softmax;
#[path = "attention/t5.rs"]
mod t5;
