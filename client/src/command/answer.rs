//! What becomes of the rows of an answer: a table once all are there, or a file or stream as they come.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::cli::RowFormat;
use crate::failure::Failure;
use crate::render::{Look, format, rows_table};
use crate::rows::{Cells, Closed, Sink, Writer, write_failure};

/// Takes rows in.
pub struct Answer {
    format: RowFormat,
    state: State,
    closed: Closed,
}

enum State {
    /// Nothing has come.
    Waiting(Sink),
    /// A table grows.
    Table(Sink, Cells),
    /// Rows are written as they come.
    Writing(Writer<Sink>),
    /// Nobody reads, or writing failed.
    Broken,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Rows that came.
    pub rows: u64,
    /// Whether there were more.
    pub more: bool,
    /// What it took.
    pub seconds: f64,
}

impl Answer {
    /// To a file, else to standard output.
    pub fn new(format: RowFormat, to: Option<&Path>) -> Result<Self, Failure> {
        let sink = to.map_or_else(|| Ok(Sink::stdout()), Sink::file)?;
        let closed = sink.closed();
        Ok(Self { format, state: State::Waiting(sink), closed })
    }

    /// The columns are known; said again, it changes nothing.
    pub fn start(&mut self, schema: &SchemaRef) -> Result<(), Failure> {
        if !matches!(self.state, State::Waiting(_)) {
            return Ok(());
        }
        let State::Waiting(sink) = std::mem::replace(&mut self.state, State::Broken) else { return Ok(()) };
        self.state = match self.format {
            RowFormat::Table => State::Table(sink, Cells::new(schema)),
            format => self.or_gone(Writer::new(format, schema, sink))?.map_or(State::Broken, State::Writing),
        };
        Ok(())
    }

    /// Takes rows.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        self.start(&rows.schema())?;
        let added = match &mut self.state {
            State::Table(_, cells) => cells.add(rows).map_err(write_failure),
            State::Writing(writer) => writer.write(rows),
            State::Waiting(_) | State::Broken => Ok(()),
        };
        self.or_gone(added).map(drop)
    }

    /// Whether nobody reads any more.
    pub fn is_unwanted(&self) -> bool {
        self.closed.is_closed()
    }

    /// All rows are in: writes what is left, and says what is to be said about them.
    pub fn finish(mut self, outcome: &Outcome) -> Result<(), Failure> {
        let look = Look::stdout();
        let state = std::mem::replace(&mut self.state, State::Broken);
        let written = match state {
            State::Table(mut sink, cells) => {
                let text = format!("{}{}\n", rows_table(&cells, &look), footer(outcome));
                sink.write_all(text.as_bytes()).map_err(write_failure).and_then(|()| sink.commit())
            }
            State::Writing(writer) => {
                tell_of_more(outcome);
                writer.finish().and_then(Sink::commit)
            }
            State::Waiting(_) | State::Broken => Ok(()),
        };
        self.or_gone(written).map(drop)
    }

    /// A reader that has gone is no failure.
    fn or_gone<T>(&self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match result {
            Err(_) if self.closed.is_closed() => Ok(None),
            other => other.map(Some),
        }
    }
}

fn footer(outcome: &Outcome) -> String {
    let rows = if outcome.rows == 1 { "row" } else { "rows" };
    match outcome.more {
        true => format!("{} {rows} and more: use --limit, or -o csv for all", format::count(outcome.rows)),
        false => format!("{} {rows} in {}", format::count(outcome.rows), format::seconds(outcome.seconds)),
    }
}

/// People at a terminal are told that rows were left out; programs asked for it.
fn tell_of_more(outcome: &Outcome) {
    if outcome.more && std::io::stderr().is_terminal() {
        eprintln!("{} rows, and there are more: --limit 0 gives all", format::count(outcome.rows));
    }
}
