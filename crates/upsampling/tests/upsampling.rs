//! The crate's integration tests, in one binary.

#[path = "upsampling/golden.rs"]
mod golden;
#[path = "upsampling/laws.rs"]
mod laws;
