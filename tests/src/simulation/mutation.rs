//! Deliberate faults of the system under test: each breaks one promise, and the simulation has to find
//! it. What no mutation breaks is not known to be checked.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A block that is covered already is accepted once more.
    TakesTwice,
    /// What a lost worker owed is not ordered again.
    ForgetsTheLost,
    /// Blocks under a token that is no longer valid are accepted.
    HonoursStaleTokens,
    /// The log answers before it has synced.
    AnswersBeforeSync,
    /// Partials are merged in the order of their arrival.
    MergesAsTheyCome,
    /// Workers that leave are given leases.
    LeasesToLeavers,
    /// Workers that leave are let go while they owe shards.
    LetsGoTooEarly,
    /// Commands go to workers that are held lost.
    SpeaksToTheLost,
    /// A second submit with a key makes a second job.
    IgnoresKeys,
    /// Shards are ordered from two workers without need.
    OrdersTwice,
    /// A job is failed for another one's shard.
    BlamesTheInnocent,
    /// Terms do not rise.
    KeepsItsTerm,
    /// Every shard is an order of its own piece.
    Scatters,
    /// A job's end is told before it is in the log.
    TellsTooEarly,
    /// A model is published again after a restart.
    PublishesTwice,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 15] = [
        Mutation::TakesTwice,
        Mutation::ForgetsTheLost,
        Mutation::HonoursStaleTokens,
        Mutation::AnswersBeforeSync,
        Mutation::MergesAsTheyCome,
        Mutation::LeasesToLeavers,
        Mutation::LetsGoTooEarly,
        Mutation::SpeaksToTheLost,
        Mutation::IgnoresKeys,
        Mutation::OrdersTwice,
        Mutation::BlamesTheInnocent,
        Mutation::KeepsItsTerm,
        Mutation::Scatters,
        Mutation::TellsTooEarly,
        Mutation::PublishesTwice,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mutation::TakesTwice => "takes-twice",
            Mutation::ForgetsTheLost => "forgets-the-lost",
            Mutation::HonoursStaleTokens => "honours-stale-tokens",
            Mutation::AnswersBeforeSync => "answers-before-sync",
            Mutation::MergesAsTheyCome => "merges-as-they-come",
            Mutation::LeasesToLeavers => "leases-to-leavers",
            Mutation::LetsGoTooEarly => "lets-go-too-early",
            Mutation::SpeaksToTheLost => "speaks-to-the-lost",
            Mutation::IgnoresKeys => "ignores-keys",
            Mutation::OrdersTwice => "orders-twice",
            Mutation::BlamesTheInnocent => "blames-the-innocent",
            Mutation::KeepsItsTerm => "keeps-its-term",
            Mutation::Scatters => "scatters",
            Mutation::TellsTooEarly => "tells-too-early",
            Mutation::PublishesTwice => "publishes-twice",
        }
    }

    /// The mutation of a name.
    pub fn named(name: &str) -> Option<Mutation> {
        Self::ALL.into_iter().find(|mutation| mutation.name() == name)
    }

    /// The invariants that may catch it: which of them sees it first depends on the seed.
    pub fn caught_by(self) -> &'static [&'static str] {
        match self {
            Mutation::TakesTwice => &["exact steps", "stale tokens"],
            Mutation::ForgetsTheLost => &["nothing forgotten", "progress"],
            Mutation::HonoursStaleTokens => &["stale tokens", "exact steps"],
            Mutation::AnswersBeforeSync => &["acknowledged", "ended once", "rising", "one job per key"],
            Mutation::MergesAsTheyCome => &["same bits"],
            Mutation::LeasesToLeavers => &["drains", "lost workers", "one order"],
            Mutation::LetsGoTooEarly => &["drains", "lost workers"],
            Mutation::SpeaksToTheLost => &["lost workers"],
            Mutation::IgnoresKeys => &["one job per key", "acknowledged"],
            Mutation::OrdersTwice => &["one order", "drains", "lost workers"],
            Mutation::BlamesTheInnocent => &["outcomes", "nothing forgotten"],
            Mutation::KeepsItsTerm => &["rising"],
            Mutation::Scatters => &["bounded blocks"],
            Mutation::TellsTooEarly => &["ended once"],
            Mutation::PublishesTwice => &["published once"],
        }
    }
}
