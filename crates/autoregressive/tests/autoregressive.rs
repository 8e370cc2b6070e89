//! The crate's integration tests, in one binary.

#[path = "autoregressive/causality.rs"]
mod causality;
#[path = "autoregressive/decoding.rs"]
mod decoding;
#[path = "autoregressive/errors.rs"]
mod errors;
#[path = "autoregressive/families.rs"]
mod families;
#[path = "autoregressive/golden.rs"]
mod golden;
#[path = "autoregressive/laws.rs"]
mod laws;
#[path = "autoregressive/models.rs"]
mod models;
