//! The log's clock and terms never fall, terms rise with each leader, and so do the tokens of a leader.

use sheaf_cluster::{Command, Durable, Entry, Millis, Term, Token};

use super::{Book, Fact, Invariant};

#[derive(Default)]
pub(super) struct Rising {
    clock: Millis,
    term: Term,
    led: Term,
    token: Token,
}

impl Rising {
    fn durable(&mut self, durable: &Durable) -> Result<(), String> {
        if durable.clock < self.clock || durable.term < self.term {
            let (term, clock) = (durable.term, durable.clock);
            return Err(format!("the log fell from term {} at {} to term {term} at {clock}", self.term, self.clock));
        }
        (self.clock, self.term) = (durable.clock, durable.term);
        Ok(())
    }

    fn token(&mut self, token: Token) -> Result<(), String> {
        if token.term != self.led || token < self.token {
            return Err(format!("token {token} in term {} after {}", self.led, self.token));
        }
        self.token = token;
        Ok(())
    }
}

impl Invariant for Rising {
    fn name(&self) -> &'static str {
        "rising"
    }

    fn see(&mut self, fact: &Fact<'_>, _: &Book) -> Result<(), String> {
        match fact {
            Fact::Applied { entry, durable, .. } => {
                let before = self.term;
                self.durable(durable)?;
                if matches!(entry, Entry::LeaderStarted { .. }) && durable.term <= before {
                    return Err(format!("a leader started and the term stayed {before}"));
                }
                Ok(())
            }
            Fact::Recovered { durable } => self.durable(durable),
            Fact::Leads { term } => {
                if *term <= self.led {
                    return Err(format!("a leader of term {term} after one of term {}", self.led));
                }
                (self.led, self.token) = (*term, Token { term: *term, ..Token::default() });
                Ok(())
            }
            // The layout of a step may have been made before, under its own token, which is sent again.
            Fact::Command { command: Command::OpenStage { token, .. }, .. } => self.token(*token),
            _ => Ok(()),
        }
    }
}
