//! Algorithms behind bytes: what coordinator and worker hold, whatever the algorithm is.
//! [`ProgramSpec`] is data (it travels and is journalled); [`ProgramSpec::build`] gives the code.

use std::any::Any;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::algorithm::{Algorithm, Exchange, LearnError, Merge, Progress, Report, Wire};
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

/// What a coordinator holds between updates, in the algorithm's own type.
pub struct State(Box<dyn Any + Send>);

impl State {
    fn typed<S: 'static>(&self) -> Result<&S, LearnError> {
        self.0.downcast_ref().ok_or_else(|| foreign("state"))
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// The chapters of a program as far as a process has them, decoded. They only grow.
pub struct Chapters {
    values: Box<dyn Any + Send + Sync>,
    len: usize,
}

impl Chapters {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first `count`, in the algorithm's own type.
    fn first<C: 'static>(&self, count: usize) -> Result<&[C], LearnError> {
        let values = self.values.downcast_ref::<Vec<C>>().ok_or_else(|| foreign("list of chapters"))?;
        let missing = || LearnError::Data(format!("a step needs {count} chapters, {} are there", values.len()));
        values.get(..count).ok_or_else(missing)
    }
}

impl std::fmt::Debug for Chapters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chapters").field("len", &self.len).finish_non_exhaustive()
    }
}

fn foreign(what: &str) -> LearnError {
    LearnError::Data(format!("a {what} is of another program than the step"))
}

/// What shards contribute to a step, in the algorithm's own type: it is merged as it is and becomes bytes
/// only where it leaves the process.
pub struct Partial {
    value: Box<dyn Any + Send>,
    encode: fn(&dyn Any) -> Vec<u8>,
    settle: fn(&mut dyn Any),
}

impl Partial {
    fn new<P: Wire + Merge>(value: P) -> Self {
        const OURS: &str = "made with this type";
        let encode = |value: &dyn Any| encode(value.downcast_ref::<P>().expect(OURS));
        let settle = |value: &mut dyn Any| value.downcast_mut::<P>().expect(OURS).settle();
        Self { value: Box::new(value), encode, settle }
    }

    /// The partial as bytes, of use no more in any other way: cheaper than [`Partial::encode`].
    pub fn into_bytes(mut self) -> Vec<u8> {
        (self.settle)(self.value.as_mut());
        self.encode()
    }

    /// The partial as bytes; equal partials have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        (self.encode)(self.value.as_ref())
    }

    /// The partial as its own type; one of another program is malformed.
    fn typed<P: 'static>(self) -> Result<P, LearnError> {
        self.value.downcast::<P>().map(|value| *value).map_err(|_| foreign("partial"))
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

/// An [`Algorithm`] with its types hidden: messages, chapters and what crosses a process are bytes.
pub trait Program: Send + Sync {
    /// The state before the first step.
    fn start(&self) -> Result<State, LearnError>;
    /// The state as bytes: a checkpoint.
    fn save(&self, state: &State) -> Result<Vec<u8>, LearnError>;
    /// A state from a checkpoint.
    fn load(&self, checkpoint: &[u8]) -> Result<State, LearnError>;
    /// How partials become a total.
    fn exchange(&self) -> Exchange;
    /// What a step broadcasts.
    fn message(&self, state: &State) -> Result<Vec<u8>, LearnError>;
    /// A chapter by its number; the first `None` ends them.
    fn chapter(&self, state: &State, index: usize) -> Result<Option<Vec<u8>>, LearnError>;
    /// No chapters yet.
    fn chapters(&self) -> Chapters;
    /// Decodes the next chapter, once for all steps.
    fn append(&self, chapters: &mut Chapters, chapter: &[u8]) -> Result<(), LearnError>;
    /// Decodes a message once for many shards. It goes with the first `count` chapters.
    fn open<'a>(&'a self, chapters: &'a Chapters, count: usize, message: &[u8]) -> Result<Box<dyn Step + 'a>, LearnError>;
    /// A local before the first step.
    fn local(&self) -> Local;
    /// A partial from its bytes.
    fn read(&self, partial: &[u8]) -> Result<Partial, LearnError>;
    /// Merges two neighbours, the left one first.
    fn merge(&self, left: Partial, right: Partial) -> Result<Partial, LearnError>;
    /// Takes in the total. After an error the state is of no use.
    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError>;
    /// How the run goes.
    fn report(&self, state: &State) -> Result<Vec<Report>, LearnError>;
    /// The result as JSON (floats keep their bits: `float_roundtrip`).
    fn finish(&self, state: State) -> Result<Value, LearnError>;
}

/// One step on a worker: the message is decoded, shards come one by one, from any thread.
pub trait Step: Send + Sync {
    /// The shard's partial. Brings `local` up to date first.
    fn partial(&self, shard: &EncodedShard, local: &mut Local) -> Option<Partial>;
    /// Adds the shard's partial to `total`, for programs of [`Exchange::Sum`]. Brings `local` up to date first.
    fn accumulate(&self, shard: &EncodedShard, local: &mut Local, total: &mut Option<Partial>) -> Result<(), LearnError>;
    /// Whether the partial needs the shard's columns, or `local` stands for them.
    fn reads_columns(&self, local: &Local) -> bool;
    /// Bytes that `local` holds, about.
    fn local_bytes(&self, local: &Local) -> usize;
    /// Bytes of a total, about; 0 where they are few.
    fn sum_bytes(&self) -> usize;
}

/// Wraps an algorithm.
pub struct Erased<A>(pub A);

struct ErasedStep<'a, A: Algorithm> {
    algorithm: &'a A,
    chapters: &'a [A::Chapter],
    message: A::Message,
}

impl<A: Algorithm> ErasedStep<'_, A> {
    /// The local in its own type, brought up to date; one of another program starts from empty.
    fn advanced<'l>(&self, shard: &EncodedShard, local: &'l mut Local) -> &'l A::Local {
        if !local.is::<A::Local>() {
            *local = Box::new(A::Local::default());
        }
        let local = local.downcast_mut::<A::Local>().expect("replaced above");
        self.algorithm.advance(&self.message, self.chapters, shard, local);
        local
    }
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
        let local = self.advanced(shard, local);
        self.algorithm.partial(&self.message, self.chapters, shard, local).map(Partial::new)
    }

    fn accumulate(&self, shard: &EncodedShard, local: &mut Local, total: &mut Option<Partial>) -> Result<(), LearnError> {
        let local = self.advanced(shard, local);
        let mut typed: Option<A::Partial> = total.take().map(Partial::typed).transpose()?;
        self.algorithm.accumulate(&self.message, self.chapters, shard, local, &mut typed);
        *total = typed.map(Partial::new);
        Ok(())
    }

    fn reads_columns(&self, local: &Local) -> bool {
        local.downcast_ref::<A::Local>().is_none_or(|local| self.algorithm.reads_columns(&self.message, local))
    }

    fn local_bytes(&self, local: &Local) -> usize {
        local.downcast_ref::<A::Local>().map_or(0, |local| self.algorithm.local_bytes(local))
    }

    fn sum_bytes(&self) -> usize {
        self.algorithm.sum_bytes(&self.message)
    }
}

impl<A: Algorithm> Program for Erased<A> {
    fn start(&self) -> Result<State, LearnError> {
        Ok(State(Box::new(self.0.start()?)))
    }

    fn save(&self, state: &State) -> Result<Vec<u8>, LearnError> {
        Ok(encode(state.typed::<A::State>()?))
    }

    fn load(&self, checkpoint: &[u8]) -> Result<State, LearnError> {
        Ok(State(Box::new(decode::<A::State>("state", checkpoint)?)))
    }

    fn exchange(&self) -> Exchange {
        self.0.exchange()
    }

    fn message(&self, state: &State) -> Result<Vec<u8>, LearnError> {
        Ok(encode(&self.0.message(state.typed()?)))
    }

    fn chapter(&self, state: &State, index: usize) -> Result<Option<Vec<u8>>, LearnError> {
        Ok(self.0.chapter(state.typed()?, index).map(|chapter| encode(&chapter)))
    }

    fn chapters(&self) -> Chapters {
        Chapters { values: Box::new(Vec::<A::Chapter>::new()), len: 0 }
    }

    fn append(&self, chapters: &mut Chapters, chapter: &[u8]) -> Result<(), LearnError> {
        let values = chapters.values.downcast_mut::<Vec<A::Chapter>>().ok_or_else(|| foreign("list of chapters"))?;
        values.push(decode("chapter", chapter)?);
        chapters.len = values.len();
        Ok(())
    }

    fn open<'a>(&'a self, chapters: &'a Chapters, count: usize, message: &[u8]) -> Result<Box<dyn Step + 'a>, LearnError> {
        let (chapters, message) = (chapters.first(count)?, decode("message", message)?);
        Ok(Box::new(ErasedStep { algorithm: &self.0, chapters, message }))
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

    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError> {
        let total = total.map(Partial::typed).transpose()?;
        let state: &mut A::State = state.0.downcast_mut().ok_or_else(|| foreign("state"))?;
        self.0.update(state, total)
    }

    fn report(&self, state: &State) -> Result<Vec<Report>, LearnError> {
        Ok(self.0.report(state.typed()?))
    }

    fn finish(&self, state: State) -> Result<Value, LearnError> {
        let state = state.0.downcast::<A::State>().map_err(|_| foreign("state"))?;
        let output = self.0.finish(*state)?;
        serde_json::to_value(output).map_err(|e| LearnError::Data(format!("result cannot be written: {e}")))
    }
}

/// The chapters of a state from number `from` on.
pub fn chapters_from(program: &dyn Program, state: &State, from: usize) -> Result<Vec<Vec<u8>>, LearnError> {
    let mut out = Vec::new();
    while let Some(chapter) = program.chapter(state, from + out.len())? {
        out.push(chapter);
    }
    Ok(out)
}

/// Decodes the chapters of a state that `chapters` lacks; gives how many the state has.
pub fn catch_up(program: &dyn Program, state: &State, chapters: &mut Chapters) -> Result<usize, LearnError> {
    for chapter in chapters_from(program, state, chapters.len())? {
        program.append(chapters, &chapter)?;
    }
    Ok(chapters.len())
}

/// Calls `with` with no more of the shard than the step reads.
fn lean<T>(step: &dyn Step, shard: &EncodedShard, local: &mut Local, with: impl FnOnce(&EncodedShard, &mut Local) -> T) -> T {
    if step.reads_columns(local) {
        return with(shard, local);
    }
    with(&EncodedShard { columns: Vec::new(), ..shard.clone() }, local)
}

/// The total of a step over all shards: along the fixed tree, or added up.
fn total(
    program: &dyn Program,
    step: &dyn Step,
    shards: &[EncodedShard],
    locals: &mut [Local],
) -> Result<Option<Partial>, LearnError> {
    let pairs = shards.iter().zip(locals);
    match program.exchange() {
        Exchange::Tree => {
            let leaves = pairs.map(|(shard, local)| lean(step, shard, local, |s, l| step.partial(s, l))).collect();
            crate::tree::reduce(leaves, |a, b| program.merge(a, b))
        }
        Exchange::Sum => {
            let mut total = None;
            for (shard, local) in pairs {
                lean(step, shard, local, |s, l| step.accumulate(s, l, &mut total))?;
            }
            Ok(total)
        }
    }
}

/// Runs a program over shards in one process, along the fixed tree: tests, benches and oracles.
pub fn run(program: &dyn Program, shards: &[EncodedShard]) -> Result<Value, LearnError> {
    let mut state = program.start()?;
    let mut chapters = program.chapters();
    let mut locals: Vec<Local> = shards.iter().map(|_| program.local()).collect();
    loop {
        let message = program.message(&state)?;
        let count = catch_up(program, &state, &mut chapters)?;
        let step = program.open(&chapters, count, &message)?;
        let total = total(program, &*step, shards, &mut locals)?;
        drop(step);
        if program.update(&mut state, total)? == Progress::Done {
            return program.finish(state);
        }
    }
}
