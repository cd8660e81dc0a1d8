//! What models of trees promise: contributions that add up and are those of the definition, stages, leaves, constraints
//! that hold, early stopping that keeps the best, categories and missing values that go where they were seen to go.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Lcg;
use serde_json::{Value, json};
use sheaf_learn::kernels::Level;
use sheaf_learn::model::Model;
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::shard::{Column, EncodedShard, Feature, FeatureKind, Schema};
use sheaf_learn::trees::importance::importance;
use sheaf_learn::trees::model::TreeModel;
use sheaf_learn::trees::shap::{contributions, contributions_at};
use sheaf_learn::trees::tree::Tree;

const ROWS: usize = 4_000;
const LEVELS: usize = 6;

fn schema() -> Schema {
    let numeric = |name: &str| Feature { name: name.into(), kind: FeatureKind::Numeric { shift: 0.0, scale: 1.0 } };
    let names = (0..LEVELS).map(|c| format!("level {c}")).collect();
    let category = Feature { name: "c".into(), kind: FeatureKind::Slots { names } };
    Schema { features: vec![numeric("a"), numeric("b"), numeric("d"), category], classes: Vec::new() }
}

/// The target rises with `a` (with noise), is a wave in `b`, knows nothing of `d`, and depends on the category.
fn shards(validation: bool) -> Vec<EncodedShard> {
    let mut random = Lcg(5);
    let mut draw = || f64::from(random.next()) / 4_294_967_296.0;
    let shard = |index: usize| {
        let n = 500;
        let train = if validation { 350 } else { n };
        let (mut a, mut b, mut d, mut c, mut y) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..n {
            let (x, z, level) = (draw(), draw(), (draw() * (LEVELS as f64 + 0.5)) as u32);
            let wave = if ((z * 4.0) as u32).is_multiple_of(2) { 1.0 } else { -1.0 };
            let missing = draw() < 0.1;
            y.push(
                2.0 * x + wave * x + [0.5, -1.0, 2.0, 0.0, 1.0, -2.0, 3.0][level as usize] + 1.5 * draw() + f64::from(missing),
            );
            a.push(x);
            b.push(if missing { f64::NAN } else { z });
            d.push(draw() as f32);
            c.push(if level as usize == LEVELS { u32::MAX } else { level });
        }
        EncodedShard {
            index: index as u32,
            rows: n,
            bounds: [0, train, n, n],
            columns: vec![Column::F64(a.into()), Column::F64(b.into()), Column::F32(d.into()), Column::Code(c.into())],
            target: Some(y.into()),
            ..Default::default()
        }
    };
    (0..ROWS / 500).map(shard).collect()
}

fn fit(params: Value, shards: &[EncodedShard]) -> (TreeModel, Value) {
    fit_as("gradient_boosting", params, shards)
}

fn fit_as(name: &str, params: Value, shards: &[EncodedShard]) -> (TreeModel, Value) {
    common::fit_trees(name, params, &schema(), shards)
}

/// Rows with each value of a grid in column `at` of the first rows of a shard.
fn with_column(shard: &EncodedShard, at: usize, value: f64) -> EncodedShard {
    let mut out = shard.clone();
    out.columns[at] = Column::F64(vec![value; shard.rows].into());
    out
}

#[test]
fn contributions_add_up_and_are_those_of_the_definition() {
    let shards = shards(false);
    let (model, _) = fit(json!({"objective": "squared_error", "trees": 6, "max_leaves": 12}), &shards);
    let (schema, shard) = (schema(), &shards[1]);
    let rows = 3..90;
    let scores = model.scores(&schema, shard, rows.clone(), model.trees.len());
    let found = contributions(&model, &schema, shard, rows.clone());
    let width = schema.features.len() + 1;
    for (i, score) in scores.iter().enumerate() {
        let own = &found[i * width..(i + 1) * width];
        assert!((own.iter().sum::<f64>() - score).abs() < 1e-9, "row {i}: {own:?} {score}");
    }
    for row in [3, 17, 44] {
        let own = &found[(row - 3) * width..(row - 2) * width];
        for (feature, value) in own[..width - 1].iter().enumerate() {
            let want: f64 = model.trees.iter().map(|tree| shapley(tree, shard, row, feature, width - 1)).sum();
            assert!((value - want).abs() < 1e-9, "row {row}, feature {feature}: {value} {want}");
        }
    }
}

#[test]
fn contributions_depend_on_their_row_alone() {
    let mut shards = shards(false);
    for shard in &mut shards {
        shard.offset = Some((0..shard.rows).map(|row| row as f64 * 1e-3).collect());
    }
    // Deep, so that features stand on a path several times.
    let (model, _) = fit(json!({"objective": "squared_error", "trees": 8, "max_leaves": 200, "min_samples_leaf": 3}), &shards);
    let (schema, shard) = (schema(), &shards[2]);
    let width = schema.features.len() + 1;
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let whole = contributions(&model, &schema, shard, 0..shard.rows);
    let scores = model.scores(&schema, shard, 0..shard.rows, model.trees.len());
    for (own, score) in whole.chunks(width).zip(scores) {
        assert!((own.iter().sum::<f64>() - score).abs() < 1e-10, "{own:?} {score}");
    }
    let whole = bits(whole);
    for level in Level::available() {
        for rows in [0..shard.rows, 0..1, 17..18, 30..333, 499..500, 7..7] {
            let found = bits(contributions_at(level, &model, &schema, shard, rows.clone()));
            assert!(found == whole[rows.start * width..rows.end * width], "{} {rows:?}", level.name());
        }
    }
}

#[test]
fn contributions_of_many_classes_add_up_for_each() {
    let mut shards = shards(false);
    for shard in &mut shards {
        shard.target = shard.target.as_ref().map(|y| y.iter().map(|y| (y.clamp(0.0, 2.9)).floor()).collect());
    }
    let schema = Schema { classes: ["low", "middle", "high"].map(String::from).to_vec(), ..schema() };
    let params = json!({"objective": "multiclass", "trees": 5, "max_leaves": 12});
    let spec = ProgramSpec { name: "gradient_boosting".into(), params, schema: schema.clone() };
    let result = run(spec.build().unwrap().as_ref(), &shards).unwrap();
    let Model::Trees(model) = serde_json::from_value(result["model"].clone()).unwrap() else { panic!("trees") };
    assert_eq!((model.outputs(), model.trees.len()), (3, 15));
    let (shard, width) = (&shards[3], schema.features.len() + 1);
    let scores = model.scores(&schema, shard, 5..105, model.trees.len());
    let found = contributions(&model, &schema, shard, 5..105);
    assert_eq!(found.len(), 100 * 3 * width);
    for (own, score) in found.chunks(width).zip(&scores) {
        assert!((own.iter().sum::<f64>() - score).abs() < 1e-10, "{own:?} {score}");
    }
    for (output, own) in found[..3 * width].chunks(width).enumerate() {
        let trees = || model.trees.iter().skip(output).step_by(3);
        let want: f64 = trees().map(|tree| shapley(tree, shard, 5, 0, width - 1)).sum();
        assert!((own[0] - want).abs() < 1e-9, "class {output}: {} {want}", own[0]);
    }
}

/// Shapley's value by its definition: over all subsets of the other features.
fn shapley(tree: &Tree, shard: &EncodedShard, row: usize, feature: usize, features: usize) -> f64 {
    let factorial = |n: usize| (1..=n).map(|x| x as f64).product::<f64>();
    let mut out = 0.0;
    for known in 0..1u32 << features {
        if known >> feature & 1 == 1 {
            continue;
        }
        let size = known.count_ones() as usize;
        let weight = factorial(size) * factorial(features - size - 1) / factorial(features);
        out += weight * (expected(tree, 0, shard, row, known | 1 << feature) - expected(tree, 0, shard, row, known));
    }
    out
}

/// A tree's value where only some features are known; the others go both ways, by cover.
fn expected(tree: &Tree, child: i32, shard: &EncodedShard, row: usize, known: u32) -> f64 {
    let Ok(split) = usize::try_from(child) else { return tree.value[!child as usize] };
    let cover = |c: i32| usize::try_from(c).map_or_else(|_| tree.leaf_cover[!c as usize], |s| tree.cover[s]);
    let (left, right) = (tree.left[split], tree.right[split]);
    let of = |c: i32| expected(tree, c, shard, row, known);
    if known >> tree.feature[split] & 1 == 0 {
        return (of(left) * cover(left) + of(right) * cover(right)) / tree.cover[split];
    }
    let goes = match &shard.columns[tree.feature[split] as usize] {
        Column::Code(x) if x[row] == u32::MAX => tree.missing_left[split],
        Column::Code(x) => tree.slots[split].contains(&x[row]),
        column => {
            let x = column.number(row).unwrap();
            if x.is_nan() { tree.missing_left[split] } else { x <= tree.threshold[split] }
        }
    };
    of(if goes { left } else { right })
}

#[test]
fn stages_leaves_and_importances_belong_together() {
    let shards = shards(false);
    let (model, result) = fit(json!({"objective": "squared_error", "trees": 20}), &shards);
    let (schema, shard) = (schema(), &shards[0]);
    let leaves = model.leaves(&schema, shard, 0..100);
    let staged = model.staged(&schema, shard, 0..100);
    for trees in [0, 1, 7, 20] {
        let scores = model.scores(&schema, shard, 0..100, trees);
        for row in 0..100 {
            let own: f64 = (0..trees).fold(model.base[0], |sum, t| sum + model.trees[t].value[leaves[row * 20 + t] as usize]);
            assert_eq!(scores[row].to_bits(), own.to_bits());
            assert_eq!(scores[row].to_bits(), staged[row * 21 + trees].to_bits());
        }
    }
    let importance = importance(&model, 4);
    let splits: usize = model.trees.iter().map(Tree::splits).sum();
    assert_eq!(importance.iter().map(|i| i.splits).sum::<u64>(), splits as u64);
    assert!(importance[2].gain < 0.1 * importance[3].gain && importance[2].gain < 0.1 * importance[0].gain, "{importance:?}");
    for tree in &model.trees {
        assert_eq!(tree.leaf_rows.iter().sum::<u64>(), ROWS as u64);
    }
    let losses = result["train_loss"].as_array().unwrap();
    assert_eq!(losses.len(), 21);
    assert!(losses.windows(2).all(|w| w[1].as_f64() < w[0].as_f64()), "{losses:?}");
    assert_eq!(result["loss"], losses[20]);
}

#[test]
fn a_prediction_depends_on_its_row_alone() {
    let shards = shards(false);
    let (model, _) = fit(json!({"objective": "squared_error", "trees": 10}), &shards);
    let (schema, shard) = (schema(), &shards[2]);
    let whole = model.scores(&schema, shard, 0..500, 10);
    for batch in [1, 7, 64, 100] {
        let parts = (0..500).step_by(batch).flat_map(|at| model.scores(&schema, shard, at..500.min(at + batch), 10));
        assert!(parts.zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "{batch}");
    }
}

#[test]
fn monotone_predictions_never_fall() {
    let shards = shards(false);
    let plain = fit(json!({"objective": "squared_error", "trees": 40}), &shards).0;
    let bound = fit(json!({"objective": "squared_error", "trees": 40, "monotone": {"a": 1, "d": -1}}), &shards).0;
    let falls = |model: &TreeModel, at: usize, sign: f64| {
        let mut last = vec![f64::NEG_INFINITY; 500];
        let mut falls = 0;
        for step in 0..=60 {
            let shard = with_column(&shards[0], at, f64::from(step) / 60.0 * sign + (1.0 - sign) / 2.0);
            let scores = model.scores(&schema(), &shard, 0..500, 40);
            falls += last.iter().zip(&scores).filter(|(a, b)| a > b).count();
            last = scores;
        }
        falls
    };
    assert!(falls(&plain, 0, 1.0) > 0 && falls(&plain, 2, -1.0) > 0);
    assert_eq!((falls(&bound, 0, 1.0), falls(&bound, 2, -1.0)), (0, 0));
}

#[test]
fn interactions_stay_in_their_groups() {
    let params = json!({"objective": "squared_error", "trees": 10, "interactions": [["a", "b"], ["b", "d"], ["c"]]});
    let (model, _) = fit(params, &shards(false));
    let groups: [&[u32]; 3] = [&[0, 1], &[1, 2], &[3]];
    fn check(tree: &Tree, child: i32, used: &[u32], groups: &[&[u32]]) {
        let Ok(split) = usize::try_from(child) else { return };
        let used = [used, &[tree.feature[split]]].concat();
        assert!(groups.iter().any(|g| used.iter().all(|u| g.contains(u))), "{used:?}");
        check(tree, tree.left[split], &used, groups);
        check(tree, tree.right[split], &used, groups);
    }
    model.trees.iter().filter(|t| t.splits() > 0).for_each(|tree| check(tree, 0, &[], &groups));
}

#[test]
fn early_stopping_keeps_the_best() {
    let shards = shards(true);
    let params = json!({"objective": "squared_error", "trees": 400, "learning_rate": 0.3, "early_stopping": {"rounds": 10}});
    let (model, result) = fit(params, &shards);
    let losses: Vec<f64> = result["validation_loss"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let best = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert!(best > 3 && losses.len() < 400);
    assert_eq!((model.trees.len(), losses.len()), (best, best + 11));
    assert_eq!(result["iterations"], json!(best));
    let none = ProgramSpec {
        name: "gradient_boosting".into(),
        params: json!({"objective": "squared_error", "early_stopping": {"rounds": 5}}),
        schema: schema(),
    };
    let error = run(none.build().unwrap().as_ref(), &self::shards(false)).unwrap_err().to_string();
    assert!(error.contains("`early_stopping` needs validation rows"), "{error}");
}

#[test]
fn losses_are_those_of_the_model() {
    let shards = shards(true);
    let (model, result) = fit(json!({"objective": "squared_error", "trees": 15, "subsample": 0.6, "seed": 3}), &shards);
    let (mut loss, mut rows) = ([0.0; 2], [0.0; 2]);
    for shard in &shards {
        let scores = model.scores(&schema(), shard, 0..500, 15);
        for (row, score) in scores.into_iter().enumerate() {
            let part = usize::from(row >= shard.bounds[1]);
            let d = score - shard.target.as_ref().unwrap()[row];
            loss[part] += d * d / 2.0;
            rows[part] += 1.0;
        }
    }
    for (part, name) in ["train_loss", "validation_loss"].into_iter().enumerate() {
        let found = result[name][15].as_f64().unwrap();
        assert!((loss[part] / rows[part] - found).abs() < 1e-9, "{name}: {found} {}", loss[part] / rows[part]);
    }
}

#[test]
fn rare_categories_share_a_bin_and_unknown_ones_go_with_missing() {
    let mut wide = shards(false);
    let mut random = Lcg(9);
    let names: Vec<String> = (0..400).map(|c| format!("level {c}")).collect();
    for shard in &mut wide {
        let codes: Vec<u32> =
            (0..shard.rows).map(|_| if random.below(2) == 0 { random.below(5) } else { random.below(400) }).collect();
        shard.target = Some(codes.iter().map(|c| f64::from(*c % 5) + f64::from(random.below(10)) * 0.01).collect());
        shard.columns[3] = Column::Code(codes.into());
    }
    let mut schema = schema();
    schema.features[3].kind = FeatureKind::Slots { names };
    let params = json!({"objective": "squared_error", "trees": 60, "max_bins": 30});
    let (model, _) = common::fit("gradient_boosting", params, &schema, &wide);
    let score = |code: u32| {
        let mut shard = wide[0].clone();
        shard.columns[3] = Column::Code(vec![code; shard.rows].into());
        model.predict(&schema, &shard, 0..1)[0]
    };
    for code in 0..5 {
        assert!((score(code) - f64::from(code)).abs() < 0.5, "{code}: {}", score(code));
    }
    assert_eq!(score(400).to_bits(), score(u32::MAX).to_bits());
}

/// More categories than a column has bins: further columns tell them apart, and everything speaks of the feature.
#[test]
fn many_categories_are_told_apart() {
    const COUNT: u32 = 250;
    let mut wide = shards(false);
    let mut random = Lcg(10);
    for shard in &mut wide {
        let codes: Vec<u32> = (0..shard.rows).map(|_| random.below(COUNT)).collect();
        shard.target = Some(codes.iter().map(|c| f64::from(c * 37 % 3)).collect());
        shard.columns[3] = Column::Code(codes.into());
    }
    let mut schema = schema();
    schema.features[3].kind = FeatureKind::Slots { names: (0..COUNT).map(|c| format!("level {c}")).collect() };
    let fitted = |more: Value| {
        let mut params = json!({"objective": "squared_error", "trees": 80, "max_bins": 60, "cat_smooth": 2, "cat_l2": 0});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (model, result) = common::fit("gradient_boosting", params, &schema, &wide);
        (model, result["train_loss"][80].as_f64().unwrap())
    };
    for more in [json!({}), json!({"colsample_bytree": 0.5, "seed": 3}), json!({"interactions": [["c", "a"], ["b"]]})] {
        let (model, loss) = fitted(more.clone());
        let (mut sum, mut rows) = (0.0, 0.0);
        for shard in &wide {
            let scores = model.predict(&schema, shard, 0..shard.rows);
            for (score, target) in scores.iter().zip(shard.target.as_ref().unwrap().iter()) {
                sum += (score - target) * (score - target) / 2.0;
                rows += 1.0;
            }
        }
        assert!((sum / rows - loss).abs() < 1e-9, "{more}: {loss}, by the model {}", sum / rows);
        assert!(loss < 0.05, "{more}: {loss}");
        let Model::Trees(trees) = &model else { panic!("{model:?}") };
        assert!(trees.trees.iter().flat_map(|tree| &tree.feature).all(|feature| *feature < 4), "{more}");
    }
}

#[test]
fn parameters_say_what_is_wrong() {
    let check = |params: Value, expected: &str| {
        let spec = ProgramSpec { name: "gradient_boosting".into(), params: params.clone(), schema: schema() };
        let text = spec.build().map_or_else(|e| e.to_string(), |_| "fine".into());
        assert!(text.contains(expected), "{params}: {text}");
    };
    check(json!({}), "say `task` (regression, binary, multiclass, ranking) or `objective`");
    check(json!({"task": "regression"}), "fine");
    check(json!({"task": "binary", "objective": "poisson"}), "do not fit");
    check(json!({"task": "regression", "objective": "poisson"}), "fine");
    check(json!({"objective": "cauchy"}), "one of squared_error, binary, multiclass, absolute");
    check(json!({"task": "regression", "n_estimators": 5}), "the name here is `trees`");
    check(json!({"task": "regression", "num_leaves": 5}), "the name here is `max_leaves`");
    check(json!({"task": "regression", "max_bins": 256}), "from 2 to 255");
    check(json!({"task": "regression", "subsample": 0}), "above 0, at most 1");
    check(json!({"task": "regression", "monotone": {"zz": 1}}), "there is no feature `zz`; features are a, b, d, c");
    check(json!({"task": "regression", "interactions": [["a", "cc"]]}), "there is no feature `cc`; did you mean `c`?");
    check(json!({"task": "regression", "monotone": {"c": 1}}), "has no order");
    check(json!({"task": "regression", "class_weight": "balanced"}), "only `binary` and `multiclass` have classes");
    check(json!({"task": "regression", "early_stopping": true}), "{rounds:");
    check(json!({"objective": "quantile", "probability": 1.0}), "between 0 and 1");
    check(json!({"objective": "absolute", "monotone": {"a": 1}}), "leaves are quantiles");
    check(json!({"objective": "absolute", "monotone": {"a": 0}}), "fine");
    check(json!({"task": "regression", "boosting": "dart", "drop_rate": 0.2, "max_drop": 3, "skip_drop": 0}), "fine");
    check(json!({"task": "regression", "boosting": "goss"}), "one of gbdt, dart");
    check(json!({"task": "regression", "skip_drop": 0.1}), "`skip_drop` belongs to `boosting: dart`");
    check(json!({"task": "regression", "boosting": "dart", "drop_rate": 1.5}), "a number from 0 to 1");
    check(json!({"task": "regression", "boosting": "dart", "trees": 5001}), "at most 5000");
    check(json!({"task": "regression", "boosting": "dart", "early_stopping": {"rounds": 5}}), "not with `boosting: dart`");
    check(json!({"task": "regression", "booster": "dart"}), "write `boosting: dart`");
    check(json!({"task": "regression", "warm_start": "m@1"}), "was not read before");
    check(json!({"task": "regression", "warm_start": {"linear": 1}}), "is damaged");
}

#[test]
fn boosting_goes_on_from_a_model() {
    let shards = shards(true);
    let losses = |result: &Value, name: &str| -> Vec<f64> {
        result[name].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect()
    };
    for objective in ["squared_error", "absolute"] {
        let params = |trees: u32| {
            json!({"objective": objective, "trees": trees, "max_leaves": 9, "subsample": 0.7, "colsample_bytree": 0.7,
                "colsample_bynode": 0.9, "seed": 8})
        };
        let (whole, at_once) = fit(params(30), &shards);
        let (first, half) = fit(params(12), &shards);
        let mut more = params(18);
        more["warm_start"] = half["model"].clone();
        let (both, later) = fit(more.clone(), &shards);
        assert_eq!((both.trees.len(), later["iterations"].as_u64()), (30, Some(30)));
        assert_eq!((both.base.clone(), &both.trees[..12]), (first.base.clone(), &first.trees[..]));
        for name in ["train_loss", "validation_loss"] {
            let (want, before, found) = (losses(&at_once, name), losses(&half, name), losses(&later, name));
            assert_eq!((&found[..], found[0]), (&want[12..], before[12]), "it begins where the model stood");
        }
        assert_eq!(both, whole, "the same as if it had never stopped");
        // What the job says of its losses is what the model does.
        let row = |shard: &EncodedShard, row: usize| {
            (both.scores(&schema(), shard, row..row + 1, 30)[0], shard.target.as_ref().unwrap()[row])
        };
        let rows = shards.iter().flat_map(|s| (350..500).map(move |i| row(s, i)));
        let errors: Vec<f64> =
            rows.map(|(f, y)| if objective == "absolute" { (f - y).abs() } else { 0.5 * (f - y) * (f - y) }).collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!((mean - losses(&later, "validation_loss")[18]).abs() < 1e-9);
        more["early_stopping"] = json!({"rounds": 1});
        more["learning_rate"] = json!(1.0);
        more["max_leaves"] = json!(400);
        more["min_samples_leaf"] = json!(1);
        let (stopped, result) = fit(more, &shards);
        assert!(stopped.trees.len() >= 12 && stopped.trees.len() < 30, "{}", stopped.trees.len());
        let said = result["warnings"].to_string().contains("no new tree makes the model better");
        assert_eq!(said, stopped.trees.len() == 12, "{}", result["warnings"]);
    }
    let mut other = json!({"objective": "poisson", "trees": 2});
    other["warm_start"] = fit(json!({"objective": "squared_error", "trees": 1}), &shards).1["model"].clone();
    let spec = ProgramSpec { name: "gradient_boosting".into(), params: other, schema: schema() };
    let error = spec.build().map(drop).unwrap_err().to_string();
    assert!(error.contains("another objective"), "{error}");
}

#[test]
fn dropped_trees_come_back_with_less_weight() {
    let shards = shards(true);
    for objective in ["squared_error", "absolute"] {
        let params = json!({"objective": objective, "trees": 25, "max_leaves": 9, "learning_rate": 0.5, "boosting": "dart",
            "drop_rate": 0.2, "skip_drop": 0.3, "seed": 4});
        let (model, result) = fit(params.clone(), &shards);
        let mut plain = params.as_object().unwrap().clone();
        ["boosting", "drop_rate", "skip_drop"].iter().for_each(|name| drop(plain.remove(*name)));
        let (undropped, _) = fit(Value::Object(plain), &shards);
        let largest = |t: &Tree| t.value.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        assert!(largest(&model.trees[0]) < largest(&undropped.trees[0]), "the first tree was dropped now and then");
        assert_eq!(model.trees[0].feature, undropped.trees[0].feature);
        // The losses are those of the model as it is, though gradients were of a part of it.
        let row = |shard: &EncodedShard, row: usize| {
            (model.scores(&schema(), shard, row..row + 1, 25)[0], shard.target.as_ref().unwrap()[row])
        };
        let loss = |rows: std::ops::Range<usize>| {
            let rows = shards.iter().flat_map(|s| rows.clone().map(move |i| row(s, i)));
            let errors: Vec<f64> =
                rows.map(|(f, y)| if objective == "absolute" { (f - y).abs() } else { 0.5 * (f - y) * (f - y) }).collect();
            errors.iter().sum::<f64>() / errors.len() as f64
        };
        for (name, rows) in [("train_loss", 0..350), ("validation_loss", 350..500)] {
            let last = result[name][25].as_f64().unwrap();
            assert!((last - loss(rows)).abs() < 1e-9, "{objective} {name}: {last}");
        }
        assert!(result["train_loss"][25].as_f64().unwrap() < 0.5 * result["train_loss"][0].as_f64().unwrap());
    }
}

#[test]
fn forests_take_the_mean_of_their_trees() {
    let shards = shards(true);
    let variance = |rows: std::ops::Range<usize>, of: &dyn Fn(&EncodedShard, usize) -> f64| {
        let values = shards.iter().flat_map(|s| rows.clone().map(move |row| of(s, row)));
        values.map(|d| d * d).sum::<f64>() / (rows.len() * shards.len()) as f64
    };
    let mut errors = Vec::new();
    for (name, params) in [
        ("decision_tree", json!({"task": "regression", "min_samples_leaf": 1})),
        ("random_forest", json!({"task": "regression", "trees": 20, "min_samples_leaf": 2})),
        ("extra_trees", json!({"task": "regression", "trees": 20, "min_samples_leaf": 2})),
    ] {
        let (model, result) = fit_as(name, params, &shards);
        let scores: Vec<Vec<f64>> = shards.iter().map(|s| model.scores(&schema(), s, 0..500, model.trees.len())).collect();
        let error = variance(350..500, &|s, row| scores[s.index as usize][row] - s.target.as_ref().unwrap()[row]);
        let (train, validation) = (&result["train_loss"], &result["validation_loss"]);
        assert_eq!((train.as_array().unwrap().len(), validation.as_array().unwrap().len()), (2, 2), "{name}");
        assert!((validation[1].as_f64().unwrap() - error / 2.0).abs() < 1e-9, "{name}: {validation} {error}");
        errors.push(error);
    }
    let target = |s: &EncodedShard, row: usize| s.target.as_ref().unwrap()[row] - 2.0;
    assert!(errors[0] < 0.5 * variance(350..500, &target), "{errors:?}");
    assert!(errors[1] < errors[0] && errors[2] < errors[0], "{errors:?}");
}

#[test]
fn a_tree_does_not_split_what_is_pure() {
    let mut shards = shards(false);
    for shard in &mut shards {
        let Column::F64(x) = &shard.columns[0] else { panic!("a column of numbers") };
        shard.target = Some(x.iter().map(|&x| f64::from(x > 0.5)).collect());
    }
    let (model, _) = fit_as("decision_tree", json!({"task": "binary", "max_bins": 200}), &shards);
    // The bin with the threshold holds both classes; what is beside it is pure.
    let tree = &model.trees[0];
    assert_eq!((tree.feature[0], tree.splits() < 40), (0, true), "{tree:?}");
    assert!(
        tree.value.iter().filter(|&&v| (model.base[0] + v).abs() < 1e-6 || (model.base[0] + v - 1.0).abs() < 1e-6).count() >= 2
    );
    let odd = tree.leaf_rows.iter().zip(&tree.value).filter(|(rows, _)| **rows > 100);
    assert!(odd.count() == 2, "{tree:?}");
}
