//! Metrics of many classes. All but the loss and the areas follow from the confusion matrix, a sparse sum over rows, so
//! that a thousand classes cost what their rows cost. It never ranks; that is `ranking`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::Metric;
use super::sums::{Sums, surprise};
use crate::algorithm::Merge as _;
use crate::model::likeliest;
use crate::statistics::compensated::Compensated;

/// Most classes whose confusion matrix is part of a result: nobody reads a longer one.
pub const MOST_SHOWN: usize = 100;

/// How the rows of one class fare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Name of the class.
    pub class: String,
    /// Weight of the rows that are of the class among those predicted to be; null where none is.
    pub precision: Option<f64>,
    /// Weight of the rows predicted to be of the class among those that are; null where none is.
    pub recall: Option<f64>,
    /// Harmonic mean of the two; null where no row is, and none is predicted to be, of the class.
    pub f1: Option<f64>,
    /// Weight of the rows of the class; without weights their number.
    pub support: f64,
}

/// What is taken for what in one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Names of the classes, in the order of lines and columns.
    pub classes: Vec<String>,
    /// A line for each true class, a column for each predicted one: the weight of these rows, without weights their
    /// number.
    #[serde(serialize_with = "write_counts")]
    pub counts: Vec<Vec<f64>>,
}

/// Whole numbers are written as such, for that is what counts are.
fn write_counts<S: Serializer>(counts: &[Vec<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Count {
        Whole(u64),
        Part(f64),
    }
    let count = |x: &f64| if *x as u64 as f64 == *x { Count::Whole(*x as u64) } else { Count::Part(*x) };
    serializer.collect_seq(counts.iter().map(|line| line.iter().map(count).collect::<Vec<_>>()))
}

/// Sums of one segment of a shard under way.
pub(super) struct Tally {
    classes: usize,
    sums: Sums,
    confusion: BTreeMap<u32, Compensated>,
}

impl Tally {
    /// Nothing yet, of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, sums: Sums::empty(), confusion: BTreeMap::new() }
    }

    /// Takes in the next row: its probability of each class, its class by number, its weight.
    pub fn add(&mut self, probabilities: &[f64], target: f64, weight: f64) {
        let sums = &mut self.sums;
        sums.rows += 1;
        sums.unit &= weight == 1.0;
        let class = target as usize;
        let good_target = class as f64 == target && class < self.classes;
        let good_scores = probabilities.iter().all(|p| p.is_finite());
        let good_weight = weight >= 0.0 && weight.is_finite();
        sums.faults.target += u64::from(!good_target);
        sums.faults.score += u64::from(!good_scores);
        sums.faults.weight += u64::from(!good_weight);
        if good_target && good_scores && good_weight {
            sums.weight.add(weight);
            sums.loss.add(weight * surprise(probabilities[class]));
            let cell = class * self.classes + likeliest(probabilities);
            self.confusion.entry(cell as u32).or_default().add(weight);
        }
    }

    /// The sums of all rows.
    pub fn finish(mut self) -> Sums {
        self.sums.confusion = self.confusion.into_iter().collect();
        self.sums
    }
}

/// A segment's confusion matrix with the sums of its lines and columns.
pub(super) struct Table<'a> {
    sums: &'a Sums,
    /// Weight of the rows of each class that are right.
    hits: Vec<f64>,
    /// Weight of the rows of each class.
    actual: Vec<f64>,
    /// Weight of the rows predicted to be of each class.
    predicted: Vec<f64>,
}

impl<'a> Table<'a> {
    /// Of the sums of a segment with so many classes.
    pub fn new(sums: &'a Sums, classes: usize) -> Self {
        let [mut hits, mut actual, mut predicted] = [(); 3].map(|()| vec![Compensated::default(); classes]);
        for (line, column, weight) in cells(sums, classes) {
            if line == column {
                hits[line].merge(weight);
            }
            actual[line].merge(weight);
            predicted[column].merge(weight);
        }
        let values = |sums: Vec<Compensated>| sums.into_iter().map(Compensated::value).collect();
        Self { sums, hits: values(hits), actual: values(actual), predicted: values(predicted) }
    }

    fn classes(&self) -> usize {
        self.hits.len()
    }

    /// Precision of a class; `None` where no row is predicted to be of it.
    fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.hits[class], self.predicted[class])
    }

    /// Recall of a class; `None` where it has no row.
    fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.hits[class], self.actual[class])
    }

    /// F1 of a class; `None` where it has no row and is never predicted.
    fn f1(&self, class: usize) -> Option<f64> {
        // Halves, for the sum of two weights may be too large for a number.
        ratio(self.hits[class], 0.5 * self.actual[class] + 0.5 * self.predicted[class])
    }

    /// Value of a metric that follows from the matrix or is a sum over rows. Source of the averages: scikit-learn's
    /// `precision_recall_fscore_support` with `zero_division=0`, and `balanced_accuracy_score`.
    pub fn value(&self, metric: Metric) -> Result<f64, &'static str> {
        if !self.sums.can_weigh() {
            return self.sums.value(metric);
        }
        let all = 0..self.classes();
        let met = all.clone().filter(|&c| self.actual[c] > 0.0 || self.predicted[c] > 0.0);
        let mean = |of: &dyn Fn(usize) -> Option<f64>| average(met.clone().map(|c| (of(c).unwrap_or(0.0), 1.0)));
        let weighted = |of: &dyn Fn(usize) -> Option<f64>| self.weighted(of);
        match metric {
            Metric::Accuracy | Metric::F1Micro => {
                Ok(Compensated::of(self.hits.iter().copied()).value() / self.sums.weight.value())
            }
            Metric::BalancedAccuracy => average(all.filter_map(|c| Some((self.recall(c)?, 1.0)))),
            Metric::F1Macro => mean(&|c| self.f1(c)),
            Metric::PrecisionMacro => mean(&|c| self.precision(c)),
            Metric::RecallMacro => mean(&|c| self.recall(c)),
            Metric::F1Weighted => weighted(&|c| self.f1(c)),
            Metric::PrecisionWeighted => weighted(&|c| self.precision(c)),
            Metric::RecallWeighted => weighted(&|c| self.recall(c)),
            other => self.sums.value(other),
        }
    }

    /// Mean of a value of each class that has rows, weighted by their weight.
    fn weighted(&self, of: &dyn Fn(usize) -> Option<f64>) -> Result<f64, &'static str> {
        let there = (0..self.classes()).filter(|&c| self.actual[c] > 0.0);
        average(there.map(|c| (of(c).unwrap_or(0.0), self.actual[c])))
    }

    /// Mean of each class's area against all others; `area` gives that of a class. The plain mean wants every class;
    /// the weighted one leaves out those without rows. Source: scikit-learn's `roc_auc_score(multi_class="ovr")`.
    pub fn area(&self, weighted: bool, area: impl Fn(usize) -> Result<f64, &'static str>) -> Result<f64, &'static str> {
        let mut areas = Vec::with_capacity(self.classes());
        for class in 0..self.classes() {
            match self.actual[class] {
                0.0 if weighted => {}
                0.0 => return Err("a class has no row in the segment"),
                weight => areas.push((area(class)?, if weighted { weight } else { 1.0 })),
            }
        }
        average(areas.into_iter())
    }

    /// How each class fares.
    pub fn classes_of(&self, names: &[String]) -> Vec<ClassMetrics> {
        let of = |(c, name): (usize, &String)| ClassMetrics {
            class: name.clone(),
            precision: self.precision(c),
            recall: self.recall(c),
            f1: self.f1(c),
            support: self.actual[c],
        };
        names.iter().enumerate().map(of).collect()
    }

    /// The matrix with the names of its classes; `None` of more than [`MOST_SHOWN`].
    pub fn confusion(&self, names: &[String]) -> Option<Confusion> {
        let classes = self.classes();
        if classes > MOST_SHOWN {
            return None;
        }
        let mut counts = vec![vec![0.0; classes]; classes];
        for (line, column, weight) in cells(self.sums, classes) {
            counts[line][column] = weight.value();
        }
        Some(Confusion { classes: names.to_vec(), counts })
    }
}

/// (true class, predicted class, weight) of the cells that are not empty.
fn cells(sums: &Sums, classes: usize) -> impl Iterator<Item = (usize, usize, Compensated)> {
    sums.confusion.iter().map(move |(cell, weight)| (*cell as usize / classes, *cell as usize % classes, *weight))
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Mean of (value, weight).
fn average(values: impl Iterator<Item = (f64, f64)>) -> Result<f64, &'static str> {
    let (mut sum, mut weight) = (Compensated::default(), Compensated::default());
    for (value, w) in values {
        sum.add(value * w);
        weight.add(w);
    }
    ratio(sum.value(), weight.value()).ok_or("no class has a row")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes and one that no row has; the last row is a tie.
    fn sums() -> Sums {
        let mut tally = Tally::new(4);
        for (probabilities, target) in
            [([0.7, 0.2, 0.1, 0.0], 0.0), ([0.3, 0.4, 0.3, 0.0], 0.0), ([0.1, 0.8, 0.1, 0.0], 1.0), ([0.4, 0.2, 0.4, 0.0], 2.0)]
        {
            tally.add(&probabilities, target, 1.0);
        }
        tally.finish()
    }

    #[test]
    fn averages_are_over_classes_that_are_met() {
        let sums = sums();
        let table = Table::new(&sums, 4);
        let value = |metric| table.value(metric);
        assert_eq!(value(Metric::Accuracy), Ok(0.5));
        assert_eq!(value(Metric::BalancedAccuracy), Ok(0.5));
        // F1: 2/(2 + 2), 2/(1 + 2), 0.
        assert_eq!(value(Metric::F1Macro), Ok((0.5 + 2.0 / 3.0) / 3.0));
        assert_eq!(value(Metric::PrecisionMacro), Ok((0.5 + 0.5) / 3.0));
        assert_eq!(value(Metric::RecallMacro), Ok((0.5 + 1.0) / 3.0));
        assert_eq!(value(Metric::RecallWeighted), Ok(0.5));
        assert_eq!(table.area(false, |_| Ok(1.0)), Err("a class has no row in the segment"));
        assert_eq!(table.area(true, |c| Ok([0.5, 1.0, 0.0, 9.0][c])), Ok((0.5 * 2.0 + 1.0) / 4.0));
    }

    #[test]
    fn a_class_that_is_not_met_has_no_values() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let sums = sums();
        let table = Table::new(&sums, 4);
        let classes = table.classes_of(&names);
        let values = |c: &ClassMetrics| (c.precision, c.recall, c.f1, c.support);
        assert_eq!(values(&classes[2]), (None, Some(0.0), Some(0.0), 1.0));
        assert_eq!(values(&classes[3]), (None, None, None, 0.0));
        let confusion = table.confusion(&names).expect("four classes are shown");
        let text = serde_json::to_string(&confusion).expect("plain data");
        assert_eq!(text, r#"{"classes":["a","b","c","d"],"counts":[[1,1,0,0],[0,1,0,0],[1,0,0,0],[0,0,0,0]]}"#);
        assert_eq!(serde_json::from_str::<Confusion>(&text).expect("its own text"), confusion);
        let many = vec![String::new(); MOST_SHOWN + 1];
        assert!(Table::new(&Tally::new(many.len()).finish(), many.len()).confusion(&many).is_none());
    }

    #[test]
    fn rows_that_cannot_be_measured_are_counted() {
        let mut tally = Tally::new(2);
        for target in [-1.0, 0.5, 2.0, f64::NAN, f64::INFINITY] {
            tally.add(&[0.5, 0.5], target, 1.0);
        }
        tally.add(&[0.5, f64::NAN], 0.0, 1.0);
        tally.add(&[0.5, 0.5], 1.0, -1.0);
        let sums = tally.finish();
        assert_eq!((sums.faults.target, sums.faults.score, sums.faults.weight), (5, 1, 1));
        assert!(sums.confusion.is_empty() && sums.rows == 7);
    }
}
