//! Where to compute: on a device of this machine, or on those that workers lend.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, FloatDType};
use clap::Args;
use kiln::backend::{BACKENDS, remote};
use kiln::training::TrainingError;
use thiserror::Error;

/// What `--backend` calls the devices of other machines.
const REMOTE: &str = "remote";
/// The workers' token, where no file is named.
const TOKEN: &str = "KILN_TOKEN";

#[derive(Debug, Args)]
pub struct Backend {
    /// Where to compute, NAME or NAME:INDEX; without it, the first with an adapter
    #[arg(long = "backend", value_name = "NAME", help = backend_help())]
    pub name: Option<String>,
    /// For --backend remote: the address of a `kiln worker`; several for `kiln train`, among which each step's pictures are dealt out
    #[arg(long = "host", value_name = "HOST:PORT")]
    pub hosts: Vec<String>,
    /// For --backend remote: the file that holds the workers' token; without it, the variable KILN_TOKEN
    #[arg(long, value_name = "PATH")]
    pub token_file: Option<PathBuf>,
}

fn backend_help() -> String {
    let names: Vec<_> = BACKENDS.iter().map(|b| format!("{} ({})", b.name, b.description)).collect();
    let remote = if remote::IS_COMPILED { ", or remote (other machines' devices, by --host)" } else { "" };
    format!(
        "Where to compute, NAME or NAME:INDEX; without it, the first with an adapter of {}{remote}",
        names.join(", ")
    )
}

impl Backend {
    /// The device.
    pub fn open(&self) -> Result<Device> {
        self.open_with(FloatDType::F32)
    }

    /// The device, computing in `dtype`.
    pub fn open_with(&self, dtype: FloatDType) -> Result<Device> {
        match <[Device; 1]>::try_from(self.open_all(dtype)?) {
            Ok([device]) => Ok(device),
            Err(devices) => bail!("one --host is enough here, and {} are given", devices.len()),
        }
    }

    /// The devices: one of this machine, or as many as there are workers.
    pub fn open_all(&self, dtype: FloatDType) -> Result<Vec<Device>> {
        let is_remote = self.name.as_deref() == Some(REMOTE);
        if !is_remote {
            if !self.hosts.is_empty() || self.token_file.is_some() {
                bail!("--host and --token-file are for --backend {REMOTE}");
            }
            return Ok(vec![kiln::backend::open_with(self.name.as_deref(), dtype)?]);
        }
        if self.hosts.is_empty() {
            bail!("--backend {REMOTE} needs a worker's address, --host HOST:PORT");
        }
        let token = token(self.token_file.as_deref())?;
        let devices = self.hosts.iter().map(|host| Ok(remote::connect(host, &token, dtype)?));
        let devices: Vec<Device> = devices.collect::<Result<_>>()?;
        expect_losses(&devices);
        Ok(devices)
    }
}

/// What worker and client both know.
pub fn token(file: Option<&Path>) -> Result<String> {
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?
        }
        None => std::env::var(TOKEN)
            .with_context(|| format!("a token is needed: --token-file PATH, or the variable {TOKEN}"))?,
    };
    match text.trim() {
        "" => bail!("the token is empty"),
        token => Ok(token.to_owned()),
    }
}

/// A worker went away.
#[derive(Debug, Error)]
#[error("a remote device went away: {0}")]
pub struct DeviceLost(String);

/// The remote devices there are.
static REMOTES: Mutex<Vec<Device>> = Mutex::new(Vec::new());

/// Burn panics where a worker goes away, in whichever of its threads: nothing of this is for the terminal, [`guarded`] says it.
fn expect_losses(devices: &[Device]) {
    REMOTES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(devices);
    std::panic::set_hook(Box::new(|panic| tracing::debug!(%panic, "with remote devices")));
}

/// Whether a remote device answers no more.
fn is_one_lost() -> bool {
    let answers =
        |device: &Device| catch_unwind(AssertUnwindSafe(|| device.sync())).is_ok_and(|told| told.is_ok());
    !REMOTES.lock().unwrap_or_else(PoisonError::into_inner).iter().all(answers)
}

/// What `command` gives; a failure that comes with the loss of a remote device, as an error or as a panic, is told as [`DeviceLost`].
pub fn guarded<T>(command: impl FnOnce() -> Result<T>) -> Result<T> {
    let lost = |said: String| Err(DeviceLost(said).into());
    match catch_unwind(AssertUnwindSafe(command)) {
        Ok(Err(error)) if !is_loss(&error) && is_one_lost() => lost(format!("{error:#}")),
        Ok(result) => result,
        Err(panic) if is_one_lost() => lost(said(&*panic)),
        Err(panic) => {
            // The usual hook, which would have said it, is not there beside remote devices.
            if !REMOTES.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                eprintln!("kiln: {}", said(&*panic));
            }
            resume_unwind(panic)
        }
    }
}

/// Whether it was a worker that went away, and no mistake of the caller's.
pub fn is_loss(error: &anyhow::Error) -> bool {
    let lost = |error: &TrainingError| matches!(error, TrainingError::DeviceLost { .. });
    error.is::<DeviceLost>() || error.downcast_ref::<TrainingError>().is_some_and(lost)
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
