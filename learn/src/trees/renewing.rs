//! Boosting where quantiles are asked of the rows: the score to begin with, and the values of leaves.

use serde::{Deserialize, Serialize};

use crate::algorithm::{LearnError, Progress};
use crate::shard::{EncodedShard, Segment};

use super::boosting::{Boosting, State};
use super::grown::Grown;
use super::partial::Partial;
use super::renewal::{Counts, Search, Sought};
use super::survey::Survey;

/// Trees with all their splits, whose leaves' values are under search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Renewing {
    grown: Vec<Grown>,
    search: Search,
}

impl Renewing {
    /// What the next step asks.
    pub(super) fn sought(&self) -> &Sought {
        self.search.sought()
    }
}

/// Leaves of a tree, ascending.
fn leaves(tree: &Grown) -> impl Iterator<Item = usize> + use<> {
    tree.split_of().into_iter().enumerate().filter(|(_, split)| split.is_none()).map(|(leaf, _)| leaf)
}

/// Weight of all training rows.
fn weight(survey: &Survey) -> f64 {
    survey.weighted(None).iter().sum()
}

impl Boosting {
    /// The quantile to begin with, if predictions begin with one; a model that is gone on from has its base.
    pub(super) fn search_base(&self, survey: &Survey) -> Option<Search> {
        let probability = self.objective.quantile().filter(|_| self.settings.earlier.is_none())?;
        Some(Search::new(probability, &[survey.rows], weight(survey)))
    }

    /// Weights of a shard's training targets, their offsets taken off, by their size.
    pub(super) fn targets(shard: &EncodedShard, sought: &Sought) -> Result<Partial, LearnError> {
        let Some(target) = &shard.target else {
            return Err(LearnError::Data("there is no target: name the column in `columns.target`".into()));
        };
        let offset = |row: usize| shard.offset.as_ref().map_or(0.0, |o| o[row]);
        let weight = |row: usize| shard.weight.as_ref().map_or(1.0, |w| w[row]);
        let mut out = Counts::default();
        sought.count(0, shard.range(Segment::Train).map(|row| (target[row] - offset(row), weight(row))), &mut out);
        Ok(Partial::Counts(vec![out]))
    }

    pub(super) fn take_targets(&self, state: &mut State, counts: &[Counts]) -> Result<Progress, LearnError> {
        let found = state.search.as_mut().map(|search| search.take(counts)).transpose()?.flatten();
        if let Some(found) = found {
            (state.search, state.quantile) = (None, found.first().copied());
        }
        self.begin_unless_asking(state)
    }

    /// Trees whose leaves are quantiles wait for them; others come back as they are.
    pub(super) fn renew(&self, state: &mut State, grown: Vec<Grown>) -> Option<Vec<Grown>> {
        let (Some(probability), Some(survey)) = (self.objective.quantile(), &state.survey) else { return Some(grown) };
        let rows: Vec<u64> = grown.iter().flat_map(|tree| leaves(tree).map(|leaf| tree.rows[leaf])).collect();
        let search = Search::new(probability, &rows, weight(survey));
        state.renewing = Some(Renewing { grown, search });
        None
    }

    /// Takes in counts of residuals; the last round gives the leaves their values, as steps ask for them: tree after
    /// tree, ascending.
    pub(super) fn take_residuals(&self, state: &mut State, counts: &[Counts]) -> Result<Progress, LearnError> {
        let found = state.renewing.as_mut().map(|renewing| renewing.search.take(counts)).transpose()?.flatten();
        let (Some(found), true) = (found, state.renewing.is_some()) else { return Ok(Progress::Continue) };
        let mut grown = state.renewing.take().map(|renewing| renewing.grown).unwrap_or_default();
        let mut found = found.into_iter();
        for tree in &mut grown {
            for (leaf, residual) in leaves(tree).zip(found.by_ref()) {
                tree.values[leaf] = self.settings.learning_rate * residual;
            }
        }
        state.growing = None;
        self.take_trees(state, grown)
    }
}
