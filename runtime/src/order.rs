//! What a client submits: a job, or a prediction with a model. Travels as JSON. What a job with a `predict` section or
//! an existing model comes to is said here, for all who plan or run it.

use serde::{Deserialize, Serialize};
use sheaf_dataflow::job::{Details, Evaluate, Job, JobError, Param, PredictSection, Roles, Table, Write};

use crate::registry::Record;

/// An order to the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Runs a job file.
    Run {
        /// The job.
        job: Job,
    },
    /// Scores rows with a model.
    Predict(Predict),
}

/// Scores rows with a model and writes them to Parquet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predict {
    /// The model's own tables (some replaced), prepare, params and roles; nothing trains.
    pub job: Job,
    /// Content hash of the model.
    pub model: String,
    /// Hash of its artifact document.
    pub artifact: String,
    /// How the user named it.
    pub reference: String,
    /// Folder to write.
    pub to: String,
    /// Prepared columns carried along beside the key.
    pub keep: Vec<String>,
    /// Who may replace the folder, where it is not whoever scores with the same model.
    #[serde(default)]
    pub writer: Option<String>,
    /// What is written beside the predictions.
    #[serde(default)]
    pub details: Details,
}

impl Predict {
    /// Who may replace the folder.
    pub fn writer(&self) -> String {
        let of_model = || format!("predict {}", self.reference.split('@').next().unwrap_or(&self.reference));
        self.writer.clone().unwrap_or_else(of_model)
    }
}

/// A model by the hash of its content, and as people know it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelId {
    /// As it was named, or would be.
    pub reference: String,
    /// Registry name; absent: not published.
    pub name: Option<String>,
    /// Version; absent: not published.
    pub version: Option<u32>,
    /// Content hash of the model.
    pub sha256: String,
    /// Hash of its artifact document.
    pub artifact: String,
}

/// A job with an existing model, as it was resolved when the job was accepted: aliases may move on afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Existing {
    /// The job with what comes from the model's record.
    pub job: Job,
    /// The model.
    pub model: ModelId,
}

impl Existing {
    /// The job with a model's tables, prepare and columns where it has none of its own.
    pub fn new(job: &Job, reference: &str, record: &Record) -> Self {
        let model = ModelId {
            reference: reference.to_owned(),
            name: record.name.clone(),
            version: record.version,
            sha256: record.sha256.clone(),
            artifact: record.artifact.clone(),
        };
        Self { job: with_model(job, &record.job), model }
    }

    /// Whether the model is measured: the job asks for it, or for nothing else.
    pub fn evaluates(&self) -> bool {
        let (asked, writes) = (self.job.evaluate != Evaluate::default(), self.job.write != Write::default());
        asked || (self.job.predict.is_none() && !writes)
    }
}

impl Order {
    /// Pins `$now`: the time of acceptance is a parameter like any other from here on.
    #[must_use]
    pub fn with_now(mut self, now_ns: i64) -> Self {
        match &mut self {
            Order::Run { job } => pin_now(job, now_ns),
            Order::Predict(predict) => pin_now(&mut predict.job, now_ns),
        }
        self
    }

    /// The job that says what to read.
    pub fn job(&self) -> &Job {
        match self {
            Order::Run { job } => job,
            Order::Predict(predict) => &predict.job,
        }
    }
}

/// Sets the parameter `now`, unless the job declares one of its own.
pub fn pin_now(job: &mut Job, now_ns: i64) {
    let text = chrono::DateTime::from_timestamp_nanos(now_ns).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    job.params.entry("now".to_owned()).or_insert(Param::Timestamp(text));
}

/// Entries of the job override those of the model by name. Tables that the model does not know stand before its own,
/// views after them, since a view sees what stands before it.
fn with_model(job: &Job, model: &Job) -> Job {
    let (mut fresh, mut views) = (Vec::new(), Vec::new());
    let mut tables = model.tables.clone();
    for table in &job.tables {
        match tables.iter_mut().find(|t| t.name == table.name) {
            Some(old) => *old = old.replaced_by(table),
            None if table.sql.is_some() => views.push(table.clone()),
            None => fresh.push(table.clone()),
        }
    }
    let mut params = model.params.clone();
    // The time of training is not the time of scoring.
    params.remove("now");
    params.extend(job.params.clone());
    Job {
        params,
        tables: [fresh, tables, views].concat(),
        prepare: job.prepare.clone().or_else(|| model.prepare.clone()),
        columns: roles(&job.columns, &model.columns),
        shard_rows: job.shard_rows.or(model.shard_rows),
        split: None,
        features: Vec::new(),
        train: None,
        publish: None,
        ..job.clone()
    }
}

fn roles(own: &Roles, model: &Roles) -> Roles {
    let one = |own: &Option<String>, model: &Option<String>| own.clone().or_else(|| model.clone());
    let several = |own: &Vec<String>, model: &Vec<String>| if own.is_empty() { model.clone() } else { own.clone() };
    Roles {
        target: one(&own.target, &model.target),
        positive: own.positive.clone().or_else(|| model.positive.clone()),
        key: several(&own.key, &model.key),
        time: one(&own.time, &model.time),
        group: one(&own.group, &model.group),
        query: one(&own.query, &model.query),
        weight: one(&own.weight, &model.weight),
        offset: one(&own.offset, &model.offset),
        categorical: several(&own.categorical, &model.categorical),
        ignore: several(&own.ignore, &model.ignore),
    }
}

/// Name of the view that `predict.where` looks at where `prepare` makes the rows; no table of a user has it.
const PREPARED: &str = "prepared";

/// The order that the `predict` section of a job stands for. The condition must have been checked to be one.
pub fn of_section(job: &Job, section: &PredictSection, model: ModelId) -> Result<Predict, JobError> {
    Ok(Predict {
        job: scored(job, section)?,
        model: model.sha256,
        artifact: model.artifact,
        reference: model.reference,
        to: section.to.clone(),
        keep: section.keep.clone(),
        writer: Some(writer(job, "predict")),
        details: section.details.clone(),
    })
}

/// Who may replace a folder that a section of a job writes: the same section of a job of the same name.
pub fn writer(job: &Job, section: &str) -> String {
    format!("{section} of job {}", job.name)
}

/// The job's own views and `prepare` over the tables of the section, narrowed to its rows; nothing is checked, split or
/// trained.
fn scored(job: &Job, section: &PredictSection) -> Result<Job, JobError> {
    let mut scored = scoring(job);
    for table in &section.tables {
        let old = scored.tables.iter_mut().find(|t| t.name == table.name);
        let old = old.ok_or_else(|| unknown(&format!("predict.tables.{}", table.name), &table.name, job))?;
        *old = old.replaced_by(table);
    }
    if let Some(from) = &section.from
        && scored.tables.iter().all(|t| t.name != *from)
    {
        return Err(unknown("predict.from", from, job));
    }
    let base = match (&section.from, &section.filter, scored.prepare.take()) {
        (Some(from), _, _) => from.clone(),
        (None, Some(_), Some(prepare)) => {
            scored.tables.push(Table::view(PREPARED, prepare));
            PREPARED.to_owned()
        }
        (None, None, prepare) => {
            scored.prepare = prepare;
            return Ok(scored);
        }
        (None, Some(_), None) => scored.tables.last().map(|t| t.name.clone()).unwrap_or_default(),
    };
    let rows = format!("SELECT * FROM \"{base}\"");
    scored.prepare = Some(match &section.filter {
        Some(condition) => format!("{rows} WHERE (\n{condition}\n)"),
        None => rows,
    });
    Ok(scored)
}

/// The job with nothing left but what prepares rows.
pub fn scoring(job: &Job) -> Job {
    Job {
        model: None,
        checks: Vec::new(),
        split: None,
        features: Vec::new(),
        train: None,
        evaluate: Evaluate::default(),
        publish: None,
        predict: None,
        write: Write::default(),
        // A score depends on its row alone: rows need not be brought together.
        columns: Roles { query: None, ..job.columns.clone() },
        ..job.clone()
    }
}

fn unknown(path: &str, name: &str, job: &Job) -> JobError {
    let known: Vec<&str> = job.tables.iter().map(|t| t.name.as_str()).collect();
    JobError::at(path, format!("there is no table `{name}`")).hint(format!("known tables: {}", known.join(", ")))
}

/// Where an error of planning the rows of a section stands in the job file.
pub fn in_section(section: &PredictSection, error: JobError) -> JobError {
    let of_table = |name: &str| error.path == format!("tables.{name}") || error.path.starts_with(&format!("tables.{name}."));
    // What was right for the job itself is wrong for its predictions alone.
    let message = format!("with the tables of `predict`: {}", error.message);
    let (path, message) = match error.path.as_str() {
        path if section.tables.iter().any(|t| of_table(&t.name)) => (format!("predict.{path}"), error.message),
        _ if of_table(PREPARED) => ("prepare".to_owned(), message),
        "prepare" if section.filter.is_some() => ("predict.where".to_owned(), error.message),
        "prepare" if section.from.is_some() => ("predict.from".to_owned(), error.message),
        path => (path.to_owned(), message),
    };
    JobError { path, message, hint: error.hint }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn job(more: serde_json::Value) -> Job {
        let mut text = json!({"version": 1, "name": "j", "tables": [{"name": "rows", "path": "/old", "csv": {"delimiter": ";",
            "header": true, "null": null}}, {"name": "both", "sql": "SELECT * FROM rows"}], "prepare": "SELECT * FROM both;"});
        text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(text).unwrap()
    }

    fn section(text: serde_json::Value) -> PredictSection {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_section_replaces_tables_and_narrows_rows() {
        let plain =
            scored(&job(json!({})), &section(json!({"to": "/out", "tables": [{"name": "rows", "path": "/new"}]}))).unwrap();
        assert_eq!((plain.tables[0].path.as_str(), plain.tables[0].csv.delimiter), ("/new", ';'));
        assert_eq!(plain.prepare.as_deref(), Some("SELECT * FROM both;"));
        let narrowed = scored(&job(json!({})), &section(json!({"to": "/out", "where": "a > 1 -- why"}))).unwrap();
        assert_eq!(narrowed.tables[2], Table::view("prepared", "SELECT * FROM both;"));
        assert_eq!(narrowed.prepare.as_deref(), Some("SELECT * FROM \"prepared\" WHERE (\na > 1 -- why\n)"));
        let from = scored(&job(json!({})), &section(json!({"to": "/out", "from": "both", "where": "a > 1"}))).unwrap();
        assert_eq!(from.prepare.as_deref(), Some("SELECT * FROM \"both\" WHERE (\na > 1\n)"));
        let last = scored(&job(json!({"prepare": null})), &section(json!({"to": "/out", "where": "a > 1"}))).unwrap();
        assert_eq!(last.prepare, from.prepare);
        for wrong in [json!({"to": "/out", "from": "nothing"}), json!({"to": "/out", "tables": [{"name": "row", "path": "/x"}]})]
        {
            assert!(scored(&job(json!({})), &section(wrong)).unwrap_err().message.starts_with("there is no table"));
        }
    }

    #[test]
    fn errors_point_into_the_section() {
        let narrowed = section(json!({"to": "/out", "where": "a", "tables": [{"name": "rows", "path": "/new"}]}));
        let error = |path: &str| in_section(&narrowed, JobError::at(path, "wrong"));
        let at = |path: &str| error(path).path;
        assert_eq!(error("tables.both.sql").message, "with the tables of `predict`: wrong");
        assert_eq!(at("tables.rows"), "predict.tables.rows");
        assert_eq!(at("tables.rows.csv"), "predict.tables.rows.csv");
        assert_eq!(at("tables.both.sql"), "tables.both.sql");
        assert_eq!((at("tables.prepared.sql").as_str(), at("prepare").as_str()), ("prepare", "predict.where"));
    }

    #[test]
    fn a_job_overrides_its_model_by_name() {
        let model = job(json!({"params": {"now": {"text": "then"}, "a": {"int": 1}}, "columns": {"target": "y", "key": ["id"]},
            "train": {"algorithm": "linear_regression"}}));
        let own = job(json!({"model": "m@1", "name": "own", "prepare": null, "params": {"a": {"int": 2}},
            "columns": {"key": ["k"]}, "tables": [{"name": "rows", "path": "/new"}, {"name": "more", "path": "/more"},
            {"name": "last", "sql": "SELECT 1"}]}));
        let both = with_model(&own, &model);
        let names: Vec<_> = both.tables.iter().map(|t| (t.name.as_str(), t.path.as_str())).collect();
        assert_eq!(names, [("more", "/more"), ("rows", "/new"), ("both", ""), ("last", "")]);
        assert_eq!((both.name.as_str(), both.prepare.as_deref()), ("own", Some("SELECT * FROM both;")));
        assert_eq!(both.params, [("a".to_owned(), Param::Int(2))].into());
        assert_eq!((both.columns.target.as_deref(), both.columns.key), (Some("y"), vec!["k".to_owned()]));
        assert_eq!(both.train, None);
    }
}
