//! The program `kiln`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program speaks

mod annotate;
mod cli;
mod convert;
mod detect;
mod device;
mod generate;
mod info;
mod interrupt;
mod output;
mod quadratic;
mod scenes;
mod score;
mod source;
mod train;
mod train_autoregressive;
mod train_control;
mod train_detector;
mod upscale;
mod verify;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

/// A network's feature maps are large, and made and let go in each layer. glibc gives such memory back to the system every time, and the
/// next one is paid for again page by page: half the time of a linear layer of 4096 x 320 x 1280.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kiln::backend::allocator::keep_freed_memory();
    // RUST_LOG turns the libraries' spans and warnings on and off; warnings are shown by default, but not those of a worker that
    // went away, which is one error.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,burn_remote=off,burn_communication=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let command = match cli::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(refusal) => return refuse(&refusal),
    };
    match device::guarded(|| run(command)) {
        Ok(status) => status,
        Err(error) if error.is::<interrupt::Interrupted>() => {
            eprintln!("kiln: {error}");
            ExitCode::from(130)
        }
        Err(error) => {
            // One line, from what was attempted to the cause. A cause that its cause repeats is said once.
            let mut line = String::new();
            for cause in error.chain().map(ToString::to_string) {
                if !line.contains(&cause) {
                    line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
                }
            }
            eprintln!("kiln: {}", line.replace('\n', " "));
            ExitCode::from(if device::is_loss(&error) { 1 } else { 2 })
        }
    }
}

fn run(command: cli::Command) -> anyhow::Result<ExitCode> {
    match command {
        cli::Command::Generate(options) => generate::run(&options)?,
        cli::Command::Train(options) => train::run(&options)?,
        cli::Command::Upscale(options) => upscale::run(&options)?,
        cli::Command::Annotate(options) => annotate::run(&options)?,
        cli::Command::Detect(options) => detect::run(&options)?,
        cli::Command::TrainAutoregressive(options) => train_autoregressive::run(&options)?,
        cli::Command::TrainControl(options) => train_control::run(&options)?,
        cli::Command::TrainDetector(options) => train_detector::run(&options)?,
        cli::Command::Scenes(options) => scenes::run(&options)?,
        cli::Command::Score(options) => score::run(&options)?,
        cli::Command::Verify(options) => return verify::run(&options),
        cli::Command::Info(options) => info::run(&options)?,
        cli::Command::Convert(options) => convert::run(&options)?,
        cli::Command::Quadratic(options) => quadratic::run(&options)?,
        cli::Command::Worker(options) => worker::run(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What clap says of a command line: help as it is, a mistake as one line with exit status 2.
fn refuse(refusal: &clap::Error) -> ExitCode {
    if !refusal.use_stderr() || refusal.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        refusal.exit();
    }
    let text = refusal.render().to_string();
    let said: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let said = said.join(" ");
    eprintln!("kiln: {}", said.strip_prefix("error: ").unwrap_or(&said));
    ExitCode::from(2)
}
