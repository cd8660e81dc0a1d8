//! `sheaf run`: the job on an embedded cluster, from submit to the result on standard output.

use std::time::Duration;

use sheaf_dataflow::job::JobError;
use sheaf_dataflow::stores::StoreOptions;
use sheaf_proto::v1;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::order::Order;

use super::{print, print_json, setup};
use crate::cli::{Format, RunArgs};
use crate::embedded::{Client, Embedded, EmbeddedOptions};
use crate::failure::Failure;
use crate::render::{Look, Progress, job_result};
use crate::watch::{CANCEL_GRACE, Ended, interrupted, watch};

/// Time between two looks at who has joined.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a job file.
pub async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let loaded = setup::load(&args.file)?;
    let (workers, local) = (args.embedded.workers, &args.embedded.local);
    let store = setup::store(&local.store)?;
    let mut roots = args.roots.allow_root.clone();
    roots.push(loaded.folder.clone());
    let stores: StoreOptions = setup::store_options(&store, &roots)?;
    let progress = if local.quiet { Progress::quiet() } else { Progress::stderr() };
    let options = setup::embedded(&local.cluster, workers, store, stores);
    let order = Order::Run { job: loaded.file.job.clone() };
    let done = execute(options, &order, args.deadline, &progress).await?;
    match done {
        Done::Refused(errors) => Err(loaded.show_errors(&errors, Exit::Usage)),
        Done::Interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; the job was cancelled")),
        Done::Ended(ended) => {
            if let Some(result) = &ended.result {
                match local.output {
                    Format::Json => print_json(result)?,
                    Format::Table => print(&job_result(result, &Look::stdout()))?,
                };
            }
            finish(ended, |error| loaded.show_errors(&[error], Exit::Usage))
        }
    }
}

/// How an order went.
pub enum Done {
    /// It was not accepted.
    Refused(Vec<JobError>),
    /// The user pressed Ctrl-C.
    Interrupted,
    /// It ran.
    Ended(Ended),
}

/// Takes an order through an embedded cluster; no process is left, whatever happens.
pub async fn execute(
    options: EmbeddedOptions,
    order: &Order,
    deadline: Option<Duration>,
    progress: &Progress,
) -> Result<Done, Failure> {
    // A full share for everybody means from the first step on; else who is late joins a job under way.
    let wanted = if options.speculation { 0 } else { options.workers as usize };
    let mut cluster = Embedded::start(options).await?;
    let mut client = cluster.client().await?;
    let through = async {
        wait_for_workers(&mut client, wanted).await?;
        submit_and_watch(&mut client, order, deadline, progress).await
    };
    let result = tokio::select! {
        biased;
        result = through => result,
        () = interrupted() => cancel(&mut cluster).await,
        why = cluster.given_up() => Err(Failure::new(Exit::Failed, why)),
    };
    let stopped = cluster.stop().await;
    let done = result?;
    stopped?;
    Ok(done)
}

/// Resolves when so many workers have joined.
async fn wait_for_workers(client: &mut Client, wanted: usize) -> Result<(), Failure> {
    while wanted > 0 && client.get_cluster(v1::GetClusterRequest::default()).await?.into_inner().workers.len() < wanted {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn submit_and_watch(
    client: &mut Client,
    order: &Order,
    deadline: Option<Duration>,
    progress: &Progress,
) -> Result<Done, Failure> {
    let order = serde_json::to_string(order).map_err(|e| Failure::new(Exit::Failed, format!("write the order: {e}")))?;
    let deadline_ms = deadline.map_or(0, |d| d.as_millis() as u64);
    let request =
        v1::SubmitJobRequest { idempotency_key: String::new(), order, priority: 0, namespace: "default".into(), deadline_ms };
    let accepted = client.submit_job(request).await?.into_inner();
    if !accepted.errors.is_empty() {
        return Ok(Done::Refused(accepted.errors.into_iter().map(domain_error).collect()));
    }
    Ok(Done::Ended(watch(client, &accepted.job, progress).await?))
}

async fn cancel(cluster: &mut Embedded) -> Result<Done, Failure> {
    let mut client = cluster.client().await?;
    let jobs = client.list_jobs(v1::ListJobsRequest::default()).await?.into_inner().jobs;
    for job in jobs {
        // One that ended meanwhile refuses; what it ended with is asked for below.
        let _ = client.cancel_job(v1::CancelJobRequest { job: job.job.clone() }).await;
        // A job that does not end in time is ended with its cluster.
        let ended = tokio::time::timeout(CANCEL_GRACE, watch(&mut client, &job.job, &Progress::quiet())).await;
        if let Ok(Ok(ended)) = ended
            && ended.exit == Exit::Done
        {
            return Ok(Done::Ended(ended));
        }
    }
    Ok(Done::Interrupted)
}

/// The exit of a job that ran; errors that point into the job file are shown there.
pub fn finish(ended: Ended, show: impl FnOnce(JobError) -> Failure) -> Result<Exit, Failure> {
    if ended.exit == Exit::Done {
        return Ok(Exit::Done);
    }
    match ended.error {
        Some(error) => Err(Failure { exit: ended.exit, ..show(domain_error(error)) }),
        None => Err(Failure::new(ended.exit, ended.message)),
    }
}

/// A job error from the wire.
pub fn domain_error(error: v1::JobError) -> JobError {
    let hint = (!error.hint.is_empty()).then_some(error.hint);
    JobError { path: error.path, message: error.message, hint }
}
