//! The crate's integration tests, in one binary.

#[path = "text/clip.rs"]
mod clip;
#[path = "text/goldens.rs"]
mod goldens;
#[path = "text/malformed.rs"]
mod malformed;
#[path = "text/prompt.rs"]
mod prompt;
#[path = "text/t5.rs"]
mod t5;
#[path = "text/tokenizer.rs"]
mod tokenizer;
