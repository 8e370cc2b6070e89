//! The crate's integration tests, in one binary.

#[path = "attention/joint.rs"]
mod joint;
#[path = "attention/sincos.rs"]
mod sincos;
