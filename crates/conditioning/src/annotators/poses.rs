//! Poses from OpenPose's JSON or COCO's, drawn as skeletons: limbs as ellipses, joints as discs, on black.

use std::collections::BTreeSet;

use kiln_picture::{Channels, Picture};
use serde::Deserialize;

use super::AnnotatorError;
use super::limbs::{JOINT_COLOURS, LIMBS, OF_BODY_25, OF_COCO, POINTS};

/// A point in pixels of the frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
}

/// The 18 points of a person, where they were seen.
pub type Body = [Option<Point>; POINTS];

/// The people in a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Poses {
    /// Each with the points that were seen.
    pub people: Vec<Body>,
    /// Width and height of the picture that the points are in, where the JSON says it.
    pub frame: Option<(u32, u32)>,
}

#[derive(Deserialize)]
struct OpenPose {
    people: Vec<Person>,
    canvas_width: Option<u32>,
    canvas_height: Option<u32>,
}

#[derive(Deserialize)]
struct Person {
    pose_keypoints_2d: Vec<f64>,
}

#[derive(Deserialize)]
struct Coco {
    #[serde(default)]
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    keypoints: Option<Vec<f64>>,
}

/// The points of a list `x, y, seen, x, y, seen, …`.
fn points(numbers: &[f64]) -> Vec<Option<Point>> {
    let point = |xyc: &[f64]| (xyc[2] > 0.0).then_some(Point { x: xyc[0], y: xyc[1] });
    numbers.chunks_exact(3).map(point).collect()
}

impl Poses {
    /// The people of OpenPose's JSON (18 or 25 points) or of COCO's key points (17; a whole file, or a list of results),
    /// in pixels. Of COCO's pictures, `image` says which; with `None`, there may be one only.
    ///
    /// # Errors
    /// [`AnnotatorError::NotPoses`], [`AnnotatorError::Points`], [`AnnotatorError::SeveralPictures`].
    pub fn from_json(text: &str, image: Option<u64>) -> Result<Self, AnnotatorError> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| AnnotatorError::NotPoses(error.to_string()))?;
        let not_poses = |error: serde_json::Error| AnnotatorError::NotPoses(error.to_string());
        if json.get("people").is_some() {
            Self::of_openpose(&serde_json::from_value(json).map_err(not_poses)?)
        } else if json.is_array() {
            let annotations = serde_json::from_value(json).map_err(not_poses)?;
            Self::of_coco(&Coco { images: Vec::new(), annotations }, image)
        } else {
            Self::of_coco(&serde_json::from_value(json).map_err(not_poses)?, image)
        }
    }

    fn of_openpose(json: &OpenPose) -> Result<Self, AnnotatorError> {
        let mut people = Vec::with_capacity(json.people.len());
        for (person, Person { pose_keypoints_2d: numbers }) in json.people.iter().enumerate() {
            let seen = points(numbers);
            people.push(match numbers.len() {
                54 => std::array::from_fn(|i| seen[i]),
                75 => OF_BODY_25.map(|i| seen[i]),
                numbers => {
                    return Err(AnnotatorError::Points {
                        field: "pose_keypoints_2d",
                        person,
                        numbers,
                        expected: "54 (18 points) or 75 (25 points)",
                    });
                }
            });
        }
        Ok(Self { people, frame: json.canvas_width.zip(json.canvas_height) })
    }

    fn of_coco(json: &Coco, image: Option<u64>) -> Result<Self, AnnotatorError> {
        let pictures: BTreeSet<u64> = json.annotations.iter().map(|of| of.image_id).collect();
        let image = match image {
            Some(image) => Some(image),
            None if pictures.len() > 1 => {
                return Err(AnnotatorError::SeveralPictures { pictures: pictures.len() });
            }
            None => pictures.first().copied(),
        };
        let mut people = Vec::new();
        for (person, annotation) in json.annotations.iter().enumerate() {
            // Files of COCO's other tasks have annotations without key points, of which there is nothing to draw.
            let Some(numbers) = &annotation.keypoints else { continue };
            if numbers.len() != 51 {
                let (field, numbers) = ("keypoints", numbers.len());
                return Err(AnnotatorError::Points { field, person, numbers, expected: "51 (17 points)" });
            }
            if Some(annotation.image_id) != image {
                continue;
            }
            let seen = points(numbers);
            let mut body = OF_COCO.map(|i| i.and_then(|i| seen[i]));
            body[1] = body[2].zip(body[5]).map(|(right, left)| middle(right, left));
            people.push(body);
        }
        let frame = json.images.iter().find(|of| Some(of.id) == image);
        Ok(Self { people, frame: frame.and_then(|of| of.width.zip(of.height)) })
    }

    /// The skeletons, RGB on black, `width` x `height`: the frame is stretched to it, or kept where the JSON has none.
    /// Limbs and joints are 8 pixels wide where the shorter side is 512, and in proportion.
    ///
    /// # Errors
    /// [`AnnotatorError::Picture`] for a side of 0.
    pub fn draw(&self, width: u32, height: u32) -> Result<Picture, AnnotatorError> {
        let samples = vec![0; width as usize * height as usize * 3];
        let mut canvas = Canvas { width, height, samples };
        let (frame_width, frame_height) = self.frame.unwrap_or((width, height));
        let across = f64::from(width) / f64::from(frame_width.max(1));
        let down = f64::from(height) / f64::from(frame_height.max(1));
        let radius = (f64::from(width.min(height)) / 512.0 * 4.0).max(1.0);
        let people = self.people.iter();
        for body in people.map(|body| body.map(|p| p.map(|p| Point { x: p.x * across, y: p.y * down }))) {
            for ([from, to], colour) in LIMBS.into_iter().zip(JOINT_COLOURS) {
                if let (Some(from), Some(to)) = (body[from], body[to]) {
                    let half = (to.x - from.x).hypot(to.y - from.y) / 2.0;
                    let along = (to.y - from.y).atan2(to.x - from.x);
                    let dim = colour.map(|c| (u16::from(c) * 6 / 10) as u8);
                    canvas.ellipse(middle(from, to), [half.max(radius), radius], along, dim);
                }
            }
            for (joint, colour) in body.into_iter().zip(JOINT_COLOURS) {
                if let Some(joint) = joint {
                    canvas.ellipse(joint, [radius, radius], 0.0, colour);
                }
            }
        }
        Ok(Picture::new(width, height, Channels::Rgb, canvas.samples)?)
    }
}

fn middle(a: Point, b: Point) -> Point {
    Point { x: f64::midpoint(a.x, b.x), y: f64::midpoint(a.y, b.y) }
}

struct Canvas {
    width: u32,
    height: u32,
    samples: Vec<u8>,
}

impl Canvas {
    /// Fill the ellipse of the half axes `[along, across]`, the first turned by `angle` from the right downwards.
    fn ellipse(&mut self, centre: Point, axes: [f64; 2], angle: f64, colour: [u8; 3]) {
        let reach = axes[0].max(axes[1]);
        let (sin, cos) = angle.sin_cos();
        // A cast keeps within u32, so that points far outside reach no pixel.
        let clip = |from: f64, to: u32| (from.max(0.0) as u32).min(to);
        for y in clip(centre.y - reach, self.height)..clip(centre.y + reach + 1.0, self.height) {
            for x in clip(centre.x - reach, self.width)..clip(centre.x + reach + 1.0, self.width) {
                let (dx, dy) = (f64::from(x) - centre.x, f64::from(y) - centre.y);
                let (u, v) = ((dx * cos + dy * sin) / axes[0], (dy * cos - dx * sin) / axes[1]);
                if u * u + v * v <= 1.0 {
                    let at = (y as usize * self.width as usize + x as usize) * 3;
                    self.samples[at..at + 3].copy_from_slice(&colour);
                }
            }
        }
    }
}
