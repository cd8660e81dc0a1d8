//! Encoded shards: what kernels read. Plain vectors, one per column; rows stably grouped by segment.
//! It never knows files or Arrow; `sheaf-dataflow` fills it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Values that several shards may hold at once: a clone shares them, a change copies what is shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared<T>(Arc<Vec<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        Arc::<Vec<T>>::make_mut(&mut self.0)
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(values: Vec<T>) -> Self {
        Self(Arc::new(values))
    }
}

impl<T> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(Arc::new(values.into_iter().collect()))
    }
}

/// Part of the dataset that a row belongs to, drawn before anything is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// Rows that models and features are fitted on.
    Train = 0,
    /// Rows that choose between candidates.
    Validation = 1,
    /// Rows that only measure.
    Test = 2,
}

impl Segment {
    /// All segments in the order in which they stand in a shard.
    pub const ALL: [Segment; 3] = [Segment::Train, Segment::Validation, Segment::Test];

    /// The segment of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|segment| segment.name() == name)
    }

    /// Name as written in job files and results.
    pub fn name(self) -> &'static str {
        match self {
            Segment::Train => "train",
            Segment::Validation => "validation",
            Segment::Test => "test",
        }
    }
}

/// One column of an encoded shard; every variant holds `rows` values.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Numbers that all round-trip through f32. A missing value is NaN.
    F32(Shared<f32>),
    /// Numbers. A missing value is NaN.
    F64(Shared<f64>),
    /// Category indices below the number of slots of the schema; an index equal to or above it means "no slot".
    Code(Shared<u32>),
    /// `width` slots a row, sparse: row `i` has entries `offsets[i]..offsets[i + 1]`.
    Sparse {
        /// rows + 1 offsets into `entries`.
        offsets: Shared<u32>,
        /// (slot, value), slots ascending in a row.
        entries: Shared<(u32, f32)>,
    },
    /// Values of any type as bytes, for vocabularies.
    Bytes {
        /// Index of the row's value; [`NULL`] is null.
        codes: Shared<u32>,
        /// The values, in any order; the same bytes may stand twice.
        values: Shared<Box<[u8]>>,
    },
}

/// Index of a null in [`Column::Bytes`].
pub const NULL: u32 = u32::MAX;

impl Column {
    /// A column of bytes from its rows; `None` is null.
    pub fn bytes_of(rows: impl IntoIterator<Item = Option<Box<[u8]>>>) -> Self {
        let mut values = Vec::new();
        let code = |value: Option<Box<[u8]>>| match value {
            None => NULL,
            Some(value) => {
                values.push(value);
                values.len() as u32 - 1
            }
        };
        let codes = rows.into_iter().map(code).collect();
        Column::Bytes { codes, values: values.into() }
    }

    /// Value of row `i` as f64 for numeric columns; `None` for the others.
    pub fn number(&self, i: usize) -> Option<f64> {
        match self {
            Column::F32(v) => Some(f64::from(v[i])),
            Column::F64(v) => Some(v[i]),
            _ => None,
        }
    }

    /// Bytes that the column holds in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Column::F32(v) => v.len() * 4,
            Column::F64(v) => v.len() * 8,
            Column::Code(v) => v.len() * 4,
            Column::Sparse { offsets, entries } => offsets.len() * 4 + entries.len() * 8,
            // A value takes its bytes, its address and length, and what the allocator adds.
            Column::Bytes { codes, values } => codes.len() * 4 + values.iter().map(|b| b.len() + 32).sum::<usize>(),
        }
    }
}

/// Rows of one canonical shard, encoded. Rows are grouped by segment (train, validation, test), in
/// canonical order inside each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EncodedShard {
    /// Index of the shard in the dataset.
    pub index: u32,
    /// Number of rows.
    pub rows: usize,
    /// First row of each segment and, last, `rows`: segment `s` is `bounds[s]..bounds[s + 1]`.
    pub bounds: [usize; 4],
    /// Feature columns in schema order.
    pub columns: Vec<Column>,
    /// What is learnt, if the view has a target.
    pub target: Option<Shared<f64>>,
    /// Row weights; absent: all 1.
    pub weight: Option<Shared<f64>>,
    /// Offsets of the linear predictor; absent: all 0.
    pub offset: Option<Shared<f64>>,
    /// Number of each row's query, if rows have one: rows of a query stand side by side in one segment.
    pub query: Option<Shared<u32>>,
    /// 128-bit row ids, where the view asks for them.
    pub row_ids: Option<Shared<u128>>,
}

impl EncodedShard {
    /// Rows of a segment.
    pub fn range(&self, segment: Segment) -> std::ops::Range<usize> {
        self.bounds[segment as usize]..self.bounds[segment as usize + 1]
    }

    /// Bytes that the shard holds in memory.
    pub fn bytes(&self) -> usize {
        let numbers = [&self.target, &self.weight, &self.offset].into_iter().flatten().map(|v| v.len() * 8);
        let columns = self.columns.iter().map(Column::bytes);
        let queries = self.query.as_ref().map_or(0, |v| v.len() * 4);
        columns.chain(numbers).sum::<usize>() + queries + self.row_ids.as_ref().map_or(0, |v| v.len() * 16)
    }
}

/// A feature column as an algorithm sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Column name.
    pub name: String,
    /// How it is encoded.
    pub kind: FeatureKind,
}

/// How a feature column is encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// One slot; the value is `(x − shift) · scale`, applied in f64 inside the kernel.
    Numeric {
        /// Subtracted first.
        shift: f64,
        /// Multiplied then.
        scale: f64,
    },
    /// One slot per name; `Column::Code` holds the slot or "no slot".
    Slots {
        /// Slot names, `category=grocery` is shown for slot `grocery` of column `category`.
        names: Vec<String>,
    },
    /// `width` anonymous slots; `Column::Sparse`.
    Sparse {
        /// Number of slots.
        width: u32,
    },
}

impl FeatureKind {
    /// Number of coefficients the column takes.
    pub fn width(&self) -> usize {
        match self {
            FeatureKind::Numeric { .. } => 1,
            FeatureKind::Slots { names } => names.len(),
            FeatureKind::Sparse { width } => *width as usize,
        }
    }
}

/// Feature columns in order, and what the target is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Feature columns in the order of `EncodedShard::columns`.
    pub features: Vec<Feature>,
    /// Names of the classes of a target: negative and positive, or all of many; empty for numbers. Shards hold a class
    /// by its number here.
    pub classes: Vec<String>,
}

impl Schema {
    /// Number of coefficients of all columns.
    pub fn width(&self) -> usize {
        self.features.iter().map(|f| f.kind.width()).sum()
    }

    /// Name of every slot in order, as coefficients report them.
    pub fn slot_names(&self) -> Vec<String> {
        let mut out = Vec::with_capacity(self.width());
        for feature in &self.features {
            match &feature.kind {
                FeatureKind::Numeric { .. } => out.push(feature.name.clone()),
                FeatureKind::Slots { names } => out.extend(names.iter().map(|n| format!("{}={n}", feature.name))),
                FeatureKind::Sparse { width } => out.extend((0..*width).map(|i| format!("{}[{i}]", feature.name))),
            }
        }
        out
    }
}
