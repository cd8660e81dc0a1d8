//! A job publishes one model version, however often its coordinator is restarted.

use super::{Book, Fact, Invariant};

pub(super) struct PublishedOnce;

impl Invariant for PublishedOnce {
    fn name(&self) -> &'static str {
        "published once"
    }

    fn see(&mut self, fact: &Fact<'_>, _: &Book) -> Result<(), String> {
        let Fact::Published { versions } = fact else { return Ok(()) };
        let twice = versions.iter().enumerate().find(|(at, job)| versions[..*at].contains(job));
        twice.map_or(Ok(()), |(at, job)| Err(format!("{job} published version {at} and one before")))
    }
}
