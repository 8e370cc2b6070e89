//! What there is to say of a path, as a table and as JSON. The names of the JSON's fields stay.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::{HumanBytes, HumanCount};
use kiln::checkpoint::Checkpoint;
use serde::Serialize;

/// What a path holds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As it was given.
    pub path: String,
    /// `model`, `pipeline`, `scheduler`, `tokenizer`, `picture model` or `tensors`.
    pub kind: &'static str,
    /// Whose names and files these are.
    pub layout: String,
    /// The class that a config names.
    pub class: Option<String>,
    /// Bytes on the disk.
    pub bytes: u64,
    /// The networks; one without a name, if the path is one.
    pub parts: Vec<Part>,
    /// Parts without weights.
    pub others: Vec<String>,
    /// The first tensors of a file that nothing is known of.
    pub tensors: Vec<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// Whether `kiln verify` takes it.
    pub verify: Ability,
    /// Whether `kiln convert` takes it.
    pub convert: Ability,
    /// Whether `kiln generate` takes it.
    pub generate: Ability,
}

/// One network.
#[derive(Debug, Serialize)]
pub struct Part {
    /// Its name in a pipeline.
    pub name: Option<String>,
    /// Its class.
    pub class: Option<String>,
    /// Numbers in all its tensors.
    pub parameters: u64,
    /// How many of its tensors are of each stored type.
    pub dtypes: BTreeMap<String, usize>,
    /// Bytes of its tensors as stored.
    pub bytes: u64,
    /// Bytes of its tensors in memory.
    pub memory: Memory,
    /// Whether `kiln verify` takes it.
    pub verify: Ability,
}

/// Bytes that parameters take in memory; what a network computes comes on top.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Computing in f32.
    pub f32: u64,
    /// Computing in f16 or bf16.
    pub f16: u64,
}

/// Whether a command takes something.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ability {
    /// Whether it does.
    pub can: bool,
    /// Why not, or how.
    pub why: Option<String>,
}

impl Ability {
    pub fn yes() -> Self {
        Self { can: true, why: None }
    }

    pub fn yes_with(how: impl Into<String>) -> Self {
        Self { can: true, why: Some(how.into()) }
    }

    pub fn no(why: impl Into<String>) -> Self {
        Self { can: false, why: Some(why.into()) }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.can { "yes" } else { "no" })?;
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}

impl Report {
    pub fn new(path: &str, bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            kind: "tensors",
            layout: String::new(),
            class: None,
            bytes,
            parts: Vec::new(),
            others: Vec::new(),
            tensors: Vec::new(),
            notes: Vec::new(),
            verify: Ability::default(),
            convert: Ability::default(),
            generate: Ability::no("there is no network to draw with"),
        }
    }

    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

impl Part {
    pub fn new(name: Option<&str>, class: Option<String>, weights: &Checkpoint, verify: Ability) -> Self {
        let (mut parameters, mut bytes, mut dtypes) = (0_u64, 0_u64, BTreeMap::new());
        for (_, info) in weights.tensors() {
            let count = info.shape.iter().product::<usize>() as u64;
            parameters += count;
            bytes += (count * info.dtype.bitsize() as u64).div_ceil(8);
            *dtypes.entry(format!("{:?}", info.dtype)).or_insert(0) += 1;
        }
        let memory = Memory { f32: 4 * parameters, f16: 2 * parameters };
        Self { name: name.map(str::to_owned), class, parameters, dtypes, bytes, memory, verify }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.as_ref().map(|class| format!(", {class}")).unwrap_or_default();
        writeln!(f, "{}: {}{class}", self.path, self.kind)?;
        let layout = if self.layout.is_empty() { "unknown" } else { &self.layout };
        writeln!(f, "layout    {layout}")?;
        writeln!(f, "size      {}", HumanBytes(self.bytes))?;
        if !self.others.is_empty() {
            writeln!(f, "also in   {}", self.others.join(", "))?;
        }
        for note in &self.notes {
            writeln!(f, "          {note}")?;
        }
        if !self.parts.is_empty() {
            writeln!(f)?;
            write_table(f, &self.parts)?;
            writeln!(f)?;
        }
        for tensor in &self.tensors {
            writeln!(f, "  {tensor}")?;
        }
        for part in self.parts.iter().filter(|part| part.name.is_some() && !part.verify.can) {
            let why = part.verify.why.as_deref().unwrap_or_default();
            writeln!(f, "{}: {why}", part.name.as_deref().unwrap_or_default())?;
        }
        writeln!(f, "verify    {}", self.verify)?;
        writeln!(f, "convert   {}", self.convert)?;
        write!(f, "generate  {}", self.generate)
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, parts: &[Part]) -> fmt::Result {
    let head = ["part", "class", "parameters", "stored as", "stored", "in f32", "in f16"].map(str::to_owned);
    let row = |part: &Part| {
        let dtypes: Vec<_> = part.dtypes.keys().map(String::as_str).collect();
        [
            part.name.clone().unwrap_or_else(|| "-".to_owned()),
            part.class.clone().unwrap_or_else(|| "-".to_owned()),
            HumanCount(part.parameters).to_string(),
            dtypes.join(", "),
            HumanBytes(part.bytes).to_string(),
            HumanBytes(part.memory.f32).to_string(),
            HumanBytes(part.memory.f16).to_string(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(parts.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            // Numbers stand under each other's ends.
            if matches!(column, 0 | 1 | 3) { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
