//! The named tensors in what a pickle builds: its dicts, walked by key.

use std::collections::BTreeMap;

use super::calls::Tensor;
use super::machine::{Machine, Node, Refused, Value};
use crate::header::MAX_TENSORS;

/// Where trainers put the weights, beside the optimizer's state and the like; the first that is there is taken.
const WRAPPERS: [&str; 10] = [
    "state_dict",
    "model_state_dict",
    "params_ema",
    "params",
    "model",
    "module",
    "ema",
    "net",
    "generator",
    "weights",
];
/// Dicts within dicts: a model of modules of modules has five.
const MAX_DEPTH: usize = 32;
/// Steps of the walk. Nothing in a pickle says that a dict is in one place only, so that a small file may be a long walk.
const MAX_STEPS: usize = 1 << 20;

/// The tensors by name: keys of nested dicts, joined by dots.
pub(super) fn tensors<'m, 'a>(
    machine: &'m Machine<'a>,
    root: Value<'a>,
) -> Result<BTreeMap<String, &'m Tensor<'a>>, Refused> {
    let root = unwrapped(machine, root);
    let mut walk = Walk { steps: 0, budget: machine.budget, found: Vec::new() };
    walk.visit(machine, root, "", 0)?;
    let mut tensors = BTreeMap::new();
    for (name, value) in walk.found {
        let Some(Node::Tensor(tensor)) = machine.node(value) else { continue };
        if tensors.insert(name.clone(), &**tensor).is_some() {
            return Err(format!("two tensors are called `{name}`").into());
        }
    }
    Ok(tensors)
}

/// The dict of the weights, if it is one of several.
fn unwrapped<'a>(machine: &Machine<'a>, mut root: Value<'a>) -> Value<'a> {
    for _ in 0..MAX_DEPTH {
        let Some(Node::Dict(items)) = machine.node(root) else { break };
        if items.iter().any(|(_, value)| matches!(machine.node(*value), Some(Node::Tensor(_)))) {
            break;
        }
        let dict_of = |wrapper: &&str| {
            let wrapped = |(key, value): &&(Value, Value)| {
                machine.text_of(*key) == Some(*wrapper) && matches!(machine.node(*value), Some(Node::Dict(_)))
            };
            items.iter().rev().find(wrapped).map(|(_, value)| *value)
        };
        let Some(inner) = WRAPPERS.iter().find_map(dict_of) else { break };
        root = inner;
    }
    root
}

struct Walk<'a> {
    steps: usize,
    budget: usize,
    found: Vec<(String, Value<'a>)>,
}

impl<'a> Walk<'a> {
    fn visit(
        &mut self,
        machine: &Machine<'a>,
        value: Value<'a>,
        name: &str,
        depth: usize,
    ) -> Result<(), Refused> {
        let items: Vec<(String, Value)> = match machine.node(value) {
            Some(Node::Tensor(_)) => {
                self.found.push((name.to_owned(), value));
                return if self.found.len() > MAX_TENSORS {
                    Err(format!("more than {MAX_TENSORS} tensors").into())
                } else {
                    Ok(())
                };
            }
            Some(Node::Dict(items)) => items
                .iter()
                .filter(|(_, value)| machine.node(*value).is_some())
                .filter_map(|(key, value)| match key {
                    Value::Int(key) => Some((key.to_string(), *value)),
                    key => Some((machine.text_of(*key)?.to_owned(), *value)),
                })
                .collect(),
            Some(Node::Sequence(items)) => items
                .iter()
                .enumerate()
                .filter(|(_, value)| machine.node(**value).is_some())
                .map(|(index, value)| (index.to_string(), *value))
                .collect(),
            _ => return Ok(()),
        };
        if depth == MAX_DEPTH {
            return Err(format!("dicts within dicts, {MAX_DEPTH} deep").into());
        }
        for (key, value) in items {
            self.steps += 1;
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            // Its name, here and in the list, with the list's place for it.
            let cost = 2 * name.len() + 2 * size_of::<(String, Value)>();
            let left = self.budget.checked_sub(cost).filter(|_| self.steps < MAX_STEPS);
            self.budget = left.ok_or("a walk through its dicts has no end in sight")?;
            self.visit(machine, value, &name, depth + 1)?;
        }
        Ok(())
    }
}
