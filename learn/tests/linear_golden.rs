//! Linear and logistic fits against closed forms, printed R output and scikit-learn (see
//! `tests/reference/make_linear_reference.py`), with every solver that applies.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read reference files")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_learn::algorithms::glm::FittedLinear;
use sheaf_learn::model::Model;
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};

const SHARD: usize = 64;

/// Columns with names, in shards of 64 rows, all of them training rows.
struct Data {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    target: Vec<f64>,
    weight: Option<Vec<f64>>,
    offset: Option<Vec<f64>>,
}

impl Data {
    fn csv(path: &str) -> Data {
        let text = std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut lines = text.lines();
        let mut names: Vec<String> = lines.next().unwrap().split(',').map(str::to_owned).collect();
        names.pop();
        let rows: Vec<Vec<f64>> = lines.map(|l| l.split(',').map(|x| x.parse().unwrap()).collect()).collect();
        let columns = (0..names.len()).map(|j| rows.iter().map(|r| r[j]).collect()).collect();
        let target = rows.iter().map(|r| *r.last().unwrap()).collect();
        Data { names, columns, target, weight: None, offset: None }
    }

    fn small(offset: Option<Vec<f64>>) -> Data {
        Data {
            names: vec!["a".into(), "b".into()],
            columns: vec![vec![0.0, 1.0, 2.0, 3.0], vec![5.0, 7.0, 11.0, 13.0]],
            target: vec![17.0, 19.0, 23.0, 29.0],
            weight: Some(vec![1.0, 2.0, 3.0, 4.0]),
            offset,
        }
    }

    fn schema(&self) -> Schema {
        let features = self.names.iter().enumerate().map(|(j, name)| {
            // Every second column as a `standardize` step would leave it: results must not change.
            let (shift, scale) = if j % 2 == 0 { (0.0, 1.0) } else { (1.25, 0.5) };
            Feature { name: name.clone(), kind: FeatureKind::Numeric { shift, scale } }
        });
        Schema { features: features.collect(), classes: vec!["malignant".into(), "benign".into()] }
    }

    fn shards(&self) -> Vec<EncodedShard> {
        let cut = |v: &[f64], i: usize| v[i * SHARD..v.len().min((i + 1) * SHARD)].to_vec();
        let column = |v: &[f64], i: usize| {
            let part = cut(v, i);
            let narrow: Vec<f32> = part.iter().map(|&x| x as f32).collect();
            let fits = narrow.iter().zip(&part).all(|(a, b)| f64::from(*a) == *b);
            if fits { Column::F32(narrow.into()) } else { Column::F64(part.into()) }
        };
        let shard = |i: usize| {
            let rows = cut(&self.target, i).len();
            EncodedShard {
                index: i as u32,
                rows,
                bounds: [0, rows, rows, rows],
                columns: self.columns.iter().map(|c| column(c, i)).collect(),
                target: Some(cut(&self.target, i).into()),
                weight: self.weight.as_ref().map(|w| cut(w, i).into()),
                offset: self.offset.as_ref().map(|o| cut(o, i).into()),
                query: None,
                row_ids: None,
            }
        };
        (0..self.target.len().div_ceil(SHARD)).map(shard).collect()
    }

    /// Fits; gives the result, and intercept and coefficients on the scale of the columns.
    fn fit(&self, algorithm: &str, params: Value) -> (FittedLinear, f64, BTreeMap<String, f64>) {
        let spec = ProgramSpec { name: algorithm.into(), params, schema: self.schema() };
        let program = spec.build().unwrap();
        let value = run(program.as_ref(), &self.shards()).unwrap();
        let fitted: FittedLinear = serde_json::from_value(value).unwrap();
        let (intercept, raw) = fitted.model.raw_coefficients(&spec.schema).unwrap();
        (fitted, intercept, raw)
    }
}

fn check(data: &Data, params: Value, intercept: f64, coefficients: [f64; 2], tolerance: f64) {
    let (fitted, start, raw) = data.fit("linear_regression", params.clone());
    let close = |a: f64, b: f64| (a - b).abs() <= tolerance * b.abs().max(1.0);
    assert!(close(start, intercept), "{params}: intercept {start}, not {intercept}");
    assert!(close(raw["a"], coefficients[0]) && close(raw["b"], coefficients[1]), "{params}: {raw:?}, not {coefficients:?}");
    assert!(fitted.converged && fitted.warnings.is_empty(), "{:?}", fitted.warnings);
}

#[test]
fn weighted_least_squares_of_four_rows() {
    let data = Data::small(None);
    for standardization in [true, false] {
        for solver in ["auto", "gram", "lbfgs"] {
            let params = json!({"solver": solver, "standardization": standardization, "tolerance": 1e-13});
            // R's lm and the closed form, exact in decimals.
            check(&data, params.clone(), 18.08, [6.08, -0.6], 1e-9);
            check(&Data::small(Some(vec![2.0, 3.0, 1.0, 4.0])), params.clone(), 5.54, [-0.96, 1.7], 1e-9);
        }
    }
    // Without an intercept: Σ w x x' b = Σ w x y by Cramer's rule.
    let (x, y, w) = (&data.columns, &data.target, data.weight.as_ref().unwrap());
    let sum = |a: &[f64], b: &[f64]| (0..4).map(|i| w[i] * a[i] * b[i]).sum::<f64>();
    let (aa, ab, bb) = (sum(&x[0], &x[0]), sum(&x[0], &x[1]), sum(&x[1], &x[1]));
    let (ay, by) = (sum(&x[0], y), sum(&x[1], y));
    let determinant = aa * bb - ab * ab;
    let want = [(ay * bb - by * ab) / determinant, (aa * by - ab * ay) / determinant];
    assert!((want[0] + 3.7271).abs() < 5e-5 && (want[1] - 3.01).abs() < 5e-5, "{want:?}");
    for solver in ["gram", "lbfgs"] {
        let spec = ProgramSpec {
            name: "linear_regression".into(),
            params: json!({"solver": solver, "fit_intercept": false, "tolerance": 1e-13}),
            schema: plain(&data),
        };
        let value = run(spec.build().unwrap().as_ref(), &data.shards()).unwrap();
        let fitted: FittedLinear = serde_json::from_value(value).unwrap();
        let Model::Linear(model) = &fitted.model else { panic!("a linear model") };
        assert_eq!(model.intercept, 0.0);
        assert!(model.coefficients.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{solver}: {model:?}, not {want:?}");
    }
}

/// The schema of columns as they are.
fn plain(data: &Data) -> Schema {
    let kind = FeatureKind::Numeric { shift: 0.0, scale: 1.0 };
    let features = data.names.iter().map(|name| Feature { name: name.clone(), kind: kind.clone() });
    Schema { features: features.collect(), classes: vec!["malignant".into(), "benign".into()] }
}

/// Solvers that can be asked for.
fn solvers(algorithm: &str) -> [&'static str; 2] {
    if algorithm == "linear_regression" { ["gram", "lbfgs"] } else { ["newton", "lbfgs"] }
}

#[test]
fn fits_agree_with_scikit_learn() {
    let reference = include_str!("../../tests/reference/linear.json");
    let reference: Value = serde_json::from_str(reference).unwrap();
    let cases = reference["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    let mut failures = Vec::new();
    for case in cases {
        let algorithm = case["algorithm"].as_str().unwrap();
        for solver in solvers(algorithm) {
            failures.extend(compare(case, algorithm, solver));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What differs, if something does.
fn compare(case: &Value, algorithm: &str, solver: &str) -> Option<String> {
    let mut data = Data::csv(case["data"].as_str().unwrap());
    if let Some(k) = case["weights"].as_u64() {
        data.weight = Some((0..data.target.len() as u64).map(|i| 1.0 + (i % k) as f64).collect());
    }
    let mut params = case["params"].clone();
    params["solver"] = solver.into();
    let spec = ProgramSpec { name: algorithm.into(), params: params.clone(), schema: plain(&data) };
    let value = run(spec.build().unwrap().as_ref(), &data.shards()).unwrap();
    let fitted: FittedLinear = serde_json::from_value(value).unwrap();
    let Model::Linear(model) = &fitted.model else { panic!("a linear model") };
    // Compared on the standardised scale, where coefficients have one size.
    let want: Vec<f64> = case["coefficients"].as_array().unwrap().iter().map(|c| c.as_f64().unwrap()).collect();
    let spread: Vec<f64> = data.columns.iter().map(|c| deviation(c)).collect();
    let size = want.iter().zip(&spread).fold(0.0_f64, |m, (c, s)| m.max((c * s).abs()));
    let off = (0..want.len()).map(|j| ((model.coefficients[j] - want[j]) * spread[j]).abs() / size).fold(0.0, f64::max);
    let start =
        (model.intercept - case["intercept"].as_f64().unwrap()).abs() / case["intercept"].as_f64().unwrap().abs().max(1.0);
    let zeros = |c: &[f64]| c.iter().filter(|&&c| c == 0.0).count();
    let same_support = zeros(&want) == zeros(&model.coefficients);
    let steps = fitted.iterations;
    println!("{algorithm} {solver} {params}: {steps} steps, coefficients {off:.1e}, intercept {start:.1e} off");
    let fine = off < 1e-6 && start < 1e-6 && same_support && fitted.converged && fitted.warnings.is_empty();
    (!fine).then(|| format!("{algorithm} {params}: {off:e}, {start:e}, {same_support}, {steps}, {:?}", fitted.warnings))
}

fn deviation(x: &[f64]) -> f64 {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64).sqrt()
}

#[test]
fn a_schema_that_scales_changes_nothing_but_the_representation() {
    let data = Data::csv("tests/data/diabetes.csv");
    let params = json!({"l2": 0.1});
    let (_, intercept, raw) = data.fit("linear_regression", params.clone());
    let spec = ProgramSpec { name: "linear_regression".into(), params, schema: plain(&data) };
    let value = run(spec.build().unwrap().as_ref(), &data.shards()).unwrap();
    let fitted: FittedLinear = serde_json::from_value(value).unwrap();
    let (start, want) = fitted.model.raw_coefficients(&spec.schema).unwrap();
    assert!((start - intercept).abs() < 1e-9 * start.abs());
    assert!(want.iter().all(|(name, c)| (raw[name] - c).abs() < 1e-10 * c.abs().max(1.0)), "{raw:?} {want:?}");
}

#[test]
fn dependent_columns_are_named_and_get_zero() {
    let mut data = Data::csv("tests/data/diabetes.csv");
    let doubled: Vec<f64> = data.columns[2].iter().zip(&data.columns[3]).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
    data.columns.push(doubled);
    data.names.push("twice".into());
    let (fitted, _, raw) = data.fit("linear_regression", json!({}));
    assert_eq!(raw["twice"], 0.0);
    assert_eq!(fitted.warnings, ["determined by the features before them, coefficient 0: twice"]);
    data.columns.pop();
    data.names.pop();
    let (_, _, without) = data.fit("linear_regression", json!({}));
    assert!(without.iter().all(|(name, c)| (raw[name] - c).abs() < 1e-8 * c.abs().max(1.0)));
}

#[test]
fn separated_classes_are_told() {
    let x: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.1).collect();
    let target = x.iter().map(|&x| if x > 5.0 { 1.0 } else { 0.0 }).collect();
    let data = Data { names: vec!["x".into()], columns: vec![x], target, weight: None, offset: None };
    for solver in ["newton", "lbfgs"] {
        let (fitted, _, _) = data.fit("logistic_regression", json!({"solver": solver}));
        assert!(
            fitted.warnings.iter().any(|w| w.contains("classes are separated") || w.contains("not converged")),
            "{solver}: {fitted:?}"
        );
    }
}
