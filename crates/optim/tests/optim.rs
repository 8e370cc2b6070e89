//! Everything of kiln-optim against PyTorch, and its own laws.

#[path = "optim/adamw.rs"]
mod adamw;
#[path = "optim/calculus.rs"]
mod calculus;
#[path = "optim/clip.rs"]
mod clip;
#[path = "optim/ema.rs"]
mod ema;
#[path = "optim/forms.rs"]
mod forms;
#[path = "optim/golden.rs"]
mod golden;
#[path = "optim/groups.rs"]
mod groups;
#[path = "optim/methods.rs"]
mod methods;
#[path = "optim/nonlinear.rs"]
mod nonlinear;
#[path = "optim/numbers.rs"]
mod numbers;
#[path = "optim/options.rs"]
mod options;
#[path = "optim/state.rs"]
mod state;
#[path = "optim/torch.rs"]
mod torch;
