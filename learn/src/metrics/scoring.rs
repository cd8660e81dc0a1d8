//! Where the scores of a shard come from, a model or columns, and which of them a worker keeps. It measures nothing.

use std::ops::Range;

use serde::Deserialize;

use super::task_name;
use crate::algorithm::LearnError;
use crate::kernels::Design;
use crate::model::{Model, Task};
use crate::program::ProgramSpec;
use crate::shard::{EncodedShard, Schema, Segment};
use crate::statistics::numbers;

/// Classes that are ranked at a time; a worker keeps their scores.
pub(super) const GROUP: usize = 16;
/// Scores that are computed at a time where none are kept.
const BLOCK: usize = 1 << 19;

/// Columns that hold scores: one, or one for each class.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    One(String),
    Many(Vec<String>),
}

enum Source {
    Model(Model),
    /// Numeric columns of the shards.
    Columns(Vec<usize>),
}

/// Whether each segment is measured.
pub(super) type Segments = [bool; Segment::ALL.len()];

/// The segments of these names; all where there are none.
pub(super) fn segments(names: &[String]) -> Result<Segments, LearnError> {
    let mut out = [names.is_empty(); Segment::ALL.len()];
    for name in names {
        let unknown = || wrong("segments", format!("`{name}` is not a segment, use train, validation or test"));
        out[Segment::of_name(name).ok_or_else(unknown)? as usize] = true;
    }
    Ok(out)
}

/// How rows are scored.
pub(super) struct Scoring {
    source: Source,
    schema: Schema,
    /// Segments whose rows are scored.
    pub segments: Segments,
    /// Scores of a row: one, or a probability for each class.
    pub outputs: usize,
}

/// Scores of a shard that no later step needs to compute again: those of the classes from `first` on that are ranked
/// together, class after class.
pub(super) struct Kept {
    pub first: usize,
    pub scores: Vec<f64>,
}

impl Scoring {
    /// Scores of a model, or those that columns hold.
    pub fn new(
        spec: &ProgramSpec,
        task: Task,
        model: Option<Model>,
        columns: Option<&Names>,
        segments: Segments,
    ) -> Result<Self, LearnError> {
        let schema = spec.schema.clone();
        let source = match (model, columns) {
            (Some(model), None) => {
                model.check(&schema)?;
                if model.task() != task {
                    let (task, own) = (task_name(task), task_name(model.task()));
                    return Err(wrong("task", format!("the model's task is {own}, not {task}")));
                }
                Source::Model(model)
            }
            (None, Some(names)) => Source::Columns(places(names, &schema)?),
            _ => return Err(wrong("model", "give either `model` or `scores`".into())),
        };
        let outputs = match &source {
            Source::Model(model) => model.outputs(&schema),
            Source::Columns(columns) => columns.len(),
        };
        match (task == Task::Multiclass, outputs) {
            (false, 1) | (true, 2..) => Ok(Self { source, schema, segments, outputs }),
            (false, _) => Err(wrong("scores", format!("task {} has one score a row", task_name(task)))),
            (true, _) => Err(wrong("scores", "task multiclass has two scores a row or more, one for each class".into())),
        }
    }

    /// The classes that are ranked together, from `first` on.
    pub fn group(&self, first: usize) -> Range<usize> {
        first..self.outputs.min(first + GROUP)
    }

    /// Names of the classes: the schema's, or their numbers.
    pub fn names(&self) -> Vec<String> {
        match self.schema.classes.len() == self.outputs {
            true => self.schema.classes.clone(),
            false => (0..self.outputs).map(|class| class.to_string()).collect(),
        }
    }

    /// Spans of a shard's rows that are scored: neighbours in one.
    fn spans(&self, shard: &EncodedShard) -> Vec<Range<usize>> {
        let mut out: Vec<Range<usize>> = Vec::new();
        for rows in Segment::ALL.into_iter().filter(|segment| self.segments[*segment as usize]).map(|s| shard.range(s)) {
            match out.last_mut().filter(|last| last.end == rows.start) {
                Some(last) => last.end = rows.end,
                None => out.push(rows),
            }
        }
        out
    }

    /// Calls `with` for every row of a shard that is scored and its scores; `None` where a column is not numeric, or the shard not as the
    /// model's schema says.
    pub fn each_row(&self, shard: &EncodedShard, mut with: impl FnMut(usize, &[f64])) -> Option<()> {
        let size = (BLOCK / self.outputs).max(1);
        for rows in self.spans(shard) {
            for first in rows.clone().step_by(size) {
                let scores = self.scores(shard, first..rows.end.min(first + size))?;
                scores.chunks_exact(self.outputs).enumerate().for_each(|(i, row)| with(first + i, row));
            }
        }
        Some(())
    }

    /// The scores that a worker keeps of a shard: those of a group of classes, NaN where none is asked for. Empty where [`Scoring::each_row`] gives
    /// nothing.
    pub fn keep(&self, shard: &EncodedShard, first: usize) -> Kept {
        if self.outputs == 1 {
            return Kept { first, scores: self.keep_one(shard).unwrap_or_default() };
        }
        let group = self.group(first);
        let mut scores = vec![f64::NAN; group.len() * shard.rows];
        let done = self.each_row(shard, |row, all| {
            all[group.clone()].iter().enumerate().for_each(|(c, score)| scores[c * shard.rows + row] = *score);
        });
        Kept { first, scores: done.map(|()| scores).unwrap_or_default() }
    }

    /// Scores of a shard whose rows have one each.
    fn keep_one(&self, shard: &EncodedShard) -> Option<Vec<f64>> {
        let mut out = vec![f64::NAN; shard.rows];
        for rows in self.spans(shard) {
            out[rows.clone()].copy_from_slice(&self.scores(shard, rows)?);
        }
        Some(out)
    }

    /// Scores of some rows, row after row.
    fn scores(&self, shard: &EncodedShard, rows: Range<usize>) -> Option<Vec<f64>> {
        match &self.source {
            Source::Model(model) => self.follows_schema(shard).then(|| model.predict(&self.schema, shard, rows)),
            Source::Columns(indices) => {
                let column = |index: &usize| shard.columns.get(*index).and_then(|c| numbers(c, rows.clone()));
                let columns = indices.iter().map(column).collect::<Option<Vec<_>>>()?;
                if let [one] = &columns[..] {
                    return Some(one.to_vec());
                }
                Some((0..rows.len()).flat_map(|row| columns.iter().map(move |c| c[row])).collect())
            }
        }
    }

    fn follows_schema(&self, shard: &EncodedShard) -> bool {
        let offsets = shard.offset.as_ref().is_none_or(|o| o.len() == shard.rows);
        offsets && Design::new(&self.schema, shard, 0..shard.rows).is_ok()
    }
}

/// Places of columns in the schema.
fn places(names: &Names, schema: &Schema) -> Result<Vec<usize>, LearnError> {
    let names = match names {
        Names::One(name) => std::slice::from_ref(name),
        Names::Many(names) => names,
    };
    let place = |name: &String| {
        let found = schema.features.iter().position(|f| f.name == *name);
        found.ok_or_else(|| wrong("scores", format!("there is no column `{name}`")))
    };
    names.iter().map(place).collect()
}

/// A parameter that is wrong.
pub(super) fn wrong(name: &str, message: String) -> LearnError {
    LearnError::Param { name: name.to_owned(), message }
}
