//! `owner/name[/path][@revision]`: which model is meant.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// A model on the Hub, or a file or folder in its repository.
///
/// ```
/// use kiln_checkpoint::hub::RepoName;
///
/// let name: RepoName = "owner/model@v2".parse()?;
/// assert_eq!((name.repo(), name.path(), name.revision()), ("owner/model", None, "v2"));
/// let name: RepoName = "owner/model/unet".parse()?;
/// assert_eq!((name.path(), name.revision()), (Some("unet"), "main"));
/// assert!("../model".parse::<RepoName>().is_err());
/// # Ok::<(), kiln_checkpoint::hub::HubError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoName {
    repo: String,
    path: Option<String>,
    revision: String,
}

impl RepoName {
    /// `owner/name`.
    #[must_use]
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// A file or folder in the repository; `None` for all of it.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// A branch, a tag or a commit; `main` where none is named.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl FromStr for RepoName {
    type Err = HubError;

    fn from_str(name: &str) -> Result<Self, HubError> {
        let refuse = |reason| Err(HubError::Name { name: name.to_owned(), reason });
        let (place, revision) = match name.split_once('@') {
            None => (name, "main"),
            Some((place, revision)) => (place, revision),
        };
        let parts: Vec<&str> = place.split('/').collect();
        let [owner, model, path @ ..] = parts.as_slice() else {
            return refuse("it has no owner");
        };
        if ![*owner, *model].into_iter().all(is_repo_part) {
            return refuse("owner and name are letters, digits and single `-`, `_` and `.`");
        }
        if !path.iter().all(|part| is_component(part)) {
            return refuse("its path leaves the repository");
        }
        let of_revision = |c: char| c.is_ascii_alphanumeric() || "-_.+/".contains(c);
        if !revision.split('/').all(is_component) || !revision.chars().all(of_revision) {
            return refuse("its revision is no branch, tag or commit");
        }
        let path = (!path.is_empty()).then(|| path.join("/"));
        Ok(Self { repo: format!("{owner}/{model}"), path, revision: revision.to_owned() })
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(path) = &self.path {
            write!(f, "/{path}")?;
        }
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// As the Hub itself has it.
fn is_repo_part(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| matches!(c, '-' | '.');
    (1..=96).contains(&part.len())
        && part.chars().all(allowed)
        && !part.starts_with(edge)
        && !part.ends_with(edge)
        && !part.contains("--")
        && !part.contains("..")
}

/// Whether this can be one name in a path, on this machine as on the server, that stays where it is put.
pub(super) fn is_component(part: &str) -> bool {
    let harmless = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    !matches!(part, "" | "." | "..") && part.len() <= 255 && part.chars().all(harmless)
}
