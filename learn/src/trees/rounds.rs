//! The rounds of boosting at the coordinator: units of the gradients, batches of trees, when to stop. A forest is one
//! round after another without looking at gradients again.

use crate::algorithm::{LearnError, Progress};

use super::batch::Batch;
use super::boosting::{Boosting, Losses, State, best_iteration};
use super::grown::Grown;
use super::histogram::Histogram;
use super::partial::{Extent, LeafSum};
use super::ranges::Rules;
use super::split::Scale;

impl Boosting {
    /// Losses after the rounds so far, and units of gradients and hessians; begins a round.
    pub(super) fn take_slopes(&self, state: &mut State, extent: &Extent) -> Result<Progress, LearnError> {
        let outputs = self.objective.outputs();
        if extent.most.len() != outputs || extent.spread.len() != outputs {
            return Err(LearnError::Data("gradients are of another number of scores than the objective".into()));
        }
        let rounds = state.trees.len() / outputs;
        let losses = self.losses(state, extent)?;
        if self.settings.forest {
            // Between no trees and all of them nothing is measured.
            let last = state.losses.last().copied();
            state.losses.extend(last.map(|l| std::iter::repeat_n(l, rounds - 1)).into_iter().flatten());
        }
        if state.losses.len() == rounds {
            state.losses.push(losses);
        }
        state.scales = self.scales(state, extent);
        let fitted = state.scales.iter().all(|s| s.gradient == 0.0 || s.hessian == 0.0);
        if fitted || rounds >= self.settings.trees as usize || self.has_stalled(state) {
            return Ok(Progress::Done);
        }
        state.growing = Some(self.next_batch(state));
        Ok(Progress::Continue)
    }

    fn losses(&self, state: &State, extent: &Extent) -> Result<Losses, LearnError> {
        let (Some(survey), Some(begin)) = (&state.survey, &state.begin) else {
            return Err(LearnError::Data("gradients came before the survey".into()));
        };
        let train = extent.train.value() / survey.weighted(begin.class_weight.as_deref()).iter().sum::<f64>();
        let weight = survey.validation.value();
        let validation = (weight > 0.0).then(|| extent.validation.value() / weight);
        if extent.overflow || !train.is_finite() || validation.is_some_and(|v| !v.is_finite()) {
            return Err(LearnError::Data(
                "the loss overflows: scale the target, or set `learning_rate` lower or `min_child_weight` higher".into(),
            ));
        }
        Ok(Losses { train, validation })
    }

    /// Units of each output; none for a class that no training row has, so that its trees stay leaves of 0.
    fn scales(&self, state: &State, extent: &Extent) -> Vec<Scale> {
        let weights = state.survey.as_ref().map(|survey| survey.class_weights()).unwrap_or_default();
        let scale = |(output, most): (usize, &[f32; 2])| {
            let absent = extent.most.len() > 1 && weights.get(output).is_none_or(|&w| w == 0.0);
            let [gradient, hessian] = if absent { [0.0; 2] } else { most.map(f64::from) };
            Scale { gradient, hessian, dispersion: extent.dispersion(output) }
        };
        extent.most.iter().enumerate().map(scale).collect()
    }

    /// The trees that grow next: of a round or, of a forest, of several.
    fn next_batch(&self, state: &State) -> Batch {
        let (settings, outputs) = (&self.settings, state.scales.len());
        let first = state.trees.len();
        let rows = state.survey.as_ref().map_or(0, |survey| survey.rows);
        let deepest = settings.max_depth.filter(|&depth| depth < 63).map_or(u64::MAX, |depth| 1 << depth);
        let leaves = u64::from(settings.max_leaves).min(deepest).min(rows);
        let rounds = if settings.forest { settings.trees as usize } else { first / outputs + 1 };
        let end = (first + settings.limits.trees_of(leaves)).min(rounds * outputs);
        Batch::new((first..end).map(|tree| (tree as u32, state.scales[tree % outputs])))
    }

    fn has_stalled(&self, state: &State) -> bool {
        let waited = state.losses.len() - 1 - best_iteration(&state.losses);
        self.settings.early_stopping.is_some_and(|rounds| waited >= rounds as usize)
    }

    pub(super) fn take_level(&self, state: &mut State, histograms: Vec<Histogram>) -> Result<Progress, LearnError> {
        let (Some(begin), Some(batch)) = (&state.begin, &mut state.growing) else {
            return Err(LearnError::Data("histograms came before a tree was begun".into()));
        };
        let rules = Rules { settings: &self.settings, bins: &begin.bins, level: self.level };
        batch.take(&self.settings.limits, rules, histograms)?;
        // A round without splits adds nothing; where nothing is drawn, none after it would.
        let drops = self.settings.dropout.is_some();
        let drawn = [self.settings.subsample, self.settings.colsample_bytree, self.settings.colsample_bynode];
        let whole = batch.len() == state.scales.len();
        if !self.settings.forest && !drops && whole && batch.is_grown() && batch.is_bare() && drawn == [1.0; 3] {
            state.growing = None;
            return Ok(Progress::Done);
        }
        Ok(Progress::Continue)
    }

    pub(super) fn take_leaves(&self, state: &mut State, sums: &[LeafSum]) -> Result<Progress, LearnError> {
        let Some(batch) = state.growing.take() else {
            return Err(LearnError::Data("sums of leaves came before a tree was begun".into()));
        };
        let grown = batch.finish(&self.settings, sums)?;
        match self.renew(state, grown) {
            None => {
                state.growing = Some(batch);
                Ok(Progress::Continue)
            }
            Some(grown) => self.take_trees(state, grown),
        }
    }

    /// Trees are finished: those of the round or the forest that are left grow next.
    pub(super) fn take_trees(&self, state: &mut State, grown: Vec<Grown>) -> Result<Progress, LearnError> {
        state.trees.extend(grown);
        let in_round = !state.trees.len().is_multiple_of(state.scales.len());
        let in_forest = self.settings.forest && state.trees.len() < self.settings.trees as usize * state.scales.len();
        if in_round || in_forest {
            state.growing = Some(self.next_batch(state));
        }
        Ok(Progress::Continue)
    }
}
