//! Devices of other machines, by Burn's remote backend over WebSocket (feature `remote`).
//!
//! A machine [`serve`]s its device, another one [`connect`]s and computes on it as on its own: tensors stay where they are computed, and
//! operations are sent. Fused operations are sent composed, so that results are those of the composed definitions.
//!
//! The way between the two is not encrypted. The token keeps strangers from computing, and no one from reading: across a network that is
//! not trusted, go through a tunnel.

#[cfg(feature = "remote")]
use burn::remote::{ConnectError, RemoteHost};
#[cfg(feature = "remote")]
use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn::tensor::{Device, FloatDType};
use thiserror::Error;

#[cfg(feature = "remote")]
use crate::tensor_backend::{BackendError, computing_in};

/// Whether this build has them.
pub const IS_COMPILED: bool = cfg!(feature = "remote");

/// Why a device could not be lent or borrowed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The feature `remote` is not in this build.
    #[error("the backend `remote` is not in this build; build with `--features remote`")]
    NotCompiled,
    /// The worker's address can't be read.
    #[error("`{host}` is no worker's address: HOST:PORT or ws://HOST:PORT")]
    Address {
        /// What was given.
        host: String,
    },
    /// The worker could not be reached, or refused.
    #[error("the worker at {host} can't be used: {reason}")]
    Connect {
        /// The address.
        host: String,
        /// What it said, or what the network said.
        reason: String,
    },
    /// A token with which no one could be told from a stranger.
    #[error("the token can't be used: {reason}")]
    Token {
        /// What is wrong with it.
        reason: String,
    },
    /// The worker can't listen, or ended.
    #[error("the worker ended: {reason}")]
    Serve {
        /// Why.
        reason: String,
    },
}

/// The device of the worker at `host`, `HOST:PORT` or `ws://HOST:PORT`, which computes in `dtype` where no other type is asked for. It
/// answers before this returns; a worker that goes away later makes what is computed on the device panic (see [`is_remote`]).
///
/// # Errors
/// [`RemoteError`] when the address can't be read, no worker answers there, it has another token or another version of Burn, or the
/// feature is not in this build.
#[cfg(feature = "remote")]
pub fn connect(host: &str, token: &str, dtype: FloatDType) -> Result<Device, RemoteError> {
    let rest = host.strip_prefix("ws://").unwrap_or(host).trim_end_matches('/');
    let numbered =
        rest.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
    if !numbered || rest.contains(['/', ' ']) {
        return Err(RemoteError::Address { host: host.to_owned() });
    }
    let worker = RemoteHost::websocket(&format!("ws://{rest}")).with_credential(token);
    let refused = |error: ConnectError| {
        let reason = match error {
            ConnectError::Unauthorized => "it has another token".to_owned(),
            other => other.to_string(),
        };
        RemoteError::Connect { host: rest.to_owned(), reason }
    };
    let device = Device::remote_options(&worker).init().map_err(refused)?;
    let reason =
        |error: BackendError| RemoteError::Connect { host: rest.to_owned(), reason: error.to_string() };
    computing_in("remote", device, Device::supports_dtype, dtype).map_err(reason)
}

/// See the build with the feature `remote`.
///
/// # Errors
/// [`RemoteError::NotCompiled`].
#[cfg(not(feature = "remote"))]
pub fn connect(_host: &str, _token: &str, _dtype: FloatDType) -> Result<Device, RemoteError> {
    Err(RemoteError::NotCompiled)
}

/// Lends `device` to those who [`connect`] with the token, through a listener that is bound by now, until the process is told to end
/// (Ctrl-C, SIGTERM). Each client has its own tensors.
///
/// # Errors
/// [`RemoteError`] when the token is empty, the listener breaks, or the feature is not in this build.
#[cfg(feature = "remote")]
pub fn serve(device: Device, listener: std::net::TcpListener, token: &str) -> Result<(), RemoteError> {
    let token =
        TokenAuthorizer::new(token).map_err(|error| RemoteError::Token { reason: error.to_string() })?;
    RemoteServer::new([device])
        .with_authorizer(token)
        .serve(WebSocketTransport::from_listener(listener))
        .map_err(|error| RemoteError::Serve { reason: error.to_string() })
}

/// See the build with the feature `remote`.
///
/// # Errors
/// [`RemoteError::NotCompiled`].
#[cfg(not(feature = "remote"))]
pub fn serve(_device: Device, _listener: std::net::TcpListener, _token: &str) -> Result<(), RemoteError> {
    Err(RemoteError::NotCompiled)
}

/// Whether the device is another machine's. What is computed on such a one panics when its worker goes away: Burn's operations have no
/// errors.
#[must_use]
pub fn is_remote(device: &Device) -> bool {
    #[cfg(feature = "remote")]
    {
        use burn::backend::DispatchDevice;
        matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Remote(_))
    }
    #[cfg(not(feature = "remote"))]
    {
        let _ = device;
        false
    }
}
