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

    /// Called when nothing more is taken in, before it is sent: the same value, in the form that is sent.
    fn settle(&mut self) {}
}

/// Adds a partial to a total, which may not be there yet.
pub(crate) fn merge_into<P: Merge>(total: &mut Option<P>, partial: P) {
    match total {
        Some(total) => total.merge(partial),
        None => *total = Some(partial),
    }
}

/// Of several faults the least, so that the order in which they meet cannot show.
pub(crate) fn keep_least(fault: &mut String, other: String) {
    if other < *fault {
        *fault = other;
    }
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

/// How the partials of a step become their total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Along the fixed tree over shard indices: right for floats, whose sums depend on their order.
    Tree,
    /// Partials are integers: any order and grouping gives the same total, so a worker adds many shards into one.
    Sum,
}

/// Learning, a statistic or a metric as steps over shards.
pub trait Algorithm: Send + Sync + 'static {
    /// Everything needed to go on from a checkpoint; encoded, it is one. Only the coordinator holds it. A field that
    /// is skipped when it is encoded must be re-makeable: going on from a decoded state ends with the same bits.
    type State: Wire;
    /// What workers need to know for one step besides the chapters; a function of the state. Small: it is sent to
    /// every worker in every step.
    type Message: Wire;
    /// What stays as it is once it is made (bin edges, a finished tree): sent once to each worker, which keeps it
    /// decoded. `()` where there is none.
    type Chapter: Wire;
    /// What a worker keeps per shard between steps: a cache, never the truth. `Default` is "from empty".
    type Local: Default + Send + 'static;
    /// What a shard contributes.
    type Partial: Merge + Wire;
    /// What is left at the end (a model, a profile, a metric).
    type Output: Serialize + DeserializeOwned;

    /// The state before the first step.
    fn start(&self) -> Result<Self::State, LearnError>;
    /// How partials become a total.
    fn exchange(&self) -> Exchange {
        Exchange::Tree
    }
    /// What this step broadcasts.
    fn message(&self, state: &Self::State) -> Self::Message;
    /// A chapter by its number. The chapters of a state are those from 0 to the first `None`; one that is there
    /// never changes, in no later state.
    fn chapter(&self, _state: &Self::State, _index: usize) -> Option<Self::Chapter> {
        None
    }
    /// Brings `local` to the version of the message and its chapters (those of the state that the message is of):
    /// idempotent, and possible from empty, from an older version and from a newer one, for a coordinator that
    /// goes on from a checkpoint sends messages that are older than what workers keep.
    fn advance(&self, _message: &Self::Message, _chapters: &[Self::Chapter], _shard: &EncodedShard, _local: &mut Self::Local) {}
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
    fn partial(
        &self,
        message: &Self::Message,
        chapters: &[Self::Chapter],
        shard: &EncodedShard,
        local: &Self::Local,
    ) -> Option<Self::Partial>;
    /// Adds the shard's partial to `total`; asked only where partials are summed ([`Exchange::Sum`]). The total is
    /// the same as that of merged partials.
    fn accumulate(
        &self,
        message: &Self::Message,
        chapters: &[Self::Chapter],
        shard: &EncodedShard,
        local: &Self::Local,
        total: &mut Option<Self::Partial>,
    ) {
        let partial = self.partial(message, chapters, shard, local);
        match (total.as_mut(), partial) {
            (Some(total), Some(partial)) => total.merge(partial),
            (None, partial) => *total = partial,
            (Some(_), None) => {}
        }
    }
    /// Bytes of a total of this step, about, for whoever holds several of them at once; 0 where they are few.
    fn sum_bytes(&self, _message: &Self::Message) -> usize {
        0
    }
    /// Takes in the total of all shards (`None` if every shard was empty).
    fn update(&self, state: &mut Self::State, total: Option<Self::Partial>) -> Result<Progress, LearnError>;
    /// How the run goes after an update.
    fn report(&self, _state: &Self::State) -> Vec<Report> {
        Vec::new()
    }
    /// The result.
    fn finish(&self, state: Self::State) -> Result<Self::Output, LearnError>;
}
