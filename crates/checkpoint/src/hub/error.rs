//! What can go wrong between a name and a folder.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A model that could not be had from the Hub.
#[derive(Debug, Error)]
pub enum HubError {
    /// The name is none that a repository can have.
    #[error(
        "`{name}` is no name of a model on the Hub: {reason}; it should read owner/name[/path][@revision]"
    )]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such repository or revision, or none that one may see without a token.
    #[error("{endpoint} has no model `{repo}` at revision `{revision}`")]
    NotFound {
        /// The server.
        endpoint: String,
        /// `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
    },
    /// The repository is private, or asks that its terms be accepted.
    #[error(
        "`{repo}` is not open to everyone, or does not exist (status {status}): {}",
        way_in(endpoint, repo, *token)
    )]
    Gated {
        /// The server.
        endpoint: String,
        /// `owner/name`.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        token: bool,
    },
    /// The repository is there, and holds nothing that could be loaded, or too much to choose from.
    #[error("`{repo}`: {reason}")]
    NoModel {
        /// `owner/name`, with the path inside.
        repo: String,
        /// What was looked for.
        reason: String,
    },
    /// The network may not be used or can't be reached, and the cache does not hold the model.
    #[error("`{repo}` is not in the cache {}, and {reason}", cache.display())]
    NotCached {
        /// `owner/name`, with its revision.
        repo: String,
        /// The cache's folder.
        cache: PathBuf,
        /// Why it was not downloaded.
        reason: String,
    },
    /// The server can't be reached, or the connection broke off again and again.
    #[error("{url}: {reason}{}", if *kept > 0 { format!("; {kept} bytes are kept, and the next try goes on from there") } else { String::new() })]
    Network {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
        /// Bytes of the file that are there by now.
        kept: u64,
    },
    /// The server answered with something that makes no sense here.
    #[error("{url}: the server's answer can't be used: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The cache can't be read or written.
    #[error("{}: can't {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no home folder to keep a cache in.
    #[error("there is no home folder to keep the cache in: set HF_HOME")]
    NoHome,
}

fn way_in(endpoint: &str, repo: &str, token: bool) -> String {
    let page = format!("{endpoint}/{repo}");
    if token {
        return format!("see {page} for what it asks of you; the token in use has no access");
    }
    format!("see {page} for what it asks of you, and set HF_TOKEN to a token of {endpoint}/settings/tokens")
}
