//! Every width of vectors that the machine has, against the definition in f64.

use pulp::{Simd, WithSimd};

use super::*;
use crate::flex::widths::{Holds, at_every_width, numbers};

fn definition(problem: &Problem, query: &[f32], key: &[f32], value: &[f32]) -> Vec<f64> {
    let Problem { queries, keys, head_dim: d, value_dim: e, scale, .. } = *problem;
    let mut out = Vec::new();
    for (i, query) in query.chunks_exact(d).enumerate() {
        let (index, visible) = (i / queries, problem.visible(i % queries + 1));
        let dot = |j: usize| {
            let key = &key[(index * keys + j) * d..][..d];
            query.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>()
        };
        let weights: Vec<f64> = (0..visible).map(|j| (f64::from(scale) * dot(j)).exp()).collect();
        let total: f64 = weights.iter().sum();
        for column in 0..e {
            let of = |j: usize| f64::from(value[(index * keys + j) * e + column]);
            out.push(weights.iter().enumerate().map(|(j, weight)| weight * of(j)).sum::<f64>() / total);
        }
    }
    out
}

#[test]
fn at_every_width_of_vectors() {
    struct Attention;
    impl Holds for Attention {
        fn holds<S: Simd>(&self, simd: S) {
            // Problems, queries, keys, head and value dimensions: groups of one to three blocks, several tiles of keys.
            for [problems, queries, keys, d, e] in
                [[3, 8, 9, 4, 3], [1, 17, 40, 5, 16], [2, 45, 257, 40, 40], [1, 100, 600, 24, 33]]
            {
                for causality in [Causality::None, Causality::Causal] {
                    let (head_dim, value_dim) = (d, e);
                    let problem =
                        Problem { heads: 1, queries, keys, head_dim, value_dim, causality, scale: 3.0 };
                    let [query, key, value] = [(queries, d, 1), (keys, d, 2), (keys, e, 3)]
                        .map(|(count, width, seed)| numbers(problems * count * width, seed));
                    let mut out = vec![f32::NAN; problems * queries * e];
                    let (problem, mask) = (&problem, None);
                    let (query, key, value) = (&query[..], &key[..], &value[..]);
                    Forward { problem, mask, query, key, value, out: &mut out }.with_simd(simd);
                    let expected = definition(problem, query, key, value);
                    for (i, (&found, expected)) in out.iter().zip(expected).enumerate() {
                        let error = (f64::from(found) - expected).abs();
                        assert!(
                            error < 1e-6,
                            "{queries} to {keys}, {causality:?}, {i}: {found} for {expected}"
                        );
                    }
                }
            }
        }
    }
    at_every_width(&Attention);
}
