//! The crate's integration tests, in one binary.

#[path = "upsampling/adjoint.rs"]
mod adjoint;
#[path = "upsampling/golden.rs"]
mod golden;
#[path = "upsampling/heads.rs"]
mod heads;
#[path = "upsampling/laws.rs"]
mod laws;
#[path = "upsampling/layers.rs"]
mod layers;
#[path = "upsampling/networks.rs"]
mod networks;
#[path = "upsampling/tiles.rs"]
mod tiles;
