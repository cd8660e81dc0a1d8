//! The mathematics of one stage, on a thread of its own: merges accepted blocks along the tree and
//! updates the state when a step is complete. The event loop never computes.

use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use sheaf_cluster::id::{Stage, Step};
use sheaf_learn::algorithm::{Progress, Report};
use sheaf_learn::program::{Partial, Program, State, chapters_from};
use sheaf_learn::tree::{Block, Merger};
use sheaf_runtime::fault::Fault;
use sheaf_runtime::work::{Work, merge_outputs};

use crate::driver::checkpoint::Due;
use crate::event_loop::{Input, LoopHandle};

/// What a stage ends with.
#[derive(Debug, Clone)]
pub enum Product {
    /// The result of a program, as JSON.
    Value(serde_json::Value),
    /// The merged outputs of tasks.
    Outputs(Vec<u8>),
}

/// Where a stage starts from.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The step that comes next.
    pub step: u64,
    /// State of a checkpoint; absent: from the start.
    pub state: Option<Vec<u8>>,
    /// Reports of the steps before.
    pub reports: Vec<Vec<Report>>,
}

/// Orders to the stage's thread. Dropping it ends the thread.
#[derive(Debug, Clone)]
pub struct Host {
    orders: mpsc::Sender<Order>,
}

enum Order {
    Begin,
    Merge(Block, Option<Bytes>),
    Complete,
}

impl Host {
    /// Starts the stage's thread. It is silent until [`Host::begin`]. It encodes its state when a checkpoint is `due`.
    pub fn start(
        stage: Stage,
        work: &Work,
        shards: u32,
        resume: Resume,
        due: Option<Arc<Due>>,
        events: LoopHandle,
    ) -> Result<Self, Fault> {
        let (orders, inbox) = mpsc::channel();
        let program = match work {
            Work::Steps { program, .. } => Some(program.build()?),
            _ => None,
        };
        let (step, merger) = (resume.step, Merger::new(shards));
        let mut thread = Thread { stage, program, shards, state: None, chapters: 0, step, merger, due, events };
        let run = move || {
            let work = std::panic::AssertUnwindSafe(|| thread.run(resume.state, &inbox));
            let result = std::panic::catch_unwind(work).unwrap_or_else(|_| Err(Fault::internal("the stage's thread panicked")));
            if let Err(fault) = result {
                thread.events.send(Input::StageFailed { stage: thread.stage.clone(), fault });
            }
        };
        std::thread::Builder::new()
            .name("stage".into())
            .spawn(run)
            .map_err(|e| Fault::internal(format!("start a stage: {e}")))?;
        Ok(Self { orders })
    }

    /// The loop knows the stage: the first message may be announced.
    pub fn begin(&self) {
        // A thread that is gone has told the loop why.
        let _ = self.orders.send(Order::Begin);
    }

    /// Takes in an accepted block.
    pub fn merge(&self, block: Block, value: Option<Bytes>) {
        // A thread that is gone has told the loop why.
        let _ = self.orders.send(Order::Merge(block, value));
    }

    /// Every shard is in.
    pub fn complete(&self) {
        let _ = self.orders.send(Order::Complete);
    }
}

/// What blocks carry, decoded once.
enum Sum {
    Partial(Partial),
    Outputs(Vec<u8>),
}

struct Thread {
    stage: Stage,
    program: Option<Box<dyn Program>>,
    shards: u32,
    /// The program's state; absent for tasks, which have none.
    state: Option<State>,
    /// Chapters that were announced.
    chapters: usize,
    step: u64,
    merger: Merger<Sum>,
    due: Option<Arc<Due>>,
    events: LoopHandle,
}

impl Thread {
    fn run(&mut self, resume: Option<Vec<u8>>, inbox: &mpsc::Receiver<Order>) -> Result<(), Fault> {
        self.state = match (resume, &self.program) {
            (Some(state), Some(program)) => Some(program.load(&state)?),
            (None, Some(program)) => Some(program.start()?),
            (_, None) => None,
        };
        while let Ok(order) = inbox.recv() {
            match order {
                Order::Begin => self.announce(Vec::new(), false)?,
                Order::Merge(block, value) => self.merge(block, value)?,
                Order::Complete => {
                    if self.update()? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Says that the step may begin: its message, the chapters that are new with it, and its state if that is to
    /// be a checkpoint.
    fn announce(&mut self, report: Vec<Report>, keep: bool) -> Result<(), Fault> {
        let (mut message, mut chapters, mut state) = (Vec::new(), Vec::new(), None);
        if let (Some(program), Some(own)) = (self.program.as_deref(), &self.state) {
            message = program.message(own)?;
            chapters = chapters_from(program, own, self.chapters)?;
            if keep && self.due.as_ref().is_some_and(|due| due.take()) {
                state = Some(program.save(own)?);
            }
        }
        self.chapters += chapters.len();
        self.events.send(Input::StepReady {
            stage: self.stage.clone(),
            step: Step(self.step),
            message: Bytes::from(message),
            chapters: chapters.into_iter().map(Bytes::from).collect(),
            state,
            report,
        });
        Ok(())
    }

    fn merge(&mut self, block: Block, value: Option<Bytes>) -> Result<(), Fault> {
        let program = self.program.as_deref();
        let decode = |bytes: Bytes| match program {
            Some(program) => program.read(&bytes).map(Sum::Partial).map_err(Fault::from),
            None => Ok(Sum::Outputs(bytes.into())),
        };
        let merge = |left: Sum, right: Sum| match (program, left, right) {
            (Some(program), Sum::Partial(a), Sum::Partial(b)) => program.merge(a, b).map(Sum::Partial).map_err(Fault::from),
            (None, Sum::Outputs(a), Sum::Outputs(b)) => merge_outputs(&a, &b).map(Sum::Outputs),
            _ => Err(Fault::internal("blocks of two kinds met in one stage")),
        };
        let value = value.map(decode).transpose()?;
        self.merger.insert(block, value, merge)
    }

    /// Takes in the total; true when the stage is done.
    fn update(&mut self) -> Result<bool, Fault> {
        let merger = std::mem::replace(&mut self.merger, Merger::new(self.shards));
        let total = merger.total().ok_or_else(|| Fault::internal("a step was called complete before all shards were in"))?;
        let (Some(program), Some(state)) = (&self.program, &mut self.state) else {
            let outputs = match total {
                Some(Sum::Outputs(outputs)) => outputs,
                _ => sheaf_runtime::work::encode_outputs(&[]),
            };
            let product = Product::Outputs(outputs);
            self.events.send(Input::StageDone { stage: self.stage.clone(), product, report: Vec::new() });
            return Ok(true);
        };
        let total = match total {
            Some(Sum::Partial(partial)) => Some(partial),
            _ => None,
        };
        let progress = program.update(state, total)?;
        let report = program.report(state)?;
        self.step += 1;
        if progress == Progress::Continue {
            self.announce(report, true)?;
            return Ok(false);
        }
        let finished = self.state.take().ok_or_else(|| Fault::internal("a stage finished twice"))?;
        let value = program.finish(finished)?;
        self.events.send(Input::StageDone { stage: self.stage.clone(), product: Product::Value(value), report });
        Ok(true)
    }
}
