//! The examples that users start from: every job file is read without a complaint, and its tables are
//! there (or made by the command that the file names).
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use sheaf_client::jobfile::{Overrides, Source, read, render};
use sheaf_dataflow::job::Job;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn job(name: &str) -> Job {
    job_of(name, "job.yaml")
}

fn job_of(name: &str, file: &str) -> Job {
    let base = folder(name);
    let text = std::fs::read_to_string(base.join(file)).unwrap();
    let source = Source { name: format!("{name}/{file}"), text };
    match read(&source, &Overrides { base, ..Overrides::default() }) {
        Ok(file) => file.job,
        Err(errors) => panic!("{}", render(&source, &errors, false)),
    }
}

#[test]
fn every_example_is_a_job() {
    let mut names: Vec<String> =
        std::fs::read_dir(folder("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        ["breast-cancer", "card-fraud", "diabetes", "diabetes-risk", "digits", "search-ranking", "vehicle-sensors"]
    );
    for name in names {
        let job = job(&name);
        assert_eq!(job.name, name);
        assert!(job.split.is_some() && !job.checks.is_empty() && !job.evaluate.limits.is_empty() && job.publish.is_some());
        assert!(folder(&name).join("README.md").exists());
    }
}

#[test]
fn card_fraud_has_a_job_for_trees() {
    let (trees, linear) = (job_of("card-fraud", "trees.yaml"), job("card-fraud"));
    assert_eq!(trees.train.unwrap().algorithm, "gradient_boosting");
    assert_eq!((trees.tables, trees.prepare, trees.split), (linear.tables, linear.prepare, linear.split));
}

#[test]
fn stored_data_is_where_the_jobs_look() {
    for name in ["breast-cancer", "diabetes", "digits"] {
        let path = job(name).tables[0].path.clone();
        assert!(Path::new(&path).is_file(), "{path}");
    }
}

#[test]
fn the_breast_cancer_file_holds_what_its_readme_says() {
    let text = std::fs::read_to_string(folder("breast-cancer").join("data/breast_cancer.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 570);
    assert!(lines.iter().all(|line| line.split(',').count() == 32));
    assert_eq!(lines.iter().filter(|line| line.contains(",malignant,")).count(), 212);
}
