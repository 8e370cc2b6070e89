//! Reflow: pairs on disk that survive being killed, and paths that become straight.

use std::cell::Cell;
use std::fs;

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    Denoiser, Estimate, GaussianMixture, PairCache, PairCacheError, PairPlan, Prediction, Process,
    RectifiedFlow, follow,
};

use crate::{doubles, floats};

fn plan() -> PairPlan {
    PairPlan { flow: "a mixture".into(), seed: 8, pairs: 10, per_shard: 4, shape: vec![2] }
}

fn fill(cache: &PairCache, calls: &Cell<usize>, stop_at: Option<usize>) -> Result<(), PairCacheError> {
    cache.fill(&Device::flex(), |noise: Tensor<2>| {
        if stop_at == Some(calls.get()) {
            // Any error will do for a power cut.
            return Err(PairCacheError::Nothing(Box::new(plan())));
        }
        calls.set(calls.get() + 1);
        Ok(noise * 2.0 + 1.0)
    })
}

#[test]
fn a_cache_that_was_stopped_goes_on() {
    let (folder, device, calls) = (tempfile::tempdir().unwrap(), Device::flex(), Cell::new(0));
    let path = folder.path().join("pairs");
    let cache = PairCache::open(&path, plan()).unwrap();
    assert_eq!((cache.shards(), cache.missing(), cache.pairs_of(2)), (3, Some(0), 2));
    assert!(fill(&cache, &calls, Some(1)).is_err());
    assert_eq!((calls.get(), cache.missing()), (1, Some(1)));
    // What a kill in the middle of a write leaves behind.
    let left = path.join(".abc.unfinished");
    fs::write(&left, b"half a shard").unwrap();
    let cache = PairCache::open(&path, plan()).unwrap();
    assert!(!left.exists());
    fill(&cache, &calls, None).unwrap();
    assert_eq!((calls.get(), cache.missing()), (3, None));
    // Nothing is made twice.
    fill(&cache, &calls, None).unwrap();
    assert_eq!(calls.get(), 3);

    // Bit for bit what a run without a stop makes.
    let other = PairCache::open(folder.path().join("whole"), plan()).unwrap();
    fill(&other, &Cell::new(0), None).unwrap();
    for shard in 0..3 {
        let name = format!("{shard:05}.safetensors");
        assert_eq!(
            fs::read(path.join(&name)).unwrap(),
            fs::read(folder.path().join("whole").join(&name)).unwrap()
        );
    }
    // A pair's noise is that of its sample, whatever the shards.
    let pairs: Estimate<2> = cache.read(1, &device).unwrap();
    let noise: Tensor<2> = normal([4, 2], NoiseKey::new(8).at_sample(4), &device);
    assert_eq!(floats(pairs.noise.clone()), floats(noise));
    assert_eq!(floats(pairs.data), floats(pairs.noise * 2.0 + 1.0));
    assert_eq!(cache.read::<2>(2, &device).unwrap().data.dims(), [2, 2]);
}

#[test]
fn what_is_wrong_with_a_cache_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let cache = PairCache::open(folder.path(), plan()).unwrap();
    let other = PairPlan { seed: 9, ..plan() };
    let error = PairCache::open(folder.path(), other).unwrap_err();
    assert!(matches!(error, PairCacheError::Plan { .. }), "{error}");
    assert!(PairCache::open(folder.path(), PairPlan { pairs: 0, ..plan() }).is_err());
    // A missing shard, one that is cut, one of another shape.
    assert!(matches!(cache.read::<2>(0, &Device::flex()), Err(PairCacheError::File { .. })));
    let path = folder.path().join("00000.safetensors");
    fs::write(&path, b"xx").unwrap();
    let error = cache.read::<2>(0, &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("remove it"), "{error}");
    fs::remove_file(&path).unwrap();
    let wrong =
        cache.fill(&Device::flex(), |noise: Tensor<2>| Ok::<_, PairCacheError>(noise.narrow(1, 0, 1)));
    assert!(matches!(wrong, Err(PairCacheError::Shape { .. })));
    fs::write(folder.path().join("pairs.json"), b"{").unwrap();
    assert!(matches!(PairCache::open(folder.path(), plan()), Err(PairCacheError::Content { .. })));
}

/// The straightness of the flow to one Gaussian N(0, s²) is known: the path is `x_t = r(t) x_1`, `r² = (1 - t)² s² + t²`, its velocity `r' x_1`, the chord
/// `(1 - s) x_1`, and `S = integral r'² - (1 - s)²`.
#[test]
fn the_straightness_of_a_gaussian_flow_is_known() {
    let std = 0.2;
    let flow = GaussianMixture::single(&RectifiedFlow, 0.0, std).unwrap();
    let slope = |t: f64| (t - (1.0 - t) * std * std) / ((1.0 - t).powi(2) * std * std + t * t).sqrt();
    let known = (0..100_000).map(|i| slope((f64::from(i) + 0.5) / 1e5).powi(2)).sum::<f64>() / 1e5
        - (1.0 - std).powi(2);
    let noise: Tensor<2> = normal([2000, 10], NoiseKey::new(1), &Device::flex());
    let paths = follow(&flow, noise, 200).unwrap();
    let (mean, error) = paths.mean();
    println!("straightness {mean:.4} ± {error:.4}, known {known:.4}");
    assert!((mean - known).abs() < 4.0 * error + 0.01, "{mean} {known}");
    assert!(known > 0.01);
}

/// Reflow of a mixture on a line, where the network that is exact is known: a flow's pairs are in order, so each x_t belongs to one pair, and
/// `E[x_1 - x_0 | x_t]` is that pair's own, read off the pairs that the cache holds. Its paths are straight, and one step of them is enough.
#[test]
fn reflow_makes_paths_straight() {
    let device = Device::flex();
    let first = GaussianMixture::new(&RectifiedFlow, vec![(0.5, -1.0, 0.3), (0.5, 1.0, 0.3)]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan = PairPlan { flow: "two bumps".into(), seed: 3, pairs: 4000, per_shard: 1000, shape: vec![1] };
    let cache = PairCache::open(folder.path(), plan).unwrap();
    let followed = |noise: Tensor<2>| {
        Ok::<_, PairCacheError>(follow(&first, noise, 100).expect("a hundred steps").pair.data)
    };
    cache.fill(&device, followed).unwrap();
    let mut pairs: Vec<(f64, f64)> = vec![];
    for shard in 0..cache.shards() {
        let shard: Estimate<2> = cache.read(shard, &device).unwrap();
        pairs.extend(std::iter::zip(doubles(shard.data), doubles(shard.noise)));
    }
    pairs.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert!(pairs.is_sorted_by(|a, b| a.0 <= b.0), "in order");
    let second = |x: Tensor<2>, t: f64| {
        let table: Vec<(f64, f64)> = pairs.iter().map(|(d, n)| ((1.0 - t) * d + t * n, n - d)).collect();
        let velocity = doubles(x.clone()).into_iter().map(|x| {
            let above = table.partition_point(|place| place.0 < x).clamp(1, table.len() - 1);
            let ((low, before), (high, after)) = (table[above - 1], table[above]);
            before + (after - before) * ((x - low) / (high - low)).clamp(0.0, 1.0)
        });
        let velocity =
            Tensor::<1>::from_data(velocity.map(|v| v as f32).collect::<Vec<_>>().as_slice(), &x.device());
        Prediction::Velocity.estimate(velocity.reshape(x.dims()), x, &RectifiedFlow.law(t))
    };
    // Noise within the table.
    let start = normal::<2>([500, 1], NoiseKey::new(77), &device).clamp(-2.5, 2.5);
    let (before, after) =
        (follow(&first, start.clone(), 50).unwrap(), follow(&second, start.clone(), 50).unwrap());
    println!("straightness before {:.4}, after {:.6}", before.mean().0, after.mean().0);
    assert!(before.mean().0 > 0.1 && after.mean().0 < 0.02 * before.mean().0);
    // The samples are the same, and one step of the second finds them.
    let fifty = doubles(before.pair.data);
    let near = |a: &[f64]| std::iter::zip(a, &fifty).map(|(a, b)| (a - b).abs()).sum::<f64>() / 500.0;
    let one = |flow: &dyn Denoiser<2>| near(&doubles(flow.denoise(start.clone(), 1.0).data));
    println!("one step: {:.4} before, {:.4} after", one(&first), one(&second));
    assert!(near(&doubles(after.pair.data)) < 0.02);
    assert!(one(&second) < 0.02 && one(&first) > 0.9);
}
