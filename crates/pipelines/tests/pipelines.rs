//! Pipelines, against diffusers and against what must hold of them.

#[path = "pipelines/finite.rs"]
mod finite;
#[path = "pipelines/golden.rs"]
mod golden;
#[path = "pipelines/lora.rs"]
mod lora;
#[path = "pipelines/prompts.rs"]
mod prompts;
#[path = "pipelines/running.rs"]
mod running;
