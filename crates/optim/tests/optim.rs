//! Everything of kiln-optim against PyTorch, and its own laws.

#[path = "optim/adamw.rs"]
mod adamw;
#[path = "optim/clip.rs"]
mod clip;
#[path = "optim/ema.rs"]
mod ema;
#[path = "optim/golden.rs"]
mod golden;
#[path = "optim/state.rs"]
mod state;
