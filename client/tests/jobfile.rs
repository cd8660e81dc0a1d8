//! The job file's reader from outside: good files give the job, bad files the expected messages, and
//! no bytes at all make it panic.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use proptest::prelude::*;
use sheaf_client::jobfile::{Diagnostic, JobFile, Overrides, Source, read, render, schema};
use sheaf_dataflow::job::{Details, Explain, ExportFormat, Format, Job, JobError, Param, Rule, Severity, Split, StepKind};

const CARD_FRAUD: &str = include_str!("jobfile/card-fraud.yaml");
const CARD_FRAUD_JSON: &str = include_str!("jobfile/card-fraud.json");
/// Cases: `=== name`, `--- set a=b` and `--- table a=b` lines, the file, `>>>`, the rendered errors.
const BAD: &str = include_str!("jobfile/bad.yaml");

fn overrides() -> Overrides {
    let env = |name: &str| (name == "SHEAF_TEST_REGION").then(|| "eu-1".to_owned());
    Overrides { base: PathBuf::from("/jobs"), env: Box::new(env), now_ns: 1_790_000_000_000_000_000, ..Overrides::default() }
}

fn source(text: &str) -> Source {
    Source { name: "job.yaml".into(), text: text.into() }
}

fn good(text: &str, overrides: &Overrides) -> JobFile {
    read(&source(text), overrides).unwrap_or_else(|errors| panic!("{}", render(&source(text), &errors, false)))
}

fn errors(text: &str, overrides: &Overrides) -> Vec<Diagnostic> {
    read(&source(text), overrides).map(|file| file.job).unwrap_err()
}

/// A small job with one more section.
fn with(section: &str) -> String {
    format!("version: 1\nname: small\ntables: {{rows: rows.parquet}}\n{section}\n")
}

#[test]
fn a_query_column_is_a_role() {
    let ranking = "columns: {target: grade, query: search}\ntrain: {algorithm: gradient_boosting, objective: lambdarank}\n\
                   evaluate: {metrics: [ndcg@10, map, mrr], limits: {train.ndcg@5: {min: 0.5}}}";
    let job = good(&with(ranking), &overrides()).job;
    assert_eq!((job.columns.query.as_deref(), job.evaluate.limits[0].metric.as_str()), (Some("search"), "ndcg@5"));
    let both = errors(&with("columns: {target: grade, query: grade}"), &overrides());
    assert!(both[0].message.contains("`grade` cannot be both target and query"), "{}", both[0].message);
    let other = errors(&with(&ranking.replace("ndcg@10", "auc")), &overrides());
    assert!(other[0].message.contains("`auc` is not a metric of `gradient_boosting`"), "{}", other[0].message);
}

#[test]
fn the_example_of_the_grammar_is_read() {
    let job = good(CARD_FRAUD, &overrides()).job;
    assert_eq!((job.version, job.name.as_str(), job.seed), (1, "card-fraud", 7));
    assert_eq!(job.params["as_of"], Param::Date("2026-10-01".into()));
    let paths: Vec<_> = job.tables.iter().map(|t| (t.name.as_str(), t.path.as_str())).collect();
    assert_eq!(paths, [("customers", "/jobs/data/customers.csv"), ("transactions", "/jobs/data/transactions/")]);
    assert_eq!((job.tables[0].format, job.tables[0].csv.delimiter), (Some(Format::Csv), ';'));
    assert_eq!(job.tables[0].csv.null.as_deref(), Some("NA"));
    assert_eq!(job.prepare.unwrap(), "SELECT *, extract(hour FROM at) AS hour\nFROM transactions WHERE at < $as_of");
    assert_eq!(job.columns.key, ["transaction_id"]);
    assert_eq!(job.split, Some(Split::Random { test: 0.2, validation: 0.1, seed: None }));
    let names: Vec<_> = job.checks.iter().map(|c| c.name.as_str()).collect();
    let expected = [
        "not_null(amount, is_fraud)",
        "range(amount, balance)",
        "unique(transaction_id)",
        "enough rows",
        "not_null(amount)",
        "not_null(amount) #2",
    ];
    assert_eq!(names, expected);
    assert_eq!(job.checks[2].severity, Severity::Warn);
    assert_eq!(job.checks[3].rule, Rule::RowCount { min: Some(1000), max: None });
    let ids: Vec<_> = job.features.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["sql", "date_parts", "impute", "money", "standardize", "one_hot", "hash", "rename", "drop"]);
    assert_eq!(job.features[4].kind, StepKind::Standardize { columns: vec!["*".into(), "-hour".into()] });
    let train = job.train.unwrap();
    assert_eq!(train.params["class_weight"], serde_json::json!({"0": 1, "1": 10.5}));
    assert_eq!(job.evaluate.limits[1].metric, "log_loss");
    assert_eq!(job.publish.unwrap().alias.as_deref(), Some("candidate"));
}

#[test]
fn json_is_the_same_grammar() {
    let yaml = good(CARD_FRAUD, &overrides()).job;
    let json = good(CARD_FRAUD_JSON, &overrides()).job;
    // The block literal ends in a line end, which is trimmed in both.
    assert_eq!(yaml, json);
    let text = serde_json::to_string(&yaml).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), yaml);
}

#[test]
fn parameters_are_set_in_their_type_and_substituted() {
    let mut given = overrides();
    given.set = vec![("data".into(), "s3://lake/$x".into()), ("share".into(), "0.3".into())];
    given.tables = vec![("customers".into(), "/else/c.csv".into())];
    let job = good(CARD_FRAUD, &given).job;
    assert_eq!(job.tables[1].path, "s3://lake/$x/transactions/");
    assert_eq!(job.tables[0].path, "/else/c.csv");
    assert_eq!(job.split, Some(Split::Random { test: 0.3, validation: 0.1, seed: None }));
    let text = "version: 1\nname: small\nparams: {region: {env: SHEAF_TEST_REGION, default: us}, day: {env: NONE, default: 2026-01-02}}\n\
                tables: {rows: \"./$region/${day}/$$/$now.parquet\"}\n";
    let job = good(text, &overrides()).job;
    assert_eq!(job.params["day"], Param::Date("2026-01-02".into()));
    assert_eq!(job.tables[0].path, "/jobs/eu-1/2026-01-02/$/2026-09-21T14:13:20Z.parquet");
}

#[test]
fn short_forms_of_roles_and_long_paths_keep_their_place() {
    let file = good(&with("train: {algorithm: linear_regression, target: y, weight: w}"), &overrides());
    assert_eq!(file.job.columns.target.as_deref(), Some("y"));
    assert_eq!(file.job.columns.weight.as_deref(), Some("w"));
    assert_eq!(file.job.tables[0].path, "/jobs/rows.parquet");
    let place = file.spans.get("columns.target").unwrap();
    assert_eq!((place.line, place.column), (4, 47));
    assert_eq!(file.spans.nearest("train.algorithm.deep[3].x").unwrap().column, 20);
}

#[test]
fn views_predictions_and_folders_are_read() {
    let text = "version: 1
name: small
params: {day: 2026-01-02, data: data}
tables:
  rows: {path: $data/rows.csv, csv: {delimiter: \";\"}}
  recent: {sql: \"SELECT * FROM rows WHERE at >= $day AND price <> '$$5'\"}
train: {algorithm: linear_regression, target: y}
predict: {from: recent, tables: {rows: $data/new.csv}, where: at < $now, keep: at, to: $data/scored/, explain: 5, leaves: true, staged: false}
write: {prepared: out/prepared, features: ./out/matrix/}
";
    let file = good(text, &overrides());
    let job = &file.job;
    assert_eq!(job.tables[1].sql.as_deref(), Some("SELECT * FROM rows WHERE at >= $day AND price <> '$$5'"));
    let predict = job.predict.as_ref().unwrap();
    assert_eq!((predict.from.as_deref(), predict.filter.as_deref()), (Some("recent"), Some("at < $now")));
    assert_eq!((predict.keep.as_slice(), predict.to.as_str()), (&["at".to_owned()][..], "/jobs/data/scored/"));
    assert_eq!(predict.details, Details { explain: Some(Explain::Largest(5)), leaves: true, staged: None });
    assert_eq!(job.tables[0].replaced_by(&predict.tables[0]).csv.delimiter, ';');
    assert_eq!(job.write.prepared.as_deref(), Some("/jobs/out/prepared"));
    assert_eq!(job.write.features.as_deref(), Some("/jobs/out/matrix/"));
    let at = |path: &str| file.spans.nearest(path).map(|place| place.line);
    assert_eq!((at("tables.recent.sql"), at("predict.tables.rows.path"), at("write.features")), (Some(6), Some(8), Some(9)));
}

#[test]
fn anomalies_need_no_target_and_models_are_exported() {
    let text = with("train: {algorithm: isolation_forest, contamination: 0.01}\npublish: {export: onnx}");
    let job = good(&text, &overrides()).job;
    assert_eq!((job.columns.target, job.publish.unwrap().export), (None, vec![ExportFormat::Onnx]));
    let refused = |export: &str| errors(&text.replace("export: onnx", export), &overrides())[0].message.clone();
    assert!(refused("export: [onnx, onnx]").contains("given twice"));
    assert!(refused("export: [onx]").contains("onx"));
}

#[test]
fn a_model_brings_its_own_tables() {
    let mut given = overrides();
    given.tables = vec![("rows".into(), "/new".into()), ("customers".into(), "/c.csv".into())];
    let text = "version: 1\nname: small\nmodel: card-fraud@production\nevaluate: {limits: {test.auc: {min: 0.5}}}\n";
    let job = good(text, &given).job;
    assert_eq!(job.model.as_deref(), Some("card-fraud@production"));
    let tables: Vec<_> = job.tables.iter().map(|t| (t.name.as_str(), t.path.as_str())).collect();
    assert_eq!(tables, [("rows", "/new"), ("customers", "/c.csv")]);
}

#[test]
fn errors_of_the_coordinator_get_their_place() {
    let file = good(CARD_FRAUD, &overrides());
    let at = |path: &str| {
        let diagnostic = file.diagnose(&JobError::at(path, "column `x` not found").hint("columns: a, b"));
        (diagnostic.line, diagnostic.column)
    };
    assert_eq!(at("features[2].impute.columns"), (35, 23));
    assert_eq!(at("features[0].sql.log_amount"), (32, 19));
    assert_eq!(at("checks[1].range.columns"), (24, 14));
    assert_eq!(at("prepare"), (12, 1));
    assert_eq!(at("evaluate.limits[1]"), (50, 26));
    assert_eq!(at("train.params.l2"), (44, 7));
    assert_eq!(at("features[6].hash.output"), (39, 50));
    assert_eq!(at(""), (0, 0));
    assert_eq!(file.diagnose(&JobError::at("columns.weight", "not found")).line, 15);
    assert_eq!(file.diagnose(&JobError::at("shard_rows", "too small")).message, "shard_rows: too small");
    let shown = render(&source(CARD_FRAUD), &[file.diagnose(&JobError::at("tables.transactions", "no such folder"))], true);
    assert!(shown.contains("\x1b[1;31merror\x1b[0m") && shown.contains("job.yaml:11:17"), "{shown}");
}

#[test]
fn bad_files_get_the_expected_messages() {
    let mut wrong = Vec::new();
    let mut actual = String::new();
    for case in BAD.split("\n=== ").skip(1) {
        let (head, expected) = case.split_once("\n>>>\n").unwrap();
        let (name, rest) = head.split_once('\n').unwrap();
        let mut given = overrides();
        let mut text = String::new();
        let mut options = String::new();
        for line in rest.lines() {
            match line.strip_prefix("--- ").and_then(|l| l.split_once(' ')) {
                Some(("set", pair)) => given.set.push(pair.split_once('=').map(|(n, v)| (n.into(), v.into())).unwrap()),
                Some(("table", pair)) => given.tables.push(pair.split_once('=').map(|(n, v)| (n.into(), v.into())).unwrap()),
                _ => {
                    text.push_str(line);
                    text.push('\n');
                    continue;
                }
            }
            options.push_str(line);
            options.push('\n');
        }
        let text = text.strip_prefix("...\n").map(with).unwrap_or(text);
        let shown = match read(&source(&text), &given) {
            Ok(_) => "no error\n".to_owned(),
            Err(errors) => render(&source(&text), &errors, false),
        };
        if shown.trim_end() != expected.trim_end() {
            wrong.push(format!("{name}: expected\n{expected}\ngot\n{shown}"));
        }
        actual.push_str(&format!("\n=== {name}\n{}\n>>>\n{}\n", rest.trim_end(), shown.trim_end()));
    }
    if let Some(path) = std::env::var_os("SHEAF_BLESS") {
        let header = BAD.split("\n=== ").next().unwrap();
        std::fs::write(path, format!("{}\n{actual}", header.trim_end())).unwrap();
    }
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn size_depth_nodes_and_aliases_are_bounded() {
    let first = |text: &str| errors(text, &overrides()).remove(0).message;
    assert!(first(&" ".repeat((1 << 20) + 1)).contains("at most 1048576"));
    assert!(first(&with(&format!("x-a: {}1{}", "[".repeat(70), "]".repeat(70)))).contains("deeper than 64"));
    assert!(first(&with(&format!("x-a: [{}]", "1,".repeat(100_001)))).contains("more than 100000 values"));
    let mut bomb = String::from("x-a: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
    for i in 1..12 {
        let before = format!("*a{}, ", i - 1).repeat(10);
        bomb.push_str(&format!("x-{i}: &a{i} [{}]\n", before.trim_end_matches(", ")));
    }
    assert!(first(&with(&bomb)).contains("aliases expanded"));
    let long = format!("x-a: &a {}\nx-b: [{}]\n", "y".repeat(100_000), "*a, ".repeat(1000).trim_end_matches(", "));
    assert!(first(&with(&long)).contains("bytes of text"));
    assert!(first(&with("x-a: &a [*a]")).contains("inside the value"));
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_place() {
    let error = Source::from_bytes("job.yaml", b"version: 1\nname: \xff\n").unwrap_err();
    assert_eq!((error.line, error.column), (2, 7));
    assert!(Source::from_bytes("job.yaml", "version: 1 # ä".as_bytes()).is_ok());
}

#[test]
fn the_schema_is_closed_at_every_fixed_map() {
    let schema = schema();
    assert_eq!(schema["properties"]["version"]["const"], 1);
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["features"]["items"]["properties"]["hash"]["required"][1], "size");
}

/// Pieces that a job is made of, and those that YAML stumbles over.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "version: 1\n",
        "name: a\n",
        "tables:\n",
        "  t: $x/\n",
        "params: {x: 1}\n",
        "features:\n",
        "- ",
        "  ",
        "\n",
        "\t",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "&a ",
        "*a",
        "<<: ",
        "!t ",
        "? ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "#",
        "$",
        "${",
        "$$",
        "sql: ",
        "impute: ",
        "split: {by: random, test: 0.2}\n",
        "train: {algorithm: linear_regression}\n",
        "null",
        "~",
        "-1e400",
        "0x",
        "2026-13-45",
        "\u{feff}",
        "\u{0}",
        "ä",
        "\r\n",
        "checks: [",
        "range: ",
        "evaluate: {limits: {",
        "test.auc: {min: .nan}",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from), 1 => "[a-z_]{1,8}: "]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let source = Source { name: "f".into(), text: String::from_utf8_lossy(&bytes).into_owned() };
        if let Err(errors) = read(&source, &overrides()) {
            prop_assert!(!errors.is_empty());
            render(&source, &errors, true);
        }
        if let Err(error) = Source::from_bytes("f", &bytes) {
            prop_assert!(error.line > 0);
        }
    }

    #[test]
    fn no_arrangement_of_pieces_panics(pieces in prop::collection::vec(piece(), 0..40)) {
        let source = Source { name: "f".into(), text: pieces.concat() };
        if let Err(errors) = read(&source, &overrides()) {
            prop_assert!(!errors.is_empty());
            render(&source, &errors, false);
        }
    }

    #[test]
    fn no_damage_to_a_good_file_panics(at in 0..CARD_FRAUD.len(), cut in 0usize..30, new in piece()) {
        let text: String = CARD_FRAUD.char_indices().filter(|(i, _)| *i < at || *i >= at + cut).map(|(_, c)| c).collect();
        let (before, after) = text.split_at(at.min(text.len()));
        let source = Source { name: "f".into(), text: format!("{before}{new}{after}") };
        if let Err(errors) = read(&source, &overrides()) {
            prop_assert!(!errors.is_empty());
            render(&source, &errors, false);
        }
    }
}

#[test]
fn long_repetitions_end_in_a_few_errors() {
    let units = [
        "[",
        "{",
        "? ",
        "- ",
        "a: ",
        "&a ",
        "\"",
        "'",
        "*a ",
        "!t ",
        "a: b\n",
        "{a: 1, ",
        "[a, ",
        "#",
        "\n",
        "\t",
        "|\n",
        "a: |\n  b\n",
        "%T\n",
        "---\n",
        ": ",
        ", ",
        "k: &z [1]\n",
        "key: $a$a$a\n",
        "x: \"a\n",
        "-\n",
        "?\n",
        ":\n",
        "  - a\n   - b\n",
    ];
    for unit in units {
        for prefix in ["", "version: 1\nx-a: ", "version: 1\nx-a: [", "x-a: {"] {
            let text = format!("{prefix}{}", unit.repeat((1 << 14) / unit.len()));
            let errors = errors(&text, &overrides());
            assert!((1..=101).contains(&errors.len()), "{prefix:?} {unit:?}");
            render(&source(&text), &errors, false);
        }
    }
}

#[test]
fn the_example_of_the_reference_is_read() {
    let page = include_str!("../../docs/job-file.md");
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(good(block, &overrides()).job.features.len(), 5);
    // The other blocks are whole jobs, or sections of one.
    for block in page.split("```yaml\n").skip(2).filter_map(|rest| rest.split("```").next()) {
        let head = "version: 1\nname: small\nparams: {as_of: 2026-10-01}\n";
        let train = if block.starts_with("predict") { "train: {algorithm: linear_regression, target: y}\n" } else { "" };
        let tables = if block.starts_with("tables") { "" } else { "tables: {transactions: data/}\n" };
        let whole = if block.starts_with("version") { block.to_owned() } else { [head, tables, train, block].concat() };
        good(&whole, &overrides());
    }
}
