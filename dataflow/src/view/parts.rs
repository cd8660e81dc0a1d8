//! The parts that a view's shards are put together from. Views overlap: a profile, a fit and a training read
//! the same columns. A part has a name that says all that its values depend on, so that whoever keeps parts
//! makes each of them once, whichever view asks first.

use serde::Serialize;
use sheaf_learn::shard::FeatureKind;

use crate::features::Type;
use crate::features::run::{self, Spec};
use crate::features::trace;
use crate::job::Param;
use crate::view::{RowIds, Source, Test, View};

/// A part of an encoded shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Number of rows and where segments begin.
    Frame,
    /// A column, by its position among the outputs.
    Column(usize),
    /// What is learnt.
    Target,
    /// Row weights.
    Weight,
    /// Offsets.
    Offset,
    /// Queries.
    Query,
    /// Row ids.
    RowIds,
}

/// What the order and choice of rows depends on.
#[derive(Serialize)]
struct Frame<'a> {
    split: &'a crate::split::SplitRule,
    filter: Option<(&'a str, &'a std::collections::BTreeMap<String, Param>)>,
    not_null: &'a [String],
}

/// How the values of a column come to be.
#[derive(Serialize)]
struct Made<'a> {
    kind: &'a str,
    column: &'a str,
    specs: Vec<Spec>,
    reads: Vec<(&'a str, Type)>,
    test: Option<&'a Test>,
    filter: Option<(&'a str, &'a std::collections::BTreeMap<String, Param>)>,
}

impl View {
    /// The parts of the view's shards, each with its name.
    pub fn parts(&self) -> Vec<(Part, String)> {
        let frame = self.frame();
        let mut out = vec![(Part::Frame, text(&"frame"))];
        let outputs = self.outputs.iter().enumerate();
        out.extend(outputs.map(|(at, output)| (Part::Column(at), text(&self.made(&output.name, &output.source)))));
        out.extend(self.target.as_ref().map(|t| (Part::Target, text(&("target", t)))));
        out.extend(self.weight.as_ref().map(|w| (Part::Weight, text(&("weight", w)))));
        out.extend(self.offset.as_ref().map(|o| (Part::Offset, text(&("offset", o)))));
        out.extend(self.query.as_ref().map(|q| (Part::Query, text(&("query", q)))));
        out.extend((self.row_ids != RowIds::Without).then(|| (Part::RowIds, text(&("ids", &self.row_ids)))));
        out.into_iter().map(|(part, made)| (part, format!("{frame}{made}"))).collect()
    }

    /// The view that makes these parts only, of the same rows in the same order. The frame always comes. A view has
    /// either features or other columns, so that leaving out some changes none of the rest.
    pub fn only(&self, parts: &[Part]) -> View {
        let wanted = |part| parts.contains(&part);
        let outputs = self.outputs.iter().enumerate().filter(|(at, _)| wanted(Part::Column(*at)));
        View {
            outputs: outputs.map(|(_, output)| output.clone()).collect(),
            target: self.target.clone().filter(|_| wanted(Part::Target)),
            weight: self.weight.clone().filter(|_| wanted(Part::Weight)),
            offset: self.offset.clone().filter(|_| wanted(Part::Offset)),
            query: self.query.clone().filter(|_| wanted(Part::Query)),
            row_ids: match self.row_ids {
                RowIds::OfRows if !wanted(Part::RowIds) => RowIds::Without,
                // Columns of ids choose the rows as well.
                _ => self.row_ids.clone(),
            },
            ..self.clone()
        }
    }

    fn frame(&self) -> String {
        let not_null: &[String] = match &self.row_ids {
            RowIds::OfColumns(columns) => columns,
            _ => &[],
        };
        let filter = self.filter.as_deref().map(|f| (f, &self.params));
        text(&Frame { split: &self.split, filter, not_null })
    }

    fn made<'a>(&'a self, name: &'a str, source: &'a Source) -> Made<'a> {
        let (kind, column, test, filter) = match source {
            Source::Feature => (self.kind_of(name), name, None, None),
            Source::Number(column) => (NUMBER, column.as_str(), None, None),
            Source::Text(column) => ("text", column.as_str(), None, None),
            Source::Flag { test, filter } => ("flag", "", Some(test), filter.as_deref().map(|f| (f, &self.params))),
        };
        let reads = match test {
            Some(Test::Null(column) | Test::Outside { column, .. }) => Some(column.clone()),
            Some(Test::Row) => None,
            None => Some(column.to_owned()),
        };
        let (specs, inputs) = run::prune(run::lower(&self.steps, &self.columns, &self.traced().1), reads);
        let reads = self.columns.iter().filter(|(name, _)| inputs.contains(name)).map(|(name, ty)| (name.as_str(), *ty));
        Made { kind, column, specs, reads: reads.collect(), test, filter }
    }

    /// A numeric feature is the number before its trailing affine steps, and so shared with whoever reads that.
    fn kind_of(&self, feature: &str) -> &'static str {
        match trace::trace(&self.steps, feature).feature.kind {
            FeatureKind::Numeric { .. } => NUMBER,
            FeatureKind::Slots { .. } | FeatureKind::Sparse { .. } => "encoded",
        }
    }
}

const NUMBER: &str = "number";

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Affine, Fitted, FittedStep, Scaling};
    use crate::split::SplitRule;
    use crate::view::Output;

    fn view(source: Source, steps: Vec<FittedStep>) -> View {
        let outputs = ["x", "y"].map(|name| Output {
            name: name.into(),
            source: match &source {
                Source::Feature => Source::Feature,
                _ => Source::Number(name.into()),
            },
        });
        let columns = ["x", "y", "z"].map(|name| (name.to_owned(), Type::Float32));
        View { steps, outputs: outputs.into(), ..View::of(columns.into()) }
    }

    fn standardized(column: &str) -> Vec<FittedStep> {
        let columns = vec![Affine { column: column.into(), shift: 1.0, scale: 2.0 }];
        let fitted = Fitted::Affine { how: Scaling::Standardize, columns };
        vec![FittedStep { id: "s".into(), place: "features[0]".into(), fitted }]
    }

    fn names(view: &View) -> Vec<String> {
        view.parts().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn a_standardised_feature_is_the_column_that_it_was_fitted_on() {
        let raw = names(&view(Source::Number(String::new()), Vec::new()));
        assert_eq!(names(&view(Source::Feature, standardized("x"))), raw);
        let applied = names(&view(Source::Number(String::new()), standardized("x")));
        assert_ne!(applied[1], raw[1], "a number has every step applied");
        assert_eq!(applied[2], raw[2]);
    }

    #[test]
    fn another_order_of_rows_is_another_part() {
        let plain = view(Source::Feature, Vec::new());
        let split = View { split: SplitRule::Random { seed: 7, test: 0.2, validation: 0.0, query: None }, ..plain.clone() };
        let filtered = View { filter: Some("x > 0".into()), ..plain.clone() };
        let distinct = View { row_ids: RowIds::OfColumns(vec!["z".into()]), ..plain.clone() };
        for other in [split, filtered, distinct] {
            assert!(names(&plain).iter().zip(names(&other)).all(|(a, b)| *a != b), "{other:?}");
        }
    }

    #[test]
    fn only_some_parts_are_made() {
        let view = view(Source::Feature, standardized("y"));
        let made = view.only(&[Part::Column(1)]);
        assert_eq!(made.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["y"]);
        assert_eq!(names(&made)[1], names(&view)[2]);
        assert_eq!(made.inputs(), ["y"]);
    }
}
