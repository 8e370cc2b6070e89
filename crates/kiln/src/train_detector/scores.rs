//! How good a network is in the course of a run: `scores.csv`, COCO's numbers on pictures held out, and `results.json`, by which
//! others can count again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::module::Module;
use kiln::checkpoint::write_atomically;
use kiln::detection::Detr;
use kiln::detection::coco::{CocoFolder, Detection, Masks};
use kiln::detection::processor::Processor;
use kiln::detection::score::{AveragePrecision, Regions, average_precision};
use kiln::picture::Picture;
use kiln::training::BoxError;

use super::look;

/// Pictures looked at together.
const TOGETHER: usize = 16;
const HEAD: &str = "step,AP,AP50,AP75,APs,APm,APl,AR1,AR10,AR100,ARs,ARm,ARl";

pub struct Scores {
    test: CocoFolder,
    processor: Processor,
    path: PathBuf,
    results: PathBuf,
    rows: Vec<String>,
}

impl Scores {
    /// The scores of a run that has made so many steps; rows of later ones are made again.
    pub fn open(test: CocoFolder, processor: Processor, folder: &Path, steps: usize) -> Result<Self> {
        let path = folder.join("scores.csv");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
        };
        let made = |row: &&str| {
            row.split(',').next().and_then(|i| i.parse::<usize>().ok()).is_some_and(|i| i <= steps)
        };
        let rows = text.lines().filter(made).map(str::to_owned).collect();
        Ok(Self { test, processor, path, results: folder.join("results.json"), rows })
    }

    pub fn take(&mut self, step: usize, network: &Detr) -> Result<AveragePrecision, BoxError> {
        let device = network.devices().into_iter().next().ok_or("the network has no parameters")?;
        let mut found = Vec::new();
        let places: Vec<usize> = (0..self.test.len()).collect();
        for places in places.chunks(TOGETHER) {
            let pictures = places.iter().map(|&place| Ok(self.test.sample(place, Masks::Left)?.picture));
            let pictures: Vec<Picture> = pictures.collect::<Result<_, BoxError>>()?;
            let objects = look(network, &self.processor, &pictures, &device)?;
            for (&place, objects) in places.iter().zip(objects) {
                let image_id = self.test.data().images[place].id;
                found.extend(objects.into_iter().map(|object| {
                    let [left, top, right, bottom] = object.corners.map(f64::from);
                    Detection {
                        image_id,
                        category_id: object.class as u64,
                        bbox: Some([left, top, right - left, bottom - top]),
                        segmentation: None,
                        score: f64::from(object.score),
                    }
                }));
            }
        }
        let scores = average_precision(self.test.data(), &found, Regions::Boxes)?;
        let numbers = scores.numbers().map(|number| format!("{number:.5}"));
        self.rows.push(format!("{step},{}", numbers.join(",")));
        write(&self.path, &format!("{HEAD}\n{}\n", self.rows.join("\n")))?;
        write(&self.results, &serde_json::to_string(&found)?)?;
        Ok(scores)
    }
}

fn write(path: &Path, text: &str) -> Result<(), BoxError> {
    Ok(write_atomically::<std::io::Error>(path, |file| file.write_all(text.as_bytes()))?)
}
