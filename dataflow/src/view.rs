//! How prepared rows become an encoded shard: which fitted steps apply, which columns come out and how,
//! and where rows stand. A view is data: it travels to every worker, which compiles it once.

mod compiled;
mod parts;

pub use compiled::CompiledView;
pub(crate) use compiled::role_error;
pub use parts::Part;

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};
use sheaf_learn::shard::{Feature, FeatureKind, Schema};

use crate::features::run::{self, Spec};
use crate::features::trace::{self, Folded};
use crate::features::{FitError, FittedStep, Type};
use crate::job::{Job, Param};
use crate::pipeline::Pipeline;
use crate::split::SplitRule;
use crate::target::TargetSpec;

/// A view of prepared rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Prepared columns that steps and outputs may read, with the type they are read as.
    pub columns: Vec<(String, Type)>,
    /// Steps applied, in order.
    pub steps: Vec<FittedStep>,
    /// Columns of the encoded shard.
    pub outputs: Vec<Output>,
    /// What is learnt.
    pub target: Option<TargetSpec>,
    /// Prepared column with row weights.
    pub weight: Option<String>,
    /// Prepared column with offsets.
    pub offset: Option<String>,
    /// Prepared column that says which rows are of one query; their rows stand side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Where rows stand.
    pub split: SplitRule,
    /// Only rows for which this SQL condition over prepared columns is true.
    pub filter: Option<String>,
    /// Values of the parameters that conditions use.
    pub params: BTreeMap<String, Param>,
    /// Which row ids the shard carries.
    pub row_ids: RowIds,
}

/// A column of the encoded shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its name in the schema.
    pub name: String,
    /// Where its values come from.
    pub source: Source,
}

/// Where the values of an output come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The feature of that name as the steps leave it; trailing affine steps are left to kernels.
    Feature,
    /// A column as numbers, with every step applied; dates are days, timestamps nanoseconds.
    Number(String),
    /// A column as canonical text.
    Text(String),
    /// 1 or 0 per row.
    Flag {
        /// What makes it 1.
        test: Test,
        /// Only where this SQL condition over prepared columns is true.
        filter: Option<String>,
    },
}

/// What makes a flag 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Every row.
    Row,
    /// The column is null (NaN is a value here).
    Null(String),
    /// The number is below `min`, above `max` or NaN; nulls are 0.
    Outside {
        /// The column.
        column: String,
        /// Smallest allowed value.
        min: Option<f64>,
        /// Largest allowed value.
        max: Option<f64>,
    },
}

/// Which row ids an encoded shard carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowIds {
    /// None.
    #[default]
    Without,
    /// Those of the prepared rows.
    OfRows,
    /// The hash of these columns' values. A row with a null in one of them is left out.
    OfColumns(Vec<String>),
}

impl View {
    /// A view of columns without steps, roles or row ids: every row, training segment.
    pub(crate) fn of(columns: Vec<(String, Type)>) -> View {
        View {
            columns,
            steps: Vec::new(),
            outputs: Vec::new(),
            target: None,
            weight: None,
            offset: None,
            query: None,
            split: SplitRule::None,
            filter: None,
            params: BTreeMap::new(),
            row_ids: RowIds::Without,
        }
    }

    /// What training and metrics read: the pipeline's features with target, weight, offset, query and split.
    pub fn features(job: &Job, pipeline: &Pipeline) -> View {
        View {
            target: pipeline.target.clone(),
            weight: job.columns.weight.clone(),
            query: job.columns.query.clone(),
            split: SplitRule::of(job),
            ..View::scoring(pipeline)
        }
    }

    /// What prediction reads: the pipeline's features, and the offset if there is one.
    pub fn scoring(pipeline: &Pipeline) -> View {
        let outputs = pipeline.schema.features.iter();
        View {
            steps: pipeline.steps.clone(),
            outputs: outputs.map(|f| Output { name: f.name.clone(), source: Source::Feature }).collect(),
            offset: pipeline.offset.clone(),
            ..View::of(pipeline.typed_inputs())
        }
    }

    /// Prepared columns that the view reads, sorted by name.
    pub fn inputs(&self) -> Vec<String> {
        let mut out = self.lowered().1;
        let target = self.target.as_ref().map(|t| t.column.as_str());
        let roles = [target, self.weight.as_deref(), self.offset.as_deref(), self.query.as_deref(), self.split.reads()];
        out.extend(roles.into_iter().flatten().map(String::from));
        if let RowIds::OfColumns(columns) = &self.row_ids {
            out.extend(columns.iter().cloned());
        }
        let filters = self.outputs.iter().filter_map(|o| match &o.source {
            Source::Flag { filter, .. } => filter.as_deref(),
            _ => None,
        });
        for filter in filters.chain(self.filter.as_deref()) {
            out.extend(crate::features::expression::mentioned(filter, &self.columns, &self.params));
        }
        out.into_iter().collect()
    }

    /// Whether the view reads the ids of prepared rows.
    pub(crate) fn reads_row_ids(&self) -> bool {
        self.row_ids == RowIds::OfRows || self.split.reads_row_ids()
    }

    /// The schema of the shards that the view makes.
    pub fn schema(&self) -> Schema {
        let (mut traced, _) = self.traced();
        let feature = |output: &Output| match &output.source {
            Source::Feature => match traced.iter().position(|f| f.name == output.name) {
                Some(at) => traced.swap_remove(at),
                None => number(&output.name),
            },
            Source::Text(_) => Feature { name: output.name.clone(), kind: FeatureKind::Slots { names: Vec::new() } },
            Source::Number(_) | Source::Flag { .. } => number(&output.name),
        };
        let classes = self.target.as_ref().map(TargetSpec::classes).unwrap_or_default();
        Schema { features: self.outputs.iter().map(feature).collect(), classes }
    }

    /// Ready to encode shards of prepared rows. `prepared`: the columns of the batches that will come.
    pub fn compile(&self, prepared: SchemaRef, session: &SessionContext) -> Result<CompiledView, FitError> {
        CompiledView::new(self, prepared, session)
    }

    /// Features as the steps leave them, and the affine changes that kernels apply.
    fn traced(&self) -> (Vec<Feature>, Folded) {
        let features = self.outputs.iter().filter(|o| o.source == Source::Feature);
        trace::features(&self.steps, &features.map(|o| o.name.clone()).collect::<Vec<_>>())
    }

    /// Operations that the outputs need, and the prepared columns they start from.
    pub(crate) fn lowered(&self) -> (Vec<Spec>, BTreeSet<String>) {
        let specs = run::lower(&self.steps, &self.columns, &self.traced().1);
        run::prune(specs, self.outputs.iter().filter_map(Output::column).map(String::from))
    }
}

impl Output {
    /// The column after the steps that the output reads.
    fn column(&self) -> Option<&str> {
        match &self.source {
            Source::Feature => Some(&self.name),
            Source::Number(column) | Source::Text(column) => Some(column),
            Source::Flag { test: Test::Null(column) | Test::Outside { column, .. }, .. } => Some(column),
            Source::Flag { test: Test::Row, .. } => None,
        }
    }
}

fn number(name: &str) -> Feature {
    Feature { name: name.to_string(), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } }
}
