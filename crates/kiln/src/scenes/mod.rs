//! `kiln scenes`: digits pasted on photographs, and exactly where they are: a data set in COCO's form, to try detectors on.

mod scene;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use kiln::checkpoint::write_atomically;
use kiln::detection::coco::{Annotation, Category, Dataset, Image, Segmentation};
use kiln::detection::score::{PanopticEntry, PanopticFile, Segment, picture_of};
use kiln::picture::{Channels, Picture};
use kiln::training::data::{OpenOptions, Pictures, Split};

use crate::output::print;
use scene::{Makings, Scene, scene};

#[derive(Debug, Args)]
pub struct Scenes {
    /// The folder to write: annotations.json and, in images, the pictures
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many scenes
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// The same seed gives the same scenes
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Which digits and photographs: those to learn from, or those held out
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub split: Half,
    /// Height and width in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 96, value_parser = clap::value_parser!(u32).range(32..=1024))]
    pub size: u32,
    /// Write the truth of every pixel too: panoptic.json and, in panoptic, its maps; the photograph is a class after the digits'
    #[arg(long)]
    pub panoptic: bool,
    /// A folder with MNIST's four files
    #[arg(long, value_name = "DIR", default_value = "crates/kiln/data/mnist")]
    pub digits: PathBuf,
    /// A folder with photographs in train and test
    #[arg(long, value_name = "DIR", default_value = "crates/kiln/data/photos")]
    pub photos: PathBuf,
}

/// One half of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Half {
    /// To learn from
    Train,
    /// Held out
    Test,
}

pub fn run(options: &Scenes) -> Result<()> {
    let (split, folder) = match options.split {
        Half::Train => (Split::Train, "train"),
        Half::Test => (Split::Test, "test"),
    };
    let digits = Pictures::open(&options.digits, &OpenOptions { split, ..OpenOptions::default() })?;
    let Some(labels) = digits.labels() else { bail!("{} has no labels", options.digits.display()) };
    let makings =
        Makings { digits: &digits, labels, photos: photos(&options.photos.join(folder), options.size)? };
    let images = options.out.join("images");
    std::fs::create_dir_all(&images).with_context(|| format!("{} can't be made", images.display()))?;
    let mut data = Dataset {
        categories: digits
            .class_names()
            .iter()
            .zip(0..)
            .map(|(name, id)| Category { id, name: name.clone(), isthing: None })
            .collect(),
        ..Dataset::default()
    };
    let maps = options.out.join("panoptic");
    let mut panoptic = options.panoptic.then(|| truth(&data.categories));
    if panoptic.is_some() {
        std::fs::create_dir_all(&maps).with_context(|| format!("{} can't be made", maps.display()))?;
    }
    for number in 1..=u64::from(options.count) {
        // Both halves of one seed are scenes of their own.
        let scene = scene(&makings, options.size, options.seed, number, split == Split::Test)?;
        let file_name = format!("{number:08}.png");
        scene.picture.write_png(images.join(&file_name))?;
        if let Some(file) = &mut panoptic {
            let behind = file.categories.last().map_or(0, |category| category.id);
            let (ids, segments_info) = segments(&scene, behind);
            picture_of(&ids, options.size, options.size).write_png(maps.join(&file_name))?;
            file.annotations.push(PanopticEntry {
                image_id: number,
                file_name: file_name.clone(),
                segments_info,
            });
        }
        data.images.push(Image { id: number, width: options.size, height: options.size, file_name });
        for digit in scene.digits {
            data.annotations.push(Annotation {
                id: data.annotations.len() as u64 + 1,
                image_id: number,
                category_id: u64::from(digit.label),
                bbox: digit.ink.bbox(),
                area: Some(digit.ink.area() as f64),
                iscrowd: 0,
                segmentation: Some(Segmentation::from(&digit.ink)),
            });
        }
    }
    write(&options.out.join("annotations.json"), &data)?;
    if let Some(file) = panoptic {
        write(&options.out.join("panoptic.json"), &PanopticFile { images: data.images.clone(), ..file })?;
    }
    print(format_args!(
        "{}: {} scenes, {} digits",
        options.out.display(),
        data.images.len(),
        data.annotations.len()
    ))
}

fn write(path: &Path, data: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(data).context("the annotations")?;
    write_atomically::<std::io::Error>(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} can't be written", path.display()))
}

/// The truth of segments, of no scene yet: the digits' classes can be counted, and the photograph can't.
fn truth(digits: &[Category]) -> PanopticFile {
    let mut categories: Vec<Category> =
        digits.iter().map(|category| Category { isthing: Some(1), ..category.clone() }).collect();
    let id = categories.iter().map(|category| category.id + 1).max().unwrap_or(0);
    categories.push(Category { id, name: "photograph".to_owned(), isthing: Some(0) });
    PanopticFile { categories, ..PanopticFile::default() }
}

/// The map of a scene, and what is in it: digits from 1 on, and behind them the photograph.
fn segments(scene: &Scene, behind: u64) -> (Vec<u32>, Vec<Segment>) {
    let photograph = scene.digits.len() as u32 + 1;
    let mut ids = vec![photograph; (scene.picture.width() * scene.picture.height()) as usize];
    let mut segments = Vec::new();
    for (digit, id) in scene.digits.iter().zip(1..) {
        for (place, _) in digit.ink.decode().iter().enumerate().filter(|(_, ink)| **ink) {
            ids[place] = id;
        }
        let area = Some(digit.ink.area());
        segments.push(Segment { id, category_id: u64::from(digit.label), area, iscrowd: 0 });
    }
    let left = ids.iter().filter(|id| **id == photograph).count() as u64;
    segments.push(Segment { id: photograph, category_id: behind, area: Some(left), iscrowd: 0 });
    (ids, segments)
}

/// The photographs of a folder, by name, in colours.
fn photos(folder: &Path, size: u32) -> Result<Vec<Picture>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} can't be read", folder.display()))?;
    let files: BTreeSet<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    let mut photos = Vec::new();
    for file in files {
        let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if !ending.is_some_and(|ending| ["png", "jpg", "jpeg", "webp"].contains(&ending.as_str())) {
            continue;
        }
        let photo = Picture::open(&file)?.convert(Channels::Rgb);
        if photo.width().min(photo.height()) < size {
            bail!("{}: {} x {} pixels are less than --size", file.display(), photo.width(), photo.height());
        }
        photos.push(photo);
    }
    if photos.is_empty() {
        bail!("{} holds no PNG, JPEG or WebP", folder.display());
    }
    Ok(photos)
}
