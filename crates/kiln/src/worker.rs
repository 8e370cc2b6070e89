//! `kiln worker`: this machine's device, lent to others.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use kiln::backend::remote::serve;

use crate::device::token;
use crate::output::print;

#[derive(Debug, Args)]
pub struct Worker {
    /// The device that is lent, NAME or NAME:INDEX; without it, the first with an adapter
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Where to listen: an address that other machines reach only if you say so, since nothing on the way is encrypted; port 0 takes any
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// The file that holds the token by which clients are known; without it, the variable KILN_TOKEN
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
}

pub fn run(options: &Worker) -> Result<()> {
    let token = token(options.token_file.as_deref())?;
    let device = kiln::backend::open(options.backend.as_deref())?;
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("{} can't be listened on", options.listen))?;
    print(format!("ws://{}", listener.local_addr()?))?;
    if !options.listen.ip().is_loopback() {
        eprintln!("other machines may compute here; the token and all numbers travel unencrypted");
    }
    Ok(serve(device, listener, &token)?)
}
