//! How boosting begins: from the survey and a sample of rows to bins, weights of classes and scores.

use crate::algorithm::{LearnError, Progress};
use crate::algorithms::scaling::ClassWeight;
use crate::shard::{Column, EncodedShard, FeatureKind, Segment};

use super::bins::{Bins, FeatureBins};
use super::boosting::{Begin, Boosting, State};
use super::edges::{ROWS, edges};
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
        let least_rows = if self.settings.regularization.min_samples_leaf as usize >= ROWS { ROWS } else { 1 };
        state.edges.extend(keys.into_iter().map(|keys| edges(&keys.sorted(), self.settings.max_bins, least_rows)));
        self.begin_unless_asking(state)
    }

    /// From survey and sample to bins and base score.
    fn begin(&self, state: &mut State) -> Result<(), LearnError> {
        let Some(survey) = &state.survey else { return Err(LearnError::Data("a sample came before the survey".into())) };
        let mut sampled = std::mem::take(&mut state.edges).into_iter();
        let (rare, mut bins, mut more) = (self.settings.regularization.cat_smooth, Bins::default(), Vec::new());
        for (j, (feature, slots)) in self.schema.features.iter().zip(&survey.slots).enumerate() {
            let mut columns = match &feature.kind {
                FeatureKind::Numeric { .. } => vec![FeatureBins::Numeric { edges: sampled.next().unwrap_or_default() }],
                _ => category_columns(slots, self.settings.max_bins, rare),
            };
            bins.more.extend(std::iter::repeat_n(j as u32, columns.len() - 1));
            more.extend(columns.drain(1..));
            bins.features.append(&mut columns);
        }
        bins.features.append(&mut more);
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

/// Most columns of a feature beside its first.
const MORE_COLUMNS: usize = 15;
/// Part of the rows whose categories have bins of their own where all that are met cannot have them, as in LightGBM.
const TOLD_APART: f64 = 0.99;

/// The columns of a feature of categories: a bin a slot. Where there are too many slots for a column the most frequent
/// ones have bins there and all others share its last one; further columns have bins for the next ones, each with all
/// others beside the missing values, until most rows are told apart or what is left is rarer than `rare` rows.
fn category_columns(counts: &[u64], most: usize, rare: f64) -> Vec<FeatureBins> {
    if counts.len() <= most {
        return vec![FeatureBins::Categories { bins: (0..counts.len()).map(|i| i as u8).collect(), count: counts.len() as u16 }];
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(counts[i]), i));
    let (first, rest) = order.split_at(most - 1);
    let column = |own: &[usize], others: u8, count: usize| {
        let mut bins = vec![others; counts.len()];
        let mut own = own.to_vec();
        own.sort_unstable();
        own.iter().enumerate().for_each(|(bin, &slot)| bins[slot] = bin as u8);
        FeatureBins::Categories { bins, count: count as u16 }
    };
    let rows = counts.iter().sum::<u64>() as f64 * TOLD_APART;
    let mut before = first.iter().map(|&slot| counts[slot]).sum::<u64>();
    let wanted = rest.iter().take_while(|&&slot| {
        let wanted = (before as f64) < rows && counts[slot] as f64 >= rare;
        before += counts[slot];
        wanted
    });
    let wanted = wanted.count().min(MORE_COLUMNS * most);
    let more = rest[..wanted].chunks(most).map(|own| column(own, own.len() as u8, own.len()));
    std::iter::once(column(first, (most - 1) as u8, most)).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bins of each slot, column after column.
    fn columns(counts: &[u64], most: usize) -> Vec<(Vec<u8>, u16)> {
        let of = |column| match column {
            FeatureBins::Categories { bins, count } => (bins, count),
            FeatureBins::Numeric { .. } => (Vec::new(), 0),
        };
        category_columns(counts, most, 10.0).into_iter().map(of).collect()
    }

    #[test]
    fn few_categories_have_a_bin_each() {
        assert_eq!(columns(&[5, 0, 7], 3), [(vec![0, 1, 2], 3)]);
    }

    #[test]
    fn many_categories_have_more_columns() {
        let counts = [20, 900, 30, 800, 25, 9, 700, 40];
        let first = (vec![2, 0, 2, 1, 2, 2, 2, 2], 3);
        // The next three by their rows, then what is left that has ten rows; slot 5 is too rare.
        let more = [(vec![3, 3, 0, 3, 3, 3, 1, 2], 3), (vec![0, 2, 2, 2, 1, 2, 2, 2], 2)];
        assert_eq!(columns(&counts, 3), [&[first][..], &more].concat());
    }

    #[test]
    fn nearly_all_rows_are_enough() {
        let counts: Vec<u64> = (0..1_000).map(|i| if i < 300 { 10_000 } else { 20 }).collect();
        let found = columns(&counts, 255);
        assert_eq!(found.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [255, 45]);
        assert_eq!(columns(&vec![50; 10_000], 255).len(), 1 + MORE_COLUMNS);
    }
}
