//! Algorithms behind bytes: what coordinator and worker hold, whatever the algorithm is.
//! [`ProgramSpec`] is data (it travels and is journalled); [`ProgramSpec::build`] gives the code.

use std::any::Any;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::algorithm::{Algorithm, LearnError, Merge, Progress, Report, Wire};
use crate::shard::{EncodedShard, Schema};

/// A program by name, with parameters and the schema of the shards it will read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramSpec {
    /// Name in the registry: `logistic_regression`, `moments`, `auc` …
    pub name: String,
    /// Parameters by name.
    pub params: Value,
    /// Schema of the shards.
    pub schema: Schema,
}

impl ProgramSpec {
    /// Looks the program up and checks its parameters.
    pub fn build(&self) -> Result<Box<dyn Program>, LearnError> {
        crate::registry::build(self)
    }

    /// [`ProgramSpec::build`] with kernels at a given level: other speed, same bits.
    pub fn build_at(&self, level: crate::kernels::Level) -> Result<Box<dyn Program>, LearnError> {
        crate::registry::build_at(self, level)
    }
}

/// What a worker keeps for one shard between steps.
pub type Local = Box<dyn Any + Send>;

/// What shards contribute to a step, in the algorithm's own type: it is merged as it is and becomes bytes
/// only where it leaves the process.
pub struct Partial {
    value: Box<dyn Any + Send>,
    encode: fn(&dyn Any) -> Vec<u8>,
}

impl Partial {
    fn new<P: Wire>(value: P) -> Self {
        let encode = |value: &dyn Any| encode(value.downcast_ref::<P>().expect("made with this type"));
        Self { value: Box::new(value), encode }
    }

    /// The partial as bytes; equal partials have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        (self.encode)(self.value.as_ref())
    }

    /// The partial as its own type; one of another program is malformed.
    fn typed<P: 'static>(self) -> Result<P, LearnError> {
        let other = |_| LearnError::Data("a partial is of another program than the step".into());
        self.value.downcast::<P>().map(|value| *value).map_err(other)
    }
}

impl PartialEq for Partial {
    fn eq(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Partial").field(&self.encode()).finish()
    }
}

/// An [`Algorithm`] with its types hidden: states, messages and what crosses a process are bytes.
pub trait Program: Send + Sync {
    /// The state before the first step.
    fn start(&self) -> Result<Vec<u8>, LearnError>;
    /// What a step broadcasts.
    fn message(&self, state: &[u8]) -> Result<Vec<u8>, LearnError>;
    /// Decodes a message once for many shards.
    fn open<'a>(&'a self, message: &[u8]) -> Result<Box<dyn Step + 'a>, LearnError>;
    /// A local before the first step.
    fn local(&self) -> Local;
    /// A partial from its bytes.
    fn read(&self, partial: &[u8]) -> Result<Partial, LearnError>;
    /// Merges two neighbours, the left one first.
    fn merge(&self, left: Partial, right: Partial) -> Result<Partial, LearnError>;
    /// Takes in the total; replaces the state.
    fn update(&self, state: &mut Vec<u8>, total: Option<Partial>) -> Result<Progress, LearnError>;
    /// How the run goes.
    fn report(&self, state: &[u8]) -> Result<Vec<Report>, LearnError>;
    /// The result as JSON (floats keep their bits: `float_roundtrip`).
    fn finish(&self, state: &[u8]) -> Result<Value, LearnError>;
}

/// One step on a worker: the message is decoded, shards come one by one, from any thread.
pub trait Step: Send + Sync {
    /// The shard's partial. Brings `local` up to date first.
    fn partial(&self, shard: &EncodedShard, local: &mut Local) -> Option<Partial>;
    /// Whether the partial needs the shard's columns, or `local` stands for them.
    fn reads_columns(&self, local: &Local) -> bool;
    /// Bytes that `local` holds, about.
    fn local_bytes(&self, local: &Local) -> usize;
}

/// Wraps an algorithm.
pub struct Erased<A>(pub A);

struct ErasedStep<'a, A: Algorithm> {
    algorithm: &'a A,
    message: A::Message,
}

/// Bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // postcard fails only on types that it cannot express (unknown lengths), which no program here has.
    postcard::to_stdvec(value).expect("wire types have known lengths")
}

/// Value of bytes.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, LearnError> {
    postcard::from_bytes(bytes).map_err(|source| LearnError::Malformed { what, source })
}

impl<A: Algorithm> Step for ErasedStep<'_, A> {
    fn partial(&self, shard: &EncodedShard, local: &mut Local) -> Option<Partial> {
        if !local.is::<A::Local>() {
            *local = Box::new(A::Local::default());
        }
        let local = local.downcast_mut::<A::Local>().expect("replaced above");
        self.algorithm.advance(&self.message, shard, local);
        self.algorithm.partial(&self.message, shard, local).map(Partial::new)
    }

    fn reads_columns(&self, local: &Local) -> bool {
        local.downcast_ref::<A::Local>().is_none_or(|local| self.algorithm.reads_columns(&self.message, local))
    }

    fn local_bytes(&self, local: &Local) -> usize {
        local.downcast_ref::<A::Local>().map_or(0, |local| self.algorithm.local_bytes(local))
    }
}

impl<A: Algorithm> Program for Erased<A> {
    fn start(&self) -> Result<Vec<u8>, LearnError> {
        Ok(encode(&self.0.start()?))
    }

    fn message(&self, state: &[u8]) -> Result<Vec<u8>, LearnError> {
        Ok(encode(&self.0.message(&decode("state", state)?)))
    }

    fn open<'a>(&'a self, message: &[u8]) -> Result<Box<dyn Step + 'a>, LearnError> {
        Ok(Box::new(ErasedStep { algorithm: &self.0, message: decode("message", message)? }))
    }

    fn local(&self) -> Local {
        Box::new(A::Local::default())
    }

    fn read(&self, partial: &[u8]) -> Result<Partial, LearnError> {
        Ok(Partial::new::<A::Partial>(decode("partial", partial)?))
    }

    fn merge(&self, left: Partial, right: Partial) -> Result<Partial, LearnError> {
        let mut left: A::Partial = left.typed()?;
        left.merge(right.typed()?);
        Ok(Partial::new(left))
    }

    fn update(&self, state: &mut Vec<u8>, total: Option<Partial>) -> Result<Progress, LearnError> {
        let mut decoded: A::State = decode("state", state)?;
        let total = total.map(Partial::typed).transpose()?;
        let progress = self.0.update(&mut decoded, total)?;
        *state = encode(&decoded);
        Ok(progress)
    }

    fn report(&self, state: &[u8]) -> Result<Vec<Report>, LearnError> {
        Ok(self.0.report(&decode("state", state)?))
    }

    fn finish(&self, state: &[u8]) -> Result<Value, LearnError> {
        let output = self.0.finish(decode("state", state)?)?;
        serde_json::to_value(output).map_err(|e| LearnError::Data(format!("result cannot be written: {e}")))
    }
}

/// A partial from no more of the shard than the step reads.
fn partial(step: &dyn Step, shard: &EncodedShard, local: &mut Local) -> Option<Partial> {
    if step.reads_columns(local) {
        return step.partial(shard, local);
    }
    step.partial(&EncodedShard { columns: Vec::new(), ..shard.clone() }, local)
}

/// Runs a program over shards in one process, along the fixed tree: tests, benches and oracles.
pub fn run(program: &dyn Program, shards: &[EncodedShard]) -> Result<Value, LearnError> {
    let mut state = program.start()?;
    let mut locals: Vec<Local> = shards.iter().map(|_| program.local()).collect();
    loop {
        let message = program.message(&state)?;
        let step = program.open(&message)?;
        let leaves = shards.iter().zip(&mut locals).map(|(s, l)| partial(&*step, s, l)).collect();
        let total = crate::tree::reduce(leaves, |a, b| program.merge(a, b))?;
        drop(step);
        if program.update(&mut state, total)? == Progress::Done {
            return program.finish(&state);
        }
    }
}
