//! The door to the scheduler: workers that are members may poll for tasks, and nothing of the engine's own protocol is
//! open to anyone else.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorStoppedParams, ExecutorStoppedResult,
    GetJobMetricsParams, GetJobMetricsResult, GetJobStatusParams, GetJobStatusResult, HeartBeatParams, HeartBeatResult,
    PollWorkParams, PollWorkResult, RegisterExecutorParams, RegisterExecutorResult, RemoveSessionParams, RemoveSessionResult,
    UpdateTaskStatusParams, UpdateTaskStatusResult,
};
use futures::Stream;
use tokio::sync::RwLock;
use tonic::{Request, Response, Status};

use super::scheduler::Server;

/// A worker as queries see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Tasks that it runs at the same time.
    pub threads: u32,
    /// Bytes of memory that it has in all.
    pub memory: u64,
}

/// A member, and whether it wants to leave: then it gets no more tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) member: Member,
    pub(super) leaving: bool,
}

/// Members by the name of their stay.
pub(super) type Members = Arc<RwLock<BTreeMap<String, Seat>>>;

/// The scheduler behind its door.
pub(super) struct Gate {
    pub(super) server: Server,
    pub(super) members: Members,
}

type Never<T> = Result<Response<T>, Status>;

fn closed<T>() -> Never<T> {
    Err(Status::unimplemented("queries are run through this cluster's own services"))
}

#[tonic::async_trait]
impl SchedulerGrpc for Gate {
    type ExecuteQueryPushStream = Pin<Box<dyn Stream<Item = Result<GetJobStatusResult, Status>> + Send>>;

    async fn poll_work(&self, mut request: Request<PollWorkParams>) -> Never<PollWorkResult> {
        // Held through the call: a worker that is taken out has had its last word, and gets no task after it.
        let members = self.members.read().await;
        let name = request.get_ref().metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
        let Some(seat) = members.get(&name) else {
            return Err(Status::failed_precondition(format!("`{name}` is no member of this cluster; join again")));
        };
        if seat.leaving {
            request.get_mut().num_free_vcores = 0;
        }
        self.server.poll_work(request).await
    }

    async fn register_executor(&self, _: Request<RegisterExecutorParams>) -> Never<RegisterExecutorResult> {
        closed()
    }
    async fn heart_beat_from_executor(&self, _: Request<HeartBeatParams>) -> Never<HeartBeatResult> {
        closed()
    }
    async fn update_task_status(&self, _: Request<UpdateTaskStatusParams>) -> Never<UpdateTaskStatusResult> {
        closed()
    }
    async fn create_update_session(&self, _: Request<CreateUpdateSessionParams>) -> Never<CreateUpdateSessionResult> {
        closed()
    }
    async fn remove_session(&self, _: Request<RemoveSessionParams>) -> Never<RemoveSessionResult> {
        closed()
    }
    async fn execute_query_push(&self, _: Request<ExecuteQueryParams>) -> Never<Self::ExecuteQueryPushStream> {
        closed()
    }
    async fn execute_query(&self, _: Request<ExecuteQueryParams>) -> Never<ExecuteQueryResult> {
        closed()
    }
    async fn get_job_status(&self, _: Request<GetJobStatusParams>) -> Never<GetJobStatusResult> {
        closed()
    }
    async fn get_job_metrics(&self, _: Request<GetJobMetricsParams>) -> Never<GetJobMetricsResult> {
        closed()
    }
    async fn executor_stopped(&self, _: Request<ExecutorStoppedParams>) -> Never<ExecutorStoppedResult> {
        closed()
    }
    async fn cancel_job(&self, _: Request<CancelJobParams>) -> Never<CancelJobResult> {
        closed()
    }
    async fn clean_job_data(&self, _: Request<CleanJobDataParams>) -> Never<CleanJobDataResult> {
        closed()
    }
}
