//! `metrics`: scores every segment and measures it. The first step adds up sums and counts scores by their leading
//! bits; where ranks are asked, crowded cells are refined, then every step collects a bounded number of rows.

use serde::{Deserialize, Serialize};

use super::ranking::{Cell, Entries, Scan, Span, spans};
use super::sums::{Scored, Sums};
use super::{Metric, MetricsOutput, task_name, usual};
use crate::algorithm::{Algorithm, LearnError, Merge, Progress};
use crate::kernels::Design;
use crate::model::{Model, Task};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{EncodedShard, Schema, Segment};
use crate::statistics::{PerSegment, Runs, merge_runs, numbers, params};

/// Rows whose scores one step may collect where `per_pass` is not given: a partial stays below 32 MiB.
pub const DEFAULT_PER_PASS: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    task: Task,
    #[serde(default)]
    model: Option<Model>,
    #[serde(default)]
    scores: Option<String>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default = "default_per_pass")]
    per_pass: u64,
}

fn default_per_pass() -> u64 {
    DEFAULT_PER_PASS
}

/// Where scores come from.
enum Source {
    Model(Model),
    /// A numeric column of the shards.
    Column(usize),
}

struct Metrics {
    task: Task,
    source: Source,
    metrics: Vec<Metric>,
    per_pass: u64,
    schema: Schema,
}

/// What is to be done next, and everything known so far.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    phase: Phase,
    sums: PerSegment<Sums>,
    /// Ascending cells of each segment.
    cells: [Vec<Cell>; 3],
    /// Spans still to be collected, the next one last.
    spans: Vec<Span>,
    scans: [Scan; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Sum,
    Refine,
    Collect,
}

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// Sums, and the first count of scores if ranks are asked.
    Sum,
    /// Counts inside these cells of (segment).
    Refine(Vec<(usize, Cell)>),
    /// Entries of these spans.
    Collect(Vec<Span>),
}

#[derive(Debug, Serialize, Deserialize)]
enum Partial {
    Sum(Box<PerSegment<(Sums, Runs<u64, u64>)>>),
    Refine(Vec<Runs<u64, u64>>),
    Collect(Vec<Entries>),
    /// The shard has no target, its scores are not numbers, or it is not as the schema says.
    Unfit,
}

impl Merge for (Sums, Runs<u64, u64>) {
    fn merge(&mut self, right: Self) {
        self.0.merge(right.0);
        merge_runs(&mut self.1, right.1);
    }
}

impl Merge for Partial {
    fn merge(&mut self, right: Self) {
        match (self, right) {
            (Partial::Sum(left), Partial::Sum(right)) => left.merge(*right),
            (Partial::Refine(left), Partial::Refine(right)) => {
                left.iter_mut().zip(right).for_each(|(l, r)| merge_runs(l, r));
            }
            (Partial::Collect(left), Partial::Collect(right)) if left.iter().zip(&right).all(|(l, r)| l.is_like(r)) => {
                left.iter_mut().zip(right).for_each(|(l, r)| l.merge(r));
            }
            (left, _) => *left = Partial::Unfit,
        }
    }
}

impl Metrics {
    fn ranked(&self) -> bool {
        self.metrics.iter().any(|m| m.is_ranked())
    }

    /// Scores of a whole shard; empty where the column is not numeric, or the shard not as the model's schema says.
    fn scores(&self, shard: &EncodedShard) -> Vec<f64> {
        match &self.source {
            Source::Model(_) if !self.follows_schema(shard) => Vec::new(),
            Source::Model(model) => model.predict(&self.schema, shard, 0..shard.rows),
            Source::Column(index) => {
                let column = shard.columns.get(*index).and_then(|c| numbers(c, 0..shard.rows));
                column.map(|c| c.into_owned()).unwrap_or_default()
            }
        }
    }

    fn follows_schema(&self, shard: &EncodedShard) -> bool {
        let offsets = shard.offset.as_ref().is_none_or(|o| o.len() == shard.rows);
        offsets && Design::new(&self.schema, shard, 0..shard.rows).is_ok()
    }

    fn sum<'a>(&self, shard: &EncodedShard, scored: impl Fn(usize) -> Option<Scored<'a>>) -> Partial {
        let part = |segment: Segment| {
            let scored = scored(segment as usize).filter(|_| !shard.range(segment).is_empty())?;
            let counts = if self.ranked() { Cell::ALL.count(scored.scores) } else { Vec::new() };
            Some((Sums::of(self.task, &scored), counts))
        };
        Partial::Sum(Box::new(Segment::ALL.map(part)))
    }

    /// Takes in the first step's total.
    fn take_sums(&self, state: &mut State, total: PerSegment<(Sums, Runs<u64, u64>)>) -> Result<(), LearnError> {
        for (i, (segment, part)) in Segment::ALL.into_iter().zip(total).enumerate() {
            let Some((sums, counts)) = part else { continue };
            check(self.task, segment, &sums)?;
            state.cells[i] = Cell::ALL.split(counts).collect();
            state.sums[i] = Some(sums);
        }
        Ok(())
    }

    fn wide<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (usize, Cell)> + 'a {
        let cells = state.cells.iter().enumerate().flat_map(|(s, cells)| cells.iter().map(move |c| (s, *c)));
        cells.filter(|(_, c)| c.is_wide(self.per_pass))
    }

    /// Refines as long as a cell is too wide, then collects.
    fn next_phase(&self, state: &mut State) -> Progress {
        if self.wide(state).next().is_some() {
            state.phase = Phase::Refine;
            return Progress::Continue;
        }
        for (segment, cells) in state.cells.iter_mut().enumerate() {
            let unit = state.sums[segment].as_ref().is_some_and(|s| s.unit);
            state.spans.extend(spans(segment, unit, &std::mem::take(cells), self.per_pass));
        }
        state.spans.reverse();
        state.phase = Phase::Collect;
        if state.spans.is_empty() { Progress::Done } else { Progress::Continue }
    }

    /// The spans of the next step: as many as it may collect, at least one.
    fn next_spans(&self, state: &State) -> Vec<Span> {
        let mut rows = 0u64;
        let fits = |span: &&Span| {
            let first = rows == 0;
            rows += span.rows;
            first || rows <= self.per_pass
        };
        state.spans.iter().rev().take_while(fits).copied().collect()
    }

    fn value(&self, metric: Metric, sums: &Sums, scan: &Scan) -> Result<f64, &'static str> {
        let value = match metric {
            _ if !sums.can_weigh() => sums.value(metric),
            Metric::Auc => scan.auc(),
            Metric::PrAuc => scan.average_precision(),
            _ => sums.value(metric),
        }?;
        if value.is_finite() { Ok(value) } else { Err("the value is too large for a number") }
    }
}

/// Rows that cannot be measured end the job, with their number and what to do.
fn check(task: Task, segment: Segment, sums: &Sums) -> Result<(), LearnError> {
    let faults = sums.faults;
    let name = segment.name();
    let target = match task {
        Task::Binary => "a target other than 0 and 1: remove them or set `columns.positive`",
        Task::Regression => "a missing or infinite target: remove them",
    };
    let cases = [
        (faults.target, target),
        (faults.weight, "a missing, infinite or negative weight: correct it"),
        (faults.score, "no finite prediction: impute missing features, limit large ones"),
    ];
    match cases.iter().find(|(rows, _)| *rows > 0) {
        Some((rows, what)) => Err(LearnError::Data(format!("{rows} rows of segment {name} have {what}"))),
        None => Ok(()),
    }
}

/// What a worker keeps of a shard: its scores, which no later step needs to compute again.
#[derive(Default)]
struct Scores(Option<Vec<f64>>);

impl Algorithm for Metrics {
    type State = State;
    type Message = Message;
    type Chapter = ();
    type Local = Scores;
    type Partial = Partial;
    type Output = MetricsOutput;

    fn start(&self) -> Result<State, LearnError> {
        let (sums, cells, scans) = Default::default();
        Ok(State { phase: Phase::Sum, sums, cells, spans: Vec::new(), scans })
    }

    fn message(&self, state: &State) -> Message {
        match state.phase {
            Phase::Sum => Message::Sum,
            Phase::Refine => Message::Refine(self.wide(state).collect()),
            Phase::Collect => Message::Collect(self.next_spans(state)),
        }
    }

    fn advance(&self, _: &Message, _: &[()], shard: &EncodedShard, local: &mut Scores) {
        if local.0.is_none() {
            local.0 = Some(self.scores(shard));
        }
    }

    fn reads_columns(&self, _: &Message, local: &Scores) -> bool {
        local.0.is_none()
    }

    fn local_bytes(&self, local: &Scores) -> usize {
        local.0.as_ref().map_or(0, |scores| scores.len() * size_of::<f64>())
    }

    fn partial(&self, message: &Message, _: &[()], shard: &EncodedShard, local: &Scores) -> Option<Partial> {
        if shard.rows == 0 {
            return None;
        }
        let scores = local.0.as_deref().unwrap_or_default();
        let lengths = [Some(scores.len()), shard.target.as_deref().map(<[f64]>::len), shard.weight.as_deref().map(<[f64]>::len)];
        let fits = lengths.iter().flatten().all(|n| *n == shard.rows);
        let (Some(target), true) = (&shard.target, fits) else { return Some(Partial::Unfit) };
        let scored = |segment: usize| {
            let rows = shard.range(*Segment::ALL.get(segment)?);
            let weight = shard.weight.as_ref().map(|w| &w[rows.clone()]);
            Some(Scored { scores: &scores[rows.clone()], target: &target[rows], weight })
        };
        match message {
            Message::Sum => Some(self.sum(shard, scored)),
            Message::Refine(cells) => {
                let counts = cells.iter().filter_map(|(segment, cell)| scored(*segment).map(|s| cell.count(s.scores)));
                let counts: Vec<_> = counts.collect();
                counts.iter().any(|c| !c.is_empty()).then_some(Partial::Refine(counts))
            }
            Message::Collect(spans) => {
                let entries = spans.iter().filter_map(|span| scored(span.segment).map(|s| Entries::of(span, &s)));
                let entries: Vec<_> = entries.collect();
                entries.iter().any(|e| !e.is_empty()).then_some(Partial::Collect(entries))
            }
        }
    }

    fn update(&self, state: &mut State, total: Option<Partial>) -> Result<Progress, LearnError> {
        match total {
            None => Ok(Progress::Done),
            Some(Partial::Unfit) => {
                Err(LearnError::Data("rows cannot be measured: they have no target, their scores are not numbers, or their columns are not those of the model".into()))
            }
            Some(Partial::Sum(total)) => {
                self.take_sums(state, *total)?;
                Ok(if self.ranked() { self.next_phase(state) } else { Progress::Done })
            }
            Some(Partial::Refine(counts)) => {
                let mut counts = counts.into_iter();
                for cells in &mut state.cells {
                    let refined = std::mem::take(cells).into_iter().flat_map(|cell| {
                        let split = cell.is_wide(self.per_pass).then(|| counts.next()).flatten();
                        split.map_or_else(|| vec![cell], |counts| cell.split(counts).collect())
                    });
                    *cells = refined.collect();
                }
                Ok(self.next_phase(state))
            }
            Some(Partial::Collect(entries)) => {
                for (entries, span) in entries.iter().zip(self.next_spans(state)) {
                    state.scans[span.segment].take(entries);
                    state.spans.pop();
                }
                Ok(if state.spans.is_empty() { Progress::Done } else { Progress::Continue })
            }
        }
    }

    fn finish(&self, state: State) -> Result<MetricsOutput, LearnError> {
        let mut output = MetricsOutput::default();
        for ((segment, sums), scan) in Segment::ALL.into_iter().zip(&state.sums).zip(&state.scans) {
            let Some(sums) = sums else { continue };
            let name = segment.name().to_owned();
            output.rows.insert(name.clone(), sums.rows);
            let values = output.segments.entry(name.clone()).or_default();
            for metric in &self.metrics {
                let value = self.value(*metric, sums, scan);
                values.insert(metric.name().to_owned(), value.ok());
                if let Err(reason) = value {
                    let reasons = output.undefined.entry(name.clone()).or_default();
                    reasons.insert(metric.name().to_owned(), reason.to_owned());
                }
            }
        }
        Ok(output)
    }
}

fn wrong<T>(name: &str, message: String) -> Result<T, LearnError> {
    Err(LearnError::Param { name: name.to_owned(), message })
}

fn source(spec: &ProgramSpec, params: &mut Params) -> Result<Source, LearnError> {
    match (params.model.take(), &params.scores) {
        (Some(model), None) => {
            model.check(&spec.schema)?;
            if model.task() != params.task {
                let (task, own) = (task_name(params.task), task_name(model.task()));
                return wrong("task", format!("the model's task is {own}, not {task}"));
            }
            Ok(Source::Model(model))
        }
        (None, Some(name)) => match spec.schema.features.iter().position(|f| f.name == *name) {
            Some(index) => Ok(Source::Column(index)),
            None => wrong("scores", format!("there is no column `{name}`")),
        },
        _ => wrong("model", "give either `model` or `scores`".into()),
    }
}

/// `metrics` with its parameters checked: `task` (binary, regression), `model` (as JSON) or `scores` (the name of a
/// numeric column that holds them), `metrics` (names; the usual ones), `per_pass` (rows that one step collects).
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    let mut params: Params = params(spec)?;
    let source = source(spec, &mut params)?;
    if params.per_pass == 0 {
        return wrong("per_pass", "must be at least 1".into());
    }
    let asked: Vec<&str> = params.metrics.iter().map(String::as_str).collect();
    let asked = if asked.is_empty() { usual(task_name(params.task)) } else { &asked };
    let metrics = asked.iter().map(|name| Metric::parse(params.task, name)).collect::<Result<Vec<_>, _>>()?;
    let (task, per_pass, schema) = (params.task, params.per_pass, spec.schema.clone());
    Ok(Box::new(Erased(Metrics { task, source, metrics, per_pass, schema })))
}
