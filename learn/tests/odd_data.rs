//! Data that is legal but odd: numbers whose squares overflow, datasets without rows, shards without columns,
//! segments with one class. Every program answers with a result that holds numbers, or with a clear error.

#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use sheaf_learn::metrics::known;
use sheaf_learn::program::{Program, ProgramSpec, State, run};
use sheaf_learn::registry::{ALGORITHMS, Kind};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

fn schema(names: &[&str]) -> Schema {
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let features = names.iter().map(|n| Feature { name: (*n).into(), kind: kind.clone() }).collect();
    Schema { features, classes: Vec::new() }
}

/// Training rows only.
fn shard(index: u32, columns: Vec<Vec<f64>>, target: Vec<f64>) -> EncodedShard {
    let rows = target.len();
    let columns = columns.into_iter().map(|x| Column::F64(x.into())).collect();
    EncodedShard { index, rows, bounds: [0, rows, rows, rows], columns, target: Some(target.into()), ..Default::default() }
}

/// The result as text or the error.
fn answer(name: &str, params: Value, schema: Schema, shards: &[EncodedShard]) -> Result<String, String> {
    let program = ProgramSpec { name: name.into(), params, schema }.build().map_err(|e| e.to_string())?;
    run(program.as_ref(), shards).map(|v| v.to_string()).map_err(|e| e.to_string())
}

const SOLVERS: [(&str, &str); 4] = [
    ("linear_regression", "gram"),
    ("linear_regression", "lbfgs"),
    ("logistic_regression", "newton"),
    ("logistic_regression", "lbfgs"),
];

fn wave(i: usize) -> f64 {
    ((i * 37) % 19) as f64 - 9.0
}

#[test]
fn a_loss_that_overflows_is_an_error() {
    for (size, l1) in [(1e155, 0.0), (1e155, 0.1), (3e300, 0.0), (1e308, 0.5), (1e153, 0.0)] {
        for solver in ["gram", "lbfgs"] {
            for fit_intercept in [true, false] {
                let shards: Vec<_> = (0..3)
                    .map(|s| {
                        let x: Vec<f64> = (0..20).map(|i| wave(20 * s + i)).collect();
                        shard(s as u32, vec![x.clone()], x.iter().map(|x| size * (x / 9.0 + x * x / 81.0 - 0.3) / 2.0).collect())
                    })
                    .collect();
                let params = json!({"solver": solver, "l1": l1, "fit_intercept": fit_intercept});
                let found = answer("linear_regression", params.clone(), schema(&["x"]), &shards);
                match size {
                    1e153 => assert!(!found.clone().unwrap().contains("null"), "{params} {found:?}"),
                    _ => assert!(
                        found.clone().unwrap_err().starts_with("the loss overflows: scale the features or the target"),
                        "{size} {params} {found:?}"
                    ),
                }
            }
        }
    }
}

#[test]
fn a_feature_whose_variance_overflows_is_an_error() {
    for (name, solver) in SOLVERS {
        for params in
            [json!({}), json!({"standardization": false, "l2": 0.1}), json!({"standardization": false, "fit_intercept": false})]
        {
            let rows = |s: usize| (0..20).map(move |i| wave(20 * s + i));
            let of = |size: f64, s: usize| {
                let target = rows(s).map(|x| if x > 0.0 { 1.0 } else { 0.0 }).collect();
                shard(s as u32, vec![rows(s).map(|x| x * x).collect(), rows(s).map(|x| size * x).collect()], target)
            };
            let mut params = params.clone();
            params["solver"] = json!(solver);
            for size in [1e155, 1e300] {
                // In one shard, in all of them, and only between them.
                let level = |s: usize| {
                    shard(
                        s as u32,
                        vec![vec![wave(s); 20], vec![size * s as f64; 20]],
                        rows(s).map(|x| if x > 0.0 { 1.0 } else { 0.0 }).collect(),
                    )
                };
                for shards in [vec![of(1.0, 0), of(size, 1)], vec![of(size, 0), of(size, 1)], (0..4).map(level).collect()] {
                    let error = answer(name, params.clone(), schema(&["small", "large"]), &shards).unwrap_err();
                    assert_eq!(
                        error, "column `large` is too large to be standardized: its variance overflows; scale it first",
                        "{name} {params} {size}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_large_constant_column_is_a_constant() {
    for (name, solver) in SOLVERS {
        let of = |s: usize| {
            let x: Vec<f64> = (0..20).map(|i| wave(20 * s + i)).collect();
            let target = x.iter().enumerate().map(|(i, x)| if x + wave(i * i) > 0.0 { 1.0 } else { 0.0 }).collect();
            shard(s as u32, vec![x, vec![1e200; 20]], target)
        };
        let found = answer(name, json!({"solver": solver, "l2": 0.01}), schema(&["x", "large"]), &[of(0), of(1)]).unwrap();
        assert!(found.contains("constant in the training rows, coefficient 0: large") && !found.contains("null"), "{found}");
    }
}

/// The schema with the classes that these parameters speak of.
fn with_classes(schema: &Schema, params: &Value) -> Schema {
    let many = ["task", "objective"].iter().any(|key| params[*key] == "multiclass");
    Schema { classes: if many { vec!["a".into(), "b".into()] } else { Vec::new() }, ..schema.clone() }
}

/// Parameters of every program, once for each thing it may do.
fn variants(name: &str, schema: &Schema) -> Vec<Value> {
    let linear = |task: &str| {
        let coefficients = vec![0.5; schema.width()];
        json!({"task": task, "model": {"linear": {"task": task, "intercept": 0.1, "coefficients": coefficients}},
               "metrics": known(task), "per_pass": 3})
    };
    match name {
        "linear_regression" | "logistic_regression" => {
            let solvers = SOLVERS.into_iter().filter(|(n, _)| *n == name).map(|(_, solver)| solver);
            let cases = solvers.flat_map(|solver| {
                [
                    json!({"solver": solver}),
                    json!({"solver": solver, "fit_intercept": false}),
                    json!({"solver": solver, "l1": 0.1, "l2": 0.1, "fit_intercept": false, "standardization": false}),
                ]
            });
            cases.collect()
        }
        "gradient_boosting" => {
            let few = |objective: &str| json!({"objective": objective, "trees": 3, "min_samples_leaf": 1, "max_leaves": 4});
            ["squared_error", "binary", "multiclass", "absolute", "huber", "quantile", "poisson", "tweedie", "gamma"]
                .map(few)
                .to_vec()
        }
        "random_forest" | "extra_trees" => {
            ["regression", "binary", "multiclass"].map(|task| json!({"task": task, "trees": 3, "max_depth": 3})).to_vec()
        }
        "decision_tree" => ["regression", "binary", "multiclass"].map(|task| json!({"task": task, "max_depth": 3})).to_vec(),
        "isolation_forest" => [json!({"trees": 3}), json!({"trees": 2, "max_samples": 2, "contamination": 0.3})].to_vec(),
        "quantiles" => vec![json!({"probabilities": []}), json!({"probabilities": [0.0, 0.3, 1.0], "segment": "test"})],
        "duplicates" => vec![json!({}), json!({"per_pass": 0})],
        "vocabulary" => vec![json!({}), json!({"limit": 0})],
        "metrics" => {
            let trees = json!({"trees": {"task": "multiclass", "link": "softmax", "base": [0.1, 0.3], "trees": []}});
            let many = json!({"task": "multiclass", "model": trees, "metrics": known("multiclass"), "per_pass": 3});
            vec![linear("binary"), linear("regression"), many]
        }
        "counts" | "moments" | "target_summary" => vec![json!({})],
        other => panic!("say with which parameters `{other}` is tried"),
    }
}

/// Every program on these shards with these columns: no panic, and no number that JSON cannot hold. A metric that
/// is null has its reason; a moment that does not fit into a number is null, as documented.
fn everything(columns: &[&str], shards: &[EncodedShard]) -> Vec<(String, Result<String, String>)> {
    let mut out = Vec::new();
    for entry in ALGORITHMS {
        let schema = schema(columns);
        for params in variants(entry.name, &schema) {
            let found = answer(entry.name, params.clone(), with_classes(&schema, &params), shards);
            let what = format!("{} {params} on {} shards", entry.name, shards.len());
            match &found {
                Ok(text) => assert!(!text.contains("null") || is_explained(entry.name, text), "{what}: {text}"),
                Err(error) => assert!(error.len() > 10, "{what}: {error}"),
            }
            out.push((what, found));
        }
    }
    out
}

fn is_explained(name: &str, text: &str) -> bool {
    matches!(name, "moments" | "target_summary") || reasons_are_given(text)
}

fn reasons_are_given(text: &str) -> bool {
    let result: Value = serde_json::from_str(text).unwrap();
    let Some(undefined) = result["undefined"].as_object() else { return false };
    result["segments"].as_object().unwrap().iter().all(|(segment, metrics)| {
        metrics
            .as_object()
            .unwrap()
            .iter()
            .all(|(metric, v)| v.is_null() == undefined.get(segment).is_some_and(|r| r[metric].is_string()))
    })
}

fn is_learner(what: &str) -> bool {
    ALGORITHMS.iter().any(|e| e.kind == Kind::Learner && what.starts_with(&format!("{} ", e.name)))
}

#[test]
fn a_dataset_without_rows_is_answered() {
    let empty = |i: u32| EncodedShard {
        row_ids: Some(Vec::new().into()),
        weight: Some(Vec::new().into()),
        ..shard(i, vec![Vec::new()], Vec::new())
    };
    for shards in [vec![], vec![empty(0)], (0..5).map(empty).collect(), vec![EncodedShard::default(); 3]] {
        for (what, found) in everything(&["x"], &shards) {
            match is_learner(&what) {
                true => assert_eq!(found, Err("there are no training rows".into()), "{what}"),
                false => assert!(found.is_ok(), "{what} {found:?}"),
            }
        }
    }
}

#[test]
fn shards_without_columns_are_answered() {
    for target in [vec![0.0, 1.0, 1.0], vec![1.0, 1.0, 1.0], vec![0.5, -2.0, 7.0]] {
        let of =
            |i: u32| EncodedShard { row_ids: Some(vec![1, 2, u128::from(i)].into()), ..shard(i, Vec::new(), target.clone()) };
        for (what, found) in everything(&[], &[of(0), of(1), EncodedShard::default()]) {
            let classes = what.contains("binary") || what.contains("multiclass");
            match what.starts_with("logistic") || classes || what.starts_with("gradient_boosting") {
                true => {}
                false => assert!(found.is_ok(), "{what} {found:?}"),
            }
            if what.starts_with("linear") && !what.contains("false") {
                let mean = target.iter().sum::<f64>() / 3.0;
                let result: Value = serde_json::from_str(&found.unwrap()).unwrap();
                assert!((result["model"]["linear"]["intercept"].as_f64().unwrap() - mean).abs() < 1e-12, "{what} {result}");
            }
        }
    }
}

#[test]
fn odd_segments_are_answered() {
    // Segments by their number of rows; targets that leave one class in some of them; weights of any size.
    for bounds in [[0, 4, 4, 4], [0, 0, 0, 4], [0, 1, 2, 4], [0, 3, 4, 4]] {
        for target in [[0.0, 1.0, 0.0, 1.0], [1.0; 4], [0.0; 4], [1.0, 0.0, 0.0, 0.0]] {
            for weight in
                [None, Some([0.0; 4]), Some([0.0, 1.0, 2.0, 0.0]), Some([1e308; 4]), Some([1e-320; 4]), Some([1e200; 4])]
            {
                for x in
                    [[0.0, 1.0, 2.0, 4.0], [-0.0, 0.0, -0.0, 0.0], [5e-324, -5e-324, 1e-200, 0.0], [1e300, -1e300, 3.0, 1e308]]
                {
                    let of = |i: u32| EncodedShard {
                        bounds,
                        weight: weight.map(|w| w.to_vec().into()),
                        row_ids: Some((0..4).map(|r| u128::from(r % (i + 2))).collect()),
                        ..shard(i, vec![x.to_vec()], target.to_vec())
                    };
                    everything(
                        &["x"],
                        &[of(0), EncodedShard { columns: vec![Column::F64(Vec::new().into())], ..Default::default() }, of(1)],
                    );
                }
            }
        }
    }
}

#[test]
fn metrics_that_overflow_have_a_reason() {
    let of = |y: [f64; 2], weight: f64| EncodedShard {
        weight: Some(vec![weight; 2].into()),
        ..shard(0, vec![vec![0.0, 1.0]], y.to_vec())
    };
    let measure = |task: &str, shards: &[EncodedShard]| -> Value {
        let params = json!({"task": task, "scores": "x", "metrics": known(task)});
        serde_json::from_str(&answer("metrics", params, schema(&["x"]), shards).unwrap()).unwrap()
    };
    let found = measure("regression", &[of([1e155, -1e155], 1.0)]);
    assert_eq!(found["segments"]["train"]["mse"], Value::Null);
    assert_eq!(found["undefined"]["train"]["mse"], json!("the value is too large for a number"));
    assert_eq!(found["undefined"]["train"]["r2"], json!("the variance of the target is too large for a number"));
    assert_eq!(found["segments"]["train"]["mae"], json!(1e155));
    // The variance overflows only where two shards meet.
    let found = measure("regression", &[of([1e155; 2], 1.0), of([-1e155; 2], 1.0)]);
    assert_eq!(found["undefined"]["train"]["r2"], json!("the variance of the target is too large for a number"));
    for task in ["binary", "regression"] {
        let found = measure(task, &[of([0.0, 1.0], 1e308), of([1.0, 0.0], 1e308)]);
        for name in known(task) {
            assert_eq!(found["segments"]["train"][name], Value::Null, "{found}");
            assert_eq!(found["undefined"]["train"][name], json!("the sum of the weights is too large for a number"));
        }
    }
    let error = answer("target_summary", json!({}), schema(&["x"]), &[of([0.0, 1.0], 1e308)]).unwrap_err();
    assert!(error.contains("weights overflow"), "{error}");
}

#[test]
fn shards_of_another_shape_are_an_error_not_a_panic() {
    let good = shard(0, vec![vec![1.0, 2.0]], vec![0.0, 1.0]);
    let bad = [
        EncodedShard { columns: Vec::new(), ..good.clone() },
        EncodedShard { columns: vec![Column::Code(vec![0, 1].into())], ..good.clone() },
        EncodedShard { offset: Some(vec![0.5].into()), ..good.clone() },
        EncodedShard { weight: Some(vec![0.5].into()), ..good.clone() },
        EncodedShard { target: Some(vec![0.5].into()), ..good.clone() },
        EncodedShard { target: None, ..good.clone() },
    ];
    let schema = schema(&["x"]);
    for bad in bad {
        for name in ["metrics", "linear_regression", "logistic_regression", "gradient_boosting", "random_forest"] {
            for params in variants(name, &schema) {
                let error =
                    answer(name, params.clone(), with_classes(&schema, &params), &[good.clone(), bad.clone()]).unwrap_err();
                assert!(error.contains("shard 0") || error.contains("no target"), "{name} {params}: {error}");
            }
        }
    }
}

#[test]
fn a_partial_of_another_schema_is_an_error() {
    for (name, solver) in SOLVERS {
        let build = |columns: &[&str]| {
            ProgramSpec { name: name.into(), params: json!({"solver": solver}), schema: schema(columns) }.build().unwrap()
        };
        let (one, two) = (build(&["a"]), build(&["a", "b"]));
        let data = |columns: usize| shard(0, vec![vec![1.0, 2.0, 4.0]; columns], vec![0.0, 1.0, 0.0]);
        let answer = |program: &dyn Program, state: &State, columns: usize| {
            let message = program.message(state).unwrap();
            program
                .open(&program.chapters(), 0, &message)
                .unwrap()
                .partial(&data(columns), &mut program.local())
                .unwrap()
                .encode()
        };
        let (mut state, mut other) = (one.start().unwrap(), two.start().unwrap());
        for _ in 0..2 {
            let (mine, wide) = (answer(one.as_ref(), &state, 1), answer(two.as_ref(), &other, 2));
            let read = |bytes: &[u8]| one.read(bytes).unwrap();
            let merged = |a: &[u8], b: &[u8]| one.merge(read(a), read(b)).unwrap();
            for odd in [read(&wide), merged(&mine, &wide), merged(&wide, &mine)] {
                let mut copy = one.load(&one.save(&state).unwrap()).unwrap();
                let error = one.update(&mut copy, Some(odd)).unwrap_err().to_string();
                assert!(error.contains("another schema") || error.contains("two different steps"), "{error}");
            }
            one.update(&mut state, Some(read(&mine))).unwrap();
            two.update(&mut other, Some(two.read(&wide).unwrap())).unwrap();
        }
    }
}
