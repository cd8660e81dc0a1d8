//! The one abstraction for everything that reads shards in steps: learning, statistics, metrics.
//! A step is: message to workers, a partial per shard, partials merged along the fixed tree, update.

use serde::{Serialize, de::DeserializeOwned};

use crate::shard::EncodedShard;

/// What can cross a process boundary. Encoded with postcard: deterministic, floats by their bits.
pub trait Wire: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Wire for T {}

/// Two neighbours in the reduction tree become one. `self` is the left one. Must be deterministic; need
/// not be commutative or associative, since the tree is fixed.
pub trait Merge {
    /// Takes in the right neighbour.
    fn merge(&mut self, right: Self);
}

/// What an update decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another step is needed.
    Continue,
    /// The state is final.
    Done,
}

/// Why learning cannot go on. All are the input's fault: retrying does not help.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LearnError {
    /// A parameter is unknown, of the wrong type or out of its range.
    #[error("{name}: {message}")]
    Param {
        /// Parameter name.
        name: String,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// The data cannot be learnt from (one class, no rows, missing values …).
    #[error("{0}")]
    Data(String),
    /// Bytes that are not what this program writes.
    #[error("malformed {what}: {source}")]
    Malformed {
        /// state, message, partial …
        what: &'static str,
        /// The decoder's error.
        source: postcard::Error,
    },
}

/// A scalar that shows how a run goes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// Name, such as `loss`.
    pub name: String,
    /// Value after this step.
    pub value: f64,
}

/// Learning, a statistic or a metric as steps over shards.
pub trait Algorithm: Send + Sync + 'static {
    /// Everything needed to go on from a checkpoint. Only the coordinator holds it.
    type State: Wire;
    /// What workers need to know for one step; a function of the state.
    type Message: Wire;
    /// What a worker keeps per shard between steps: a cache, never the truth. `Default` is "from empty".
    type Local: Default + Send + 'static;
    /// What a shard contributes.
    type Partial: Merge + Wire;
    /// What is left at the end (a model, a profile, a metric).
    type Output: Serialize + DeserializeOwned;

    /// The state before the first step.
    fn start(&self) -> Result<Self::State, LearnError>;
    /// What this step broadcasts.
    fn message(&self, state: &Self::State) -> Self::Message;
    /// Brings `local` to the message's version: idempotent, and possible from empty.
    fn advance(&self, _message: &Self::Message, _shard: &EncodedShard, _local: &mut Self::Local) {}
    /// Whether `advance` and `partial` read the shard's columns. False: what is in `local` stands for them, and the
    /// shard may come without.
    fn reads_columns(&self, _message: &Self::Message, _local: &Self::Local) -> bool {
        true
    }
    /// Bytes that a local holds on the heap, about.
    fn local_bytes(&self, _local: &Self::Local) -> usize {
        0
    }
    /// Pure: asked twice gives the same bytes. `None` when the shard has no row of interest.
    fn partial(&self, message: &Self::Message, shard: &EncodedShard, local: &Self::Local) -> Option<Self::Partial>;
    /// Takes in the total of all shards (`None` if every shard was empty).
    fn update(&self, state: &mut Self::State, total: Option<Self::Partial>) -> Result<Progress, LearnError>;
    /// How the run goes after an update.
    fn report(&self, _state: &Self::State) -> Vec<Report> {
        Vec::new()
    }
    /// The result.
    fn finish(&self, state: Self::State) -> Result<Self::Output, LearnError>;
}
