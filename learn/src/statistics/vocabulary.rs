//! `vocabulary`: the distinct values of every bytes column with their counts, in bytewise order, and its nulls.
//! A column with more distinct values than the limit is an error that names the remedies.

use serde::{Deserialize, Serialize};

use super::{Once, PerColumn, Runs, SegmentChoice, SinglePass, merge_runs, names, params, runs_of_sorted};
use crate::algorithm::{LearnError, Merge};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{Column, EncodedShard};

/// Distinct values allowed where `limit` is not given.
pub const DEFAULT_LIMIT: u64 = 100_000;

/// The result of `vocabulary`: every bytes column in schema order. Empty if there were no rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VocabularyOutput {
    /// A vocabulary per column.
    pub columns: Vec<ColumnVocabulary>,
}

/// Distinct values of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnVocabulary {
    /// Column name.
    pub name: String,
    /// Rows looked at.
    pub rows: u64,
    /// Rows with null.
    pub nulls: u64,
    /// Values in bytewise order.
    pub values: Vec<VocabularyEntry>,
}

/// A value and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VocabularyEntry {
    /// The value.
    pub value: VocabularyValue,
    /// Rows that have it.
    pub count: u64,
}

/// The bytes of a value: a string in JSON where they are UTF-8, else `{"hex": "…"}`, so nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct VocabularyValue(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Hex { hex: String },
}

impl From<VocabularyValue> for Written {
    fn from(value: VocabularyValue) -> Self {
        match String::from_utf8(value.0) {
            Ok(text) => Written::Text(text),
            Err(e) => Written::Hex { hex: e.as_bytes().iter().map(|b| format!("{b:02x}")).collect() },
        }
    }
}

impl TryFrom<Written> for VocabularyValue {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => Ok(Self(text.into_bytes())),
            Written::Hex { hex } => {
                let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
                let pairs = hex.as_bytes().chunks(2);
                let bytes = pairs.map(|p| Some(digit(p[0])? << 4 | digit(*p.get(1)?)?)).collect::<Option<_>>();
                bytes.map(Self).ok_or_else(|| format!("`{hex}` is not base 16"))
            }
        }
    }
}

/// What is known of one column. Past the limit values are dropped, so that a partial stays bounded.
#[derive(Serialize, Deserialize)]
struct Part {
    rows: u64,
    nulls: u64,
    limit: u64,
    over: bool,
    values: Runs<Vec<u8>, u64>,
}

impl Part {
    fn of(codes: &[u32], values: &[Box<[u8]>], limit: u64) -> Self {
        let mut counts = vec![0_u64; values.len()];
        let mut nulls = 0;
        for code in codes {
            match counts.get_mut(*code as usize) {
                Some(count) => *count += 1,
                None => nulls += 1,
            }
        }
        let seen = values.iter().zip(counts).filter(|(_, count)| *count > 0);
        let mut seen: Vec<(&[u8], u64)> = seen.map(|(value, count)| (value.as_ref(), count)).collect();
        seen.sort_unstable_by_key(|(value, _)| *value);
        let counted = runs_of_sorted(seen);
        let mut part = Self { rows: codes.len() as u64, nulls, limit, over: counted.len() as u64 > limit, values: Vec::new() };
        if !part.over {
            part.values = counted.into_iter().map(|(v, n)| (v.to_vec(), n)).collect();
        }
        part
    }
}

impl Merge for Part {
    fn merge(&mut self, right: Self) {
        self.rows += right.rows;
        self.nulls += right.nulls;
        merge_runs(&mut self.values, right.values);
        self.over |= right.over || self.values.len() as u64 > self.limit;
        if self.over {
            self.values = Vec::new();
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    segment: SegmentChoice,
    limit: u64,
    advice: String,
}

impl Default for Params {
    fn default() -> Self {
        let advice = "hash it, drop it, or group rare values in SQL".into();
        Self { segment: SegmentChoice::All, limit: DEFAULT_LIMIT, advice }
    }
}

struct Vocabulary {
    params: Params,
    names: Vec<String>,
}

impl Vocabulary {
    fn column(&self, name: &str, part: Part) -> Result<ColumnVocabulary, LearnError> {
        if part.over {
            let Params { limit, advice, .. } = &self.params;
            return Err(LearnError::Data(format!("column `{name}` has more than {limit} distinct values: {advice}")));
        }
        let values = part.values.into_iter().map(|(v, count)| VocabularyEntry { value: VocabularyValue(v), count });
        Ok(ColumnVocabulary { name: name.to_owned(), rows: part.rows, nulls: part.nulls, values: values.collect() })
    }
}

impl SinglePass for Vocabulary {
    type Partial = PerColumn<Part>;
    type Output = VocabularyOutput;

    fn leaf(&self, shard: &EncodedShard) -> Option<PerColumn<Part>> {
        let rows = self.params.segment.range(shard);
        let part = |column: &Column| match column {
            Column::Bytes { codes, values } => Some(Part::of(&codes[rows.clone()], values, self.params.limit)),
            _ => None,
        };
        (!rows.is_empty()).then(|| shard.columns.iter().map(part).collect())
    }

    fn result(&self, total: Option<PerColumn<Part>>) -> Result<VocabularyOutput, LearnError> {
        let named = self.names.iter().zip(total.into_iter().flatten());
        let columns = named.filter_map(|(name, part)| part.map(|p| self.column(name, p))).collect::<Result<_, _>>()?;
        Ok(VocabularyOutput { columns })
    }
}

/// `vocabulary` with its parameters checked: `segment` (default all), `limit` (distinct values, default 100,000),
/// `advice` (what to do where there are more).
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    Ok(Box::new(Erased(Once(Vocabulary { params: params(spec)?, names: names(spec) }))))
}
