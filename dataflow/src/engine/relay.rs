//! How the engine reads rows of other workers: it connects by itself, and only to plain addresses, so it is given a
//! socket of this process for each worker. Behind it a call goes on over our own channels, with their trust; where the
//! worker is gone, the copy of what it wrote answers.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo,
    PutResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::{BallistaError, Result as EngineResult};
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::serde::protobuf;
use ballista_core::serde::scheduler::{Action as EngineAction, ShuffleFileKind, ShuffleLayout};
use ballista_core::utils::GrpcClientConfig;
use ballista_executor::flight_service::BallistaFlightService;
use futures::Stream;
use prost::Message;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::config::MAX_MESSAGE_BYTES;
use super::depot::Depot;
use crate::scratch::Scratch;

/// Another worker, as far as rows are asked of it.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Asks for rows of a stage.
    async fn action(&self, action: Action) -> Result<Streaming<arrow_flight::Result>, Status>;
    /// The same, decoded.
    async fn get(&self, ticket: Ticket) -> Result<Streaming<FlightData>, Status>;
}

/// How other workers are reached.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Connects to a worker at `HOST:PORT`.
    async fn connect(&self, address: &str) -> Result<Arc<dyn Peer>, Status>;
}

/// A peer behind a channel.
pub fn peer<C>(channel: C) -> Arc<dyn Peer>
where
    C: tonic::client::GrpcService<Body> + Clone + Send + Sync + 'static,
    C::Error: Into<StdError>,
    C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    C::Future: Send,
{
    let client = FlightServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Arc::new(Channelled(client))
}

struct Channelled<C>(FlightServiceClient<C>);

#[async_trait]
impl<C> Peer for Channelled<C>
where
    C: tonic::client::GrpcService<Body> + Clone + Send + Sync + 'static,
    C::Error: Into<StdError>,
    C::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <C::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    C::Future: Send,
{
    async fn action(&self, action: Action) -> Result<Streaming<arrow_flight::Result>, Status> {
        Ok(self.0.clone().do_action(action).await?.into_inner())
    }

    async fn get(&self, ticket: Ticket) -> Result<Streaming<FlightData>, Status> {
        Ok(self.0.clone().do_get(ticket).await?.into_inner())
    }
}

/// Clients of other workers, one for each; cheap to clone.
#[derive(Clone)]
pub(super) struct Relays {
    inner: Arc<Inner>,
}

struct Inner {
    peers: Arc<dyn Peers>,
    depot: Depot,
    folder: Scratch,
    /// Where relays live: a task's own runtime may end before they do.
    runtime: Handle,
    relays: Mutex<HashMap<String, Arc<OnceCell<Relay>>>>,
}

struct Relay {
    client: BallistaClient,
    _server: AbortOnDropHandle<()>,
}

impl fmt::Debug for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relays")
    }
}

impl Relays {
    /// With sockets in a folder of their own that nobody else can open.
    pub(super) fn new(peers: Arc<dyn Peers>, depot: Depot, runtime: Handle) -> std::io::Result<Self> {
        let folder = Scratch::new(None, "sheaf-relay-")?;
        Ok(Self { inner: Arc::new(Inner { peers, depot, folder, runtime, relays: Mutex::default() }) })
    }

    async fn client(&self, host: &str, port: u16) -> EngineResult<BallistaClient> {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let cell = {
            let mut relays = self.inner.relays.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(relays.entry(address.clone()).or_default())
        };
        let open = || async {
            let opening = self.inner.runtime.spawn(Self::open(Arc::clone(&self.inner), host.to_owned(), port, address));
            opening.await.map_err(|e| BallistaError::Internal(format!("opening a relay broke off: {e}")))?
        };
        Ok(cell.get_or_try_init(open).await?.client.clone())
    }

    async fn open(inner: Arc<Inner>, host: String, port: u16, address: String) -> EngineResult<Relay> {
        let broken = |e: std::io::Error| BallistaError::GrpcConnectionError(format!("relay to {address}: {e}"));
        let socket = inner.folder.path().join(address.replace(['[', ']', ':', '/'], "_"));
        let listener = UnixListener::bind(&socket).map_err(broken)?;
        let link = Link { peers: Arc::clone(&inner.peers), depot: inner.depot.clone(), address, peer: Arc::default() };
        let service = FlightServiceServer::new(Flight(link))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let server = tokio::spawn(async move {
            let served = Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener)).await;
            if let Err(error) = served {
                tracing::error!(%error, "a relay between workers ended");
            }
        });
        let client = connect(&host, port, &socket).await?;
        Ok(Relay { client, _server: AbortOnDropHandle::new(server) })
    }
}

async fn connect(host: &str, port: u16, socket: &Path) -> EngineResult<BallistaClient> {
    let uri = format!("unix://{}", socket.display());
    let local = move |_: Endpoint| -> Result<Endpoint, StdError> {
        let endpoint = Endpoint::from_shared(uri.clone())?;
        Ok(endpoint.initial_stream_window_size(8 << 20).initial_connection_window_size(64 << 20).max_frame_size(256 << 10))
    };
    let endpoint = Arc::new(BallistaConfigGrpcEndpoint::new(Arc::new(local)));
    BallistaClient::try_new(host, port, MAX_MESSAGE_BYTES, false, Some(endpoint), 2, 200, 0, 0).await
}

#[async_trait]
impl BallistaClientPool for Relays {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        _config: &GrpcClientConfig,
        _customize: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> EngineResult<PooledClient> {
        // A channel connects again by itself: there is nothing to give back or throw away.
        Ok(PooledClient::new(self.client(host, port).await?, Box::new(drop)))
    }

    async fn evict_idle(&self) {}
}

/// The service behind the socket for one worker.
struct Link {
    peers: Arc<dyn Peers>,
    depot: Depot,
    address: String,
    peer: Arc<tokio::sync::Mutex<Option<Arc<dyn Peer>>>>,
}

impl Link {
    async fn peer(&self) -> Result<Arc<dyn Peer>, Status> {
        let mut peer = self.peer.lock().await;
        match &*peer {
            Some(peer) => Ok(Arc::clone(peer)),
            None => Ok(Arc::clone(peer.insert(self.peers.connect(&self.address).await?))),
        }
    }

    /// Brings the copy of what an action asks for here; the status why the worker did not answer if there is none.
    async fn copy(&self, action: &[u8], why: Status) -> Result<BallistaFlightService, Status> {
        let Fetch { job, stage, files } = Fetch::read(action)?;
        for (file, needed) in files {
            match self.depot.fetch(&job, stage, &file).await {
                Ok(true) => {}
                Ok(false) => return Err(why),
                Err(crate::error::DataError::NotFound { .. }) if !needed => {}
                Err(error) => {
                    let missing = format!("{}; and the copy of its rows cannot be read: {error}", why.message());
                    return Err(Status::unavailable(missing));
                }
            }
        }
        Ok(BallistaFlightService::new(self.depot.local().display().to_string()))
    }
}

/// What an action asks for.
pub(super) struct Fetch {
    pub(super) job: String,
    pub(super) stage: usize,
    /// Files below the stage's folder, and whether there must be one.
    pub(super) files: Vec<(PathBuf, bool)>,
}

impl Fetch {
    /// Reads an encoded action; one that could lead out of the work folder is refused.
    pub(super) fn read(action: &[u8]) -> Result<Self, Status> {
        let refused = |e: String| Status::invalid_argument(format!("not an action of the query engine: {e}"));
        let action = protobuf::Action::decode(action).map_err(|e| refused(e.to_string()))?;
        let action: EngineAction = action.try_into().map_err(|e: BallistaError| refused(e.to_string()))?;
        let EngineAction::FetchPartition { job_id, stage_id, partition_id, file_id, layout, file_kind, .. } = action;
        let job = job_id.as_str().to_owned();
        if job.is_empty() || !job.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(refused("the name of its query is not plain".to_owned()));
        }
        let data = match (layout, file_id) {
            (ShuffleLayout::Sort, Some(file)) => PathBuf::from(file.to_string()).join("data.arrow"),
            (ShuffleLayout::Sort, None) => return Err(refused("it names no file".to_owned())),
            (ShuffleLayout::Passthrough, Some(file)) => {
                PathBuf::from(partition_id.to_string()).join(format!("data-{file}.arrow"))
            }
            (ShuffleLayout::Passthrough, None) => PathBuf::from(partition_id.to_string()).join("data.arrow"),
        };
        let sorted = layout == ShuffleLayout::Sort;
        let mut files = vec![(data.clone(), true)];
        if sorted || file_kind == ShuffleFileKind::Index {
            files.push((data.with_extension("arrow.index"), sorted));
        }
        Ok(Self { job, stage: stage_id, files })
    }
}

/// Rows on their way.
pub(super) type Rows<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

/// Who answers the two calls of the protocol that are used.
#[async_trait]
pub(super) trait Answers: Send + Sync + 'static {
    /// Decoded rows.
    async fn get(&self, ticket: Ticket) -> Result<Rows<FlightData>, Status>;
    /// Rows as bytes.
    async fn action(&self, action: Action) -> Result<Rows<arrow_flight::Result>, Status>;
}

/// The protocol around who answers.
pub(super) struct Flight<A>(pub(super) A);

#[tonic::async_trait]
impl<A: Answers> FlightService for Flight<A> {
    type DoGetStream = Rows<FlightData>;
    type DoActionStream = Rows<arrow_flight::Result>;

    type HandshakeStream = Rows<HandshakeResponse>;
    type ListFlightsStream = Rows<FlightInfo>;
    type DoPutStream = Rows<PutResult>;
    type ListActionsStream = Rows<ActionType>;
    type DoExchangeStream = Rows<FlightData>;

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(unused())
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(unused())
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(unused())
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(unused())
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(unused())
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(unused())
    }
    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(unused())
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(unused())
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Ok(Response::new(self.0.get(request.into_inner()).await?))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Ok(Response::new(self.0.action(request.into_inner()).await?))
    }
}

fn unused() -> Status {
    Status::unimplemented("workers give rows of query stages and nothing else")
}

#[async_trait]
impl Answers for Link {
    async fn get(&self, ticket: Ticket) -> Result<Rows<FlightData>, Status> {
        let asked = async { self.peer().await?.get(ticket.clone()).await };
        match asked.await {
            Ok(rows) => Ok(Box::pin(rows)),
            Err(why) => Ok(self.copy(&ticket.ticket, why).await?.do_get(Request::new(ticket)).await?.into_inner()),
        }
    }

    async fn action(&self, action: Action) -> Result<Rows<arrow_flight::Result>, Status> {
        let asked = async { self.peer().await?.action(action.clone()).await };
        match asked.await {
            Ok(rows) => Ok(Box::pin(rows)),
            Err(why) => Ok(self.copy(&action.body, why).await?.do_action(Request::new(action)).await?.into_inner()),
        }
    }
}
