//! Integrals on the host: Gauss and Kronrod's rule of 7 and 15 points, in halves until the two agree.
//!
//! Source: Piessens et al., QUADPACK, 1983 (QK15).

/// Kronrod's abscissae from the end to the middle; every second one is Gauss's.
const NODES: [f64; 8] = [
    0.991_455_371_120_812_6,
    0.949_107_912_342_758_5,
    0.864_864_423_359_769_1,
    0.741_531_185_599_394_4,
    0.586_087_235_467_691_1,
    0.405_845_151_377_397_2,
    0.207_784_955_007_898_47,
    0.0,
];

const KRONROD: [f64; 8] = [
    0.022_935_322_010_529_224,
    0.063_092_092_629_978_55,
    0.104_790_010_322_250_18,
    0.140_653_259_715_525_92,
    0.169_004_726_639_267_9,
    0.190_350_578_064_785_4,
    0.204_432_940_075_298_9,
    0.209_482_141_084_727_83,
];

const GAUSS: [f64; 4] =
    [0.129_484_966_168_869_7, 0.279_705_391_489_276_64, 0.381_830_050_505_118_9, 0.417_959_183_673_469_4];

/// How often an interval may be halved.
const DEPTH: u32 = 20;

/// The integral of `f` from a to b with a relative error of about 1e-13; not finite if `f` is not, or has a pole.
pub(super) fn integral(f: &dyn Fn(f64) -> f64, a: f64, b: f64) -> f64 {
    halved(f, a, b, DEPTH)
}

fn halved(f: &dyn Fn(f64) -> f64, a: f64, b: f64, depth: u32) -> f64 {
    let (middle, half) = (a.midpoint(b), (b - a) / 2.0);
    let (mut kronrod, mut gauss, mut size) = (0.0, 0.0, 0.0);
    for (i, (node, weight)) in std::iter::zip(NODES, KRONROD).enumerate() {
        let (left, right) =
            (f(middle - half * node), if node == 0.0 { 0.0 } else { f(middle + half * node) });
        kronrod += weight * (left + right);
        size += weight * (left.abs() + right.abs());
        if i % 2 == 1 {
            gauss += GAUSS[i / 2] * (left + right);
        }
    }
    if !kronrod.is_finite() || (kronrod - gauss).abs() <= 1e-13 * size {
        return half * kronrod;
    }
    if depth == 0 { f64::NAN } else { halved(f, a, middle, depth - 1) + halved(f, middle, b, depth - 1) }
}
