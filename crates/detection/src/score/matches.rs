//! Which detections of one picture and class hit which objects, at each of ten overlaps.
//!
//! Detections choose in the order of their scores, each the free object that it overlaps most; objects that do not count (crowds,
//! and those of another size) are chosen last, and hide what hits them. A crowd can be hit again and again.

/// How many overlaps are asked for: 0.5, 0.55, ..., 0.95.
pub(super) const OVERLAPS: usize = 10;

/// The overlaps, to the last place as NumPy's `linspace` gives them.
pub(super) fn overlaps() -> [f64; OVERLAPS] {
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i == 9 { 0.95 } else { i as f64 * step + 0.5 })
}

/// An object that is to be found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub area: f64,
    pub crowd: bool,
}

/// Detections and objects of one picture and class, with their overlaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    /// Scores, falling.
    pub scores: Vec<f64>,
    /// Pixels of each detection.
    pub areas: Vec<f64>,
    pub objects: Vec<Object>,
    /// Overlap of detection d and object g at `d * objects + g`.
    pub ious: Vec<f64>,
}

/// What came of a detection at one overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Hit,
    Miss,
    /// It counts neither way.
    Ignored,
}

/// What came of a scene.
#[derive(Clone, Debug)]
pub(super) struct Matches {
    /// For each overlap, of each detection.
    pub verdicts: [Vec<Verdict>; OVERLAPS],
    /// How many objects count.
    pub objects: usize,
}

impl Scene {
    /// Match, where only areas from `range.0` to `range.1` count.
    pub fn matches(&self, range: (f64, f64)) -> Matches {
        let outside = |area: f64| area < range.0 || area > range.1;
        let count = self.objects.len();
        let ignored: Vec<bool> =
            self.objects.iter().map(|object| object.crowd || outside(object.area)).collect();
        // Those that count first.
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&object| ignored[object]);
        let verdicts = overlaps().map(|overlap| {
            let mut taken = vec![false; count];
            let hits = (0..self.scores.len()).map(|detection| {
                let mut least = overlap.min(1.0 - 1e-10);
                let mut hit: Option<usize> = None;
                for &object in &order {
                    if taken[object] && !self.objects[object].crowd {
                        continue;
                    }
                    if hit.is_some_and(|hit| !ignored[hit]) && ignored[object] {
                        break;
                    }
                    let iou = self.ious[detection * count + object];
                    if iou >= least {
                        (least, hit) = (iou, Some(object));
                    }
                }
                match hit {
                    Some(object) => {
                        taken[object] = true;
                        if ignored[object] { Verdict::Ignored } else { Verdict::Hit }
                    }
                    None if outside(self.areas[detection]) => Verdict::Ignored,
                    None => Verdict::Miss,
                }
            });
            hits.collect()
        });
        Matches { verdicts, objects: ignored.iter().filter(|&&ignored| !ignored).count() }
    }
}
