//! What makes a product of conditionals a distribution.

use burn::tensor::{Device, Tensor};
use kiln_autoregressive::{
    AutoregressiveModel, FullTable, FvsbnConfig, IndependentConfig, Labelled, MadeConfig, NadeConfig, Order,
    OrderlessNadeConfig, Wiring, bits_per_dimension, ensemble,
};
use kiln_backend::noise::NoiseKey;
use kiln_backend::testing::devices;
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::models::{Visitor, binary, one_hot, shaken, states};

fn numbers(x: &Tensor<1>) -> Vec<f64> {
    x.to_data().iter::<f32>().map(f64::from).collect()
}

/// p of every state sums to 1, and is the product of the conditionals.
struct SumsToOne<'a> {
    backend: &'a str,
    given: usize,
}

impl Visitor for SumsToOne<'_> {
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M) {
        let device = model.devices()[0].clone();
        let all = states(model.variables(), 2, &device);
        let rows = all.dims()[0];
        let given = || (self.given > 0).then(|| one_hot(&vec![1; rows], self.given, &device));
        let log_probs = numbers(&model.log_prob(all.clone(), given()).unwrap());
        let sum: f64 = log_probs.iter().map(|l| l.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{} on {}: sums to {sum}", name, self.backend);
        let conditionals = model.conditionals(all, given()).unwrap();
        let conditionals: Vec<f32> = conditionals.to_data().iter().collect();
        for (row, log_prob) in conditionals.chunks_exact(model.sites()).zip(&log_probs) {
            assert!(row.iter().all(|l| *l <= 1e-6), "{name}: a probability above 1");
            let product: f64 = row.iter().map(|l| f64::from(*l)).sum();
            assert!((product - log_prob).abs() < 1e-4, "{name}: {product} and {log_prob}");
        }
    }
}

#[test]
fn probabilities_of_all_states_sum_to_one() {
    for (backend, device) in devices() {
        binary(&device, 0, &mut SumsToOne { backend, given: 0 });
        if backend == "flex" {
            binary(&device, 3, &mut SumsToOne { backend, given: 3 });
        }
    }
}

/// The frequencies of samples are the probabilities.
struct Frequencies;

impl Visitor for Frequencies {
    fn visit<M: AutoregressiveModel>(&mut self, name: &str, model: M) {
        const COUNT: usize = 4000;
        let device = model.devices()[0].clone();
        let n = model.variables();
        let x = model.sample(COUNT, None, NoiseKey::new(11)).unwrap();
        let mut observed = vec![0.0; 1 << n];
        let x: Vec<f32> = x.to_data().iter().collect();
        for row in x.chunks_exact(n) {
            observed[row.iter().enumerate().map(|(i, value)| (*value as usize) << i).sum::<usize>()] += 1.0;
        }
        let log_probs = numbers(&model.log_prob(states(n, 2, &device), None).unwrap());
        // States that are expected less than five times are taken together.
        let (mut statistic, mut cells) = (0.0, 0_usize);
        let mut rest = [0.0, 0.0];
        let mut cell = |observed: f64, expected: f64| {
            statistic += (observed - expected).powi(2) / expected;
            cells += 1;
        };
        for (observed, log_prob) in observed.into_iter().zip(log_probs) {
            let expected = COUNT as f64 * log_prob.exp();
            if expected < 5.0 {
                rest = [rest[0] + observed, rest[1] + expected];
            } else {
                cell(observed, expected);
            }
        }
        if rest[1] >= 5.0 {
            cell(rest[0], rest[1]);
        }
        let p = ChiSquared::new((cells - 1) as f64).unwrap().sf(statistic);
        assert!(p > 1e-4, "{name}: chi-square {statistic} of {cells} cells, p = {p}");
    }
}

#[test]
fn frequencies_of_samples_are_the_probabilities() {
    binary(&Device::flex(), 0, &mut Frequencies);
}

#[test]
fn a_table_that_was_counted_is_the_data_smoothed() {
    let device = Device::flex();
    let rows = [[0., 0., 1.], [0., 1., 1.], [0., 0., 1.], [1., 1., 0.]];
    let x = Tensor::<2>::from_data(rows, &device);
    let table = FullTable::fit(&x, Order::new(vec![2, 0, 1]).unwrap(), 1e-3).unwrap();
    let p: Vec<f64> = numbers(&table.log_prob(x, None).unwrap()).into_iter().map(f64::exp).collect();
    for (p, expected) in p.into_iter().zip([0.5, 0.25, 0.5, 0.25]) {
        assert!((p - expected).abs() < 2e-3, "{p} for {expected}");
    }
    // The smoothing leaves something to all states.
    let all = numbers(&table.log_prob(states(3, 2, &device), None).unwrap());
    assert!(all.iter().all(|l| l.is_finite()));
}

#[test]
fn the_chain_of_regressions_has_fewer_numbers_than_the_table() {
    let free = |n| FvsbnConfig::new(Order::natural(n)).free_parameters();
    assert_eq!([free(1), free(3), free(10), free(784)], [1, 6, 55, 307_720]);
    let table = FullTable::new(Order::natural(10), &Device::flex()).unwrap();
    assert_eq!(burn::module::Module::num_params(&table), 1023);
}

#[test]
fn what_no_chain_of_regressions_can_learn_a_table_can() {
    // Parity: the third variable is the exclusive or of the first two, whose regression is on a sum.
    let device = Device::flex();
    let x = Tensor::<2>::from_data([[0., 0., 0.], [0., 1., 1.], [1., 0., 1.], [1., 1., 0.]], &device);
    let table = FullTable::fit(&x, Order::natural(3), 1e-6).unwrap();
    let nats = -numbers(&table.log_prob(x, None).unwrap().mean())[0];
    assert!((nats - 2.0 * std::f64::consts::LN_2).abs() < 1e-4, "{nats}");
    assert!((bits_per_dimension(nats, 3) - 2.0 / 3.0).abs() < 1e-4);
}

#[test]
fn a_class_is_one_more_variable() {
    for (backend, device) in devices() {
        let nade = NadeConfig::new(Order::natural(5), 6).with_given(3).init(&device).unwrap();
        let model = shaken(Labelled::new(nade, &device).unwrap(), 31);
        let all = states(5, 2, &device);
        let joint: Vec<f32> = model.log_joint(&all).unwrap().to_data().iter().collect();
        let sum: f64 = joint.iter().map(|l| f64::from(*l).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{backend}: {sum}");
        // Bayes: the posterior of a class is its share of the joint.
        let posterior: Vec<f32> = model.classify(&all).unwrap().to_data().iter().collect();
        for (joint, posterior) in joint.chunks_exact(3).zip(posterior.chunks_exact(3)) {
            let all: f32 = joint.iter().map(|l| l.exp()).sum();
            for (joint, posterior) in joint.iter().zip(posterior) {
                assert!((joint.exp() / all - posterior.exp()).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn drawn_classes_are_as_frequent_as_the_prior_says() {
    let device = Device::flex();
    let model = shaken(
        Labelled::new(IndependentConfig::new(4).with_given(3).init(&device).unwrap(), &device).unwrap(),
        33,
    );
    let (x, labels) = model.sample(3000, NoiseKey::new(5)).unwrap();
    let labels: Vec<i64> = labels.to_data().iter().collect();
    let joint = model.log_joint(&states(4, 2, &device)).unwrap().exp().sum_dim(0);
    let prior: Vec<f32> = joint.to_data().iter().collect();
    for (class, prior) in prior.into_iter().enumerate() {
        let share = labels.iter().filter(|label| **label == class as i64).count() as f32 / 3000.0;
        assert!((share - prior).abs() < 0.04, "class {class}: {share} of {prior}");
    }
    // What is drawn under a class is likelier under it than chance has it.
    let posterior = model.classify(&x).unwrap().argmax(1);
    let right: usize = posterior.to_data().iter::<i64>().zip(&labels).filter(|(a, b)| a == *b).count();
    assert!(right > 1300, "{right} of 3000");
}

#[test]
fn under_every_wiring_a_masked_autoencoder_is_another_distribution() {
    let device = Device::flex();
    let wirings = Wiring::agnostic(6, 3, 8);
    let made = shaken(MadeConfig::new(wirings.clone(), vec![12]).init(&device).unwrap(), 41);
    let all = states(6, 2, &device);
    let each: Vec<Tensor<1>> = wirings
        .iter()
        .map(|wiring| made.clone().with_wiring(wiring.clone()).unwrap().log_prob(all.clone(), None).unwrap())
        .collect();
    for log_prob in &each {
        let sum: f64 = numbers(log_prob).into_iter().map(f64::exp).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
    assert_ne!(numbers(&each[0]), numbers(&each[1]));
    let together = numbers(&ensemble(&each));
    let sum: f64 = together.iter().map(|l| l.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "the ensemble: {sum}");
    let mean = each.iter().map(|log_prob| numbers(log_prob)[7].exp()).sum::<f64>() / 3.0;
    assert!((together[7].exp() - mean).abs() < 1e-7);
}

#[test]
fn the_loss_over_orders_is_the_mean_over_all_of_them() {
    // Of three variables there are six orders.
    let device = Device::flex();
    let model = OrderlessNadeConfig::new(Order::natural(3), vec![8]).init(&device).unwrap();
    let model = shaken(model, 51);
    let x = Tensor::<2>::from_data([[1.0, 0.0, 1.0]], &device);
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let exact: f64 = orders
        .iter()
        .map(|order| {
            let model = model.clone().with_order(Order::new(order.to_vec()).unwrap()).unwrap();
            -numbers(&model.log_prob(x.clone(), None).unwrap())[0] / 6.0
        })
        .sum();
    let many = x.repeat_dim(0, 20_000);
    let estimate = numbers(&model.loss(many, None, NoiseKey::new(3)))[0];
    assert!((estimate - exact).abs() < 0.03, "{estimate} for {exact}");
}

#[test]
fn a_loss_is_the_mean_of_the_negated_log_probability() {
    let device = Device::flex();
    let nade = shaken(NadeConfig::new(Order::natural(6), 5).init(&device).unwrap(), 61);
    let x = states(6, 2, &device).narrow(0, 9, 7);
    let loss = numbers(&nade.loss(x.clone(), None, NoiseKey::new(0)))[0];
    let mean = -numbers(&nade.log_prob(x, None).unwrap().mean())[0];
    assert!((loss - mean).abs() < 1e-5, "{loss} and {mean}");
}
