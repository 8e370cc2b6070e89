//! SentencePiece's table of characters, inside a `tokenizer.json`: whether it can be walked without leaving it.
//!
//! ```text
//! base64( length of the trie in bytes, u32 | trie, u32 each | replacements, each ended by a zero )
//! unit u at place p:  its children lie around b = p ^ offset(u), that of byte c at b ^ c; its value, if it has one, at b
//! ```
//!
//! It is a double array as the darts-clone library writes it, and what walks it looks anywhere that it says.

use serde_json::Value;

/// What is wrong with the tables in a normalizer, if anything is.
pub(super) fn check(normalizer: &Value) -> Result<(), String> {
    match normalizer {
        Value::Array(all) => all.iter().try_for_each(check),
        Value::Object(fields) => {
            if fields.get("type").and_then(Value::as_str) == Some("Precompiled") {
                let table = fields.get("precompiled_charsmap").and_then(Value::as_str);
                let table = table.and_then(decode).ok_or("its `precompiled_charsmap` is not base64")?;
                check_table(&table).ok_or("its `precompiled_charsmap` contradicts itself")?;
            }
            fields.get("normalizers").map_or(Ok(()), check)
        }
        _ => Ok(()),
    }
}

fn check_table(table: &[u8]) -> Option<()> {
    let (length, rest) = table.split_first_chunk::<4>()?;
    let (trie, replacements) = rest.split_at_checked(u32::from_le_bytes(*length) as usize / 4 * 4)?;
    let replacements = std::str::from_utf8(replacements).ok()?;
    let units: Vec<u32> =
        trie.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
    let base_of = |place: usize, unit: u32| place ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
    let mut seen = vec![false; units.len()];
    let mut open = vec![base_of(0, *units.first()?)];
    while let Some(base) = open.pop() {
        for byte in 1..=255_u32 {
            let place = base ^ byte as usize;
            let unit = *units.get(place)?;
            if unit & (1 << 31 | 0xFF) != byte || std::mem::replace(&mut seen[place], true) {
                continue;
            }
            let children = base_of(place, unit);
            if unit >> 8 & 1 == 1 {
                let start = (units.get(children)? & !(1 << 31)) as usize;
                replacements.is_char_boundary(start).then_some(())?;
            }
            open.push(children);
        }
    }
    Some(())
}

/// Standard base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let group = |group: &[u8]| {
        let bits =
            group.iter().fold(0_u32, |bits, &digit| bits << 6 | u32::from(digit)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    Some(digits.chunks(4).flat_map(group).collect())
}
