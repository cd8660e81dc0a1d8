//! Questions in SQL and what is needed to judge answers: TPC-H tables and one small odd table as Parquet, the
//! statements, a plain single-process engine as the reference, and a comparison that shows what differs.

pub mod answer;
pub mod plain;
pub mod readings;
pub mod specified;
pub mod statements;
pub mod tables;

pub use answer::Answer;
pub use plain::{Plain, Settings};
pub use statements::Statement;

/// What two sides say to the same statements; a text for each where they do not agree, or one has no answer.
pub fn disagreements(
    statements: &[Statement],
    mut expected: impl FnMut(&Statement) -> Result<Answer, String>,
    mut got: impl FnMut(&Statement) -> Result<Answer, String>,
) -> Vec<String> {
    let mut judge = |statement: &Statement| {
        let expected = expected(statement).map_err(|e| format!("the reference has no answer: {e}"))?;
        let got = got(statement).map_err(|e| format!("no answer: {e}"))?;
        expected.compare(&got, statement.ordered)
    };
    let judged = statements.iter().map(|statement| (&statement.name, judge(statement)));
    let told = |(name, judged): (&String, Result<(), String>)| judged.err().map(|why| format!("{name}: {why}"));
    // Shown as soon as it is known: a statement may end what all later ones need.
    judged.filter_map(told).inspect(|failure| println!("{failure}")).collect()
}
