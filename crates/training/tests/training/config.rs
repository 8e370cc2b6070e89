//! The configuration: its ranges, its JSON, its schedule.

use kiln_training::{Schedule, TrainerConfig, TrainingError};
use rstest::rstest;

#[rstest]
#[case("steps", TrainerConfig { steps: 0, ..TrainerConfig::default() })]
#[case("batch_size", TrainerConfig { batch_size: 0, ..TrainerConfig::default() })]
#[case("checkpoint_every", TrainerConfig { checkpoint_every: 0, ..TrainerConfig::default() })]
#[case("sample_every", TrainerConfig { sample_every: Some(0), ..TrainerConfig::default() })]
#[case("log_every", TrainerConfig { log_every: 0, ..TrainerConfig::default() })]
#[case("learning_rate", TrainerConfig { learning_rate: 0.0, ..TrainerConfig::default() })]
#[case("learning_rate", TrainerConfig { learning_rate: f64::NAN, ..TrainerConfig::default() })]
#[case("clip_norm", TrainerConfig { clip_norm: Some(-1.0), ..TrainerConfig::default() })]
#[case("weight_decay", TrainerConfig { weight_decay: f64::INFINITY, ..TrainerConfig::default() })]
#[case("ema_decay", TrainerConfig { ema_decay: 1.5, ..TrainerConfig::default() })]
#[case("schedule.floor", TrainerConfig {
    schedule: Schedule::Cosine { floor: -0.1, horizon: None }, ..TrainerConfig::default() })]
#[case("schedule.horizon", TrainerConfig {
    warmup_steps: 10, schedule: Schedule::Cosine { floor: 0.0, horizon: Some(10) }, ..TrainerConfig::default() })]
fn a_field_out_of_range_is_told_by_name(#[case] expected: &str, #[case] config: TrainerConfig) {
    let error = config.validate().unwrap_err();
    assert!(matches!(error, TrainingError::Config { field, .. } if field == expected), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn the_defaults_are_in_range() {
    TrainerConfig::default().validate().unwrap();
}

#[test]
fn the_warm_up_rises_to_the_learning_rate_and_the_cosine_falls_to_its_floor() {
    let config = TrainerConfig {
        steps: 110,
        learning_rate: 2.0,
        warmup_steps: 10,
        schedule: Schedule::Cosine { floor: 0.25, horizon: None },
        ..TrainerConfig::default()
    };
    let rates: Vec<f64> = (0..200).map(|step| config.learning_rate_at(step)).collect();
    assert_eq!(rates[0], 0.2);
    assert_eq!((rates[9], rates[10]), (2.0, 2.0));
    assert!((rates[60] - 1.25).abs() < 1e-12, "half way: {}", rates[60]);
    assert!(rates[10..=110].windows(2).all(|pair| pair[1] < pair[0]));
    assert!(rates[110..].iter().all(|rate| (rate - 0.5).abs() < 1e-12), "the floor, for ever");
}

/// torch.optim.lr_scheduler.CosineAnnealingLR(T_max=8, eta_min=0.1) from 1.0, without warm-up.
#[test]
fn the_cosine_is_torchs() {
    let config = TrainerConfig {
        steps: 8,
        learning_rate: 1.0,
        schedule: Schedule::Cosine { floor: 0.1, horizon: None },
        ..TrainerConfig::default()
    };
    for (step, expected) in TORCH_COSINE.into_iter().enumerate() {
        assert!((config.learning_rate_at(step) - expected).abs() < 1e-12, "step {step}");
    }
}

const TORCH_COSINE: [f64; 9] = [
    1.0,
    0.9657457896300791,
    0.8681980515339464,
    0.7222075445642905,
    0.55,
    0.3777924554357097,
    0.2318019484660537,
    0.134254210369921,
    0.1,
];

#[test]
fn a_configuration_survives_its_json() {
    let config = TrainerConfig {
        schedule: Schedule::Cosine { floor: 1.0 / 3.0, horizon: Some(7) },
        clip_norm: None,
        learning_rate: 0.1 + 0.2,
        ..TrainerConfig::default()
    };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainerConfig>(&text).unwrap(), config);
    let partial: TrainerConfig = serde_json::from_str(r#"{"learning_rate": 1, "clip_norm": "0.5"}"#).unwrap();
    assert_eq!(
        partial,
        TrainerConfig { learning_rate: 1.0, clip_norm: Some(0.5), ..TrainerConfig::default() }
    );
}

#[rstest]
#[case(r#"{"learning_rat": 1}"#, "unknown field `learning_rat`")]
#[case(r#"{"learning_rate": "fast"}"#, "expected a number")]
#[case(r#"{"schedule": {"kind": "linear"}}"#, "unknown variant `linear`")]
fn a_json_that_is_wrong_is_told(#[case] text: &str, #[case] expected: &str) {
    let error = serde_json::from_str::<TrainerConfig>(text).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}
