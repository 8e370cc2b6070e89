//! The crate's integration tests, in one binary.

#[path = "denoisers/config.rs"]
mod config;
#[path = "denoisers/golden.rs"]
mod golden;
#[path = "denoisers/guided.rs"]
mod guided;
#[path = "denoisers/laws.rs"]
mod laws;
#[path = "denoisers/ncsn.rs"]
mod ncsn;
#[path = "denoisers/score_sde.rs"]
mod score_sde;
#[path = "denoisers/sd3.rs"]
mod sd3;
#[path = "denoisers/unet2d_condition.rs"]
mod unet2d_condition;
