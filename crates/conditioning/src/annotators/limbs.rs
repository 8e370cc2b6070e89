//! A skeleton's limbs and colours, as ControlNet's openpose networks were shown them (Zhang et al. 2023; points after
//! Cao et al. 2019, "OpenPose").

/// Points of a body: nose, neck, right shoulder, elbow and wrist, the left ones, right hip, knee and ankle, the left ones,
/// right eye, left eye, right ear, left ear.
pub(super) const POINTS: usize = 18;

/// The points that each limb joins; a limb has the colour of its place here, at six tenths.
pub const LIMBS: [[usize; 2]; 17] = [
    [1, 2],
    [1, 5],
    [2, 3],
    [3, 4],
    [5, 6],
    [6, 7],
    [1, 8],
    [8, 9],
    [9, 10],
    [1, 11],
    [11, 12],
    [12, 13],
    [1, 0],
    [0, 14],
    [14, 16],
    [0, 15],
    [15, 17],
];

/// The colour of each point, RGB: once round the wheel.
pub const JOINT_COLOURS: [[u8; 3]; POINTS] = [
    [255, 0, 0],
    [255, 85, 0],
    [255, 170, 0],
    [255, 255, 0],
    [170, 255, 0],
    [85, 255, 0],
    [0, 255, 0],
    [0, 255, 85],
    [0, 255, 170],
    [0, 255, 255],
    [0, 170, 255],
    [0, 85, 255],
    [0, 0, 255],
    [85, 0, 255],
    [170, 0, 255],
    [255, 0, 255],
    [255, 0, 170],
    [255, 0, 85],
];

/// Where OpenPose's 25 points hold these 18: without the middle of the hips and the feet.
pub(super) const OF_BODY_25: [usize; POINTS] =
    [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];

/// Where COCO's 17 points hold these 18, the neck apart.
pub(super) const OF_COCO: [Option<usize>; POINTS] = [
    Some(0),
    None,
    Some(6),
    Some(8),
    Some(10),
    Some(5),
    Some(7),
    Some(9),
    Some(12),
    Some(14),
    Some(16),
    Some(11),
    Some(13),
    Some(15),
    Some(2),
    Some(1),
    Some(4),
    Some(3),
];
