//! What a pickle of tensors may ask for: a list of functions and classes, each answered here and none of them run.
//!
//! The list is that of `torch.load(weights_only=True)`, with what training frameworks leave in their checkpoints beside the
//! weights: numbers of NumPy, dates, paths, bags of options. A class that is only named, as a key of a dict, is passed over.

use safetensors::Dtype;

use super::machine::{Machine, Node, Refused, Value};

/// The bytes that tensors are views of: in a zip, the entry `data/KEY`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    /// What it says that it holds; an untyped storage leaves that to the tensor.
    dtype: Option<Dtype>,
    /// Number of elements, or of bytes if it is untyped.
    elements: u64,
}

impl Storage<'_> {
    /// Number of bytes that it says to have.
    pub(super) fn len(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype.map_or(1, |dtype| dtype.bitsize() as u64 / 8))
    }

    pub(super) fn element(&self) -> u64 {
        self.dtype.map_or(1, |dtype| dtype.bitsize() as u64 / 8)
    }
}

/// A view of a storage; offset and strides count elements.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) dtype: Dtype,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The answer to a call.
pub(super) enum Call<'a> {
    Value(Value<'a>),
    New(Node<'a>),
}

/// A tensor has no more dimensions than this.
const MAX_RANK: usize = 16;

/// Classes of plain data, by module, that no tensor is made of.
const PLAIN: &[(&str, &[&str])] = &[
    ("_codecs", &["encode"]),
    ("argparse", &["Namespace"]),
    ("__builtin__", &["bytearray", "complex", "slice"]),
    ("builtins", &["bytearray", "complex", "slice"]),
    ("datetime", &["date", "datetime", "timedelta", "timezone"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("pathlib", &["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
    ("torch", &["Size", "device"]),
    ("torch.torch_version", &["TorchVersion"]),
];

impl<'a> Machine<'a> {
    /// What the call of `callable` gives.
    pub(super) fn answer(
        &mut self,
        callable: Value<'a>,
        arguments: &[Value<'a>],
    ) -> Result<Call<'a>, Refused> {
        let Value::Global(module, name) = callable else {
            return Err(Refused::Executes("a value that is no function or class".to_owned()));
        };
        match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
                self.tensor(arguments, None).map(|tensor| Call::New(Node::Tensor(Box::new(tensor))))
            }
            ("torch._utils", "_rebuild_tensor_v3") => {
                let dtype = match arguments.get(6) {
                    Some(Value::Global("torch", name)) => named_dtype(name)?,
                    _ => return Err("a tensor without a type".into()),
                };
                self.tensor(arguments, Some(dtype)).map(|tensor| Call::New(Node::Tensor(Box::new(tensor))))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                arguments.first().copied().map(Call::Value).ok_or("a parameter without a tensor".into())
            }
            // (function, class, its arguments, state): a subclass of tensors. The numbers are what is asked for.
            ("torch._tensor", "_rebuild_from_type_v2") => match *arguments {
                // One call in another and no more, however deep the file nests them.
                [Value::Global("torch._tensor", "_rebuild_from_type_v2"), ..] => {
                    Err("a tensor's class within a tensor's class".into())
                }
                [function, _, inner, ..] => {
                    let inner = self.sequence(inner).ok_or("a tensor without arguments")?.to_vec();
                    self.answer(function, &inner)
                }
                _ => Err("a tensor without arguments".into()),
            },
            ("collections", "OrderedDict") => self.ordered(arguments).map(|dict| Call::New(Node::Dict(dict))),
            ("builtins" | "__builtin__", "set" | "frozenset" | "list" | "tuple") => {
                let items = arguments.first().and_then(|&items| self.sequence(items)).unwrap_or_default();
                Ok(Call::New(Node::Sequence(items.to_vec())))
            }
            ("builtins" | "__builtin__", "dict") | ("collections", "Counter" | "defaultdict") => {
                Ok(Call::New(Node::Dict(Vec::new())))
            }
            _ if PLAIN.iter().any(|(of, names)| *of == module && names.contains(&name)) => {
                Ok(Call::Value(Value::Other))
            }
            _ => Err(Refused::Executes(format!("{module}.{name}"))),
        }
    }

    /// `OrderedDict()` or `OrderedDict([[key, value], ..])`.
    fn ordered(&self, arguments: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, Refused> {
        let Some(&items) = arguments.first() else { return Ok(Vec::new()) };
        let items = self.sequence(items).ok_or("a dict of what is no list")?;
        items
            .iter()
            .map(|&pair| match self.sequence(pair) {
                Some(&[key, value]) => Ok((key, value)),
                _ => Err("a dict of what are no pairs".into()),
            })
            .collect()
    }

    /// `("storage", class, key, location, number of elements)`.
    pub(super) fn storage(&self, id: Value<'a>) -> Result<Storage<'a>, Refused> {
        let (class, key, elements) = match self.sequence(id) {
            Some(
                &[Value::Text("storage"), class, Value::Text(key), _, Value::Int(elements), ref view @ ..],
            ) => {
                if view.iter().any(|view| !matches!(view, Value::Other)) {
                    return Err(
                        format!("storage `{key}` is a view of another, as PyTorch wrote before 0.4").into()
                    );
                }
                (class, key, elements)
            }
            _ => return Err("a persistent id that names no storage".into()),
        };
        let Value::Global(_, class) = class else {
            return Err(format!("storage `{key}` has no class").into());
        };
        let dtype = match class {
            "UntypedStorage" => None,
            class => Some(
                class
                    .strip_suffix("Storage")
                    .and_then(storage_dtype)
                    .ok_or_else(|| format!("storage `{key}` is a {class}, whose numbers can't be used"))?,
            ),
        };
        let elements =
            u64::try_from(elements).map_err(|_| format!("storage `{key}` has {elements} elements"))?;
        Ok(Storage { key, dtype, elements })
    }

    /// `(storage, offset, shape, strides, ..)`.
    fn tensor(&mut self, arguments: &[Value<'a>], dtype: Option<Dtype>) -> Result<Tensor<'a>, Refused> {
        let [storage, Value::Int(offset), shape, strides, ..] = *arguments else {
            return Err("a tensor without storage, offset, shape and strides".into());
        };
        let Some(&Node::Storage(storage)) = self.node(storage) else {
            return Err("a tensor of what is no storage".into());
        };
        let dtype = match (storage.dtype, dtype) {
            (Some(stored), Some(dtype)) if stored != dtype => {
                return Err(format!(
                    "a tensor of {dtype} of storage `{}`, which holds {stored}",
                    storage.key
                )
                .into());
            }
            (stored, dtype) => dtype
                .or(stored)
                .ok_or_else(|| format!("a tensor of storage `{}`, and no type for it", storage.key))?,
        };
        let offset = u64::try_from(offset).map_err(|_| "a tensor before its storage")?;
        let (shape, strides) = (self.sides(shape)?, self.sides(strides)?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor of shape {shape:?} with strides {strides:?}").into());
        }
        Ok(Tensor { storage, dtype, offset, shape, strides })
    }

    fn sides(&self, value: Value) -> Result<Vec<usize>, Refused> {
        let sides = self.sequence(value).ok_or("a shape that is none")?;
        if sides.len() > MAX_RANK {
            return Err(format!("a tensor of {} dimensions; {MAX_RANK} at most", sides.len()).into());
        }
        let side = |value: &Value| match value {
            Value::Int(side) => usize::try_from(*side).ok(),
            _ => None,
        };
        sides.iter().map(side).collect::<Option<_>>().ok_or("a shape that is none".into())
    }
}

/// `Float` of `FloatStorage`.
fn storage_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::BOOL,
        "ComplexFloat" => Dtype::C64,
        _ => return None,
    })
}

/// `float32` of `torch.float32`.
fn named_dtype(name: &str) -> Result<Dtype, Refused> {
    Ok(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        other => return Err(format!("a tensor of torch.{other}, whose numbers can't be used").into()),
    })
}
