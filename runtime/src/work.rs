//! What a stage does, as a document that workers fetch by its hash, and how its partials merge.

use serde::{Deserialize, Serialize};
use sheaf_dataflow::dataset::Dataset;
use sheaf_dataflow::rows::Rows;
use sheaf_dataflow::view::View;
use sheaf_learn::program::{ProgramSpec, decode, encode};

use crate::fault::Fault;

/// A stage's work. A leaf of its tree is a shard for steps and a task for the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Counts the rows that a load unit keeps; a task per unit, its output the count.
    Count {
        /// Where the rows are.
        dataset: Dataset,
    },
    /// Writes the prepared rows into canonical shards; one task, its output the new dataset.
    Materialise {
        /// Where the rows are.
        dataset: Dataset,
        /// Folder for the files.
        area: String,
    },
    /// Steps of a program over encoded shards.
    Steps {
        /// Where the rows are.
        dataset: Dataset,
        /// How they are encoded.
        view: Box<View>,
        /// What is computed.
        program: ProgramSpec,
    },
    /// Writes what becomes of shards into Parquet; a task per chunk of shards, its output the rows written.
    Write {
        /// Where the rows are.
        dataset: Dataset,
        /// What is written of them.
        rows: Rows,
        /// First shard of each chunk and, last, the number of shards.
        chunks: Vec<u32>,
        /// Folder for the files, one per chunk.
        to: String,
    },
}

impl Work {
    /// Where the rows of a leaf of its tree come from, for people; empty if that is not known.
    pub fn place(&self, leaf: u32) -> String {
        match self {
            Work::Count { dataset } => dataset.place_of_unit(leaf).unwrap_or_default(),
            Work::Materialise { dataset, .. } => format!("all rows of table {}", dataset.table),
            Work::Steps { dataset, .. } => dataset.place(leaf),
            Work::Write { dataset, chunks, .. } => {
                let chunk = chunks.get(leaf as usize).zip(chunks.get(leaf as usize + 1));
                chunk.map_or_else(String::new, |(first, end)| format!("shards {first}..{end}, from {}", dataset.place(*first)))
            }
        }
    }
}

/// What a task gives back: its index and a JSON text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Index of the task.
    pub task: u32,
    /// JSON.
    pub output: String,
}

/// Outputs of tasks as a partial.
pub fn encode_outputs(outputs: &[TaskOutput]) -> Vec<u8> {
    encode(&outputs)
}

/// Outputs of tasks from a partial, in task order.
pub fn decode_outputs(bytes: &[u8]) -> Result<Vec<TaskOutput>, Fault> {
    Ok(decode("task outputs", bytes)?)
}

/// Merges outputs of neighbouring tasks.
pub fn merge_outputs(left: &[u8], right: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut all = decode_outputs(left)?;
    all.extend(decode_outputs(right)?);
    Ok(encode_outputs(&all))
}
