//! Fitting where nothing is fitted: the features are those of an earlier model. What must hold of key, split, target,
//! weights and offsets is measured as ever.

use arrow::datatypes::Schema as ArrowSchema;
use sheaf_learn::algorithms::warm_start;

use crate::job::{Job, JobError};
use crate::pipeline::{Fitting, Pipeline};
use crate::target::TargetKind;

impl Job {
    /// The model that training goes on from, as the job names it.
    pub fn warm_start(&self) -> Option<&str> {
        self.train.as_ref()?.params.get(warm_start::NAME)?.as_str()
    }
}

impl Fitting {
    /// Validates roles against the prepared columns; the steps, the columns and the classes are those of `pipeline`,
    /// which is what training goes on with when [`Fitting::request`] gives `None`.
    ///
    /// # Errors
    /// Every role that does not fit, with its place in the job file.
    pub fn frozen(job: &Job, prepared: &ArrowSchema, pipeline: &Pipeline) -> Result<Fitting, Vec<JobError>> {
        let bare = Job { features: Vec::new(), train: None, ..job.clone() };
        let fitting = Fitting::new(&bare, prepared)?;
        // Classes are known: an unknown one is refused where rows are encoded.
        let numeric = pipeline.target.as_ref().is_some_and(|target| target.kind == TargetKind::Number);
        Ok(if numeric { fitting.of_numbers() } else { fitting })
    }
}
