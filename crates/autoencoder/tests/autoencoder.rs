//! The crate's integration tests, in one binary.

#[path = "autoencoder/config.rs"]
mod config;
#[path = "autoencoder/golden.rs"]
mod golden;
#[path = "autoencoder/laws.rs"]
mod laws;
