//! How boosting begins: from the survey and a sample of rows to bins, weights of classes and scores.

use crate::algorithm::{LearnError, Progress};
use crate::algorithms::scaling::ClassWeight;
use crate::shard::{Column, EncodedShard, FeatureKind, Segment};

use super::bins::{Bins, FeatureBins};
use super::boosting::{Begin, Boosting, State};
use super::edges::edges;
use super::partial::Partial;
use super::sample::{COLUMNS, Keys, chosen};
use super::survey::Survey;

impl Boosting {
    /// Columns that the sample is of: numeric features.
    fn sampled(&self) -> Vec<u32> {
        let features = self.schema.features.iter().enumerate();
        features.filter(|(_, f)| matches!(f.kind, FeatureKind::Numeric { .. })).map(|(j, _)| j as u32).collect()
    }

    pub(super) fn next_columns(&self, state: &State) -> Vec<u32> {
        self.sampled().into_iter().skip(state.edges.len()).take(COLUMNS).collect()
    }

    pub(super) fn sample(&self, shard: &EncodedShard, columns: &[u32], threshold: Option<u64>) -> Result<Partial, LearnError> {
        let rows = chosen(self.settings.seed, shard.index, shard.range(Segment::Train).len(), threshold);
        let of = |&column: &u32| {
            let mut keys = Keys::default();
            match shard.columns.get(column as usize) {
                Some(Column::F32(x)) => rows.iter().for_each(|&row| keys.add(f64::from(x[row as usize]))),
                Some(Column::F64(x)) => rows.iter().for_each(|&row| keys.add(x[row as usize])),
                _ => return Err(LearnError::Data(format!("column {column} of shard {} is not of numbers", shard.index))),
            }
            Ok(keys)
        };
        Ok(Partial::Sample(columns.iter().map(of).collect::<Result<_, _>>()?))
    }

    pub(super) fn take_survey(&self, state: &mut State, survey: Survey) -> Result<Progress, LearnError> {
        survey.check(&self.schema, self.objective)?;
        if self.settings.early_stopping.is_some() && survey.validation.value() <= 0.0 {
            return Err(LearnError::Data("`early_stopping` needs validation rows: set `split.validation`".into()));
        }
        state.search = self.search_base(&survey);
        state.survey = Some(survey);
        self.begin_unless_asking(state)
    }

    /// Bins and base are made when nothing is asked of the rows any more.
    pub(super) fn begin_unless_asking(&self, state: &mut State) -> Result<Progress, LearnError> {
        if state.search.is_none() && self.next_columns(state).is_empty() {
            self.begin(state)?;
        }
        Ok(Progress::Continue)
    }

    pub(super) fn take_sample(&self, state: &mut State, keys: Vec<Keys>) -> Result<Progress, LearnError> {
        let columns = self.next_columns(state);
        if columns.len() != keys.len() {
            return Err(LearnError::Data("a sample is of other columns than the step asked for".into()));
        }
        state.edges.extend(keys.into_iter().map(|keys| edges(&keys.sorted(), self.settings.max_bins)));
        self.begin_unless_asking(state)
    }

    /// From survey and sample to bins and base score.
    fn begin(&self, state: &mut State) -> Result<(), LearnError> {
        let Some(survey) = &state.survey else { return Err(LearnError::Data("a sample came before the survey".into())) };
        let mut sampled = std::mem::take(&mut state.edges).into_iter();
        let slots = survey.slots.iter().zip(&survey.levels);
        let features = self.schema.features.iter().zip(slots).map(|(feature, (slots, levels))| match &feature.kind {
            FeatureKind::Numeric { .. } => FeatureBins::Numeric { edges: sampled.next().unwrap_or_default() },
            _ => category_bins(slots, levels, self.settings.max_bins),
        });
        let bins = Bins { features: features.collect() };
        let class_weight = self.class_factors(survey);
        let base = match state.quantile {
            Some(quantile) => vec![quantile],
            None => survey.base(self.objective, class_weight.as_deref()),
        };
        if base.iter().any(|b| !b.is_finite()) {
            return Err(LearnError::Data("targets overflow when they are summed: scale them down".into()));
        }
        state.begin = Some(Begin { bins, base, class_weight });
        Ok(())
    }

    fn class_factors(&self, survey: &Survey) -> Option<Vec<f64>> {
        match &self.class_weight {
            ClassWeight::None => None,
            ClassWeight::Given(factors) => Some(factors.clone()),
            ClassWeight::Balanced => {
                let weights = survey.class_weights();
                let (total, met) = (weights.iter().sum::<f64>(), weights.iter().filter(|&&w| w > 0.0).count() as f64);
                Some(weights.into_iter().map(|w| if w > 0.0 { total / (met * w) } else { 1.0 }).collect())
            }
        }
    }
}

/// Rows that a rare category is taken to have beside its own, with the target that all rows have on average.
const PRIOR_ROWS: f64 = 10.0;

/// A bin a slot. Where there are too many the most frequent half has bins of its own; the others are put in the order of their
/// targets and share the rest, as many rows in each as in any other, about. Without levels the rarest share the last bin.
fn category_bins(counts: &[u64], levels: &[i128], most: usize) -> FeatureBins {
    if counts.len() <= most {
        return FeatureBins::Categories { bins: (0..counts.len()).map(|i| i as u8).collect(), count: counts.len() as u16 };
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(counts[i]), i));
    let own = if levels.is_empty() { most - 1 } else { most / 2 };
    let shared = most - own;
    let (own, rest) = order.split_at_mut(own);
    own.sort_unstable();
    if !levels.is_empty() {
        let rows: u64 = counts.iter().sum();
        let mean = levels.iter().sum::<i128>() as f64 / rows.max(1) as f64;
        let place = |i: usize| (levels[i] as f64 + PRIOR_ROWS * mean) / (counts[i] as f64 + PRIOR_ROWS);
        rest.sort_by(|&a, &b| place(a).total_cmp(&place(b)).then(a.cmp(&b)));
    }
    let mut bins = vec![0; counts.len()];
    own.iter().enumerate().for_each(|(bin, &slot)| bins[slot] = bin as u8);
    // A category without rows counts as one.
    let weight = |slot: usize| u128::from(counts[slot].max(1));
    let all: u128 = rest.iter().map(|&slot| weight(slot)).sum();
    let mut before = 0;
    for &slot in rest.iter() {
        let share = (before * shared as u128 / all.max(1)) as usize;
        bins[slot] = (own.len() + share.min(shared - 1)) as u8;
        before += weight(slot);
    }
    FeatureBins::Categories { bins, count: most as u16 }
}
