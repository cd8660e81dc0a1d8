//! What is learnt equals the undisturbed run's bit for bit: every step's message, every product, every
//! result.

use sheaf_cluster::{Entry, JobId, Outcome};

use super::super::driver::expected;
use super::super::problem::Work;
use super::super::rng::{FNV, fnv};
use super::{Book, Fact, Invariant};

pub(super) struct SameBits;

fn result(job: &JobId, result: &str, book: &Book) -> Result<(), String> {
    let Some(spec) = book.spec(job) else { return Err(format!("{job} ended and nobody ordered it")) };
    let due = expected(spec.problem);
    if due == result { Ok(()) } else { Err(format!("the result of {job} is {result}, the undisturbed run's {due}")) }
}

fn product(work: Work, product: &str) -> bool {
    match work.solved() {
        Some(solved) => solved.result == product,
        None => format!("{:?}", (0..work.leaves()).flat_map(|task| work.output(task)).collect::<Vec<u8>>()) == product,
    }
}

impl Invariant for SameBits {
    fn name(&self) -> &'static str {
        "same bits"
    }

    fn see(&mut self, fact: &Fact<'_>, book: &Book) -> Result<(), String> {
        match fact {
            Fact::Message { stage, work, step, message } => {
                let due = work.solved().map(|solved| solved.messages.get(*step as usize).copied());
                if due.is_some_and(|due| due != Some(fnv(FNV, message))) {
                    return Err(format!("the message of {stage} step {step} is not the undisturbed run's"));
                }
                Ok(())
            }
            Fact::Product { stage, work, product: what } if !product(*work, what) => {
                Err(format!("{stage} gave {what}, which the undisturbed run does not"))
            }
            Fact::Applied { entry: Entry::JobEnded { job, outcome: Outcome::Succeeded { result: what }, .. }, .. } => {
                result(job, what, book)
            }
            _ => Ok(()),
        }
    }
}
