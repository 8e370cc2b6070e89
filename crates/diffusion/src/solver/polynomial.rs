//! The polynomial through several estimates, and its integrals: what multistep rules are made of.

/// Abscissas and weights of Gauss and Legendre's rule of order 16 on `[-1, 1]`: the positive half.
const GAUSS: [(f64, f64); 8] = [
    (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
    (0.281_603_550_779_258_9, 0.182_603_415_044_923_6),
    (0.458_016_777_657_227_4, 0.169_156_519_395_002_54),
    (0.617_876_244_402_643_7, 0.149_595_988_816_576_73),
    (0.755_404_408_355_003, 0.124_628_971_255_533_87),
    (0.865_631_202_387_831_7, 0.095_158_511_682_492_78),
    (0.944_575_023_073_232_6, 0.062_253_523_938_647_89),
    (0.989_400_934_991_649_9, 0.027_152_459_411_754_095),
];

/// The integral of `f` from `a` to `b`.
pub(super) fn integrate(f: impl Fn(f64) -> f64, a: f64, b: f64) -> f64 {
    let (middle, half) = (a.midpoint(b), (b - a) / 2.0);
    half * GAUSS.iter().map(|(x, w)| w * (f(middle - half * x) + f(middle + half * x))).sum::<f64>()
}

/// The polynomial that is 1 at node j and 0 at the others, at a place.
pub(super) fn lagrange(nodes: &[f64], j: usize, at: f64) -> f64 {
    (0..nodes.len()).filter(|&k| k != j).map(|k| (at - nodes[k]) / (nodes[j] - nodes[k])).product()
}
