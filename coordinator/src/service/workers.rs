//! The service that workers dial.

use std::pin::Pin;

use sheaf_cluster::Event;
use sheaf_cluster::id::{Step, WorkerId};
use sheaf_dataflow::engine::{Member, Scheduler, Signal};
use sheaf_proto::convert::{BlockOf, Missing, StageOf, TokenOf};
use sheaf_proto::v1::{self, join_cluster_request::Report, worker_service_server::WorkerService};
use sheaf_runtime::auth::Origin;
use sheaf_runtime::fault::{Fault, Kind};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::context::{Context, stopping};
use crate::event_loop::{Blocks, Input, LoopHandle};

/// [`WorkerService`] over the event loop.
pub struct Workers {
    /// Shared things.
    pub context: Context,
    /// Hash of our own kernel self-test: a worker whose hash differs computes other bits.
    pub kernels: String,
}

type Commands = Pin<Box<dyn Stream<Item = Result<v1::JoinClusterResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for Workers {
    type JoinClusterStream = Commands;

    async fn join_cluster(&self, request: Request<Streaming<v1::JoinClusterRequest>>) -> Result<Response<Commands>, Status> {
        self.context.accepting()?;
        let address = request.extensions().get::<Origin>().map_or_else(String::new, |origin| origin.address.clone());
        let mut reports = request.into_inner();
        let Some(Report::Hello(hello)) = reports.message().await?.and_then(|r| r.report) else {
            return Err(Status::invalid_argument("a worker says hello first"));
        };
        if hello.kernels != self.kernels {
            return Err(Status::failed_precondition(format!(
                "the worker's kernels compute other bits than the coordinator's (self-test {} instead of {}); use the same build and a supported processor",
                hello.kernels, self.kernels
            )));
        }
        let (commands, outgoing) = mpsc::unbounded_channel();
        let (reply, number) = oneshot::channel();
        let events = self.context.events.clone();
        events.send(Input::Joined { hello, address, commands, reply });
        let worker = number.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        tokio::spawn(listen(worker, reports, events));
        // A stream without an end would keep a coordinator that stops from ending.
        let outgoing = UnboundedReceiverStream::new(outgoing);
        let until_closing = futures::StreamExt::take_until(outgoing, self.context.closing.clone().cancelled_owned());
        Ok(Response::new(Box::pin(until_closing)))
    }

    async fn fetch_document(
        &self,
        request: Request<v1::FetchDocumentRequest>,
    ) -> Result<Response<v1::FetchDocumentResponse>, Status> {
        let document = self.context.documents.get_bytes(&request.into_inner().hash).await;
        let document = document.map_err(|fault| Status::internal(fault.message))?;
        self.context.metrics.document_sent(document.len());
        Ok(Response::new(v1::FetchDocumentResponse { document }))
    }

    async fn fetch_message(
        &self,
        request: Request<v1::FetchMessageRequest>,
    ) -> Result<Response<v1::FetchMessageResponse>, Status> {
        let request = request.into_inner();
        let StageOf(stage) = request.stage.try_into()?;
        let (reply, message) = oneshot::channel();
        self.context.events.send(Input::FetchMessage { stage, step: Step(request.step), reply });
        let message = message.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        let message = message.ok_or_else(|| Status::not_found("the step is over"))?;
        Ok(Response::new(v1::FetchMessageResponse { message }))
    }

    async fn fetch_chapters(
        &self,
        request: Request<v1::FetchChaptersRequest>,
    ) -> Result<Response<v1::FetchChaptersResponse>, Status> {
        let request = request.into_inner();
        let StageOf(stage) = request.stage.try_into()?;
        let (reply, chapters) = oneshot::channel();
        self.context.events.send(Input::FetchChapters { stage, range: request.from..request.to, reply });
        let chapters = chapters.await.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        let chapters = chapters.ok_or_else(|| Status::not_found("the stage is over, or has not so many chapters"))?;
        self.context.metrics.chapters_sent(chapters.iter().map(bytes::Bytes::len).sum());
        Ok(Response::new(v1::FetchChaptersResponse { chapters }))
    }

    type FollowQueriesStream = Pin<Box<dyn Stream<Item = Result<v1::FollowQueriesResponse, Status>> + Send>>;

    async fn follow_queries(
        &self,
        request: Request<v1::FollowQueriesRequest>,
    ) -> Result<Response<Self::FollowQueriesStream>, Status> {
        self.context.accepting()?;
        let v1::FollowQueriesRequest { name, threads, memory_bytes } = request.into_inner();
        let scheduler = self.context.queries.scheduler().clone();
        let signals = scheduler.signals();
        scheduler.joined(&name, Member { threads, memory: memory_bytes }).await;
        let following = Following { name, scheduler };
        let signals = tokio_stream::wrappers::BroadcastStream::new(signals).map(move |signal| {
            // The worker is a member for as long as somebody sends it signals.
            let _member = &following;
            // Whoever missed signals has missed reasons to poll, which it does anyway.
            Ok(v1::FollowQueriesResponse { signal: Some(signal.map_or(wire_signal(Signal::Work), wire_signal)) })
        });
        let until_closing = futures::StreamExt::take_until(signals, self.context.closing.clone().cancelled_owned());
        Ok(Response::new(Box::pin(until_closing)))
    }

    async fn leave_queries(
        &self,
        request: Request<v1::LeaveQueriesRequest>,
    ) -> Result<Response<v1::LeaveQueriesResponse>, Status> {
        let name = request.into_inner().name;
        tokio::select! {
            () = self.context.queries.scheduler().leaving(&name) => Ok(Response::new(v1::LeaveQueriesResponse {})),
            () = self.context.closing.cancelled() => Err(stopping()),
        }
    }

    async fn push_blocks(&self, request: Request<v1::PushBlocksRequest>) -> Result<Response<v1::PushBlocksResponse>, Status> {
        self.context.events.send(Input::Blocks(blocks(request.into_inner())?));
        Ok(Response::new(v1::PushBlocksResponse {}))
    }
}

/// A worker in the query engine.
struct Following {
    name: String,
    scheduler: Scheduler,
}

impl Drop for Following {
    fn drop(&mut self) {
        let (name, scheduler) = (std::mem::take(&mut self.name), self.scheduler.clone());
        tokio::spawn(async move { scheduler.lost(&name).await });
    }
}

fn wire_signal(signal: Signal) -> v1::follow_queries_response::Signal {
    use v1::follow_queries_response::Signal as Wire;
    match signal {
        Signal::Work => Wire::Work(v1::QueryWork {}),
        Signal::Cancel(query) => Wire::Cancelled(query),
        Signal::Ended(query) => Wire::Ended(query),
    }
}

fn blocks(request: v1::PushBlocksRequest) -> Result<Blocks, Missing> {
    let StageOf(stage) = request.stage.try_into()?;
    let TokenOf(token) = request.token.try_into()?;
    let mut blocks = Vec::with_capacity(request.blocks.len());
    for value in request.blocks {
        let BlockOf(block) = value.block.try_into()?;
        blocks.push((block, value.present.then_some(value.value)));
    }
    let spent = request.spent.unwrap_or_default();
    Ok(Blocks { worker: WorkerId(request.worker), stage, step: Step(request.step), token, blocks, spent })
}

/// Reads a worker's reports until its stream ends, which is its loss.
async fn listen(worker: WorkerId, mut reports: Streaming<v1::JoinClusterRequest>, events: LoopHandle) {
    let reason = loop {
        match reports.next().await {
            Some(Ok(report)) => match report.report.map(|r| input(worker, r)) {
                Some(Ok(input)) => events.send(input),
                Some(Err(missing)) => break missing.to_string(),
                None => break "it sent an empty report".to_owned(),
            },
            Some(Err(status)) => break format!("its control stream broke: {}", status.message()),
            None => break "it closed its control stream".to_owned(),
        }
    };
    events.send(Input::Event(Event::WorkerLost { worker, reason }));
}

fn input(worker: WorkerId, report: Report) -> Result<Input, Missing> {
    Ok(match report {
        Report::Hello(_) => return Err(Missing("a first hello: it sent a second one")),
        Report::Heartbeat(beat) => Input::Beat(worker, beat),
        Report::Leaving(_) => Input::Event(Event::DrainRequested { worker }),
        Report::Prepared(prepared) => {
            let StageOf(stage) = prepared.stage.try_into()?;
            let TokenOf(token) = prepared.token.try_into()?;
            Input::Event(Event::Prepared { worker, stage, token })
        }
        Report::ShardFailed(failed) => {
            let kind = failed.kind();
            let StageOf(stage) = failed.stage.try_into()?;
            let TokenOf(token) = failed.token.try_into()?;
            let fault = Fault { retry: failed.retry, ..Fault::new(kind_of(kind), failed.message) };
            Input::ShardFailed { worker, stage, token, shard: failed.shard, fault }
        }
        Report::ShardsReturned(returned) => {
            let StageOf(stage) = returned.stage.try_into()?;
            let TokenOf(token) = returned.token.try_into()?;
            let ranges = returned.ranges.iter().map(|r| r.start..r.end).collect();
            Input::Event(Event::ShardsReturned { worker, stage, token, ranges })
        }
    })
}

fn kind_of(kind: v1::FailKind) -> Kind {
    match kind {
        v1::FailKind::Job => Kind::Job,
        v1::FailKind::Data => Kind::Data,
        v1::FailKind::Limit => Kind::Limit,
        v1::FailKind::Deadline => Kind::Deadline,
        v1::FailKind::Unspecified | v1::FailKind::Internal => Kind::Internal,
    }
}
