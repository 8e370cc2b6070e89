//! The bytes of a pickle, read from front to back: numbers, lines, and what comes after its length.

use super::machine::{Refused, Value};

pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A text of protocol 0.
pub(super) enum Escaped<'a> {
    Plain(Value<'a>),
    /// One with escapes, still as they are.
    Escapes(&'a [u8]),
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Number of bytes read.
    pub(super) fn read(&self) -> usize {
        self.at
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let bytes = self.bytes[self.at..].first_chunk::<N>().ok_or("cut short")?;
        self.at += N;
        Ok(*bytes)
    }

    /// An unsigned number of `N` bytes.
    pub(super) fn number<const N: usize>(&mut self) -> Result<u64, Refused> {
        let bytes = self.take::<N>()?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Bytes after their number, which has `N` bytes.
    pub(super) fn sized<const N: usize>(&mut self) -> Result<&'a [u8], Refused> {
        let len = self.number::<N>()?;
        let rest = &self.bytes[self.at..];
        let bytes = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or("cut short")?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// Text after its length, which has `N` bytes.
    pub(super) fn text<const N: usize>(&mut self) -> Result<Value<'a>, Refused> {
        // Python lets half of a surrogate pair pass, and has bytes where Python 2 had text; neither names a tensor.
        Ok(std::str::from_utf8(self.sized::<N>()?).map_or(Value::Other, Value::Text))
    }

    /// An integer after its length, which has `N` bytes.
    pub(super) fn long<const N: usize>(&mut self) -> Result<Value<'a>, Refused> {
        self.sized::<N>().map(long)
    }

    fn line_bytes(&mut self) -> Result<&'a [u8], Refused> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or("cut short")?;
        self.at += len + 1;
        Ok(&rest[..len])
    }

    pub(super) fn line(&mut self) -> Result<&'a str, Refused> {
        let line = std::str::from_utf8(self.line_bytes()?).map_err(|_| "a line is not UTF-8")?;
        Ok(line.strip_suffix('\r').unwrap_or(line))
    }

    /// A function or class, by two lines.
    pub(super) fn global(&mut self) -> Result<Value<'a>, Refused> {
        Ok(Value::Global(self.line()?, self.line()?))
    }

    pub(super) fn number_line(&mut self) -> Result<u64, Refused> {
        self.line()?.parse().map_err(|_| "a number is none".into())
    }

    /// `I01` and `I00` are booleans, `12L` is an integer, and one that has no 64 bits is of no use here.
    pub(super) fn integer_line(&mut self) -> Result<Value<'a>, Refused> {
        let line = self.line()?;
        Ok(line.strip_suffix('L').unwrap_or(line).parse().map_or(Value::Other, Value::Int))
    }

    /// `'text'` of protocol 0; one with escapes names no tensor.
    pub(super) fn quoted_line(&mut self) -> Result<Value<'a>, Refused> {
        let line = self.line()?;
        let text = ['\'', '"'].iter().find_map(|&quote| line.strip_prefix(quote)?.strip_suffix(quote));
        Ok(text.filter(|text| !text.contains('\\')).map_or(Value::Other, Value::Text))
    }

    /// Text of protocol 0: Latin-1, with `\uXXXX` for all else.
    pub(super) fn escaped_line(&mut self) -> Result<Escaped<'a>, Refused> {
        let bytes = self.line_bytes()?;
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() && !text.contains('\\') => Escaped::Plain(Value::Text(text)),
            _ => Escaped::Escapes(bytes),
        })
    }
}

pub(super) fn unescaped(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = match (byte, bytes.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(byte.into());
                at += 1;
                continue;
            }
        };
        let code = std::str::from_utf8(bytes.get(at + 2..at + 2 + digits)?).ok()?;
        text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        at += 2 + digits;
    }
    Some(text)
}

/// A little-endian integer in two's complement; one that needs more than 64 bits is of no use here.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    if bytes.len() > size_of::<i64>() {
        return Value::Other;
    }
    let fill = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
    let mut number = [fill; size_of::<i64>()];
    number[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(number))
}
