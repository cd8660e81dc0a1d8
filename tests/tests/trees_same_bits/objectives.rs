//! The promise for every objective of boosted trees and every other learner of trees: one model for 1, 2, 3 and 5 workers,
//! and the same one where every partial is asked twice, caches are dropped, a worker is killed, another joins and the
//! coordinator is killed, each in the middle of training. All learners train side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use sheaf_learn::registry::learner;
use sheaf_tests::cluster::{Cluster, Job, Setup};
use sheaf_tests::evidence::{lost_busy, of_kind};
use sheaf_tests::matrix::contributed;
use sheaf_tests::write_parts;

const ROWS: usize = 3000;

/// Targets in SQL: any number, counts, amounts of which many are 0, amounts above 0, two classes, four classes, grades.
const PRICE: &str = "price";
const COUNT: &str = "CASE WHEN price < 1 THEN 0 ELSE CAST(price AS BIGINT) END";
const CLAIM: &str = "CASE WHEN price < 2 THEN 0 ELSE price END";
const COST: &str = "CASE WHEN price < 0.1 THEN 0.1 ELSE price END";
const LABEL: &str = "label";
const TIER: &str = "CASE WHEN price < 1 THEN 'low' WHEN price < 2.5 THEN 'mid' WHEN price < 4 THEN 'high' ELSE 'top' END";
const GRADE: &str = "CASE WHEN price < 1 THEN 0 WHEN price < 3 THEN 1 WHEN price < 5 THEN 2 ELSE 3 END";
const RELEVANT: &str = "CASE WHEN price < 4 THEN 0 ELSE 1 END";

/// What is boosted: the objective, its target, what it takes besides.
#[rustfmt::skip]
const BOOSTED: &[(&str, &str, &str)] = &[
    ("squared_error", PRICE, "subsample: 0.7"),
    ("huber", PRICE, "delta: 0.5"),
    ("quantile", PRICE, "probability: 0.8"),
    ("absolute", PRICE, "colsample_bytree: 0.8"),
    ("binary", LABEL, "early_stopping: {rounds: 5}"),
    ("multiclass", TIER, "class_weight: balanced"),
    ("poisson", COUNT, "growth: depth_wise, max_depth: 4"),
    ("tweedie", CLAIM, "power: 1.3"),
    ("gamma", COST, "monotone: {amount: 1}"),
    ("lambdarank", GRADE, "truncation_level: 8"),
    ("map", RELEVANT, "subsample: 0.8"),
];

/// Other learners, under the names of their models.
#[rustfmt::skip]
const OTHERS: &[(&str, &str, &str)] = &[
    ("dart", PRICE, "algorithm: gradient_boosting, objective: squared_error, boosting: dart, drop_rate: 0.3, skip_drop: 0.2, trees: 6, max_leaves: 8"),
    ("random_forest", LABEL, "algorithm: random_forest, task: binary, trees: 36, max_depth: 12, min_samples_leaf: 5"),
    ("extra_trees", TIER, "algorithm: extra_trees, task: multiclass, trees: 12, max_depth: 12, min_samples_leaf: 5"),
];

/// Those that take fewer steps. A step draws the rows of as many isolation trees as could have so many samples.
#[rustfmt::skip]
const BRIEF: &[(&str, &str, &str)] = &[
    ("decision_tree", PRICE, "algorithm: decision_tree, task: regression"),
    ("isolation_forest", LABEL, "algorithm: isolation_forest, trees: 40, max_samples: 65536, max_features: 0.7, contamination: 0.05"),
];

/// A learner and its job file.
struct Learner {
    name: &'static str,
    text: String,
}

impl Learner {
    fn boosted(at: usize, (objective, target, more): (&'static str, &str, &str)) -> Self {
        let train =
            format!("algorithm: gradient_boosting, objective: {objective}, trees: 6, max_leaves: 8, learning_rate: 0.2, {more}");
        Self::new(at, (objective, target, &train))
    }

    /// Shards of two neighbours have as many rows: if they learn the same target they share what workers keep. What others
    /// share is hardly ever dropped, so that most have their own.
    fn new(at: usize, (name, target, train): (&'static str, &str, &str)) -> Self {
        let shard_rows = 60 + at / 2;
        let (column, role) = match target {
            GRADE | RELEVANT => ("id % 150 AS query", "query: query"),
            _ => ("id % 7 AS zone", "categorical: zone"),
        };
        let text = format!(
            "version: 1
name: {name}
seed: 3
shard_rows: {shard_rows}
tables: {{rows: data/}}
prepare: |
  SELECT id, amount, age, city, flag, {column}, {target} AS target FROM rows
  WHERE amount < 300 AND id NOT BETWEEN 1000 AND 1400
columns: {{target: target, key: id, {role}}}
split: {{by: random, test: 0.2, validation: 0.1}}
train: {{{train}}}
publish: {{model: {name}}}
"
        );
        Self { name, text }
    }

    fn file(&self) -> String {
        format!("{}.yaml", self.name)
    }
}

/// Learners of thirty steps and more.
fn lasting() -> Vec<Learner> {
    let boosted = BOOSTED.iter().enumerate().map(|(at, learner)| Learner::boosted(at, *learner));
    let others = OTHERS.iter().zip(BOOSTED.len()..).map(|(learner, at)| Learner::new(at, *learner));
    boosted.chain(others).collect()
}

/// The others.
fn brief() -> Vec<Learner> {
    BRIEF.iter().zip(BOOSTED.len() + OTHERS.len()..).map(|(learner, at)| Learner::new(at, *learner)).collect()
}

fn all() -> Vec<Learner> {
    lasting().into_iter().chain(brief()).collect()
}

/// A cluster that runs all jobs side by side, with the data and the job files.
fn cluster(setup: Setup) -> Cluster {
    let cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_sheaf-under-test")), setup.coordinator(&["--running-jobs", "20"]));
    write_parts(&cluster.folder().join("data"), 11, ROWS);
    for learner in all() {
        cluster.write(&learner.file(), &learner.text);
    }
    cluster
}

fn submit(cluster: &Cluster, learner: &Learner) -> Job {
    cluster.submit(&learner.file(), &["--quiet"])
}

/// The models of so many workers to which nothing happens.
fn models(workers: usize) -> BTreeMap<&'static str, String> {
    let mut cluster = cluster(Setup::workers(workers).equal());
    let jobs: Vec<_> = all().into_iter().map(|learner| (learner.name, submit(&cluster, &learner))).collect();
    let mut models = BTreeMap::new();
    for (name, job) in &jobs {
        let shown = cluster.wait_end(job);
        models.insert(*name, cluster.model_of(&shown));
        let shards = contributed(&shown["result"]);
        let everybody = shards.len() == workers && shards.values().all(|count| *count > 0);
        assert!(everybody, "{name}: not each of {workers} workers contributes: {shards:?}");
    }
    cluster.finish();
    models
}

/// The models of one worker.
static ALONE: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| models(1));

#[test]
fn the_same_models_for_any_number_of_workers() {
    let different: BTreeSet<&String> = ALONE.values().collect();
    assert_eq!(different.len(), all().len(), "each learner has a model of its own: {:?}", *ALONE);
    for workers in [2, 3, 5] {
        assert_eq!(models(workers), *ALONE, "{workers} workers");
    }
}

#[test]
fn no_objective_is_left_out() {
    let params = learner("gradient_boosting").unwrap().params;
    let all: BTreeSet<&str> = params.iter().find(|param| param.name == "objective").unwrap().kind.split(" | ").collect();
    let tried: BTreeSet<&str> = BOOSTED.iter().map(|(objective, ..)| *objective).collect();
    assert_eq!(tried, all);
}

/// A job in which training must go on across some moments.
struct Watched {
    name: &'static str,
    job: Job,
    moments: Vec<(&'static str, u64)>,
}

impl Watched {
    fn new(cluster: &Cluster, learner: &Learner) -> Self {
        Self { name: learner.name, job: submit(cluster, learner), moments: Vec::new() }
    }

    /// When steps of training were done, also those that were done again.
    fn steps(&self) -> Vec<u64> {
        let lines = self.job.lines().into_iter().filter(|line| line.phase == "train" && line.text.starts_with("step "));
        lines.map(|line| line.time_ms).collect()
    }

    /// Whether a step was done since the last moment.
    fn goes_on(&self) -> bool {
        let since = self.moments.last().map_or(0, |(_, moment)| *moment);
        self.steps().iter().any(|time| *time > since)
    }

    #[track_caller]
    fn assert_hit(&self) {
        let steps = self.steps();
        for (what, moment) in &self.moments {
            let before = steps.iter().filter(|time| *time < moment).count();
            let after = steps.iter().filter(|time| *time > moment).count();
            assert!(before > 0 && after > 0, "{}: {before} steps before {what}, {after} after it", self.name);
        }
    }
}

/// Something has just happened to all jobs.
fn mark(jobs: &mut [Watched], what: &'static str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // The clock of this machine is the leader's.
    let now = since.unwrap().as_millis() as u64;
    jobs.iter_mut().for_each(|watched| watched.moments.push((what, now)));
}

#[track_caller]
fn wait_for_all(cluster: &mut Cluster, jobs: &[Watched]) {
    cluster.until("a step of every job", |_| jobs.iter().all(Watched::goes_on).then_some(()));
}

#[test]
fn every_objective_through_a_kill_a_join_and_a_new_coordinator() {
    let mut cluster = cluster(Setup::workers(0).slow().coordinator(&["--checkpoint-every", "200ms"]));
    cluster.announce(&[" lost", "disconnected", "not in the cluster", "gave", "shard failed", "is tried again"]);
    // No worker yet: all of them begin together. Those of few steps come when all others are in training.
    let mut jobs: Vec<Watched> = lasting().iter().map(|learner| Watched::new(&cluster, learner)).collect();
    (1..=2).for_each(|worker| cluster.start_worker(worker));
    wait_for_all(&mut cluster, &jobs);
    jobs.extend(brief().iter().map(|learner| Watched::new(&cluster, learner)));
    wait_for_all(&mut cluster, &jobs);
    let killed = cluster.kill_worker(1);
    mark(&mut jobs, "the kill");
    // Nobody gets ahead while the joiner starts.
    cluster.stop_worker(2);
    cluster.start_worker(3);
    let joiner = cluster.wait_joined(3);
    mark(&mut jobs, "the join");
    cluster.resume_worker(2);
    wait_for_all(&mut cluster, &jobs);
    cluster.kill_coordinator();
    mark(&mut jobs, "the coordinator's end");
    cluster.start_coordinator();
    let (mut owed, mut taken_over) = (0, 0);
    for watched in &jobs {
        assert_eq!(cluster.wait_model(&watched.job), ALONE[watched.name], "{}", watched.name);
        watched.assert_hit();
        owed += usize::from(lost_busy(&cluster.log(), &watched.job.id, killed).is_some());
        let joined = of_kind(&cluster.log(), &watched.job.id, "joining");
        taken_over += usize::from(joined.iter().any(|incident| incident.worker == Some(joiner) && incident.hit_training()));
    }
    // The kill lay between two steps of every job; of how many it owed shards just then is chance: from 8 to 15 of 16 were seen.
    assert!(owed > 0, "the killed worker owed shards of no job");
    assert!(taken_over > jobs.len() / 2, "the joiner read shards of {taken_over} jobs only");
    println!("the killed worker owed shards of {owed} of {} jobs, the joiner read some of {taken_over}", jobs.len());
    cluster.finish();
}
