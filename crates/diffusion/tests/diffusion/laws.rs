//! Laws that every process obeys, on the host.

use kiln_diffusion::{
    BetaSchedule, DdpmLadder, Process, SubVariancePreserving, VarianceExploding, VariancePreserving,
};
use rstest::rstest;

use crate::processes;

/// Times strictly inside the range, off the ladder's rungs.
fn inner_times(process: &dyn Process) -> impl Iterator<Item = f64> + use<> {
    let (low, high) = (process.t_min(), process.t_max());
    (1..200).map(move |i| low + (high - low) * (f64::from(i) + 0.37) / 200.0)
}

#[test]
fn derivatives_are_those_of_alpha_and_sigma() {
    for (name, process) in processes() {
        for t in inner_times(&*process) {
            let h = 1e-6;
            let (law, before, after) = (process.law(t), process.law(t - h), process.law(t + h));
            for (what, stated, measured) in [
                ("alpha", law.alpha_dot, (after.alpha - before.alpha) / (2.0 * h)),
                ("sigma", law.sigma_dot, (after.sigma - before.sigma) / (2.0 * h)),
            ] {
                assert!(
                    (stated - measured).abs() < 1e-5 * (1.0 + stated.abs()),
                    "{name}, {what}' at {t}: {stated} {measured}"
                );
            }
        }
    }
}

/// dx = f x dt + g dw moves mean and variance by `m' = f m` and `(s²)' = 2 f s² + g²`.
#[test]
fn drift_and_diffusion_give_alpha_and_sigma_back() {
    for (name, process) in processes() {
        for t in inner_times(&*process).filter(|t| process.alpha(*t) > 1e-3) {
            let h = 1e-6;
            let (before, after) = (process.law(t - h), process.law(t + h));
            let drift = (after.alpha.ln() - before.alpha.ln()) / (2.0 * h);
            let f = process.drift(t);
            assert!((f - drift).abs() < 1e-5 * (1.0 + f.abs()), "{name}, f at {t}: {f} {drift}");
            let variance_dot = (after.sigma.powi(2) - before.sigma.powi(2)) / (2.0 * h);
            let g2 = variance_dot - 2.0 * f * process.sigma(t).powi(2);
            let stated = process.diffusion_squared(t);
            assert!(stated >= 0.0);
            assert!((stated - g2).abs() < 1e-5 * (1.0 + g2.abs()), "{name}, g² at {t}: {stated} {g2}");
        }
    }
}

#[test]
fn signal_to_noise_falls_and_time_is_found_again() {
    for (name, process) in processes() {
        let mut last = f64::INFINITY;
        for t in inner_times(&*process) {
            let log_snr = process.log_snr(t);
            assert!(log_snr < last, "{name}: log-SNR rises at {t}");
            last = log_snr;
            let found = process.time_at_log_snr(log_snr);
            assert!((found - t).abs() < 1e-9, "{name}: t = {t} found as {found}");
        }
        assert_eq!(process.time_at_log_snr(1e9), process.t_min(), "{name}");
        assert_eq!(process.time_at_log_snr(-1e9), process.t_max(), "{name}");
    }
}

#[test]
fn a_clean_time_is_clean_and_the_end_is_noise() {
    for (name, process) in processes() {
        if let Some(clean) = process.clean_time() {
            let law = process.law(clean);
            assert_eq!((law.alpha, law.sigma), (1.0, 0.0), "{name}");
        }
        let law = process.law(process.t_max());
        let std_of_unit_data = law.norm();
        assert!((std_of_unit_data / process.prior_std() - 1.0).abs() < 3e-4, "{name}: {std_of_unit_data}");
    }
}

#[rstest]
#[case::vp(&VariancePreserving::default())]
#[case::linear(&DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap())]
#[case::scaled(&DdpmLadder::new(BetaSchedule::SCALED_LINEAR, 1000).unwrap())]
#[case::cosine(&DdpmLadder::new(BetaSchedule::Cosine, 1000).unwrap())]
fn variance_is_preserved(#[case] process: &dyn Process) {
    for i in 0..=1000 {
        assert!((process.law(f64::from(i) / 1000.0).norm() - 1.0).abs() < 1e-14);
    }
}

/// Song et al. 2021, equation 29: `g² = beta (1 - alpha_bar²)`, and less noise than VP's everywhere.
#[test]
fn sub_vp_has_its_papers_diffusion() {
    let (sub, vp) = (SubVariancePreserving::default(), VariancePreserving::default());
    for i in 1..=100 {
        let t = f64::from(i) / 100.0;
        let stated = vp.beta(t) * (1.0 - sub.alpha(t).powi(4));
        assert!((sub.diffusion_squared(t) - stated).abs() < 1e-9 * (1.0 + stated));
        assert!(sub.sigma(t) < vp.sigma(t) && sub.alpha(t) == vp.alpha(t));
    }
}

#[test]
fn variance_exploding_levels_are_geometric() {
    let process = VarianceExploding::new(0.01, 50.0).unwrap();
    assert!((process.sigma(0.0) - 0.01).abs() < 1e-15 && (process.sigma(1.0) - 50.0).abs() < 1e-10);
    assert!((process.sigma(0.5).powi(2) - 0.01 * 50.0).abs() < 1e-12);
    assert!((process.diffusion_squared(0.5) - 2.0 * 0.5 * 5000_f64.ln()).abs() < 1e-9);
}

/// On the rungs the ladder is the product of `1 - beta`, and its index comes back exactly.
#[test]
fn rungs_are_exact() {
    let betas = BetaSchedule::LINEAR.betas(1000);
    let ladder = DdpmLadder::new(BetaSchedule::LINEAR, 1000).unwrap();
    let mut product = 1.0;
    for (i, beta) in betas.into_iter().enumerate() {
        product *= 1.0 - beta;
        let t = ladder.time(i);
        assert!((ladder.alpha_bar(i) / product - 1.0).abs() < 1e-12);
        assert!((ladder.alpha(t).powi(2) / product - 1.0).abs() < 1e-12);
        assert_eq!(ladder.network_time(t), i as f64);
        assert_eq!(ladder.network_time(t * (1.0 + 1e-13)), i as f64, "a time that went through arithmetic");
        assert!((ladder.diffusion_squared(t) / 1000.0 + (-beta).ln_1p()).abs() < 1e-12);
    }
}

/// The ladder of N rungs with betas `beta(t) / N` tends to the VP equation as 1 / N.
#[test]
fn the_ladder_tends_to_the_variance_preserving_equation() {
    let process = VariancePreserving::default();
    let distance = |rungs: usize| {
        let n = rungs as f64;
        let ladder =
            DdpmLadder::new(BetaSchedule::Linear { beta_start: 0.1 / n, beta_end: 20.0 / n }, rungs).unwrap();
        (0..rungs)
            .map(|i| (ladder.alpha(ladder.time(i)) - process.alpha(ladder.time(i))).abs())
            .fold(0.0, f64::max)
    };
    let (coarse, fine) = (distance(1000), distance(4000));
    assert!(coarse < 1e-2 && (3.0..5.0).contains(&(coarse / fine)), "{coarse} {fine}");
}
