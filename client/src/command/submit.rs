//! `sheaf submit` and `sheaf jobs retry`: an order goes to the cluster exactly once, and is watched if
//! the user wants to.

use std::time::{Duration, Instant};

use serde_json::json;
use sheaf_dataflow::job::JobError;
use sheaf_proto::v1;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::Fault;
use sheaf_runtime::order::Order;
use tonic::Status;

use super::run::{domain_error, finish};
use super::{print, print_json, setup, within};
use crate::cli::{Format, RetryArgs, SubmitArgs, WatchArgs};
use crate::connect::{Place, connect, place};
use crate::embedded::Client;
use crate::failure::Failure;
use crate::render::jobs::estimate_text;
use crate::render::{Look, Progress, job_result};
use crate::watch::{Ended, follow, interrupted, is_transient};

/// Time for which a submit is tried again when the connection breaks under it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Submits a job file.
pub async fn submit(args: SubmitArgs) -> Result<Exit, Failure> {
    if args.patience.timeout.is_some() && !args.watch && !args.wait {
        return Err(Failure::usage("--timeout says how long to stay with the job: give --wait or --watch with it"));
    }
    let loaded = setup::load(&args.file)?;
    let place = place(&args.ask.connect)?;
    let mut job = loaded.file.job.clone();
    if let Some(name) = &args.name {
        job.name.clone_from(name);
    }
    let order =
        serde_json::to_string(&Order::Run { job }).map_err(|e| Failure::new(Exit::Failed, format!("write the order: {e}")))?;
    let request = v1::SubmitJobRequest {
        idempotency_key: args.key.clone().unwrap_or_else(own_key),
        order,
        priority: args.priority,
        namespace: args.namespace.clone().unwrap_or_else(|| place.namespace.clone()),
        deadline_ms: args.deadline.map_or(0, |d| d.as_millis() as u64),
    };
    let mut client = connect(&place).await?;
    let accepted = send(&place, &mut client, |mut client| {
        let request = request.clone();
        async move { Ok(client.submit_job(request).await?.into_inner()) }
    });
    let accepted = accepted.await?;
    let show = |errors: Vec<v1::JobError>| {
        let errors: Vec<JobError> = errors.into_iter().map(domain_error).collect();
        loaded.show_errors(&errors, Exit::Usage)
    };
    if !accepted.errors.is_empty() {
        return Err(show(accepted.errors));
    }
    let taken = Taken { job: accepted.job, fresh: accepted.fresh, estimate: accepted.estimate, retry_of: None };
    let quiet = args.quiet;
    taken.announce(quiet);
    if !args.watch && !args.wait {
        return taken.print(args.ask.output);
    }
    let stay = Stay { timeout: args.patience.timeout, output: args.ask.output, quiet: quiet || args.wait };
    stay.with(&place, client, &taken.job, |error| loaded.show_errors(&[error], Exit::Usage)).await
}

/// Submits the order of an earlier job again.
pub async fn retry(args: RetryArgs) -> Result<Exit, Failure> {
    let place = place(&args.ask.connect)?;
    let mut client = connect(&place).await?;
    let request = v1::RetryJobRequest { job: args.job.clone(), idempotency_key: args.key.clone().unwrap_or_else(own_key) };
    let accepted = send(&place, &mut client, |mut client| {
        let request = request.clone();
        async move { Ok(client.retry_job(request).await?.into_inner()) }
    });
    let accepted = accepted.await?;
    if !accepted.errors.is_empty() {
        return Err(Failure { exit: Exit::Usage, ..Fault::job(accepted.errors.into_iter().map(domain_error).collect()).into() });
    }
    let retry_of = Some(accepted.retry_of);
    let taken = Taken { job: accepted.job, fresh: accepted.fresh, estimate: accepted.estimate, retry_of };
    taken.announce(args.quiet);
    if !args.watch {
        return taken.print(args.ask.output);
    }
    let stay = Stay { timeout: None, output: args.ask.output, quiet: args.quiet };
    stay.with(&place, client, &taken.job, |error| Fault::from(error).into()).await
}

/// Watches a job that is there already.
pub async fn watch(args: WatchArgs) -> Result<Exit, Failure> {
    let place = place(&args.ask.connect)?;
    let mut client = connect(&place).await?;
    let found = client.get_job(v1::GetJobRequest { job: args.job.clone() }).await?.into_inner();
    let job = found.job.map_or(args.job, |job| job.job);
    let stay = Stay { timeout: args.patience.timeout, output: args.ask.output, quiet: args.quiet };
    stay.with(&place, client, &job, |error| Fault::from(error).into()).await
}

/// A key that no other invocation has: the order goes in once, however often it is sent.
fn own_key() -> String {
    format!("once-{}", ulid::Ulid::new())
}

/// Sends an order that has a key, again when the connection breaks under it: the key makes that safe.
async fn send<T, F>(place: &Place, client: &mut Client, call: impl Fn(Client) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Status>>,
{
    let began = Instant::now();
    loop {
        let status = match call(client.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(status) => status,
        };
        if !is_transient(&status) || began.elapsed() > PATIENCE {
            return Err(status.into());
        }
        eprintln!("the coordinator at {} went away ({}); trying again with the same key", place.target.address, status.message());
        tokio::time::sleep(PAUSE).await;
        match connect(place).await {
            Ok(fresh) => *client = fresh,
            Err(failure) if failure.exit != Exit::Unreachable || began.elapsed() > PATIENCE => return Err(failure),
            // The next try says the same of the old connection.
            Err(_) => {}
        }
    }
}

/// An order that the cluster has taken.
struct Taken {
    job: String,
    fresh: bool,
    estimate: Option<v1::JobEstimate>,
    retry_of: Option<String>,
}

impl Taken {
    /// Says on standard error what the cluster has taken, and what it will take.
    fn announce(&self, quiet: bool) {
        if quiet {
            return;
        }
        match (&self.retry_of, self.fresh) {
            (_, false) => eprintln!("job {} was submitted under this key before", self.job),
            (Some(old), true) => eprintln!("job {} tries {old} again", self.job),
            (None, true) => eprintln!("job {}", self.job),
        }
        if let Some(estimate) = &self.estimate {
            eprintln!("estimate: {}", estimate_text(estimate));
        }
    }

    fn print(&self, output: Format) -> Result<Exit, Failure> {
        match output {
            Format::Table => print(&self.job),
            Format::Json => print_json(&json!({
                "job": self.job,
                "fresh": self.fresh,
                "retry_of": self.retry_of,
                "estimate": self.estimate.as_ref().map(estimate_json),
            })),
        }
    }
}

/// An estimate for programs.
pub fn estimate_json(e: &v1::JobEstimate) -> serde_json::Value {
    json!({
        "rows": e.rows,
        "units": e.units,
        "shards": e.shards,
        "encoded_bytes": e.encoded_bytes,
        "workers": e.workers,
        "memory_bytes": e.memory_bytes,
        "spills": e.spills,
    })
}

/// How to stay with a job.
struct Stay {
    timeout: Option<Duration>,
    output: Format,
    quiet: bool,
}

impl Stay {
    /// Stays until the job ends, the time is over or the user detaches; prints the result.
    async fn with(
        self,
        place: &Place,
        client: Client,
        job: &str,
        show: impl FnOnce(JobError) -> Failure,
    ) -> Result<Exit, Failure> {
        let progress = if self.quiet { Progress::quiet() } else { Progress::stderr() };
        let goes_on = format!("the job goes on; `sheaf jobs watch {job}` attaches again");
        let ended = tokio::select! {
            biased;
            ended = within(self.timeout, &goes_on, follow(place, client, job, &progress)) => ended?,
            () = interrupted() => {
                eprintln!("detached: {goes_on}");
                return Ok(Exit::Interrupted);
            }
        };
        self.show(&ended)?;
        finish(ended, show)
    }

    fn show(&self, ended: &Ended) -> Result<(), Failure> {
        if let Some(result) = &ended.result {
            match self.output {
                Format::Json => print_json(result)?,
                Format::Table => print(&job_result(result, &Look::stdout()))?,
            };
        }
        Ok(())
    }
}
