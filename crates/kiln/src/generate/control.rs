//! A model that draws classes, led by a control network of `kiln train-control`.

use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::Device;
use kiln::picture::{Channels, Filter, Picture};
use kiln::{Controlled, PictureControl};

use super::prompted::ControlWishes;
use crate::source;
use crate::train_control::CONTROL_FILE;

/// The network, and the edges that it is shown.
pub struct Control {
    network: PictureControl,
    edges: Vec<Picture>,
    scale: f64,
}

impl Control {
    /// What the options ask for, if they ask for control.
    pub fn of(wishes: &ControlWishes<'_>, device: &Device) -> Result<Option<Self>> {
        if let Some(flag) = wishes.of_pipelines {
            bail!(
                "{flag} is for pipelines; a model that draws classes takes --control, --control-image and --control-scale"
            );
        }
        let (network, picture) = match (wishes.networks, wishes.pictures) {
            ([], []) => return Ok(None),
            ([network], [picture]) => (network, picture),
            ([_], []) => bail!("--control-image FILE is missing: what the control network is shown"),
            ([], _) => bail!("--control PATH is missing: the network that is shown the --control-image"),
            _ => bail!("a model that draws classes takes one --control and one --control-image"),
        };
        let path = source::locate(network, None)?;
        let path = if path.is_dir() { path.join(CONTROL_FILE) } else { path };
        let network = PictureControl::open(path, device)?;
        let scale = match wishes.scales[..] {
            [] => 1.0,
            [scale] => scale,
            _ => bail!("--control-scale: there is one control network, and several scales"),
        };
        let edges = vec![edges(picture, network.card().size)?];
        Ok(Some(Self { network, edges, scale }))
    }

    pub fn controlled(&self) -> Controlled<'_> {
        Controlled { control: &self.network, pictures: &self.edges, scale: self.scale }
    }
}

fn edges(path: &Path, [height, width]: [usize; 2]) -> Result<Picture> {
    let picture = Picture::open(path)?.convert(Channels::Grey);
    Ok(picture.resize(width as u32, height as u32, Filter::Lanczos)?)
}
