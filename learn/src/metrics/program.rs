//! `metrics`: scores every segment and measures it. The first step adds up sums and counts scores by their leading
//! bits; where ranks are asked, crowded cells are refined, then every step collects a bounded number of rows. Of many
//! classes each has a ranking of its own against all others; a few classes at a time are ranked, so that what workers
//! keep and send stays bounded.

use serde::{Deserialize, Serialize};

use super::multiclass::{Table, Tally};
use super::queries::QueryMetrics;
use super::ranking::{Cell, Entries, Scan, Span, spans};
use super::scoring::{GROUP, Kept, Names, Scoring, segments, wrong};
use super::sums::{Scored, Sums};
use super::{Metric, MetricsOutput, task_name, usual};
use crate::algorithm::{Algorithm, LearnError, Merge, Progress};
use crate::model::{Model, Task};
use crate::program::{Erased, Program, ProgramSpec};
use crate::shard::{EncodedShard, Segment};
use crate::statistics::{PerSegment, Runs, merge_runs, params};

/// Rows whose scores one step may collect where `per_pass` is not given: a partial stays below 32 MiB.
pub const DEFAULT_PER_PASS: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    task: Task,
    #[serde(default)]
    model: Option<Model>,
    #[serde(default)]
    scores: Option<Names>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    segments: Vec<String>,
    #[serde(default = "default_per_pass")]
    per_pass: u64,
}

fn default_per_pass() -> u64 {
    DEFAULT_PER_PASS
}

struct Metrics {
    task: Task,
    scoring: Scoring,
    metrics: Vec<Metric>,
    per_pass: u64,
}

/// What is to be done next, and everything known so far.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    phase: Phase,
    sums: PerSegment<Sums>,
    /// The first of the classes that are being ranked.
    first: usize,
    /// Ascending cells of each of their rankings.
    cells: Vec<Vec<Cell>>,
    /// Spans still to be collected, the next one last.
    spans: Vec<Span>,
    /// One for each ranking: class after class, each with its segments.
    scans: Vec<Scan>,
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
    /// Counts inside these cells of (ranking), all of one group of classes.
    Refine(Vec<(usize, Cell)>),
    /// Entries of these spans, all of one group of classes.
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

    /// The first of the classes whose scores a step reads from what is kept; `None` if it computes all scores itself.
    fn kept_from(&self, message: &Message) -> Option<usize> {
        let group_of = |ranking: usize| ranking / Segment::ALL.len() / GROUP * GROUP;
        match message {
            Message::Sum => (self.scoring.outputs == 1 || (self.ranked() && self.scoring.outputs <= GROUP)).then_some(0),
            Message::Refine(cells) => cells.first().map(|(ranking, _)| group_of(*ranking)),
            Message::Collect(spans) => spans.first().map(|span| group_of(span.ranking)),
        }
    }

    /// Sums where a row has one score.
    fn sum<'a>(&self, shard: &EncodedShard, scored: impl Fn(usize) -> Option<Scored<'a>>) -> Partial {
        let part = |segment: Segment| {
            let asked = self.scoring.segments[segment as usize] && !shard.range(segment).is_empty();
            let scored = scored(segment as usize).filter(|_| asked)?;
            let counts = if self.ranked() { Cell::ALL.count(scored.scores) } else { Vec::new() };
            Some((Sums::of(self.task, &scored), counts))
        };
        Partial::Sum(Box::new(Segment::ALL.map(part)))
    }

    /// Sums of many classes, from the scores of all of them if they are kept.
    fn sum_classes(&self, shard: &EncodedShard, target: &[f64], kept: Option<&Kept>) -> Partial {
        let mut tallies = Segment::ALL.map(|_| Tally::new(self.scoring.outputs));
        let mut add = |row: usize, scores: &[f64]| {
            let weight = shard.weight.as_ref().map_or(1.0, |w| w[row]);
            // Rows stand segment by segment: the row's is that of the last bound up to it.
            let segment = shard.bounds[1..3].iter().filter(|bound| **bound <= row).count();
            tallies[segment].add(scores, target[row], weight);
        };
        match kept {
            Some(kept) => {
                let mut scores = vec![0.0; self.scoring.outputs];
                let asked = Segment::ALL.into_iter().filter(|segment| self.scoring.segments[*segment as usize]);
                for row in asked.flat_map(|segment| shard.range(segment)) {
                    scores.iter_mut().zip(kept.scores.chunks_exact(shard.rows)).for_each(|(s, class)| *s = class[row]);
                    add(row, &scores);
                }
            }
            None => match self.scoring.each_row(shard, add) {
                Some(()) => {}
                None => return Partial::Unfit,
            },
        }
        let sums = tallies.map(|tally| Some(tally.finish()).filter(|sums| sums.rows > 0));
        Partial::Sum(Box::new(sums.map(|sums| Some((sums?, Vec::new())))))
    }

    /// Takes in the first step's total.
    fn take_sums(&self, state: &mut State, total: PerSegment<(Sums, Runs<u64, u64>)>) -> Result<(), LearnError> {
        for (i, (segment, part)) in Segment::ALL.into_iter().zip(total).enumerate() {
            let Some((sums, counts)) = part else { continue };
            check(self.task, segment, &sums)?;
            state.cells[i] = Cell::ALL.split(counts).collect();
            state.sums[i] = Some(sums);
        }
        if self.task == Task::Multiclass {
            self.begin_group(state, 0);
        }
        Ok(())
    }

    /// Begins with the rankings of some classes: all their rows are one cell each.
    fn begin_group(&self, state: &mut State, first: usize) {
        state.first = first;
        let cells = |sums: &Option<Sums>| sums.iter().map(|sums| Cell::whole(sums.rows)).collect();
        state.cells = self.scoring.group(first).flat_map(|_| state.sums.iter().map(cells)).collect();
    }

    /// The number of the first ranking under way.
    fn first_ranking(state: &State) -> usize {
        state.first * Segment::ALL.len()
    }

    fn wide<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (usize, Cell)> + 'a {
        let rankings = (Self::first_ranking(state)..).zip(&state.cells);
        let cells = rankings.flat_map(|(ranking, cells)| cells.iter().map(move |c| (ranking, *c)));
        cells.filter(|(_, c)| c.is_wide(self.per_pass))
    }

    /// Refines as long as a cell is too wide, then collects.
    fn next_phase(&self, state: &mut State) -> Progress {
        if self.wide(state).next().is_some() {
            state.phase = Phase::Refine;
            return Progress::Continue;
        }
        let first = Self::first_ranking(state);
        for (i, cells) in state.cells.iter_mut().enumerate() {
            let unit = state.sums[i % Segment::ALL.len()].as_ref().is_some_and(|s| s.unit);
            state.spans.extend(spans(first + i, unit, &std::mem::take(cells), self.per_pass));
        }
        state.spans.reverse();
        state.phase = Phase::Collect;
        if state.spans.is_empty() { Progress::Done } else { Progress::Continue }
    }

    /// Goes on to the next classes when all spans are in.
    fn after_spans(&self, state: &mut State) -> Progress {
        let next = self.scoring.group(state.first).end;
        if !state.spans.is_empty() {
            return Progress::Continue;
        }
        if next >= self.scoring.outputs {
            return Progress::Done;
        }
        self.begin_group(state, next);
        self.next_phase(state)
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

    fn value(&self, metric: Metric, sums: &Sums, table: Option<&Table<'_>>, scans: &[Scan]) -> Result<f64, &'static str> {
        let scan = |class: usize| &scans[class * Segment::ALL.len()];
        let value = match (metric, table) {
            _ if !sums.can_weigh() => sums.value(metric),
            (Metric::Auc, _) => scan(0).auc(),
            (Metric::PrAuc, _) => scan(0).average_precision(),
            (Metric::AucOvr, Some(table)) => table.area(false, |class| scan(class).auc()),
            (Metric::AucOvrWeighted, Some(table)) => table.area(true, |class| scan(class).auc()),
            (_, Some(table)) => table.value(metric),
            (_, None) => sums.value(metric),
        }?;
        if value.is_finite() { Ok(value) } else { Err("the value is too large for a number") }
    }

    /// What is known of one segment goes into the result.
    fn measure(&self, segment: Segment, sums: &Sums, scans: &[Scan], output: &mut MetricsOutput) {
        let name = segment.name().to_owned();
        output.rows.insert(name.clone(), sums.rows);
        let table = (self.task == Task::Multiclass).then(|| Table::new(sums, self.scoring.outputs));
        let values = output.segments.entry(name.clone()).or_default();
        for metric in &self.metrics {
            let value = self.value(*metric, sums, table.as_ref(), scans);
            values.insert(metric.name().to_owned(), value.ok());
            if let Err(reason) = value {
                let reasons = output.undefined.entry(name.clone()).or_default();
                reasons.insert(metric.name().to_owned(), reason.to_owned());
            }
        }
        if let Some(table) = table.filter(|_| sums.can_weigh()) {
            let names = self.scoring.names();
            output.confusion.extend(table.confusion(&names).map(|confusion| (name.clone(), confusion)));
            output.classes.insert(name, table.classes_of(&names));
        }
    }
}

/// Rows that cannot be measured end the job, with their number and what to do.
fn check(task: Task, segment: Segment, sums: &Sums) -> Result<(), LearnError> {
    let faults = sums.faults;
    let name = segment.name();
    let target = match task {
        Task::Binary | Task::Anomaly => "a target other than 0 and 1: remove them or set `columns.positive`",
        Task::Regression | Task::Ranking => "a missing or infinite target: remove them",
        Task::Multiclass => "a target that is no class of the model: correct them",
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

/// What a worker keeps of a shard.
#[derive(Default)]
struct Scores(Option<Kept>);

impl Scores {
    /// What is kept of the classes from `first` on.
    fn of(&self, first: usize) -> Option<&Kept> {
        self.0.as_ref().filter(|kept| kept.first == first)
    }
}

impl Algorithm for Metrics {
    type State = State;
    type Message = Message;
    type Chapter = ();
    type Local = Scores;
    type Partial = Partial;
    type Output = MetricsOutput;

    fn start(&self) -> Result<State, LearnError> {
        let segments = Segment::ALL.len();
        Ok(State {
            phase: Phase::Sum,
            sums: PerSegment::default(),
            first: 0,
            cells: vec![Vec::new(); segments],
            spans: Vec::new(),
            scans: vec![Scan::default(); self.scoring.outputs * segments],
        })
    }

    fn message(&self, state: &State) -> Message {
        match state.phase {
            Phase::Sum => Message::Sum,
            Phase::Refine => Message::Refine(self.wide(state).collect()),
            Phase::Collect => Message::Collect(self.next_spans(state)),
        }
    }

    fn advance(&self, message: &Message, _: &[()], shard: &EncodedShard, local: &mut Scores) {
        let first = self.kept_from(message).filter(|first| local.of(*first).is_none());
        if let Some(first) = first {
            local.0 = Some(self.scoring.keep(shard, first));
        }
    }

    fn reads_columns(&self, message: &Message, local: &Scores) -> bool {
        self.kept_from(message).is_none_or(|first| local.of(first).is_none())
    }

    fn local_bytes(&self, local: &Scores) -> usize {
        local.0.as_ref().map_or(0, |kept| kept.scores.len() * size_of::<f64>())
    }

    fn partial(&self, message: &Message, _: &[()], shard: &EncodedShard, local: &Scores) -> Option<Partial> {
        if shard.rows == 0 {
            return None;
        }
        let kept = self.kept_from(message).map(|first| (self.scoring.group(first), local.of(first)));
        let scores = kept.as_ref().map(|(_, kept)| kept.map_or(&[][..], |kept| &kept.scores));
        let wanted = kept.as_ref().map_or(0, |(group, _)| group.len() * shard.rows);
        let others = [shard.target.as_deref(), shard.weight.as_deref()].into_iter().flatten();
        let fits = scores.is_none_or(|scores| scores.len() == wanted) && others.into_iter().all(|v| v.len() == shard.rows);
        let (Some(target), true) = (&shard.target, fits) else { return Some(Partial::Unfit) };
        let scored = |ranking: usize| {
            let (class, segment) = (ranking / Segment::ALL.len(), ranking % Segment::ALL.len());
            let rows = shard.bounds[segment]..shard.bounds[segment + 1];
            let (group, kept) = kept.as_ref()?;
            let at = class.checked_sub(group.start)? * shard.rows;
            let scores = kept.as_ref()?.scores.get(at..at + shard.rows)?;
            let weight = shard.weight.as_ref().map(|w| &w[rows.clone()]);
            let positive = if self.scoring.outputs == 1 { 1.0 } else { class as f64 };
            Some(Scored { scores: &scores[rows.clone()], target: &target[rows], positive, weight })
        };
        match message {
            Message::Sum if self.scoring.outputs > 1 => {
                Some(self.sum_classes(shard, target, local.of(0).filter(|_| kept.is_some())))
            }
            Message::Sum => Some(self.sum(shard, scored)),
            Message::Refine(cells) => {
                let counts = cells.iter().filter_map(|(ranking, cell)| scored(*ranking).map(|s| cell.count(s.scores)));
                let counts: Vec<_> = counts.collect();
                counts.iter().any(|c| !c.is_empty()).then_some(Partial::Refine(counts))
            }
            Message::Collect(spans) => {
                let entries = spans.iter().filter_map(|span| scored(span.ranking).map(|s| Entries::of(span, &s)));
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
                    state.scans[span.ranking].take(entries);
                    state.spans.pop();
                }
                Ok(self.after_spans(state))
            }
        }
    }

    fn finish(&self, state: State) -> Result<MetricsOutput, LearnError> {
        let mut output = MetricsOutput::default();
        for (i, segment) in Segment::ALL.into_iter().enumerate() {
            if let Some(sums) = &state.sums[i] {
                self.measure(segment, sums, &state.scans[i..], &mut output);
            }
        }
        Ok(output)
    }
}

/// `metrics` with its parameters checked: `task` (binary, regression, multiclass, ranking), `model` (as JSON) or `scores` (the name
/// of a numeric column that holds them; of many classes the names of all), `metrics` (names; the usual ones), `segments` (names; all), `per_pass`
/// (rows that one step collects).
pub fn build(spec: &ProgramSpec) -> Result<Box<dyn Program>, LearnError> {
    let mut params: Params = params(spec)?;
    let scoring = Scoring::new(spec, params.task, params.model.take(), params.scores.as_ref(), segments(&params.segments)?)?;
    if params.per_pass == 0 {
        return Err(wrong("per_pass", "must be at least 1".into()));
    }
    let asked: Vec<&str> = params.metrics.iter().map(String::as_str).collect();
    let asked = if asked.is_empty() { usual(task_name(params.task)) } else { &asked };
    let metrics = asked.iter().map(|name| Metric::parse(params.task, name)).collect::<Result<Vec<_>, _>>()?;
    let (task, per_pass) = (params.task, params.per_pass);
    if task == Task::Ranking {
        let of = |metric: &Metric| if let Metric::Query(metric) = metric { Some(*metric) } else { None };
        let metrics = metrics.iter().filter_map(of).collect();
        let segments = scoring.segments;
        let scores = Box::new(move |shard: &EncodedShard| scoring.keep(shard, 0).scores);
        return Ok(Box::new(Erased(QueryMetrics { scores, metrics, segments })));
    }
    Ok(Box::new(Erased(Metrics { task, scoring, metrics, per_pass })))
}
