//! Choices by name: what is read from files, what the tables hold, and what is refused with which words.

use kiln_diffusion::{
    BetaSchedule, Clock, DdpmLadder, DiffusionError, Objective, PROCESSES, Prediction, ProcessConfig,
    RectifiedFlow, SOLVERS, SolverConfig, SubVariancePreserving, TimeSampling, VarianceExploding,
    VariancePreserving, Weighting,
};
use rstest::rstest;
use serde_json::{from_str, to_string};

#[test]
fn what_is_written_is_read_back() {
    for entry in PROCESSES {
        let text = to_string(&entry.config).unwrap();
        assert_eq!(from_str::<ProcessConfig>(&text).unwrap(), entry.config, "{text}");
        assert_eq!(ProcessConfig::named(entry.name).unwrap(), entry.config);
        assert!(!entry.help.is_empty());
    }
    for entry in SOLVERS {
        let text = to_string(&entry.config).unwrap();
        assert_eq!(from_str::<SolverConfig>(&text).unwrap(), entry.config, "{text}");
        assert_eq!(SolverConfig::named(entry.name).unwrap(), entry.config);
        assert!(!entry.help.is_empty() && entry.order >= 1 && entry.evaluations >= 1);
    }
    for objective in [
        Objective::new(Prediction::Noise),
        Objective {
            prediction: Prediction::Edm { sigma_data: 0.5 },
            times: TimeSampling::LogitNormal { mean: 0.0, std: 1.0 },
            weighting: Weighting::MinSnr { gamma: 5.0 },
            shift: 1.0,
        },
    ] {
        let text = to_string(&objective).unwrap();
        assert_eq!(from_str::<Objective>(&text).unwrap(), objective, "{text}");
    }
}

/// The forms that model files hold: changing one would orphan them.
#[test]
fn the_files_form_is_frozen() {
    let process = |text| from_str::<ProcessConfig>(text).unwrap();
    assert_eq!(process(r#"{"type":"rectified_flow"}"#), ProcessConfig::RectifiedFlow {});
    assert_eq!(
        process(r#"{"type":"ddpm"}"#),
        ProcessConfig::Ddpm { schedule: BetaSchedule::LINEAR, rungs: 1000 }
    );
    assert_eq!(
        process(r#"{"type":"ddpm","schedule":{"scaled_linear":{}},"rungs":50}"#),
        ProcessConfig::Ddpm { schedule: BetaSchedule::SCALED_LINEAR, rungs: 50 }
    );
    assert_eq!(
        process(r#"{"type":"variance_exploding","sigma_max":3.0}"#),
        ProcessConfig::VarianceExploding { sigma_min: 0.01, sigma_max: 3.0 }
    );
    assert_eq!(to_string(&Prediction::Velocity).unwrap(), r#""velocity""#);
    assert_eq!(to_string(&Prediction::Edm { sigma_data: 0.5 }).unwrap(), r#"{"edm":{"sigma_data":0.5}}"#);
    // Its name before it had options.
    assert_eq!(from_str::<SolverConfig>(r#"{"type":"dpmpp_2m"}"#).unwrap(), SolverConfig::dpmpp_2m());
    assert_eq!(from_str::<SolverConfig>(r#"{"type":"dpm_solver"}"#).unwrap(), SolverConfig::dpmpp_2m());
    assert_eq!(
        from_str::<SolverConfig>(r#"{"type":"euler"}"#).unwrap(),
        SolverConfig::Euler { clock: Clock::OfProcess }
    );
}

#[rstest]
#[case(r#"{"type":"rectified_flows"}"#, "unknown variant `rectified_flows`")]
#[case(r#"{"type":"rectified_flow","shift":3}"#, "unknown field `shift`")]
#[case(r#"{"type":"ddpm","steps":10}"#, "unknown field `steps`")]
#[case(r#"{"type":"ddpm","schedule":"laplace"}"#, "unknown variant `laplace`")]
#[case(r#"{"type":"ddpm","schedule":{"linear":{"beta":1}}}"#, "unknown field `beta`")]
#[case(r#"{"beta_min":0.1}"#, "missing field `type`")]
fn a_file_with_an_unknown_word_is_refused_by_name(#[case] text: &str, #[case] says: &str) {
    let error = from_str::<ProcessConfig>(text).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[rstest]
#[case(ProcessConfig::Ddpm { schedule: BetaSchedule::LINEAR, rungs: 1 }, "number of rungs")]
#[case(ProcessConfig::Ddpm { schedule: BetaSchedule::Linear { beta_start: 0.0, beta_end: 0.02 }, rungs: 10 }, "beta_start")]
#[case(ProcessConfig::Ddpm { schedule: BetaSchedule::Linear { beta_start: 1e-4, beta_end: 1.0 }, rungs: 10 }, "beta_end")]
#[case(ProcessConfig::Ddpm { schedule: BetaSchedule::ScaledLinear { beta_start: -0.1, beta_end: 0.02 }, rungs: 10 }, "beta_start")]
#[case(ProcessConfig::VariancePreserving { beta_min: -1.0, beta_max: 20.0 }, "beta_min")]
#[case(ProcessConfig::VariancePreserving { beta_min: 1.0, beta_max: 0.5 }, "beta_max")]
#[case(ProcessConfig::SubVariancePreserving { beta_min: 0.1, beta_max: f64::NAN }, "beta_max")]
#[case(ProcessConfig::VarianceExploding { sigma_min: 0.0, sigma_max: 1.0 }, "sigma_min")]
#[case(ProcessConfig::VarianceExploding { sigma_min: 1.0, sigma_max: 1.0 }, "sigma_max")]
#[case(ProcessConfig::VarianceExploding { sigma_min: 1.0, sigma_max: f64::INFINITY }, "sigma_max")]
fn a_process_out_of_range_is_refused(#[case] config: ProcessConfig, #[case] says: &str) {
    let error = config.build().unwrap_err();
    assert!(matches!(&error, DiffusionError::Parameter { what, .. } if what.contains(says)), "{error}");
}

#[test]
fn other_choices_out_of_range_are_refused() {
    for eta in [-0.1, 1.1, f64::NAN] {
        assert!(
            SolverConfig::Ancestral { eta, variance: kiln_diffusion::Variance::Posterior }
                .start::<2>()
                .is_err()
        );
    }
    assert!(DdpmLadder::from_betas(&[0.1, 1.5]).is_err());
    let objective = Objective::new(Prediction::V);
    let vp = VariancePreserving::default();
    assert!(objective.check(&vp).is_ok());
    assert!(
        Objective { times: TimeSampling::LogitNormal { mean: 0.0, std: 0.0 }, ..objective }
            .check(&vp)
            .is_err()
    );
    assert!(Objective { weighting: Weighting::MinSnr { gamma: 0.0 }, ..objective }.check(&vp).is_err());
    assert!(Objective::new(Prediction::Noise).check(&RectifiedFlow).is_err());
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let error = SolverConfig::named("rk45").unwrap_err().to_string();
    assert!(
        error.starts_with(r#"unknown solver "rk45": choose one of ddpm, ddim, euler, heun, dpm2, "#),
        "{error}"
    );
    let error = ProcessConfig::named("ito").unwrap_err().to_string();
    assert_eq!(error, r#"unknown process "ito": choose one of ddpm, ddpm-cosine, vp, subvp, ve, flow, edm"#);
}

/// The defaults in files are those of the types.
#[test]
fn defaults_agree() {
    let same = |config: &str, process: &dyn kiln_diffusion::Process| {
        let built = from_str::<ProcessConfig>(config).unwrap().build().unwrap();
        assert_eq!(format!("{built:?}"), format!("{process:?}"));
    };
    same(r#"{"type":"variance_preserving"}"#, &VariancePreserving::default());
    same(r#"{"type":"sub_variance_preserving"}"#, &SubVariancePreserving::default());
    same(r#"{"type":"variance_exploding"}"#, &VarianceExploding::default());
    same(r#"{"type":"rectified_flow"}"#, &RectifiedFlow);
}
