//! What may be written beside predictions: what each feature contributed, which leaves a row came to, what fewer trees
//! would have said.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JobError, Train};

/// What is written beside predictions of a model of trees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Details {
    /// What features contribute to a row's score.
    pub explain: Option<Explain>,
    /// The leaf of every tree that a row comes to.
    pub leaves: bool,
    /// Predictions by the first trees: after every so many, and after all.
    pub staged: Option<u32>,
}

/// Which contributions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explain {
    /// Those of all features, a column each.
    All,
    /// The largest of each row, as a list.
    Largest(u32),
}

/// Most contributions of a row: columns, or entries of a list.
pub const MOST_CONTRIBUTIONS: usize = 2_000;
/// Most entries of a row's list of leaves or of stages.
pub const MOST_ENTRIES: usize = 10_000;

/// Learners whose models are trees.
const TREES: [&str; 4] = ["decision_tree", "extra_trees", "gradient_boosting", "random_forest"];
/// Those of them whose trees stand beside each other.
const FORESTS: [&str; 2] = ["extra_trees", "random_forest"];
/// Trees of a learner that does not say.
const DEFAULT_TREES: u64 = 100;

impl Details {
    /// The keys that ask for something.
    pub fn asked(&self) -> Vec<&'static str> {
        let all = [("explain", self.explain.is_some()), ("leaves", self.leaves), ("staged", self.staged.is_some())];
        all.into_iter().filter_map(|(key, asked)| asked.then_some(key)).collect()
    }

    /// What a model of this learner does not have, the first of it, by its place in `predict`.
    pub fn refused_by(&self, algorithm: &str) -> Option<JobError> {
        let key = *self.asked().first()?;
        if !TREES.contains(&algorithm) {
            return Some(not_of_trees(key, &format!("`{algorithm}`")).at_place(key));
        }
        if self.staged.is_some() && FORESTS.contains(&algorithm) {
            let message = format!("`{algorithm}` has no stages: its trees stand beside each other, and all are averaged");
            return Some(JobError::at("predict.staged", message).hint("leave `staged` out, or boost: `gradient_boosting`"));
        }
        None
    }

    /// What a model does not have, or would have too much of, that is trained so.
    pub fn refused_after(&self, train: &Train) -> Option<JobError> {
        let trees = train.params.get("trees").and_then(Value::as_u64).unwrap_or(DEFAULT_TREES) as usize;
        let too_many = || self.too_many(trees, trees).map(|(key, refusal)| refusal.at_place(key));
        self.refused_by(&train.algorithm).or_else(too_many)
    }

    /// Lists that would be too long over so many trees, grown in so many rounds.
    pub(crate) fn too_many(&self, trees: usize, rounds: usize) -> Option<(&'static str, Refusal)> {
        let limit = format!("a list has at most {MOST_ENTRIES} entries");
        if self.leaves && trees > MOST_ENTRIES {
            let message = format!("`leaves` would write {trees} numbers a row; {limit}");
            return Some(("leaves", Refusal { message, hint: "leave `leaves` out".into() }));
        }
        let step = self.staged.filter(|step| rounds.div_ceil((*step).max(1) as usize) > MOST_ENTRIES)?;
        let message = format!("`staged: {step}` would write {} numbers a row; {limit}", rounds.div_ceil(step.max(1) as usize));
        let hint = format!("write a wider step: `staged: {}`", rounds.div_ceil(MOST_ENTRIES));
        Some(("staged", Refusal { message, hint }))
    }

    /// More columns of contributions, one for each feature and class, than a table should have.
    pub fn too_wide(&self, columns: usize) -> Option<JobError> {
        let wide = self.explain == Some(Explain::All) && columns > MOST_CONTRIBUTIONS;
        wide.then(|| {
            let message = format!("`explain` would write {columns} columns of contributions; at most {MOST_CONTRIBUTIONS} are");
            JobError::at("predict.explain", message).hint("write the largest of each row as a list: `explain: 20`")
        })
    }
}

/// Why something cannot be written, and what to do instead.
pub(crate) struct Refusal {
    pub message: String,
    pub hint: String,
}

impl Refusal {
    fn at_place(self, key: &str) -> JobError {
        JobError::at(format!("predict.{key}"), self.message).hint(self.hint)
    }
}

/// What only trees have, asked of something else.
pub(crate) fn not_of_trees(key: &str, what: &str) -> Refusal {
    let message = format!("`{key}` is offered for models of trees ({}), and this one is of {what}", TREES.join(", "));
    let hint = "leave it out; what a linear model makes of each feature are its coefficients: `sheaf models show`".into();
    Refusal { message, hint }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn refused(algorithm: &str, trees: u64, details: &Details) -> String {
        let params = [("trees".to_owned(), json!(trees))].into();
        let train = Train { algorithm: algorithm.into(), params };
        details.refused_after(&train).map_or_else(|| "fine".into(), |e| e.to_string())
    }

    #[test]
    fn what_a_learner_does_not_have_is_refused() {
        let all = Details { explain: Some(Explain::Largest(3)), leaves: true, staged: Some(1) };
        assert_eq!(refused("gradient_boosting", 10_000, &all), "fine");
        assert_eq!(refused("linear_regression", 1, &Details::default()), "fine");
        let linear = refused("linear_regression", 1, &all);
        assert!(linear.starts_with("predict.explain: `explain` is offered for models of trees (decision_tree"), "{linear}");
        assert!(refused("random_forest", 9, &all).starts_with("predict.staged: `random_forest` has no stages"));
        assert!(refused("gradient_boosting", 10_001, &all).contains("`leaves` would write 10001 numbers"));
        let staged = Details { leaves: false, ..all };
        assert!(refused("gradient_boosting", 90_000, &staged).contains("`staged: 9`"));
        assert_eq!(staged.too_wide(5_000), None);
        let wide = Details { explain: Some(Explain::All), ..Details::default() };
        assert!(wide.too_wide(2_001).unwrap().to_string().contains("`explain: 20`") && wide.too_wide(2_000).is_none());
    }
}
