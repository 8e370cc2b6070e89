//! `kiln detect`: objects in photographs: drawn on them, and as COCO's results; segments as PNG too, where the model has masks.

mod draw;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use kiln::checkpoint::{Checkpoint, Contents, StoredModel, write_atomically};
use kiln::detection::coco::Detection;
use kiln::detection::processor::Processor;
use kiln::detection::results::{Found, FoundSegment, objects, segments};
use kiln::detection::{Detr, DetrConfig, DetrSegmentation};
use kiln::picture::{Channels, Picture};
use serde_json::json;

use crate::cli::Detect;
use crate::output::print;
use crate::source;

/// A network of either kind.
#[allow(clippy::large_enum_variant, reason = "one in a program")]
enum Network {
    Boxes(Detr),
    Masks(DetrSegmentation),
}

/// What was found in a photograph.
struct Findings {
    objects: Vec<Found>,
    segments: Option<(Vec<u32>, Vec<FoundSegment>)>,
    /// Where each query looked, if that was asked for: `[1, queries, heads, rows, columns]`.
    attention: Option<Tensor<5>>,
}

pub fn run(options: &Detect) -> Result<()> {
    let photos = photos(&options.photos)?;
    let (stored, processor) = match &options.model {
        Some(name) => named(name)?,
        None => digits()?,
    };
    let config = DetrConfig::from_json(&stored.config).with_context(|| stored.origin.clone())?;
    if config.num_channels != 3 {
        bail!(
            "{}: the network takes {} channels, and photographs have 3",
            stored.origin,
            config.num_channels
        );
    }
    let device = options.backend.open()?;
    let network = load(&stored, &device)?;
    if matches!(network, Network::Boxes(_)) && !options.stuff.is_empty() {
        bail!("--stuff is for networks with masks, and {} has none", stored.origin);
    }
    let stuff = options.stuff.iter().map(|name| class(name, &config)).collect::<Result<BTreeSet<_>>>()?;
    let limit = match &network {
        Network::Boxes(network) => network.largest_map(),
        Network::Masks(network) => network.detector().largest_map(),
    };
    let limit = match limit {
        Some(places) => Some(places * config.backbone()?.stride()),
        None => None,
    };
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{} can't be made", options.out.display()))?;
    let mut results = Vec::new();
    let mut panoptic = Vec::new();
    for (index, photo) in photos.iter().enumerate() {
        let picture = Picture::open(photo)?.convert(Channels::Rgb);
        let (width, height) = processor.resized(picture.width(), picture.height());
        if let Some(most) = limit
            && width.max(height) as usize > most
        {
            bail!("{}: {width} x {height} pixels, and the network's positions reach {most}", photo.display());
        }
        let found = look(&network, &processor, &picture, options, &stuff, &device)?;
        let image_id = image_id(photo, index);
        results.extend(found.objects.iter().map(|object| result(image_id, object)));
        let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
        draw::boxes(&picture, &found.objects, &config)?.write_png(options.out.join(format!("{stem}.png")))?;
        if let Some(maps) = found.attention.filter(|_| !found.objects.is_empty()) {
            let file = options.out.join(format!("{stem}_attention.png"));
            draw::attention(&picture, &found.objects, &maps, &config)?.write_png(file)?;
        }
        if let Some((ids, list)) = &found.segments {
            let file_name = format!("{stem}.png");
            let folder = options.out.join("panoptic");
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("{} can't be made", folder.display()))?;
            draw::map(ids, picture.width(), picture.height())?.write_png(folder.join(&file_name))?;
            let infos: Vec<_> = list
                .iter()
                .map(
                    |segment| json!({"id": segment.id, "category_id": segment.class, "score": segment.score}),
                )
                .collect();
            panoptic.push(json!({"image_id": image_id, "file_name": file_name, "segments_info": infos}));
        }
        print(format_args!("{} (image {image_id}): {}", photo.display(), summary(&found.objects, &config)))?;
    }
    write(&options.out.join("results.json"), &serde_json::to_string_pretty(&results)?)?;
    if matches!(network, Network::Masks(_)) {
        let text = serde_json::to_string_pretty(&json!({"annotations": panoptic}))?;
        write(&options.out.join("panoptic.json"), &text)?;
    }
    print(format_args!("wrote {}", options.out.display()))
}

/// The detector of a folder or of the Hub, and how it is shown photographs.
fn named(name: &str) -> Result<(StoredModel, Processor)> {
    let path = source::locate(name, None)?;
    let Contents::Model(stored) = Contents::open(&path)? else { bail!("{name} is no detector's folder") };
    Ok((stored, processor(&path)?))
}

/// The detector that is in the program, of digits on photographs; the book tells how it was trained.
fn digits() -> Result<(StoredModel, Processor)> {
    let weights = include_bytes!("../../models/detector/model.safetensors");
    let stored = StoredModel {
        config: include_str!("../../models/detector/config.json").to_owned(),
        weights: Checkpoint::from_bytes(Cow::Borrowed(weights.as_slice()))?,
        origin: "the detector of digits".to_owned(),
    };
    let processor = Processor::from_json(include_str!("../../models/detector/preprocessor_config.json"))?;
    Ok((stored, processor))
}

/// The class of this name or number.
fn class(name: &str, config: &DetrConfig) -> Result<usize> {
    let classes = config.classes();
    let named = (0..classes).find(|&class| config.label(class) == Some(name));
    let class = named.or_else(|| name.parse().ok().filter(|&class| class < classes));
    class.with_context(|| {
        format!("--stuff {name}: the network has no class of that name, and {classes} in all")
    })
}

fn load(stored: &StoredModel, device: &Device) -> Result<Network> {
    Ok(match stored.class()?.as_deref() {
        Some(class) if class.ends_with("ForSegmentation") => Network::Masks(stored.load(device)?),
        _ => Network::Boxes(stored.load(device)?),
    })
}

fn look(
    network: &Network,
    processor: &Processor,
    picture: &Picture,
    options: &Detect,
    stuff: &BTreeSet<usize>,
    device: &Device,
) -> Result<Findings> {
    let threshold = options.threshold as f32;
    let size = (picture.width(), picture.height());
    let pixels = processor.preprocess(picture, device)?;
    let attention = options.attention.then(|| {
        let detector = match network {
            Network::Boxes(network) => network,
            Network::Masks(network) => network.detector(),
        };
        detector.forward_with_attention(pixels.clone(), None).1
    });
    let (predictions, segments) = match network {
        Network::Boxes(network) => (network.forward(pixels, None).predictions, None),
        Network::Masks(network) => {
            let output = network.forward(pixels, None);
            let segments = segments(&output, size.0, size.1, threshold, stuff);
            (output.detection.predictions, Some(segments))
        }
    };
    let mut objects = objects(&predictions, &[size], threshold).remove(0);
    objects.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(Findings { objects, segments, attention })
}

fn result(image_id: u64, object: &Found) -> Detection {
    let [left, top, right, bottom] = object.corners.map(f64::from);
    Detection {
        image_id,
        category_id: object.class as u64,
        bbox: Some([left, top, right - left, bottom - top]),
        segmentation: None,
        score: f64::from(object.score),
    }
}

/// The number that a file's name is, as COCO's are; else its place among the photographs, from 1.
fn image_id(photo: &Path, index: usize) -> u64 {
    let stem = photo.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|stem| stem.parse().ok()).unwrap_or(index as u64 + 1)
}

fn summary(objects: &[Found], config: &DetrConfig) -> String {
    if objects.is_empty() {
        return "nothing".to_owned();
    }
    let names = objects.iter().map(|o| format!("{} {:.2}", draw::name(o.class, config), o.score));
    names.collect::<Vec<_>>().join(", ")
}

/// The preprocessor's config beside the weights, or the published one.
fn processor(path: &Path) -> Result<Processor> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let file = folder.join("preprocessor_config.json");
    if !file.is_file() {
        return Ok(Processor::default());
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("{} can't be read", file.display()))?;
    Processor::from_json(&text).with_context(|| file.display().to_string())
}

/// All photographs that are meant: files as they are named, and those in folders.
fn photos(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut photos = Vec::new();
    for path in paths {
        if !path.is_dir() {
            photos.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("{} can't be read", path.display()))?;
        let files: BTreeSet<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
        let pictures = files.into_iter().filter(|file| {
            let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            ending.is_some_and(|ending| ["png", "jpg", "jpeg", "webp"].contains(&ending.as_str()))
        });
        let before = photos.len();
        photos.extend(pictures);
        if photos.len() == before {
            bail!("{} holds no PNG, JPEG or WebP", path.display());
        }
    }
    let mut stems = BTreeSet::new();
    if let Some(twice) = photos.iter().find(|photo| !stems.insert(photo.file_stem())) {
        bail!("two photographs are called {}, and would be written to one file", twice.display());
    }
    Ok(photos)
}

fn write(path: &Path, text: &str) -> Result<()> {
    write_atomically::<std::io::Error>(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} can't be written", path.display()))
}
