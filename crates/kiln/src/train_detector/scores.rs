//! How good a network is in the course of a run: `scores.csv`, COCO's numbers on pictures held out, and `results.json`, by which
//! others can count again; with masks also theirs, and, where the pictures' segments are known, panoptic quality.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln::checkpoint::write_atomically;
use kiln::detection::coco::{CocoFolder, Detection, Masks, Segmentation};
use kiln::detection::processor::Processor;
use kiln::detection::results::FoundSegment;
use kiln::detection::score::{
    AveragePrecision, PanopticEntry, PanopticFile, PanopticScore, Regions, Segment, average_precision,
    panoptic_files, picture_of,
};
use kiln::picture::Picture;
use kiln::training::BoxError;

use super::learner::{Answer, Learner, look};

/// Pictures looked at together.
const TOGETHER: usize = 16;
const HEAD: &str = "step,AP,AP50,AP75,APs,APm,APl,AR1,AR10,AR100,ARs,ARm,ARl";

/// And of masks: those that are told of them, and quality, recognition and overlap of segments, -1 where these are not known.
const OF_MASKS: &str = "mask_AP,mask_AP50,mask_AP75,PQ,SQ,RQ";

/// What a network is examined by.
pub struct Examination {
    pub test: CocoFolder,
    /// The truth of segments, if there is such a file.
    pub panoptic: PathBuf,
    pub masks: Masks,
}

/// What was reached.
pub struct Reached {
    boxes: AveragePrecision,
    masks: Option<AveragePrecision>,
    /// Of what can be counted.
    panoptic: Option<PanopticScore>,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AveragePrecision { AP, AP50, AP75, .. } = self.boxes;
        write!(f, "AP {AP:.4}, AP50 {AP50:.4}, AP75 {AP75:.4}")?;
        if let Some(AveragePrecision { AP, AP50, AP75, .. }) = self.masks {
            write!(f, "; of masks AP {AP:.4}, AP50 {AP50:.4}, AP75 {AP75:.4}")?;
        }
        self.panoptic.as_ref().map_or(Ok(()), |score| write!(f, "; PQ {:.4}", score.pq))
    }
}

impl Reached {
    fn row(&self) -> String {
        let mut numbers = self.boxes.numbers().to_vec();
        if let Some(masks) = self.masks {
            numbers.extend([masks.AP, masks.AP50, masks.AP75]);
            numbers.extend(self.panoptic.map_or([-1.0; 3], |score| [score.pq, score.sq, score.rq]));
        }
        numbers.iter().map(|number| format!("{number:.5}")).collect::<Vec<_>>().join(",")
    }
}

pub struct Scores {
    examination: Examination,
    processor: Processor,
    folder: PathBuf,
    rows: Vec<String>,
}

impl Scores {
    /// The scores of a run that has made so many steps; rows of later ones are made again.
    pub fn open(examination: Examination, processor: Processor, folder: &Path, steps: usize) -> Result<Self> {
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
        Ok(Self { examination, processor, folder: folder.to_owned(), rows })
    }

    pub fn take(&mut self, step: usize, network: &impl Learner) -> Result<Reached, BoxError> {
        let device = network.devices().into_iter().next().ok_or("the network has no parameters")?;
        let Examination { test, panoptic, masks } = &self.examination;
        let mut found = Vec::new();
        let mut maps = PanopticFile::default();
        let scored = panoptic.is_file() && *masks == Masks::Read;
        let places: Vec<usize> = (0..test.len()).collect();
        for places in places.chunks(TOGETHER) {
            let pictures = places.iter().map(|&place| Ok(test.sample(place, Masks::Left)?.picture));
            let pictures: Vec<Picture> = pictures.collect::<Result<_, BoxError>>()?;
            let answers = look(network, &self.processor, &pictures, &device)?;
            for ((&place, picture), answer) in places.iter().zip(&pictures).zip(answers) {
                let image_id = test.data().images[place].id;
                found.extend(detections(image_id, &answer));
                if let (true, Some(segments)) = (scored, answer.segments) {
                    maps.annotations.push(map(image_id, picture, segments, &self.folder.join("panoptic"))?);
                }
            }
        }
        write(&self.folder.join("results.json"), &serde_json::to_string(&found)?)?;
        let ours = self.folder.join("panoptic.json");
        let reached = Reached {
            boxes: average_precision(test.data(), &found, Regions::Boxes)?,
            masks: match masks {
                Masks::Left => None,
                Masks::Read => Some(average_precision(test.data(), &found, Regions::Masks)?),
            },
            panoptic: match scored {
                false => None,
                true => {
                    write(&ours, &serde_json::to_string(&maps)?)?;
                    Some(panoptic_files(panoptic, &ours)?.things)
                }
            },
        };
        let head = match masks {
            Masks::Left => HEAD.to_owned(),
            Masks::Read => format!("{HEAD},{OF_MASKS}"),
        };
        self.rows.push(format!("{step},{}", reached.row()));
        write(&self.folder.join("scores.csv"), &format!("{head}\n{}\n", self.rows.join("\n")))?;
        Ok(reached)
    }
}

/// COCO's results of a picture.
fn detections(image_id: u64, answer: &Answer) -> impl Iterator<Item = Detection> {
    answer.objects.iter().map(move |object| {
        let [left, top, right, bottom] = object.corners.map(f64::from);
        Detection {
            image_id,
            category_id: object.class as u64,
            bbox: Some([left, top, right - left, bottom - top]),
            segmentation: answer.masks.get(object.query).map(Segmentation::from),
            score: f64::from(object.score),
        }
    })
}

/// A picture's segments, whose map is written.
fn map(
    image_id: u64,
    picture: &Picture,
    (ids, found): (Vec<u32>, Vec<FoundSegment>),
    folder: &Path,
) -> Result<PanopticEntry, BoxError> {
    std::fs::create_dir_all(folder)?;
    let file_name = format!("{image_id}.png");
    picture_of(&ids, picture.width(), picture.height()).write_png(folder.join(&file_name))?;
    let segments_info = found
        .iter()
        .map(|segment| Segment { id: segment.id, category_id: segment.class as u64, area: None, iscrowd: 0 })
        .collect();
    Ok(PanopticEntry { image_id, file_name, segments_info })
}

fn write(path: &Path, text: &str) -> Result<(), BoxError> {
    Ok(write_atomically::<std::io::Error>(path, |file| file.write_all(text.as_bytes()))?)
}
