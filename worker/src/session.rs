//! One stay in the cluster: from the hello to the end of the control stream, whoever ends it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use sheaf_learn::kernels::Level;
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::worker_service_client::WorkerServiceClient;
use sheaf_proto::v1::{self, join_cluster_request::Report, join_cluster_response::Command};
use sheaf_runtime::connect::{Channel, connect};
use sheaf_runtime::shutdown::{Asked, Shutdown};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::cache::ShardCache;
use crate::life::{WorkerError, WorkerOptions};
use crate::queries::Queries;
use crate::stage::Bench;

/// A client of the coordinator.
pub(crate) type Client = WorkerServiceClient<Channel>;

/// What this process is known by from stay to stay.
static INSTANCE: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

/// How a stay ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The worker owes nothing and was let go, or had no time left to leave in order.
    Left,
    /// It was asked to end at once.
    Stopped,
    /// The stream broke, or the coordinator held the worker for lost: it may come back.
    Broken {
        /// What happened.
        why: String,
        /// Whether it had been welcomed before.
        joined: bool,
    },
    /// The coordinator does not take this worker, now or later.
    Refused(WorkerError),
}

impl Ending {
    /// Why the worker is in no cluster now.
    pub(crate) fn why(&self) -> &str {
        match self {
            Ending::Left => "it has left the cluster",
            Ending::Stopped => "it is stopping",
            Ending::Broken { .. } => "it has lost its coordinator and tries to join again",
            Ending::Refused(_) => "the coordinator refuses it",
        }
    }
}

/// Joins the coordinator and carries out its commands until one of the two ends the stay.
pub(crate) async fn stay(options: &WorkerOptions, bench: &Bench, queries: &Queries, shutdown: &mut Shutdown) -> Ending {
    let mut stopped = shutdown.clone();
    tokio::select! {
        joined = join(options, bench) => match joined {
            Ok((client, channel, reports, commands)) => {
                let stay = Stay { options, bench, queries, client, channel, reports, commands, agent: None, beat: None, part: None, leaving: None };
                stay.last(shutdown).await
            }
            Err(ending) => ending,
        },
        // Nothing is under way before the welcome.
        _ = stopped.asked(Asked::ToLeave), if shutdown.so_far() == Asked::No => Ending::Left,
    }
}

type Joined = (Client, Channel, mpsc::Sender<v1::JoinClusterRequest>, Streaming<v1::JoinClusterResponse>);

async fn join(options: &WorkerOptions, bench: &Bench) -> Result<Joined, Ending> {
    let broken = |why: String| Ending::Broken { why, joined: false };
    let channel = connect(&options.join).await.map_err(|error| match error.retry() {
        true => broken(error.to_string()),
        false => Ending::Refused(WorkerError::Connect(error)),
    })?;
    let client = WorkerServiceClient::new(channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (reports, outgoing) = mpsc::channel(64);
    reports
        .send(report(Report::Hello(hello(options, bench.level))))
        .await
        .map_err(|_| broken("the stream is gone".to_owned()))?;
    let commands = client.clone().join_cluster(ReceiverStream::new(outgoing)).await.map_err(|status| refused(&status))?;
    Ok((client, channel, reports, commands.into_inner()))
}

/// What the coordinator's answer to a hello means.
fn refused(status: &Status) -> Ending {
    let why = format!("the coordinator ended the control stream: {}", status.message());
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument => Ending::Refused(WorkerError::Refused(why)),
        Code::Unauthenticated | Code::PermissionDenied => Ending::Refused(WorkerError::Denied(why)),
        _ => Ending::Broken { why, joined: false },
    }
}

fn hello(options: &WorkerOptions, level: Level) -> v1::Hello {
    v1::Hello {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        kernels: sheaf_learn::kernels::self_test_at(level),
        threads: options.threads as u32,
        memory_bytes: options.memory_bytes,
        pid: std::process::id(),
        level: level.name().to_owned(),
        name: options.name.clone(),
        instance: *INSTANCE,
    }
}

/// A report as it stands on the stream.
pub(crate) fn report(report: Report) -> v1::JoinClusterRequest {
    v1::JoinClusterRequest { report: Some(report) }
}

/// A stay under way. Dropping it breaks off everything that was ordered.
struct Stay<'a> {
    options: &'a WorkerOptions,
    bench: &'a Bench,
    queries: &'a Queries,
    client: Client,
    channel: Channel,
    reports: mpsc::Sender<v1::JoinClusterRequest>,
    commands: Streaming<v1::JoinClusterResponse>,
    agent: Option<Agent>,
    beat: Option<AbortOnDropHandle<()>>,
    /// Taking part in queries.
    part: Option<AbortOnDropHandle<()>>,
    /// Leaving the query engine in order, once it has begun.
    leaving: Option<AbortOnDropHandle<()>>,
}

impl Stay<'_> {
    /// Lasts until somebody ends it.
    async fn last(mut self, shutdown: &mut Shutdown) -> Ending {
        let mut heard = Asked::No;
        let mut deadline = None;
        // Nothing is owed to jobs any more; queries may still need this worker.
        let mut let_go = false;
        loop {
            let next = if heard == Asked::No { Asked::ToLeave } else { Asked::ToStop };
            tokio::select! {
                command = self.commands.message(), if !let_go => match self.command(command) {
                    Some(Ending::Left) => {
                        let_go = true;
                        self.leave_queries();
                        deadline.get_or_insert_with(|| Instant::now() + self.options.drain_timeout);
                    }
                    Some(ending) => return ending,
                    None => {}
                },
                () = ended(&mut self.leaving), if let_go => return Ending::Left,
                asked = shutdown.asked(next) => {
                    heard = asked;
                    if asked == Asked::ToStop {
                        return Ending::Stopped;
                    }
                    info!(timeout_s = self.options.drain_timeout.as_secs(), "asked to leave; no new leases, finishing what is under way");
                    deadline = Some(Instant::now() + self.options.drain_timeout);
                    self.bench.metrics.readiness().not_ready("it is draining");
                    self.leave_queries();
                    if !let_go && self.reports.send(report(Report::Leaving(v1::Leaving {}))).await.is_err() {
                        return Ending::Left;
                    }
                }
                () = until(deadline) => {
                    // The coordinator sees the stream end and leases the rest to others.
                    warn!("the time to leave in order is over; what is under way is handed back");
                    return Ending::Left;
                }
            }
        }
    }

    /// Begins to leave the query engine, unless it has begun.
    fn leave_queries(&mut self) {
        if self.leaving.is_none() {
            let leaving = self.queries.clone().leave(self.client.clone());
            self.leaving = Some(AbortOnDropHandle::new(tokio::spawn(leaving)));
        }
    }

    fn command(&mut self, command: Result<Option<v1::JoinClusterResponse>, Status>) -> Option<Ending> {
        let joined = self.agent.is_some();
        let command = match command.map(|response| response.and_then(|r| r.command)) {
            Ok(Some(command)) => command,
            Ok(None) => return Some(self.broken("the coordinator closed the control stream")),
            Err(status) if !joined => return Some(refused(&status)),
            Err(status) => return Some(self.broken(format!("the control stream broke: {}", status.message()))),
        };
        match command {
            Command::Welcome(welcome) if !joined => {
                self.welcome(&welcome);
                None
            }
            Command::Leave(leave) if leave.rejoin => Some(self.broken(leave.reason)),
            Command::Leave(leave) => {
                info!(reason = leave.reason, "leaving");
                Some(Ending::Left)
            }
            other => match &mut self.agent {
                Some(agent) => agent.obey(other).err().map(|error| self.broken(format!("{error:#}"))),
                None => Some(self.broken("the coordinator sent a command before its welcome")),
            },
        }
    }

    fn welcome(&mut self, welcome: &v1::Welcome) {
        info!(worker = welcome.worker, coordinator = self.options.join.address, "joined");
        self.bench.metrics.joined();
        let every = Duration::from_millis(welcome.heartbeat_ms.max(10));
        let beat = beat(self.reports.clone(), self.bench.cache.clone(), every);
        self.beat = Some(AbortOnDropHandle::new(tokio::spawn(beat)));
        let part = self.queries.clone().take_part(*INSTANCE, welcome.worker, self.client.clone(), self.channel.clone());
        self.part = Some(AbortOnDropHandle::new(tokio::spawn(part)));
        self.agent = Some(Agent::new(welcome.worker, self.client.clone(), self.reports.clone(), self.bench.clone()));
    }

    fn broken(&self, why: impl Into<String>) -> Ending {
        Ending::Broken { why: why.into(), joined: self.agent.is_some() }
    }
}

/// Waits for a task; for ever if there is none. What it panicked with is no reason to stay.
async fn ended(task: &mut Option<AbortOnDropHandle<()>>) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn beat(reports: mpsc::Sender<v1::JoinClusterRequest>, cache: ShardCache, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let (cache_bytes, spilled_bytes) = cache.sizes();
        if reports.send(report(Report::Heartbeat(v1::Heartbeat { cache_bytes, spilled_bytes }))).await.is_err() {
            return;
        }
    }
}
