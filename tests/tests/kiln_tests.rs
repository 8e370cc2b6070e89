//! Crates joined as a program joins them, on every backend compiled in.

#[path = "kiln_tests/frechet.rs"]
mod frechet;
#[path = "kiln_tests/joined.rs"]
mod joined;
