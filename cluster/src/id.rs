//! Names of things: newtypes that cannot be mixed up, all of them ordered, printable and serialisable.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job, by its ULID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub String);

impl From<&str> for JobId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stage of a job: one program over the shards of one view, or a set of one-off tasks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stage {
    /// Whose stage it is.
    pub job: JobId,
    /// Its number in the job; the driver counts.
    pub number: u32,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.number)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A worker process, numbered by the coordinator when it joins; a restarted process is another worker.
    WorkerId
);
number!(
    /// Leadership number: rises by one with each [`LeaderStarted`](crate::Entry::LeaderStarted).
    Term
);
number!(
    /// Rises with each reassignment that a leader makes.
    Generation
);
number!(
    /// A broadcast, partials, update: counted from 0 in each stage.
    Step
);
number!(
    /// A time or a span in milliseconds of the leader's clock, as written into log entries and passed
    /// to the engine. Nothing here reads a clock.
    Millis
);

impl Step {
    /// The step after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Millis {
    /// This time, `span` later.
    pub fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span since `earlier`; zero if that is not earlier.
    pub fn since(self, earlier: Millis) -> Millis {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// The fencing token on every command and report: the pair orders all assignments ever made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// Who leads.
    pub term: Term,
    /// Which of that leader's assignments.
    pub generation: Generation,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_order_by_term_first() {
        let token = |term, generation| Token { term: Term(term), generation: Generation(generation) };
        assert!(token(1, 9) < token(2, 0));
        assert!(token(2, 0) < token(2, 1));
        assert_eq!(token(2, 1).to_string(), "2.1");
    }

    #[test]
    fn times_saturate() {
        assert_eq!(Millis(u64::MAX).plus(Millis(1)), Millis(u64::MAX));
        assert_eq!(Millis(3).since(Millis(5)), Millis(0));
        assert_eq!(Stage { job: "a".into(), number: 2 }.to_string(), "a/2");
    }
}
