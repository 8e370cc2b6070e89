//! The crate's integration tests, in one binary.

#[path = "backend/conformance.rs"]
mod conformance;
#[path = "backend/devices.rs"]
mod devices;
#[path = "backend/enlarging.rs"]
mod enlarging;
#[path = "backend/golden.rs"]
mod golden;
#[path = "backend/noise.rs"]
mod noise;
