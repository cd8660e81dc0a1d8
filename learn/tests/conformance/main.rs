//! What every learner of the registry must hold, whatever it computes: the same bytes for any grouping
//! of the shards into workers, any order of arrival, any kernel level; resuming, asking twice and losing
//! caches change nothing; partials that are summed give what merged ones give; bad data is an error that
//! says what to do. A program of integers with chapters (`../sums/mod.rs`) stands beside the learners.

#![expect(clippy::unwrap_used, reason = "tests")]

mod cases;
mod cluster;
#[path = "../sums/mod.rs"]
mod sums;

use serde_json::json;
use sheaf_learn::algorithm::Exchange;
use sheaf_learn::kernels::Level;
use sheaf_learn::model::Task;
use sheaf_learn::program::{ProgramSpec, run};
use sheaf_learn::shard::{Column, EncodedShard};

use cases::{Case, each_case, each_spec, is_linear, schema, shards, shards_of, task_of};
use cluster::{Trouble, go_on, record, run_cluster};

fn check(case: &Case, size: usize, trouble: &Trouble, what: &str) {
    let shards = case.shards(size);
    let want = run(case.build().as_ref(), &shards).unwrap().to_string();
    assert_eq!(run_cluster(case, &shards, trouble), want, "{case} {what}, shards of {size}");
}

#[test]
fn any_grouping_and_order_gives_the_same_bytes() {
    each_case(|spec| {
        for (size, groupings) in [(64, [vec![17], vec![5, 6, 31], vec![1, 2, 3, 40]]), (1_536, [vec![1], vec![2], vec![1, 2]])] {
            check(spec, size, &Trouble::default(), "a second run");
            for (i, cuts) in groupings.into_iter().enumerate() {
                let shuffle = 7 + i as u64;
                check(spec, size, &Trouble { cuts: cuts.clone(), shuffle, ..Default::default() }, "grouped");
                if spec.build().exchange() == Exchange::Sum {
                    check(spec, size, &Trouble { cuts, shuffle, merge: true, ..Default::default() }, "merged");
                }
            }
        }
    });
}

#[test]
fn every_level_and_a_mixture_of_them_gives_the_same_bytes() {
    each_case(|spec| {
        for size in [64, 1_536] {
            for level in Level::available() {
                check(spec, size, &Trouble { levels: vec![level], ..Default::default() }, level.name());
            }
            check(spec, size, &Trouble { cuts: vec![1, 2], levels: Level::available(), ..Default::default() }, "mixed");
        }
    });
}

#[test]
fn asking_twice_losing_caches_and_restarting_changes_nothing() {
    each_case(|spec| {
        check(spec, 64, &Trouble { twice: true, forget: true, restart: true, ..Default::default() }, "disturbed");
    });
}

#[test]
fn going_on_from_any_state_ends_in_the_same_bytes() {
    each_case(|case| {
        let shards = case.shards(64);
        let mut recorded = record(case, &shards);
        let mut locals = std::mem::take(&mut recorded.locals);
        for (step, state) in recorded.states.iter().enumerate() {
            let (result, newer) = go_on(case, &shards, state, &recorded, locals);
            assert_eq!(result, recorded.result, "{case} from step {step}");
            locals = newer;
        }
    });
}

#[test]
fn a_step_lacks_no_chapter() {
    let program = sums::program();
    let message = program.message(&program.start().unwrap()).unwrap();
    let error = program.open(&program.chapters(), 1, &message).err().unwrap().to_string();
    assert_eq!(error, "a step needs 1 chapters, 0 are there");
}

#[test]
fn first_order_runs_take_many_steps() {
    let spec =
        ProgramSpec { name: "logistic_regression".into(), params: json!({"solver": "lbfgs", "l2": 1e-5}), schema: schema() };
    let result = run(spec.build().unwrap().as_ref(), &shards(64)).unwrap();
    assert!(result["iterations"].as_u64().unwrap() > 15, "{result}");
    assert_eq!(result["converged"], json!(true));
}

#[test]
fn a_constant_column_gets_zero_and_a_warning() {
    each_spec(is_linear, |spec| {
        let result = run(spec.build().unwrap().as_ref(), &shards(64)).unwrap();
        let coefficients = &result["model"]["linear"]["coefficients"];
        let plain = spec.params["fit_intercept"] == json!(false) && spec.params["standardization"] == json!(false);
        if plain {
            assert_ne!(coefficients[5], json!(0.0), "a column of ones is an intercept here: {result}");
        } else {
            assert_eq!(coefficients[5], json!(0.0), "{result}");
            assert!(result["warnings"][0].as_str().unwrap().contains("constant"), "{result}");
        }
        // The category that never occurs.
        assert_eq!(coefficients[9], json!(0.0), "{result}");
        assert_eq!(result["converged"], json!(true), "{} {}: {result}", spec.name, spec.params);
    });
}

fn refused(spec: &ProgramSpec, spoil: impl Fn(&mut EncodedShard), expected: &[&str]) {
    let mut shards = shards_of(spec, 64);
    shards.iter_mut().for_each(spoil);
    let program = spec.build().unwrap();
    let error = run(program.as_ref(), &shards).expect_err("bad data").to_string();
    assert!(expected.iter().all(|e| error.contains(e)), "{}: {error}", spec.name);
}

#[test]
fn bad_data_is_a_clear_error() {
    each_spec(
        |_| true,
        |spec| {
            let nan = |s: &mut EncodedShard| {
                if let (Column::F32(x), true) = (&mut s.columns[1], s.index == 2) {
                    x[..3].fill(f32::NAN);
                }
            };
            let takes_missing = sheaf_learn::registry::learner(&spec.name).unwrap().takes_missing;
            if !takes_missing {
                refused(spec, nan, &["feature `b` has 3 missing or infinite values", "add an impute step"]);
            }
            let infinite = |s: &mut EncodedShard| {
                if let (Column::F64(x), true) = (&mut s.columns[4], s.index == 40) {
                    x[0] = f64::INFINITY;
                }
            };
            if !takes_missing {
                refused(spec, infinite, &["feature `e` has 1 missing"]);
            }
            refused(spec, |s| s.bounds = [0, 0, 0, s.rows], &["no training rows"]);
            refused(spec, |s| s.columns[0] = Column::bytes_of(vec![None; s.rows]), &["column `a`", "one_hot"]);
            let columns = format!("3 feature columns, the schema has {}", spec.schema.features.len());
            refused(spec, |s| s.columns.truncate(3), &[&columns]);
            if spec.name == "isolation_forest" {
                // It reads neither target nor weight nor offset.
                return;
            }
            let target = |s: &mut EncodedShard| {
                s.target.iter_mut().flat_map(|y| y.iter_mut()).take(usize::from(s.index < 2)).for_each(|y| *y = f64::NAN)
            };
            refused(spec, target, &["2 of ", "no finite target"]);
            let weight = |s: &mut EncodedShard| {
                // A shard's first row, if it is one of training.
                s.weight.iter_mut().flat_map(|w| w.iter_mut()).take(s.bounds[1].min(1)).for_each(|w| *w = -1.0);
            };
            refused(spec, weight, &["missing, infinite or negative weight"]);
            refused(spec, |s| s.weight = Some(vec![0.0; s.rows].into()), &["the weights of all", "are 0"]);
            let task = task_of(&spec.name, &spec.params);
            let offset = if task == Some(Task::Multiclass) { "leave out `columns.offset`" } else { "no finite offset" };
            refused(spec, |s| s.offset = Some(vec![f64::NAN; s.rows].into()), &[offset]);
            refused(spec, |s| s.target = None, &["there is no target"]);
            if task == Some(Task::Multiclass) {
                refused(spec, |s| s.target = Some(vec![1.0; s.rows].into()), &["the target `maybe`", "two classes at least"]);
                for odd in [3.0, 0.5, -1.0] {
                    let expected = ["have a target that is none of the classes"];
                    refused(spec, |s| s.target = Some(vec![odd; s.rows].into()), &expected);
                }
            }
            if task == Some(Task::Binary) {
                refused(spec, |s| s.target = Some(vec![1.0; s.rows].into()), &["have the target `yes`", "needs both classes"]);
                refused(spec, |s| s.target = Some(vec![2.0; s.rows].into()), &["target other than 0 and 1"]);
            }
        },
    );
}

#[test]
fn rows_that_do_not_train_change_nothing() {
    each_spec(is_linear, |spec| {
        let clean = shards(64);
        let mut spoilt = clean.clone();
        for shard in &mut spoilt {
            let first = shard.bounds[1];
            shard.target.as_mut().unwrap()[first..].fill(f64::NAN);
            for column in &mut shard.columns {
                match column {
                    Column::F32(x) => x[first..].fill(f32::NAN),
                    Column::F64(x) => x[first..].fill(1e300),
                    Column::Code(x) => x[first..].fill(3),
                    _ => {}
                }
            }
        }
        let program = spec.build().unwrap();
        assert_eq!(run(program.as_ref(), &clean).unwrap(), run(program.as_ref(), &spoilt).unwrap());
    });
}
