//! Runs from the first step to the last, and the data sets that they are fed from.

#[path = "training/config.rs"]
mod config;
#[path = "training/data.rs"]
mod data;
#[path = "training/devices.rs"]
mod devices;
#[path = "training/regression.rs"]
mod regression;
#[path = "training/resume.rs"]
mod resume;
#[path = "training/run.rs"]
mod run;
