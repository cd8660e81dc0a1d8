//! A coordinator in this process, with an authority of its own, and calls of any method by its path.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sheaf_coordinator::{Coordinator, CoordinatorOptions};
use sheaf_dataflow::stores::StoreOptions;
use sheaf_runtime::auth::{HEALTH_METHODS, Role};
use sheaf_runtime::connect::{Channel, Target, Trust};
use sheaf_runtime::pki::{Authority, Enrolling, Order, write_over};
use sheaf_runtime::secret::Secret;
use sheaf_runtime::tls::TlsFiles;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status, Streaming};

pub const DAY: Duration = Duration::from_secs(86_400);

/// A running coordinator.
pub struct Gate {
    pub dir: tempfile::TempDir,
    pub authority: Authority,
    options: CoordinatorOptions,
    coordinator: Coordinator,
}

/// Options of a coordinator in a folder.
pub fn options(dir: &Path, trust: Trust) -> CoordinatorOptions {
    let store = dir.join("store");
    std::fs::create_dir_all(&store).unwrap();
    CoordinatorOptions {
        listen: ([127, 0, 0, 1], 0).into(),
        state: dir.join("log"),
        store: store.to_string_lossy().into_owned(),
        stores: StoreOptions { local_roots: vec![store], ..StoreOptions::default() },
        trust,
        enrolling: None,
        worker_timeout: Duration::from_secs(10),
        namespace_weights: Default::default(),
        namespace_limits: Default::default(),
        running_jobs: 1,
        speculation: true,
        admin: None,
        checkpoint_every: Duration::from_secs(5),
    }
}

/// Certificate and key of a role in a folder, named as the role.
pub fn files_of(authority: &Authority, dir: &Path, role: Role, life: Duration) -> TlsFiles {
    let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let hosts = if role == Role::Coordinator { hosts } else { Vec::new() };
    let issued = authority.issue(&Order { role, name: role.name().to_owned(), hosts, life }).unwrap();
    let at = |suffix| dir.join(format!("{role}.{suffix}"));
    let files = TlsFiles { ca: at("ca"), certificate: at("pem"), key: at("key") };
    write_over(&files.ca, 0o644, authority.pem()).unwrap();
    write_over(&files.key, 0o600, &issued.key).unwrap();
    write_over(&files.certificate, 0o644, &issued.certificate).unwrap();
    files
}

impl Gate {
    /// With TLS, certificates of nodes valid for a day.
    pub async fn tls() -> Self {
        Self::tls_with(DAY).await
    }

    /// With TLS, certificates of nodes valid for so long.
    pub async fn tls_with(life: Duration) -> Self {
        let (dir, authority) = made();
        let files = files_of(&authority, dir.path(), Role::Coordinator, DAY);
        let mut options = options(dir.path(), Trust::Tls(files));
        options.enrolling = Some(Enrolling { dir: dir.path().join("pki"), life });
        Self::start(dir, authority, options).await
    }

    /// Without TLS, and the secret.
    pub async fn secret() -> (Self, Secret) {
        let (dir, authority) = made();
        let secret = Secret::generate().unwrap();
        let options = options(dir.path(), Trust::Secret(secret.clone()));
        (Self::start(dir, authority, options).await, secret)
    }

    async fn start(dir: tempfile::TempDir, authority: Authority, options: CoordinatorOptions) -> Self {
        let coordinator = Coordinator::start(options.clone()).await.unwrap();
        Self { dir, authority, options, coordinator }
    }

    /// The same coordinator again, from its log.
    pub async fn restart(self) -> Self {
        self.coordinator.stop().await.unwrap();
        Self::start(self.dir, self.authority, self.options).await
    }

    pub async fn stop(self) {
        self.coordinator.stop().await.unwrap();
    }

    pub fn address(&self) -> String {
        self.coordinator.address.to_string()
    }

    /// Files of a caller with this role.
    pub fn files(&self, role: Role, life: Duration) -> TlsFiles {
        let dir = self.dir.path().join("callers");
        std::fs::create_dir_all(&dir).unwrap();
        files_of(&self.authority, &dir, role, life)
    }

    /// The coordinator, for a caller with this role.
    pub fn target(&self, role: Role, life: Duration) -> Target {
        Target { address: self.address(), trust: Trust::Tls(self.files(role, life)) }
    }

    /// Gives the coordinator another certificate while it runs.
    pub fn replace_certificate(&self, host: &str) {
        let order = Order { role: Role::Coordinator, name: "again".to_owned(), hosts: vec![host.to_owned()], life: DAY };
        let issued = self.authority.issue(&order).unwrap();
        write_over(&self.dir.path().join("coordinator.key"), 0o600, &issued.key).unwrap();
        write_over(&self.dir.path().join("coordinator.pem"), 0o644, &issued.certificate).unwrap();
    }

    /// Spoils the coordinator's certificate while it runs.
    pub fn break_certificate(&self) {
        write_over(&self.dir.path().join("coordinator.pem"), 0o644, "nothing").unwrap();
    }
}

fn made() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::init(&dir.path().join("pki"), "test", DAY * 3).unwrap();
    (dir, authority)
}

pub fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Every method of every service: ours from the descriptors, and the health service.
pub fn every_method() -> Vec<&'static str> {
    let methods: Vec<&str> = sheaf_proto::METHODS.iter().chain(HEALTH_METHODS).copied().collect();
    assert!(methods.len() > 10 && methods.contains(&"/sheaf.v1.WorkerService/JoinCluster"), "{methods:?}");
    methods
}

/// Calls a method with an empty message; what the answer begins with.
pub async fn call(channel: &Channel, method: &'static str) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let calling = async {
        if let Err(error) = client.ready().await {
            let error: Box<dyn std::error::Error + Send + Sync> = error.into();
            return Status::unavailable(error.to_string()).code();
        }
        let path = PathAndQuery::from_static(method);
        client.server_streaming(tonic::Request::new(()), path, Empty).await.map_or_else(|s| s.code(), |_| Code::Ok)
    };
    tokio::time::timeout(Duration::from_secs(30), calling).await.unwrap_or_else(|_| panic!("{method} does not answer"))
}

/// Messages without content, which every method can read.
#[derive(Clone, Copy)]
struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        // Answers are never read: only how they begin counts.
        Ok(Some(()))
    }
}

/// Watches the coordinator's health: a stream that says something once and then nothing for long.
pub async fn watch_health(channel: &Channel) -> Streaming<()> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|_| "the channel is closed").unwrap();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
    client.server_streaming(tonic::Request::new(()), path, Empty).await.unwrap().into_inner()
}

/// A wire to a server that can be cut without either side being told.
pub struct Wire {
    address: std::net::SocketAddr,
    cut: watch::Sender<bool>,
    gone: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Wire {
    /// A wire for one connection.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((cut, cutting), (going, gone)) = (watch::channel(false), watch::channel(false));
        let task = tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server).await.unwrap();
            let ((client_in, mut client_out), (server_in, mut server_out)) = (client.into_split(), server.into_split());
            tokio::join!(carry(client_in, &mut server_out, cutting.clone()), async {
                carry(server_in, &mut client_out, cutting).await;
                going.send_replace(true);
            });
        });
        Self { address, cut, gone, _task: AbortOnDropHandle::new(task) }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on nothing arrives; the connections stay open.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// The server has closed its end.
    pub async fn server_is_gone(&self) {
        self.gone.clone().wait_for(|gone| *gone).await.unwrap();
    }
}

/// Carries bytes until the cut, then swallows them, until there are no more. `to` stays open: closing it
/// would tell the other side.
async fn carry(mut from: OwnedReadHalf, to: &mut OwnedWriteHalf, cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        if !*cut.borrow() && to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
