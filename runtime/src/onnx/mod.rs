//! Models in the open neural network exchange format (ONNX), for runtimes other than this one.
//!
//! One input `features`, rows × features in the schema's order: numbers as they are before the schema's shift and scale,
//! categories as their code (the place of the value in `sheaf.features`), NaN where a value is missing; a code that is
//! none is a missing value. Trees take f32 and give what scoring here gives up to the rounding of f32 sums (a number
//! that is no f32 is to be rounded up to one, as scoring here does); linear models take f64. Models with an offset have
//! a second input `offset`. Numbers come out as `prediction`, classes as `label` and `probabilities`.
//! The bytes are a function of the model alone.

mod graph;
mod linear;
pub mod proto;
mod trees;

use prost::Message as _;
use serde_json::{Value, json};
use sheaf_learn::model::{Model, Task};
use sheaf_learn::shard::{FeatureKind, Schema};
use sheaf_learn::trees::objective::Link;

use self::graph::{Graph, ML, Name, int};
use self::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, element};
use crate::artifact::Artifact;
use crate::fault::{Fault, Kind};

/// Version of the format, that of ONNX 1.13.
const IR_VERSION: i64 = 8;
/// Version of ONNX's own operators.
const OPERATORS: i64 = 17;
/// Version of those of machine learning.
const ML_OPERATORS: i64 = 3;
/// Probability from which a row is of the positive class.
const THRESHOLD: f64 = sheaf_dataflow::score::THRESHOLD;

/// Why a model cannot be exported: what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be written as ONNX: {0}")]
pub struct ExportError(String);

impl ExportError {
    /// A column of anonymous slots has no place in a table of numbers.
    pub fn hashed(column: &str) -> Self {
        Self(format!("feature `{column}` is hashed to sparse slots; encode it by one_hot, or train without it"))
    }
}

impl From<ExportError> for Fault {
    fn from(error: ExportError) -> Self {
        Fault::new(Kind::Data, format!("the model {error}"))
    }
}

/// A model as the bytes of an ONNX file.
///
/// # Errors
/// It has a part that ONNX cannot hold.
pub fn export(artifact: &Artifact) -> Result<Vec<u8>, ExportError> {
    let schema = &artifact.pipeline.schema;
    artifact.model.check(schema).map_err(|e| ExportError(e.to_string()))?;
    let mut graph = Graph::default();
    let elements = match artifact.model {
        Model::Linear(_) => element::DOUBLE,
        _ => element::FLOAT,
    };
    let doc = "numbers as they are, categories as their code, NaN where missing; columns in the order of `sheaf.features`";
    let features = graph.input("features", elements, schema.features.len(), doc);
    let scores = match &artifact.model {
        Model::Linear(model) => linear::margins(&mut graph, model, schema, &features)?,
        Model::Trees(model) => trees::scores(&mut graph, model, schema, &features)?,
        Model::Isolation(model) => trees::scores(&mut graph, &model.forest, schema, &features)?,
    };
    let scores = with_offset(&mut graph, artifact, elements, scores);
    outputs(&mut graph, &artifact.model, schema, elements, &scores)?;
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "sheaf".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: String::new(),
        graph: Some(graph.finish("model")),
        opset_import: vec![set("", OPERATORS), set(ML, ML_OPERATORS)],
        metadata_props: metadata(artifact)?,
    };
    Ok(model.encode_to_vec())
}

fn with_offset(graph: &mut Graph, artifact: &Artifact, elements: i32, scores: Name) -> Name {
    let Some(column) = &artifact.pipeline.offset else { return scores };
    let offset = graph.input("offset", elements, 1, &format!("column `{column}`, added to the score"));
    graph.node("Add", &[&scores, &offset], Vec::new(), "scores_with_offset")
}

/// From scores to what is predicted.
fn outputs(graph: &mut Graph, model: &Model, schema: &Schema, elements: i32, scores: &Name) -> Result<(), ExportError> {
    let link = match model {
        Model::Linear(model) if model.task == Task::Binary => Link::Logistic,
        Model::Linear(_) => Link::Identity,
        Model::Trees(model) => model.link,
        Model::Isolation(model) => {
            anomalies(graph, model.threshold, elements, scores);
            return Ok(());
        }
    };
    match model.task() {
        Task::Binary => {
            let probability = linked(graph, link, elements, scores, 1, "probability");
            two_classes(graph, schema, elements, &probability)
        }
        Task::Multiclass => {
            linked(graph, link, elements, scores, schema.classes.len(), "probabilities");
            let best = "probabilities".to_owned();
            let best = graph.node("ArgMax", &[&best], vec![int("axis", 1), int("keepdims", 0)], "best");
            classes(graph, schema, elements, &best);
            Ok(())
        }
        _ => {
            linked(graph, link, elements, scores, 1, "prediction");
            graph.output("prediction", elements, Some(1), "");
            Ok(())
        }
    }
}

/// From mean path lengths to `prediction`, 2^−length, and `anomaly` where there is a threshold.
fn anomalies(graph: &mut Graph, threshold: Option<f64>, elements: i32, lengths: &Name) {
    let factor = graph.numbers("minus_ln_2", elements, &[1], &[-std::f64::consts::LN_2]);
    let exponent = graph.node("Mul", &[lengths, &factor], Vec::new(), "exponent");
    let score = graph.node("Exp", &[&exponent], Vec::new(), "prediction");
    graph.output("prediction", elements, Some(1), "between 0 and 1, higher is more anomalous");
    if let Some(threshold) = threshold {
        let threshold = graph.numbers("threshold", elements, &[1], &[threshold]);
        graph.node("Greater", &[&score, &threshold], Vec::new(), "anomaly");
        graph.output("anomaly", element::BOOL, Some(1), "whether the score is above the threshold");
    }
}

/// Scores through a link, under the given name.
fn linked(graph: &mut Graph, link: Link, elements: i32, scores: &Name, outputs: usize, name: &str) -> Name {
    match link {
        Link::Identity => graph.node("Identity", &[scores], Vec::new(), name),
        Link::Logistic => graph.node("Sigmoid", &[scores], Vec::new(), name),
        Link::Log => graph.node("Exp", &[scores], Vec::new(), name),
        Link::Softmax => graph.node("Softmax", &[scores], vec![int("axis", 1)], name),
        Link::Probability => {
            let low = graph.numbers("least", elements, &[], &[0.0]);
            let high = graph.numbers("most", elements, &[], &[1.0]);
            graph.node("Clip", &[scores, &low, &high], Vec::new(), name)
        }
        Link::Shares => {
            let positive = graph.node("Relu", &[scores], Vec::new(), "positive");
            let axes = graph.integers("classes_axis", &[1], vec![1]);
            let sum = graph.node("ReduceSum", &[&positive, &axes], vec![int("keepdims", 1)], "sum_of_shares");
            let share = graph.node("Div", &[&positive, &sum], Vec::new(), "share");
            let zero = graph.numbers("nothing", elements, &[1], &[0.0]);
            let even = graph.numbers("even", elements, &[1], &[1.0 / outputs as f64]);
            let some = graph.node("Greater", &[&sum, &zero], Vec::new(), "some");
            graph.node("Where", &[&some, &share, &even], Vec::new(), name)
        }
    }
}

/// `probabilities` of both classes and `label`: the positive one from probability ½ on.
fn two_classes(graph: &mut Graph, schema: &Schema, elements: i32, probability: &Name) -> Result<(), ExportError> {
    if schema.classes.len() != 2 {
        return Err(ExportError(format!("it predicts two classes, its schema names {}", schema.classes.len())));
    }
    let one = graph.numbers("one", elements, &[1], &[1.0]);
    let other = graph.node("Sub", &[&one, probability], Vec::new(), "other_probability");
    graph.node("Concat", &[&other, probability], vec![int("axis", 1)], "probabilities");
    let half = graph.numbers("half", elements, &[1], &[THRESHOLD]);
    let positive = graph.node("GreaterOrEqual", &[probability, &half], Vec::new(), "positive");
    let number = graph.node("Cast", &[&positive], vec![int("to", i64::from(element::INT64))], "number");
    let axes = graph.integers("label_axis", &[1], vec![1]);
    let number = graph.node("Squeeze", &[&number, &axes], Vec::new(), "class_number");
    classes(graph, schema, elements, &number);
    Ok(())
}

/// The outputs of classes, from the number of the likeliest.
fn classes(graph: &mut Graph, schema: &Schema, elements: i32, number: &Name) {
    let names = graph.texts("classes", &schema.classes);
    graph.node("Gather", &[&names, number], vec![int("axis", 0)], "label");
    graph.output("label", element::STRING, None, "the likeliest class");
    graph.output("probabilities", elements, Some(schema.classes.len()), "a column for each of `sheaf.classes`");
}

/// What a reader of the file should know, as JSON.
fn metadata(artifact: &Artifact) -> Result<Vec<StringStringEntryProto>, ExportError> {
    let schema = &artifact.pipeline.schema;
    let sha256 = artifact.sha256().map_err(|e| ExportError(e.to_string()))?;
    let feature = |feature: &sheaf_learn::shard::Feature| match &feature.kind {
        FeatureKind::Slots { names } => json!({"name": feature.name, "kind": "category", "values": names}),
        _ => json!({"name": feature.name, "kind": "number"}),
    };
    let model = json!({
        "sha256": sha256,
        "format_version": artifact.format_version,
        "numeric_version": artifact.numeric_version,
        "task": artifact.model.task(),
        "target": artifact.pipeline.target.as_ref().map(|target| &target.column),
        "offset": artifact.pipeline.offset,
    });
    let entries = [
        ("sheaf.model", model),
        ("sheaf.features", Value::Array(schema.features.iter().map(feature).collect())),
        ("sheaf.classes", json!(schema.classes)),
    ];
    let entry = |(key, value): (&str, Value)| StringStringEntryProto { key: key.to_owned(), value: value.to_string() };
    Ok(entries.into_iter().map(entry).collect())
}
