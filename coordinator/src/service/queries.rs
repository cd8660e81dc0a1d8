//! Questions in SQL: decoded, handed to whoever answers them, and the rows sent as they come. A caller that goes away
//! takes its question along.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_dataflow::error::DataError;
use sheaf_dataflow::job::JobError;
use sheaf_dataflow::query::wire::{Encoder, slices};
use sheaf_dataflow::query::{QueryProgress, QueryRequest, QueryRows, RunQueries};
use sheaf_proto::MAX_MESSAGE_BYTES;
use sheaf_proto::v1::{self, query_service_server::QueryService, run_query_response::Part};
use sheaf_runtime::fault::{Fault, Kind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::jobs::wire_error;
use crate::context::{Context, now, stopping};

/// Most partitions that an asker may want.
const MOST_PARTITIONS: usize = 1024;

/// Questions that are answered at the same time.
const MOST: usize = 16;

/// Messages that wait for a caller who reads slowly; the rest waits with whoever computes.
const AHEAD: usize = 4;

/// Time between two words on how far an answer has come.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Room in a message for what is not rows.
const MOST_ROW_BYTES: usize = MAX_MESSAGE_BYTES - 4096;

/// [`QueryService`] over whoever answers.
pub struct Queries {
    context: Context,
    room: Arc<Semaphore>,
}

type Parts = mpsc::Sender<Result<v1::RunQueryResponse, Status>>;

impl Queries {
    /// The service of a leader that has just started.
    pub fn new(context: Context) -> Self {
        Self { context, room: Arc::new(Semaphore::new(MOST)) }
    }
}

#[tonic::async_trait]
impl QueryService for Queries {
    type RunQueryStream = Pin<Box<dyn Stream<Item = Result<v1::RunQueryResponse, Status>> + Send>>;

    async fn run_query(&self, request: Request<v1::RunQueryRequest>) -> Result<Response<Self::RunQueryStream>, Status> {
        self.context.accepting()?;
        let question = Question::decode(request.into_inner())?;
        let full = |_| Status::resource_exhausted(format!("{MOST} questions are being answered already; ask again later"));
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(full)?;
        let (parts, stream) = mpsc::channel(AHEAD);
        tokio::spawn(answer(self.context.clone(), question, parts, room));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// What is asked, and how much of the answer is wanted.
struct Question {
    request: QueryRequest,
    max_rows: u64,
    max_bytes: u64,
    explain: bool,
}

impl Question {
    fn decode(request: v1::RunQueryRequest) -> Result<Self, Status> {
        let malformed = |what: &str, e: serde_json::Error| Status::invalid_argument(format!("malformed {what}: {e}"));
        let v1::RunQueryRequest { sql, tables, params, max_rows, max_bytes, explain, partitions, now_ns } = request;
        let tables = serde_json::from_str(&tables).map_err(|e| malformed("tables", e))?;
        let params = match params.is_empty() {
            true => Default::default(),
            false => serde_json::from_str(&params).map_err(|e| malformed("parameters", e))?,
        };
        let asked_at = || i64::try_from(now().0.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let now_ns = now_ns.unwrap_or_else(asked_at);
        // One more than is sent tells whether there are more.
        let stop_after = (max_rows > 0).then(|| max_rows.saturating_add(1));
        let partitions = (partitions > 0).then(|| (partitions as usize).min(MOST_PARTITIONS));
        let request = QueryRequest { sql, tables, params, now_ns, stop_after, partitions };
        let no_limit = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        Ok(Self { request, max_rows: no_limit(max_rows), max_bytes: no_limit(max_bytes), explain })
    }
}

/// Answers until all is said, nobody listens or the coordinator stops; each of them ends the work.
async fn answer(context: Context, question: Question, parts: Parts, _room: OwnedSemaphorePermit) {
    let said = tokio::select! {
        () = parts.closed() => return,
        () = context.closing.cancelled() => Err(stopping()),
        said = say(&context.queries, question, &parts) => said,
    };
    if let Err(status) = said {
        // Whoever listened may have gone as well.
        let _ = parts.send(Err(status)).await;
    }
}

async fn say(queries: &dyn RunQueries, question: Question, parts: &Parts) -> Result<(), Status> {
    let began = Instant::now();
    let end = match question.explain {
        true => queries.explain(question.request).await.map(|plan| (Some(Part::Plan(plan)), v1::QueryEnd::default())),
        false => say_rows(queries, question, parts).await.map(|end| (None, end)),
    };
    let (plan, end) = match end {
        Ok(said) => said,
        Err(DataError::Job(error)) => (None, wrong(&error)),
        Err(error) => return Err(status(error)),
    };
    if let Some(plan) = plan {
        send(parts, plan).await;
    }
    send(parts, Part::End(v1::QueryEnd { seconds: began.elapsed().as_secs_f64(), ..end })).await;
    Ok(())
}

fn wrong(error: &JobError) -> v1::QueryEnd {
    v1::QueryEnd { error: Some(wire_error(error)), ..v1::QueryEnd::default() }
}

/// Sends a part; that nobody listens any more is seen by [`answer`].
async fn send(parts: &Parts, part: Part) {
    let _ = parts.send(Ok(v1::RunQueryResponse { part: Some(part) })).await;
}

/// Sends the rows, and how far the answer has come meanwhile.
async fn say_rows(queries: &dyn RunQueries, question: Question, parts: &Parts) -> Result<v1::QueryEnd, DataError> {
    let (progress, told) = watch::channel(QueryProgress::default());
    let Question { request, max_rows, max_bytes, .. } = question;
    let rows = async {
        let answer = queries.run(request, progress).await?;
        stream_rows(answer, max_rows, max_bytes, parts).await
    };
    tokio::select! {
        biased;
        end = rows => end,
        never = tell(told, parts) => match never {},
    }
}

/// Tells how far the answer has come, each time that it has come farther, for as long as anybody waits.
async fn tell(mut told: watch::Receiver<QueryProgress>, parts: &Parts) -> std::convert::Infallible {
    while told.changed().await.is_ok() {
        let QueryProgress { stages, stages_done, tasks, tasks_done } = *told.borrow_and_update();
        send(parts, Part::Progress(v1::QueryProgress { stages, stages_done, tasks, tasks_done })).await;
        tokio::time::sleep(TELL_EVERY).await;
    }
    std::future::pending().await
}

async fn stream_rows(mut answer: QueryRows, max_rows: u64, max_bytes: u64, parts: &Parts) -> Result<v1::QueryEnd, DataError> {
    let mut encoder = Encoder::new(&answer)?;
    let mut end = v1::QueryEnd { warnings: std::mem::take(&mut answer.warnings), ..v1::QueryEnd::default() };
    'rows: while let Some(batch) = answer.next().await? {
        let left = max_rows - end.rows;
        if batch.num_rows() as u64 > left {
            end.set_cut(v1::QueryCut::Rows);
        }
        let taken = usize::try_from(left).map_or(batch.num_rows(), |left| batch.num_rows().min(left));
        for slice in slices(&batch.slice(0, taken)) {
            let piece = encoder.encode(&slice)?;
            if piece.len() > MOST_ROW_BYTES {
                return Err(DataError::input(
                    "query",
                    format!("{} rows of {} bytes do not fit a message", slice.num_rows(), piece.len()),
                ));
            }
            if end.bytes + piece.len() as u64 > max_bytes {
                end.set_cut(v1::QueryCut::Bytes);
                break 'rows;
            }
            end.rows += slice.num_rows() as u64;
            end.bytes += piece.len() as u64;
            send(parts, Part::Rows(piece)).await;
        }
        if end.cut() == v1::QueryCut::Rows {
            break;
        }
    }
    send(parts, Part::Rows(encoder.finish()?)).await;
    Ok(end)
}

/// What callers are told of trouble that is not their question's.
fn status(error: DataError) -> Status {
    let fault = Fault::from(error);
    match fault.kind {
        Kind::Job => Status::invalid_argument(fault.message),
        Kind::Data => Status::aborted(fault.message),
        Kind::Limit | Kind::Deadline | Kind::Internal => Status::internal(fault.message),
    }
}
