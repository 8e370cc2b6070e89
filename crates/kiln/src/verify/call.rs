//! What a reference file asks for: the inputs and the options of one call of a model, each checked as it is taken.
//!
//! Nothing in the file is trusted. An input of a wrong type or shape is an error that names it, and so is one that no one
//! asked for: a call that is only half understood would compare the wrong numbers.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, bail};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kiln::checkpoint::Checkpoint;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The side of a tensor, as a model expects it.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// So long.
    Is(usize),
    /// As long as the caller likes, but not empty.
    Any(&'static str),
}

impl Side {
    fn admits(self, length: usize) -> bool {
        match self {
            Self::Is(expected) => length == expected,
            Self::Any(_) => length > 0,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(length) => length.fmt(f),
            Self::Any(name) => name.fmt(f),
        }
    }
}

/// The inputs and options of one call.
#[derive(Debug)]
pub struct Call<'a> {
    reference: &'a Checkpoint,
    request: Map<String, Value>,
    device: &'a Device,
    taken: RefCell<BTreeSet<String>>,
}

const PREFIX: &str = "input.";

impl<'a> Call<'a> {
    /// The call that a reference file describes.
    pub fn new(reference: &'a Checkpoint, device: &'a Device) -> Result<Self> {
        let request = match reference.metadata().get("request").map(|text| text.trim()) {
            None | Some("") => Map::new(),
            Some(text) => serde_json::from_str(text).with_context(|| {
                format!("{}: the metadata's `request` is no JSON object", reference.label())
            })?,
        };
        Ok(Self { reference, request, device, taken: RefCell::default() })
    }

    /// Where to compute.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Whether there is an input of this name.
    pub fn has(&self, name: &str) -> bool {
        self.reference.info(&format!("{PREFIX}{name}")).is_some()
    }

    /// An input of floats, in the device's float type.
    pub fn floats<const D: usize>(&self, name: &str, shape: [Side; D]) -> Result<Option<Tensor<D>>> {
        let Some(data) = self.read(name, &shape)? else { return Ok(None) };
        if !data.dtype().is_float() {
            bail!("{}: input.{name} holds {:?}, expected floats", self.reference.label(), data.dtype());
        }
        let dtype = DType::from(self.device.settings().float_dtype);
        Ok(Some(Tensor::from_data(data.convert_dtype(dtype), (self.device, dtype))))
    }

    /// An input of whole numbers, each below `limit`.
    pub fn integers<const D: usize>(
        &self,
        name: &str,
        shape: [Side; D],
        limit: usize,
    ) -> Result<Option<Tensor<D, Int>>> {
        let Some(data) = self.read(name, &shape)? else { return Ok(None) };
        let label = self.reference.label();
        let dtype = data.dtype();
        if !(dtype.is_int() || dtype.is_uint() || dtype.is_bool()) {
            bail!("{label}: input.{name} holds {dtype:?}, expected integers");
        }
        if let Some(number) =
            data.iter::<i64>().find(|&number| usize::try_from(number).map_or(true, |n| n >= limit))
        {
            bail!("{label}: input.{name} holds {number}, expected 0 to {}", limit.saturating_sub(1));
        }
        let numbers: Vec<i64> = data.iter::<i64>().collect();
        Ok(Some(Tensor::from_data(TensorData::new(numbers, data.shape()), self.device)))
    }

    /// An input of ones and zeros of any type, in the device's float type.
    pub fn mask<const D: usize>(&self, name: &str, shape: [Side; D]) -> Result<Option<Tensor<D>>> {
        let Some(data) = self.read(name, &shape)? else { return Ok(None) };
        if data.iter::<f64>().any(|value| value != 0.0 && value != 1.0) {
            bail!("{}: input.{name} holds other numbers than 0 and 1", self.reference.label());
        }
        let dtype = DType::from(self.device.settings().float_dtype);
        Ok(Some(Tensor::from_data(data.convert_dtype(dtype), (self.device, dtype))))
    }

    /// An input of numbers of any type, in f32 even where less is computed with: sizes and times reach further than f16.
    pub fn numbers_exactly<const D: usize>(&self, name: &str, shape: [Side; D]) -> Result<Option<Tensor<D>>> {
        let Some(data) = self.read(name, &shape)? else { return Ok(None) };
        Ok(Some(Tensor::from_data(data.convert_dtype(DType::F32), (self.device, DType::F32))))
    }

    /// As [`floats`](Self::floats), where a call makes no sense without it.
    pub fn need<const D: usize>(&self, name: &str, shape: [Side; D]) -> Result<Tensor<D>> {
        self.floats(name, shape)?.with_context(|| self.missing(name))
    }

    /// The error for an input that is not there.
    pub fn missing(&self, name: &str) -> String {
        format!("{}: input.{name} is missing", self.reference.label())
    }

    /// One time for each of a batch, whole or not; a single one is meant for all. In f32, as times reach further than
    /// other numbers do.
    pub fn times(&self, name: &str, batch: usize) -> Result<Option<Tensor<1>>> {
        let Some(numbers) = self.numbers(name)? else { return Ok(None) };
        let numbers = match numbers.len() {
            1 => vec![numbers[0]; batch],
            count if count == batch => numbers,
            count => {
                bail!("{}: input.{name} holds {count} times for a batch of {batch}", self.reference.label())
            }
        };
        let numbers: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
        Ok(Some(Tensor::from_data(TensorData::new(numbers, [batch]), (self.device, DType::F32))))
    }

    /// One number, whatever its type.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.numbers(name)?.as_deref() {
            None => Ok(None),
            Some([number]) if number.is_finite() => Ok(Some(*number)),
            Some(_) => bail!("{}: input.{name} is not one finite number", self.reference.label()),
        }
    }

    /// Yes or no, as 1 or 0; no if it is not there.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.number(name)? {
            None => Ok(false),
            Some(number) if number == 0.0 || number == 1.0 => Ok(number == 1.0),
            Some(number) => bail!("{}: input.{name} is {number}, expected 0 or 1", self.reference.label()),
        }
    }

    /// How many inputs `name.0`, `name.1`, ... there are.
    pub fn count(&self, name: &str) -> usize {
        (0..).take_while(|index| self.has(&format!("{name}.{index}"))).count()
    }

    /// The shape of an input.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.reference.info(&format!("{PREFIX}{name}"))?.shape.to_vec())
    }

    /// The numbers of an input of one dimension at most, whatever their type.
    fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(shape) = self.shape(name) else { return Ok(None) };
        if shape.len() > 1 {
            bail!(
                "{}: input.{name} has shape {shape:?}, expected one number or [batch]",
                self.reference.label()
            );
        }
        Ok(self.raw(name)?.map(|data| data.iter::<f64>().collect()))
    }

    fn read(&self, name: &str, expected: &[Side]) -> Result<Option<TensorData>> {
        let Some(shape) = self.shape(name) else { return Ok(None) };
        let fits =
            shape.len() == expected.len() && expected.iter().zip(&shape).all(|(side, &n)| side.admits(n));
        if !fits {
            let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
            bail!(
                "{}: input.{name} has shape {shape:?}, expected [{}]",
                self.reference.label(),
                expected.join(", ")
            );
        }
        self.raw(name)
    }

    fn raw(&self, name: &str) -> Result<Option<TensorData>> {
        let full = format!("{PREFIX}{name}");
        if self.reference.info(&full).is_none() {
            return Ok(None);
        }
        self.taken.borrow_mut().insert(full.clone());
        Ok(Some(self.reference.tensor(&full)?))
    }

    /// An option of the call.
    pub fn option<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.request.get(key) else { return Ok(None) };
        self.taken.borrow_mut().insert(key.to_owned());
        let label = self.reference.label();
        serde_json::from_value(value.clone())
            .with_context(|| format!("{label}: `{key}` of the request is {value}, which can't be used"))
    }

    /// All options of the call at once; `T` refuses what it does not know.
    pub fn request<T: DeserializeOwned>(&self) -> Result<T> {
        self.taken.borrow_mut().extend(self.request.keys().cloned());
        serde_json::from_value(Value::Object(self.request.clone()))
            .with_context(|| format!("{}: the request can't be used", self.reference.label()))
    }

    /// Refuses a call of which something has not been asked for: to be called when everything that is understood has been.
    pub fn understood(&self) -> Result<()> {
        let taken = self.taken.borrow();
        let label = self.reference.label();
        let mut inputs =
            self.reference.tensors().map(|(name, _)| name).filter(|name| name.starts_with(PREFIX));
        if let Some(name) = inputs.find(|name| !taken.contains(*name)) {
            bail!("{label}: {name} is not understood for this model");
        }
        if let Some(key) = self.request.keys().find(|key| !taken.contains(*key)) {
            bail!("{label}: `{key}` of the request is not understood for this model");
        }
        Ok(())
    }
}
