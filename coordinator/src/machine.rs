//! The replicated state behind the log: [`Durable`] as a state machine, one postcard record as its snapshot.

use sheaf_cluster::durable::{Durable, Entry, Reply};

use crate::consensus::Machine;

/// [`Durable`] as the log sees it.
#[derive(Debug, Default)]
pub struct Jobs(pub Durable);

impl Machine for Jobs {
    type Entry = Entry;
    type Reply = Reply;

    fn apply(&mut self, entry: Entry) -> Reply {
        self.0.apply(entry)
    }

    fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.0).expect("the state holds only types with known lengths")
    }

    fn restore(bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map(Jobs).map_err(|e| format!("malformed snapshot: {e}"))
    }
}
