//! Statistics as programs: profiles, vocabularies, quantiles and checks over shards, exact and independent of
//! how shards are spread. A file per program; what several of them need stands here.

pub mod compensated;
pub mod counts;
pub mod duplicates;
pub mod moments;
pub mod order;
pub mod quantiles;
mod runs;
pub mod target_summary;
pub mod vocabulary;

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) use runs::{Runs, merge_runs, runs_of_sorted};

use crate::algorithm::{Algorithm, LearnError, Merge, Progress, Wire};
use crate::program::ProgramSpec;
use crate::shard::{Column, EncodedShard, Segment};

/// Rows that a statistic looks at: the parameter `segment`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentChoice {
    /// Training rows.
    Train,
    /// Validation rows.
    Validation,
    /// Test rows.
    Test,
    /// Every row.
    #[default]
    All,
}

impl SegmentChoice {
    /// The chosen rows of a shard.
    pub fn range(self, shard: &EncodedShard) -> Range<usize> {
        match self {
            SegmentChoice::Train => shard.range(Segment::Train),
            SegmentChoice::Validation => shard.range(Segment::Validation),
            SegmentChoice::Test => shard.range(Segment::Test),
            SegmentChoice::All => 0..shard.rows,
        }
    }
}

/// The program's parameters as its own type; a wrong or unknown one is an error with the program's name.
pub(crate) fn params<T: DeserializeOwned>(spec: &ProgramSpec) -> Result<T, LearnError> {
    let object = if spec.params.is_null() { Value::Object(serde_json::Map::new()) } else { spec.params.clone() };
    serde_json::from_value(object).map_err(|e| LearnError::Param { name: spec.name.clone(), message: e.to_string() })
}

/// Names of the schema's columns, in order.
pub(crate) fn names(spec: &ProgramSpec) -> Vec<String> {
    spec.schema.features.iter().map(|f| f.name.clone()).collect()
}

/// Rows of a numeric column as f64; `None` for other columns.
pub(crate) fn numbers(column: &Column, rows: Range<usize>) -> Option<Cow<'_, [f64]>> {
    match column {
        Column::F64(values) => Some(Cow::Borrowed(&values[rows])),
        Column::F32(values) => Some(Cow::Owned(values[rows].iter().map(|v| f64::from(*v)).collect())),
        Column::Code(_) | Column::Sparse { .. } | Column::Bytes { .. } => None,
    }
}

/// Something per segment; `None` where no row of it was met.
pub(crate) type PerSegment<T> = [Option<T>; 3];

/// Something per column; `None` for columns of another type than the statistic takes.
pub(crate) type PerColumn<T> = Vec<Option<T>>;

/// Builds the leaf of every segment of a shard that has rows; `None` if none has.
pub(crate) fn per_segment<T>(shard: &EncodedShard, leaf: impl Fn(Range<usize>) -> T) -> Option<PerSegment<T>> {
    let parts = Segment::ALL.map(|s| Some(shard.range(s)).filter(|rows| !rows.is_empty()).map(&leaf));
    parts.iter().any(Option::is_some).then_some(parts)
}

impl<T: Merge> Merge for Option<T> {
    fn merge(&mut self, right: Self) {
        match (self.as_mut(), right) {
            (Some(left), Some(right)) => left.merge(right),
            (None, right) => *self = right,
            (Some(_), None) => {}
        }
    }
}

impl<T: Merge> Merge for [Option<T>; 3] {
    fn merge(&mut self, right: Self) {
        self.iter_mut().zip(right).for_each(|(l, r)| l.merge(r));
    }
}

impl<T: Merge> Merge for Vec<Option<T>> {
    fn merge(&mut self, right: Self) {
        self.iter_mut().zip(right).for_each(|(l, r)| l.merge(r));
    }
}

impl Merge for u64 {
    fn merge(&mut self, right: Self) {
        *self += right;
    }
}

/// A statistic that needs one step: a leaf per shard, a total, a result.
pub(crate) trait SinglePass: Send + Sync + 'static {
    /// What a shard contributes.
    type Partial: Merge + Wire;
    /// The result.
    type Output: Serialize + DeserializeOwned;
    /// A shard's contribution; `None` without rows of interest.
    fn leaf(&self, shard: &EncodedShard) -> Option<Self::Partial>;
    /// The result of the total.
    fn result(&self, total: Option<Self::Partial>) -> Result<Self::Output, LearnError>;
}

/// A [`SinglePass`] as an algorithm.
pub(crate) struct Once<T>(pub T);

impl<T: SinglePass> Algorithm for Once<T> {
    type State = Option<T::Partial>;
    type Message = ();
    type Chapter = ();
    type Local = ();
    type Partial = T::Partial;
    type Output = T::Output;

    fn start(&self) -> Result<Self::State, LearnError> {
        Ok(None)
    }

    fn message(&self, _: &Self::State) {}

    fn partial(&self, (): &(), _: &[()], shard: &EncodedShard, (): &()) -> Option<T::Partial> {
        self.0.leaf(shard)
    }

    fn update(&self, state: &mut Self::State, total: Option<T::Partial>) -> Result<Progress, LearnError> {
        *state = total;
        Ok(Progress::Done)
    }

    fn finish(&self, state: Self::State) -> Result<T::Output, LearnError> {
        self.0.result(state)
    }
}

/// Serde of an f64 that may be infinite or NaN, which JSON numbers cannot: a number, or `"inf"`, `"-inf"`, `"nan"`.
pub mod wide_float {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Wide {
        Number(f64),
        Name(String),
    }

    /// Writes the number or its name.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        let wide = if value.is_finite() { Wide::Number(*value) } else { Wide::Name(value.to_string().to_lowercase()) };
        wide.serialize(serializer)
    }

    /// Reads the number or its name.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Wide::deserialize(deserializer)? {
            Wide::Number(value) => Ok(value),
            Wide::Name(name) => match name.as_str() {
                "inf" => Ok(f64::INFINITY),
                "-inf" => Ok(f64::NEG_INFINITY),
                "nan" => Ok(f64::NAN),
                _ => Err(D::Error::custom(format!("`{name}` is not a number: inf, -inf or nan expected"))),
            },
        }
    }
}
