//! The crate's integration tests, in one binary.

#[path = "conditioning/annotators.rs"]
mod annotators;
#[path = "conditioning/controlnet.rs"]
mod controlnet;
#[path = "conditioning/sd3.rs"]
mod sd3;
#[path = "conditioning/unet2d.rs"]
mod unet2d;
