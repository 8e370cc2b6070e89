//! A pickle as the program that it is: bytes that drive a machine with a stack and a memo, to build one value.
//!
//! Protocols 0 to 5, as Python's `pickletools` documents them. Everything is built of a few kinds of [`Value`]; a call is
//! answered by [`calls`](super::calls) from a short list, or refused. Values live in one arena and refer to each other by
//! index, so that neither a cycle nor a million nested lists can harm, and what the arena takes is bounded by the size of
//! the file.

use std::collections::HashMap;

use super::calls::Call;
use super::input::{Escaped, Input, unescaped};

/// A value of the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Anything that no tensor depends on: `None`, floats, bytes, what plain data is made of.
    Other,
    Int(i64),
    Text(&'a str),
    /// A function or class by module and name; nothing is looked up.
    Global(&'a str, &'a str),
    /// A container, or a tensor or its storage, in the arena.
    Node(usize),
}

#[derive(Debug)]
pub(super) enum Node<'a> {
    Sequence(Vec<Value<'a>>),
    /// Keys and values.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(super::calls::Storage<'a>),
    Tensor(Box<super::calls::Tensor<'a>>),
    /// Text with escapes, which protocol 0 writes.
    Owned(String),
}

/// Why a pickle was refused.
#[derive(Debug)]
pub(super) enum Refused {
    /// It asks for a function or class that is none of those that tensors are made with.
    Executes(String),
    Malformed(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Malformed(reason)
    }
}

impl From<&str> for Refused {
    fn from(reason: &str) -> Self {
        Self::Malformed(reason.to_owned())
    }
}

/// What may be allocated beside the size of the file.
const ALLOWANCE: usize = 16 << 20;
/// What grows is copied to a place of twice the size.
const GROWTH: usize = 3;

/// The value that a pickle builds, and all that it refers to.
pub(super) struct Machine<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// Bytes that may still be allocated.
    pub(super) budget: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    input: Input<'a>,
}

impl<'a> Machine<'a> {
    /// Run the pickle at the start of `input`; with its value, the number of bytes that it has. `file` is the size of the
    /// file, which bounds what is allocated.
    pub(super) fn run(input: &'a [u8], file: usize) -> Result<(Self, Value<'a>, usize), Refused> {
        let mut machine = Self {
            nodes: Vec::new(),
            budget: file.saturating_add(ALLOWANCE),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            input: Input::new(input),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        let read = machine.input.read();
        machine.stack = Vec::new();
        machine.memo = HashMap::new();
        Ok((machine, root, read))
    }

    /// One operation; false at the end.
    fn step(&mut self) -> Result<bool, Refused> {
        let [operation] = self.input.take()?;
        match operation {
            b'.' => return Ok(false),
            // Framing and the protocol change nothing.
            0x80 => {
                self.input.take::<1>()?;
            }
            0x95 => {
                self.input.take::<8>()?;
            }

            b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
            b'G' => self.input.take::<8>().and_then(|_| self.push(Value::Other))?,
            b'F' => self.input.line().and_then(|_| self.push(Value::Other))?,
            b'J' => {
                self.input
                    .take()
                    .and_then(|bytes| self.push(Value::Int(i32::from_le_bytes(bytes).into())))?;
            }
            b'K' => self.input.take().and_then(|[byte]| self.push(Value::Int(byte.into())))?,
            b'M' => {
                self.input
                    .take()
                    .and_then(|bytes| self.push(Value::Int(u16::from_le_bytes(bytes).into())))?;
            }
            b'I' | b'L' => self.input.integer_line().and_then(|value| self.push(value))?,
            0x8a => self.input.long::<1>().and_then(|value| self.push(value))?,
            0x8b => self.input.long::<4>().and_then(|value| self.push(value))?,

            b'U' | 0x8c => self.input.text::<1>().and_then(|text| self.push(text))?,
            b'T' | b'X' => self.input.text::<4>().and_then(|text| self.push(text))?,
            0x8d => self.input.text::<8>().and_then(|text| self.push(text))?,
            b'S' => self.input.quoted_line().and_then(|text| self.push(text))?,
            b'V' => match self.input.escaped_line()? {
                Escaped::Plain(text) => self.push(text)?,
                Escaped::Escapes(bytes) => {
                    self.spend(2 * bytes.len())?;
                    self.new_node(Node::Owned(unescaped(bytes).ok_or("an escape is none")?))?;
                }
            },
            b'C' => self.input.sized::<1>().and_then(|_| self.push(Value::Other))?,
            b'B' => self.input.sized::<4>().and_then(|_| self.push(Value::Other))?,
            0x8e | 0x96 => self.input.sized::<8>().and_then(|_| self.push(Value::Other))?,

            b'(' => {
                self.spend(GROWTH * size_of::<usize>())?;
                self.marks.push(self.stack.len());
            }
            b')' | b']' | 0x8f => self.new_node(Node::Sequence(Vec::new()))?,
            b'}' => self.new_node(Node::Dict(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.new_node(Node::Sequence(items))?;
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(operation - 0x84))?;
                self.new_node(Node::Sequence(items))?;
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.new_node(Node::Dict(pairs(&items)?))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }

            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => self.top().and_then(|top| self.push(top))?,

            b'g' => self.input.number_line().and_then(|key| self.get(key))?,
            b'h' => self.input.number::<1>().and_then(|key| self.get(key))?,
            b'j' => self.input.number::<4>().and_then(|key| self.get(key))?,
            b'p' => self.input.number_line().and_then(|key| self.put(key))?,
            b'q' => self.input.number::<1>().and_then(|key| self.put(key))?,
            b'r' => self.input.number::<4>().and_then(|key| self.put(key))?,
            0x94 => self.put(self.memo.len() as u64)?,

            b'c' => self.input.global().and_then(|global| self.push(global))?,
            0x93 => {
                let [module, name] = self.pop_array()?;
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err("a function or class is not named by text".into());
                };
                self.push(Value::Global(module, name))?;
            }
            b'R' | 0x81 => {
                let [callable, arguments] = self.pop_array()?;
                self.call(callable, arguments)?;
            }
            0x92 => {
                let [callable, arguments, _named] = self.pop_array()?;
                self.call(callable, arguments)?;
            }
            b'i' => {
                let callable = self.input.global()?;
                let arguments = self.pop_to_mark()?;
                self.call_with(callable, &arguments)?;
            }
            b'o' => {
                let called = self.pop_to_mark()?;
                let (&callable, arguments) = called.split_first().ok_or("a call of nothing")?;
                self.call_with(callable, arguments)?;
            }
            // The state of an object. What a module or a parameter has beside its numbers is not asked for, and what makes
            // an object run code on its state has been refused when it was made.
            b'b' => {
                self.pop()?;
            }
            b'P' => return Err("a persistent id as text".into()),
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.new_node(Node::Storage(storage))?;
            }
            0x82..=0x84 => return Err(Refused::Executes("the registry of extensions".to_owned())),
            other => return Err(format!("0x{other:02x} is no operation of a pickle").into()),
        }
        Ok(true)
    }

    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>) -> Result<(), Refused> {
        let arguments = self.sequence(arguments).unwrap_or_default().to_vec();
        self.call_with(callable, &arguments)
    }

    fn call_with(&mut self, callable: Value<'a>, arguments: &[Value<'a>]) -> Result<(), Refused> {
        self.spend(size_of_val(arguments))?;
        match self.answer(callable, arguments)? {
            Call::Value(value) => self.push(value),
            Call::New(node) => self.new_node(node),
        }
    }

    /// The items of a tuple or a list.
    pub(super) fn sequence(&self, value: Value) -> Option<&[Value<'a>]> {
        match value {
            Value::Node(node) => match &self.nodes[node] {
                Node::Sequence(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(node) => self.nodes.get(node),
            _ => None,
        }
    }

    /// The text of a value, if it is one.
    pub(super) fn text_of<'s>(&'s self, value: Value<'a>) -> Option<&'s str> {
        match value {
            Value::Text(text) => Some(text),
            Value::Node(node) => match &self.nodes[node] {
                Node::Owned(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Count what is about to be allocated.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Refused> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err("it would take more memory than the file has bytes".into()),
        }
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Refused> {
        // The stack grows and shrinks, so that only its own size counts.
        if GROWTH * self.stack.len() * size_of::<Value>() > self.budget {
            return Err("it would take more memory than the file has bytes".into());
        }
        self.stack.push(value);
        Ok(())
    }

    fn new_node(&mut self, node: Node<'a>) -> Result<(), Refused> {
        let items = match &node {
            Node::Sequence(items) => size_of_val(&items[..]),
            Node::Dict(items) => size_of_val(&items[..]),
            Node::Owned(text) => text.len(),
            Node::Storage(_) => 0,
            Node::Tensor(tensor) => size_of_val(&**tensor) + 2 * size_of_val(&tensor.shape[..]),
        };
        self.spend(GROWTH * size_of::<Node>() + items)?;
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn top(&self) -> Result<Value<'a>, Refused> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[_]>::last).copied().ok_or("its stack is empty".into())
    }

    fn pop(&mut self) -> Result<Value<'a>, Refused> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, Refused> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(from) if from >= floor => Ok(self.stack.split_off(from)),
            _ => Err("its stack is empty".into()),
        }
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Value<'a>; N], Refused> {
        self.pop_many(N)?.try_into().map_err(|_| "its stack is empty".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, Refused> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        if mark > self.stack.len() {
            return Err("its stack is empty".into());
        }
        Ok(self.stack.split_off(mark))
    }

    /// Add items to the list or set on top. One that is not kept (plain data) takes anything.
    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), Refused> {
        self.spend(GROWTH * size_of_val(&items[..]))?;
        if let Value::Node(node) = self.top()? {
            match &mut self.nodes[node] {
                Node::Sequence(list) => list.extend(items),
                _ => return Err("items are added to what is no list".into()),
            }
        }
        Ok(())
    }

    fn set(&mut self, items: &[Value<'a>]) -> Result<(), Refused> {
        self.spend(GROWTH * size_of_val(items))?;
        if let Value::Node(node) = self.top()? {
            match &mut self.nodes[node] {
                Node::Dict(dict) => dict.extend(pairs(items)?),
                _ => return Err("items are set in what is no dict".into()),
            }
        }
        Ok(())
    }

    fn get(&mut self, key: u64) -> Result<(), Refused> {
        let value = *self.memo.get(&key).ok_or("it recalls what it never kept")?;
        self.push(value)
    }

    fn put(&mut self, key: u64) -> Result<(), Refused> {
        let top = self.top()?;
        self.spend(GROWTH * size_of::<(u64, Value)>() * 3 / 2)?;
        self.memo.insert(key, top);
        Ok(())
    }
}

fn pairs<'a>(items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, Refused> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a dict has a key without a value".into());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
