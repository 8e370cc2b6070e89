//! What the sampler promises: pictures don't depend on their batch, and a run can be watched, stopped and resumed.

use std::cell::Cell;

use burn::tensor::{Device, Tensor};
use kiln_backend::noise::{NoiseKey, normal};
use kiln_diffusion::{
    BetaSchedule, DdpmLadder, Denoiser, DiffusionError, DormandPrince, Estimate, Finish, GaussianMixture,
    Paused, Process, RectifiedFlow, SOLVERS, Sampler, SolverConfig, VarianceExploding, VariancePreserving,
    grid, keyed_noise,
};
use rstest::rstest;

use crate::{floats, processes};

const KEY: NoiseKey = NoiseKey { seed: 5, sample: 20, step: 0 };

fn mixture(process: &dyn Process) -> GaussianMixture<'_> {
    GaussianMixture::new(process, vec![(0.4, -0.6, 0.3), (0.6, 0.9, 0.2)]).unwrap()
}

#[test]
fn a_batch_of_four_is_four_batches_of_one_bit_for_bit() {
    let device = Device::flex();
    for (name, process) in processes() {
        let data = mixture(&*process);
        for entry in SOLVERS {
            // Annealing needs some data in x from the start.
            if entry.name == "langevin" && process.alpha(process.t_max()) == 0.0 {
                continue;
            }
            let sampler = Sampler::new(entry.config, grid::natural(&*process, 6).unwrap()).unwrap();
            let draw = |batch, key| {
                floats::<2>(sampler.start_keyed(&*process, &data, [batch, 9], key, &device).unwrap().finish())
            };
            let together = draw(4, KEY);
            let alone: Vec<f32> = (0..4).flat_map(|i| draw(1, KEY.at_sample(KEY.sample + i))).collect();
            assert_eq!(together, alone, "{name}, {}", entry.name);
            assert!(together.iter().all(|v| v.is_finite()), "{name}, {}", entry.name);
            assert_ne!(
                draw(4, NoiseKey { seed: 6, ..KEY }),
                together,
                "{name}, {}: another seed",
                entry.name
            );
        }
    }
}

#[test]
fn a_run_put_aside_at_any_step_goes_on_with_the_same_result() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let data = mixture(&process);
    for entry in SOLVERS {
        let sampler = Sampler::new(entry.config, grid::uniform(&process, 7).unwrap()).unwrap();
        let start = || sampler.start_keyed(&process, &data, [2, 3], KEY, &device).unwrap();
        let whole = floats(start().finish());
        for stop in 0..=7 {
            let mut first = start();
            let taken = first.by_ref().take(stop).count();
            assert_eq!(taken, stop);
            let paused = first.pause();
            drop(first);
            let noise = keyed_noise([2, 3], KEY, &device);
            let rest = sampler.resume(&process, &data, paused, noise).unwrap();
            assert_eq!(rest.len(), 7 - stop);
            assert_eq!(floats(rest.finish()), whole, "{} stopped after {stop}", entry.name);
        }
    }
}

/// Through a file, for every solver of the table, at every step: the same bits.
#[test]
fn a_run_goes_on_from_a_file() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let data = mixture(&process);
    let folder = tempfile::tempdir().unwrap();
    for entry in SOLVERS {
        let sampler = Sampler::new(entry.config, grid::uniform(&process, 7).unwrap()).unwrap();
        let start = || sampler.start_keyed(&process, &data, [2, 3], KEY, &device).unwrap();
        let whole = floats(start().finish());
        let path = folder.path().join(entry.name);
        let mut run = start();
        for step in 0..=run.total() {
            run.pause().write(&path).unwrap();
            let paused = Paused::<2>::read(&path, &device).unwrap();
            assert_eq!(paused.index, step);
            let noise = keyed_noise([2, 3], KEY, &device);
            // The state must survive a second writing as well.
            let again = sampler.resume(&process, &data, paused, noise).unwrap();
            assert_eq!(again.pause().to_bytes(), std::fs::read(&path).unwrap(), "{}", entry.name);
            assert_eq!(floats(again.finish()), whole, "{} stopped after {step}", entry.name);
            run.next();
        }
    }
    // Nothing else is left there.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), SOLVERS.len());
}

#[test]
fn what_is_no_run_is_refused() {
    let device = Device::flex();
    let refused = |bytes: &[u8]| Paused::<2>::from_bytes(bytes, &device).unwrap_err().to_string();
    assert!(refused(b"no tensors").contains("not the file of a run"));
    let process = VariancePreserving::default();
    let data = mixture(&process);
    let sampler = Sampler::new(SolverConfig::dpmpp_2m(), grid::uniform(&process, 4).unwrap()).unwrap();
    let mut run = sampler.start_keyed(&process, &data, [2, 3], KEY, &device).unwrap();
    run.by_ref().take(2).for_each(drop);
    let bytes = run.pause().to_bytes();
    for end in 0..bytes.len() {
        assert!(Paused::<2>::from_bytes(&bytes[..end], &device).is_err(), "cut after {end} bytes");
    }
    assert!(Paused::<3>::from_bytes(&bytes, &device).unwrap_err().to_string().contains("3 dimensions"));
    let missing = Paused::<2>::read("no/such/file", &device).unwrap_err();
    assert!(missing.to_string().contains("no/such/file"));
}

#[test]
fn what_was_put_aside_must_fit_the_run() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let data = mixture(&process);
    let sampler = |solver, steps| Sampler::new(solver, grid::uniform(&process, steps).unwrap()).unwrap();
    let noise = || keyed_noise([2, 3], KEY, &device);
    let mut multistep =
        sampler(SolverConfig::dpmpp_2m(), 7).start_keyed(&process, &data, [2, 3], KEY, &device).unwrap();
    multistep.by_ref().take(3).for_each(drop);
    let error =
        sampler(SolverConfig::ddim(), 7).resume(&process, &data, multistep.pause(), noise()).unwrap_err();
    assert!(
        matches!(error, DiffusionError::State { solver: "ancestral", found: 2, times: 2, .. }),
        "{error}"
    );
    let error =
        sampler(SolverConfig::dpmpp_2m(), 2).resume(&process, &data, multistep.pause(), noise()).unwrap_err();
    assert!(error.to_string().contains("put aside after 3 steps, but this one has 2"), "{error}");
}

/// Steps carry their index, times, the sample and the estimate that it came from.
#[test]
fn steps_can_be_watched() {
    let device = Device::flex();
    let process = RectifiedFlow;
    let data = mixture(&process);
    let times = grid::uniform(&process, 4).unwrap();
    let sampler = Sampler::new(SolverConfig::euler(), times.clone()).unwrap();
    let mut x: Tensor<2> = normal([3, 2], KEY, &device);
    let steps: Vec<_> = sampler.start_keyed(&process, &data, [3, 2], KEY, &device).unwrap().collect();
    assert_eq!(steps.len(), 4);
    for (i, step) in steps.into_iter().enumerate() {
        assert_eq!((step.index, step.t, step.s), (i, times[i], times[i + 1]));
        let Estimate { data: clean, noise } = data.denoise(x.clone(), step.t);
        assert_eq!(floats(clean.clone()), floats(step.estimate.data));
        x = x + (noise - clean).mul_scalar(step.s - step.t);
        let apart = (x.clone() - step.sample.clone()).abs().max().into_scalar::<f32>();
        assert!(apart < 1e-6);
        x = step.sample;
    }
}

/// Variance exploding ends with sigma_min of noise; by default one more evaluation takes it away.
#[rstest]
#[case(Finish::Denoise, 6)]
#[case(Finish::AtGridEnd, 5)]
fn the_end_is_as_asked(#[case] finish: Finish, #[case] evaluations: usize) {
    let device = Device::flex();
    let process = VarianceExploding::default();
    let exact = mixture(&process);
    let count = Cell::new(0);
    let counting = |x: Tensor<2>, t: f64| {
        count.set(count.get() + 1);
        exact.denoise(x, t)
    };
    let sampler =
        Sampler::new(SolverConfig::ddpm(), grid::uniform(&process, 5).unwrap()).unwrap().with_finish(finish);
    let last = sampler.start_keyed(&process, &counting, [2, 2], KEY, &device).unwrap().last().unwrap();
    assert_eq!(count.get(), evaluations);
    assert_eq!(last.index, evaluations - 1);
    assert_eq!(finish == Finish::Denoise, floats(last.sample) == floats(last.estimate.data));
}

/// The table says how many evaluations a step costs; the last step, to clean data, saves one of two.
#[test]
fn evaluations_are_those_of_the_table() {
    let device = Device::flex();
    let process = VariancePreserving::default();
    let exact = mixture(&process);
    for entry in SOLVERS {
        let count = Cell::new(0);
        let counting = |x: Tensor<2>, t: f64| {
            count.set(count.get() + 1);
            exact.denoise(x, t)
        };
        // What chooses its steps is kept to those of the grid.
        let config = match entry.config {
            SolverConfig::DormandPrince(rule) => {
                SolverConfig::DormandPrince(DormandPrince { tolerance: None, ..rule })
            }
            other => other,
        };
        let sampler = Sampler::new(config, grid::uniform(&process, 5).unwrap()).unwrap();
        let _ = sampler.start_keyed(&process, &counting, [1, 1], KEY, &device).unwrap().finish();
        // PNDM begins with three steps of four; predictor and corrector save nothing at the last step, and annealing has the data to find.
        let more = match entry.name {
            "pndm" => 9,
            "pc" => 1,
            "langevin" => 5,
            // Its last step is whole, and asks once more for the data.
            "dopri5" => 6,
            _ => 0,
        };
        let expected = 5 * entry.evaluations - (entry.evaluations - 1) + more;
        assert_eq!(count.get(), expected, "{}", entry.name);
    }
}

#[rstest]
#[case::one_time(vec![1.0], "two or more")]
#[case::rising(vec![1.0, 0.5, 0.6], "time 2 is 0.6, not below the one before, 0.5")]
#[case::standing(vec![1.0, 1.0], "not below")]
#[case::not_a_number(vec![1.0, f64::NAN], "NaN is no time")]
fn a_grid_that_cant_be_walked_is_refused(#[case] times: Vec<f64>, #[case] says: &str) {
    let error = Sampler::new(SolverConfig::ddim(), times).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn a_run_that_cant_start_is_refused() {
    let device = Device::flex();
    let process = RectifiedFlow;
    let data = mixture(&process);
    let start = |solver, times| {
        let sampler = Sampler::new(solver, times).unwrap();
        sampler.start_keyed(&process, &data, [1, 1], KEY, &device).map(|sampling| sampling.total())
    };
    let error = start(SolverConfig::ddim(), vec![1.5, 0.5]).unwrap_err().to_string();
    assert!(error.contains("1.5 is not between 0 and 1"), "{error}");
    assert!(start(SolverConfig::ddim(), vec![0.5, -0.1]).is_err());
    let ratio = SolverConfig::Heun { clock: kiln_diffusion::Clock::NoiseRatio };
    assert!(start(ratio, vec![1.0, 0.5]).unwrap_err().to_string().contains("noise ratio is infinite"));
    assert_eq!(start(ratio, vec![0.9, 0.5]), Ok(2), "one step, and one to take away the noise of t = 0.5");
}

#[test]
fn grids_go_from_noise_to_data() {
    for (name, process) in processes() {
        let end = process.clean_time().unwrap_or(process.t_min());
        for times in
            [grid::uniform(&*process, 9), grid::natural(&*process, 9), grid::karras(&*process, 9, 7.0)]
        {
            let times = times.unwrap();
            assert_eq!(times.len(), 10, "{name}");
            assert!((times[0] - process.t_max()).abs() < 1e-2 && times[9] == end, "{name}: {times:?}");
        }
        assert!(grid::uniform(&*process, 0).is_err() && grid::karras(&*process, 1, 7.0).is_err());
    }
    for wrong in
        [grid::trailing(10, 11), grid::leading(10, 5, 9), grid::leading(10, 0, 0), grid::linspace(10, 0)]
    {
        assert!(wrong.is_err(), "{wrong:?}");
    }
}

/// Karras' levels, computed from the paper's formula; on a ladder they lie between the rungs.
#[test]
fn karras_levels_are_the_papers() {
    let ladder = DdpmLadder::new(BetaSchedule::SCALED_LINEAR, 1000).unwrap();
    let times = grid::karras(&ladder, 10, 7.0).unwrap();
    let (high, low) = (ladder.law(1.0).noise_ratio(), ladder.law(0.001).noise_ratio());
    // Stable Diffusion's sigma_max and sigma_min.
    assert!((high - 14.6146).abs() < 1e-3 && (low - 0.0292).abs() < 1e-4, "{high} {low}");
    for (i, &t) in times[..10].iter().enumerate() {
        let (a, b) = (high.powf(1.0 / 7.0), low.powf(1.0 / 7.0));
        let level = (a + i as f64 / 9.0 * (b - a)).powi(7);
        assert!((ladder.law(t).noise_ratio() / level - 1.0).abs() < 1e-9, "level {i}");
    }
    assert_eq!(times[10], 0.0);
}

#[test]
fn a_shift_keeps_the_ends() {
    let times = grid::shifted(&[1.0, 0.5, 0.0], 3.0).unwrap();
    assert_eq!(times, [1.0, 0.75, 0.0]);
    assert!(grid::shifted(&times, 0.0).is_err());
}

/// Up to the noise and down again along the same grid, in fine steps: what was there comes back.
#[test]
fn inversion_is_undone_by_sampling() {
    let process = VariancePreserving::default();
    let data = mixture(&process);
    let times: Vec<f64> = (0..=400).map(|i| 0.9 - 0.85 * f64::from(i) / 400.0).collect();
    let down = Sampler::new(SolverConfig::ddim(), &times).unwrap().with_finish(Finish::AtGridEnd);
    let up = times.windows(2).rev().map(|pair| [pair[1], pair[0]]).collect();
    let up = Sampler::with_jumps(SolverConfig::ddim(), up).unwrap().with_finish(Finish::AtGridEnd);
    let x = Tensor::<2>::from_floats([[-0.7], [-0.2], [0.4], [1.1]], &Device::flex());
    let run = |sampler: &Sampler, x: Tensor<2>| {
        let noise = keyed_noise([4, 1], KEY, &Device::flex());
        sampler.start(&process, &data, x, noise).unwrap().finish()
    };
    let back = run(&down, run(&up, x.clone()));
    let apart = floats(back - x).into_iter().map(f32::abs).fold(0.0, f32::max);
    assert!(apart < 0.02, "{apart}");

    let both_ways = vec![[0.5, 0.4], [0.4, 0.6]];
    let refused = Sampler::with_jumps(SolverConfig::ddim(), both_ways);
    assert!(matches!(refused, Err(DiffusionError::Grid { .. })), "{refused:?}");
}
