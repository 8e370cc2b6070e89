//! Where a model is: a path on this machine, or a name on the Hugging Face Hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::checkpoint::hub::{Hub, RepoName};

/// What files of weights are called.
const WEIGHTS: [&str; 5] = ["safetensors", "bin", "pt", "pth", "ckpt"];

/// The file or folder that is meant: what is at that path, else what the Hub has by that name, downloaded if the cache
/// has not got it.
pub fn locate(name: &str, variant: Option<&str>) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    // A path of this machine's is none of the Hub's, and a typing error in one should not ask a server. A file in a
    // repository has owner and name before it.
    let of_weights =
        path.extension().is_some_and(|extension| WEIGHTS.iter().any(|known| extension == *known));
    let local = path.is_absolute()
        || name.starts_with(['.', '~'])
        || name.contains('\\')
        || (of_weights && path.components().count() < 3);
    let repo: RepoName = match name.parse() {
        Ok(repo) if !local => repo,
        _ => bail!("{name}: there is no such file or folder"),
    };
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
            .context("the progress bar's template")?,
    );
    let found = Hub::from_env()?.fetch(&repo, variant, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.file.to_owned());
    });
    bar.finish_and_clear();
    found
        .with_context(|| format!("there is no file or folder {name}, and no model of that name could be had"))
}
