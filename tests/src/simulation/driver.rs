//! Drivers: take running jobs through their phases, journal what each gives, and end them once. They
//! mirror `driver/` of the coordinator, whose awaits are the states here.

use std::collections::BTreeMap;

use sheaf_cluster::{Entry, Event, JobId, Outcome, Pointer, Reply, Stage};

use super::clients::{Answer, JobSpec};
use super::coordinator::Then;
use super::host::{Host, Resume};
use super::invariants::Fact;
use super::mutation::Mutation;
use super::problem::Work;
use super::rng::{FNV, fnv};
use super::world::World;

/// Stage numbers that one phase may take.
const STAGES_PER_PHASE: u32 = 10_000;
/// Names of the phases, in order.
const PHASES: [&str; 5] = ["plan", "prepare", "profile", "train", "publish"];

/// What a driver waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// `JobStarted` in the log.
    Starting,
    /// Specification and checkpoint from the store.
    Loading,
    /// The document of a phase that an earlier leader finished.
    Replaying,
    /// `PhaseEntered` in the log.
    Entering,
    /// The work document in the store.
    Staging,
    /// The stage's product.
    InStage,
    /// The phase's document in the store.
    Storing,
    /// `PhaseFinished` in the log.
    Finishing,
}

/// One job under way.
#[derive(Debug)]
pub(super) struct Driver {
    life: u64,
    spec: JobSpec,
    at: At,
    phase: u32,
    journal: BTreeMap<u32, String>,
    checkpoint: Option<(u32, Resume)>,
    /// Document of the open phase.
    document: String,
    stage: Option<Stage>,
    /// What profile and training gave.
    products: Vec<String>,
}

impl Driver {
    fn work(&self) -> Option<Work> {
        let number = self.spec.problem;
        match PHASES.get(self.phase as usize).copied() {
            Some("prepare") if self.spec.writes => Some(Work::Write(number)),
            Some("prepare") => Some(Work::Count(number)),
            Some("profile") => Some(Work::Profile(number)),
            Some("train") => Some(Work::Train(number)),
            _ => None,
        }
    }

    /// Remembers a phase's document and goes to the next one.
    fn leave(&mut self, document: String) {
        if matches!(PHASES.get(self.phase as usize), Some(&"profile" | &"train")) {
            self.products.push(document);
        }
        self.phase += 1;
    }
}

/// What an undisturbed run of a job on this problem ends with.
pub(super) fn expected(problem: usize) -> String {
    let problem = super::problem::problem(problem);
    result_of(&[problem.profile.result.clone(), problem.train.result.clone()])
}

fn result_of(products: &[String]) -> String {
    format!("{:016x}", products.iter().fold(FNV, |hash, product| fnv(hash, product.as_bytes())))
}

impl World {
    pub fn start_driver(&mut self, job: JobId) {
        let now = self.clock();
        let Some(spec) = self.watch.book.spec(&job).cloned() else {
            return self.violated("protocol", format!("{job} was started and nobody ordered it"));
        };
        let Some(leader) = self.leader() else { return };
        leader.lives += 1;
        let life = leader.lives;
        leader.stops.insert(job.clone());
        let driver = Driver {
            life,
            spec,
            at: At::Starting,
            phase: 0,
            journal: BTreeMap::new(),
            checkpoint: None,
            document: String::new(),
            stage: None,
            products: Vec::new(),
        };
        leader.drivers.insert(job.clone(), driver);
        self.propose(Entry::JobStarted { job: job.clone(), now }, Then::Driver { job, life });
    }

    /// Stops a driver; one that has just ended by itself does not hear it.
    pub fn stop_driver(&mut self, job: JobId, outcome: Outcome) {
        let Some(leader) = self.leader() else { return };
        if !leader.stops.remove(&job) {
            return self.end_job(job, outcome);
        }
        if let Some(driver) = leader.drivers.remove(&job) {
            if let Some(stage) = driver.stage {
                self.close_stage(&stage);
            }
            self.end_job(job, outcome);
        }
    }

    fn driver(&mut self, job: &JobId, life: u64) -> Option<&mut Driver> {
        self.coordinator.process.as_mut()?.drivers.get_mut(job).filter(|driver| driver.life == life)
    }

    /// What the driver waited for is there.
    pub fn driver_goes_on(&mut self, job: &JobId, life: u64, reply: Option<Reply>) {
        let Some(driver) = self.driver(job, life) else { return };
        if let Some(Reply::Rejected(reason)) = reply {
            return self.fail_driver(job.clone(), format!("the log refused an entry: {reason}"));
        }
        match driver.at {
            At::Starting => {
                driver.at = At::Loading;
                self.after_store(Then::Driver { job: job.clone(), life });
            }
            At::Loading => {
                self.load(job, life);
                self.enter_next(job, life);
            }
            At::Replaying => self.replayed(job, life),
            At::Entering => self.entered(job, life),
            At::Staging => self.staged(job, life),
            At::InStage => {}
            At::Storing => {
                driver.at = At::Finishing;
                let (number, document) = (driver.phase, driver.document.clone());
                let entry = Entry::PhaseFinished { job: job.clone(), number, document, now: self.clock() };
                self.propose(entry, Then::Driver { job: job.clone(), life });
            }
            At::Finishing => {
                let hash = driver.document.clone();
                let document = self.store.get(&hash).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                let Some(driver) = self.driver(job, life) else { return };
                driver.leave(document.unwrap_or_default());
                self.enter_next(job, life);
            }
        }
    }

    /// Reads journal and checkpoint; one whose object is missing or damaged counts as none.
    fn load(&mut self, job: &JobId, life: u64) {
        let Some(record) = self.coordinator.process.as_ref().and_then(|leader| leader.durable.jobs.get(job)) else { return };
        let finished =
            record.phases.iter().filter_map(|(number, phase)| Some((*number, phase.finished.as_ref()?.document.clone())));
        let journal: BTreeMap<u32, String> = finished.collect();
        let mut checkpoint = None;
        if let Some(saved) = &record.checkpoint {
            let state = match &saved.state {
                Pointer::Inline(bytes) => Some(bytes.clone()),
                Pointer::Object { hash, .. } => self.store.get(hash).map(|bytes| bytes.to_vec()),
            };
            match state {
                Some(state) => checkpoint = Some((saved.stage, Resume { step: saved.step, state: Some(state) })),
                None => note!(self, "the checkpoint of {job} is damaged: its phase starts over"),
            }
        }
        if checkpoint.is_some() {
            self.counts.resumed += 1;
        }
        if let Some(driver) = self.driver(job, life) {
            (driver.journal, driver.checkpoint) = (journal, checkpoint);
        }
    }

    fn enter_next(&mut self, job: &JobId, life: u64) {
        let now = self.clock();
        let Some(driver) = self.driver(job, life) else { return };
        let number = driver.phase;
        let Some(phase) = PHASES.get(number as usize) else { return self.finish(job, life) };
        let then = Then::Driver { job: job.clone(), life };
        if driver.journal.contains_key(&number) {
            driver.at = At::Replaying;
            return self.after_store(then);
        }
        driver.at = At::Entering;
        let entry = Entry::PhaseEntered { job: job.clone(), phase: (*phase).to_owned(), number, now };
        self.propose(entry, then);
    }

    fn replayed(&mut self, job: &JobId, life: u64) {
        let Some(driver) = self.driver(job, life) else { return };
        let hash = driver.journal.get(&driver.phase).cloned().unwrap_or_default();
        let Some(bytes) = self.store.get(&hash) else {
            return self.violated("protocol", format!("{job} points to document {hash}, which is not in the store"));
        };
        let document = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(driver) = self.driver(job, life) {
            driver.leave(document);
        }
        self.enter_next(job, life);
    }

    fn entered(&mut self, job: &JobId, life: u64) {
        let Some(driver) = self.driver(job, life) else { return };
        if driver.work().is_some() {
            driver.at = At::Staging;
            return self.after_store(Then::Driver { job: job.clone(), life });
        }
        let (name, problem) = (PHASES[driver.phase as usize], driver.spec.problem);
        let document = match name {
            "publish" if self.mutation == Some(Mutation::PublishesTwice) => {
                self.store.versions.push(job.0.clone());
                format!("version {}", self.store.versions.len())
            }
            "publish" => format!("version {}", self.store.publish(&job.0)),
            _ => format!("problem {problem}"),
        };
        if name == "publish" {
            self.watch.see(&Fact::Published { versions: &self.store.versions });
        }
        self.store_document(job, life, document);
    }

    fn store_document(&mut self, job: &JobId, life: u64, document: String) {
        let hash = self.store.put(document.into_bytes());
        let Some(driver) = self.driver(job, life) else { return };
        (driver.at, driver.document) = (At::Storing, hash);
        self.after_store(Then::Driver { job: job.clone(), life });
    }

    fn staged(&mut self, job: &JobId, life: u64) {
        let Some(driver) = self.driver(job, life) else { return };
        let Some(work) = driver.work() else { return };
        let number = driver.phase * STAGES_PER_PHASE;
        let resume = driver.checkpoint.take_if(|(stage, _)| *stage == number).map(|(_, resume)| resume);
        let stage = Stage { job: job.clone(), number };
        driver.at = At::InStage;
        driver.stage = Some(stage.clone());
        match Host::new(work, resume.unwrap_or_default()) {
            Ok(host) => self.open_stage(stage, work, host, life, matches!(work, Work::Train(_))),
            Err(error) => self.fail_driver(job.clone(), error.to_string()),
        }
    }

    /// The stage is over.
    pub fn stage_gave(&mut self, job: &JobId, life: u64, product: String) {
        let Some(driver) = self.driver(job, life) else { return };
        driver.stage = None;
        self.store_document(job, life, product);
    }

    /// All phases are through: from here on the driver hears no stop.
    fn finish(&mut self, job: &JobId, life: u64) {
        let Some(driver) = self.leader().and_then(|leader| leader.drivers.remove(job)).filter(|driver| driver.life == life)
        else {
            return;
        };
        let result = result_of(&driver.products);
        self.store.put(result.clone().into_bytes());
        self.after_store(Then::ResultStored { job: job.clone(), outcome: Outcome::Succeeded { result } });
    }

    fn end_job(&mut self, job: JobId, outcome: Outcome) {
        self.log_end(job, outcome);
    }

    pub fn log_end(&mut self, job: JobId, outcome: Outcome) {
        let entry = Entry::JobEnded { job: job.clone(), outcome: outcome.clone(), now: self.clock() };
        self.propose(entry, Then::Ended { job, outcome });
    }

    /// The end is in the log: tells the engine and whoever watches.
    pub fn ended(&mut self, job: JobId, outcome: Outcome, reply: Option<Reply>) {
        if let Some(Reply::Rejected(reason)) = reply {
            return self.violated("protocol", format!("the end of {job} was refused: {reason}"));
        }
        self.tell_engine(Event::JobEnded { job: job.clone() }, None);
        self.tell_watchers(&job, &outcome);
    }

    pub fn tell_watchers(&mut self, job: &JobId, outcome: &Outcome) {
        let Some(leader) = self.leader() else { return };
        let watching: Vec<usize> = leader.watchers.iter().filter(|(of, _)| of == job).map(|(_, client)| *client).collect();
        for client in watching {
            let state = sheaf_cluster::JobState::Ended(outcome.clone());
            self.answer(client, 0, Some(job.clone()), Answer::State(state));
        }
    }
}
