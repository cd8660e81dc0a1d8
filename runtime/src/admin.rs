//! The admin port: `/metrics`, `/livez` and `/readyz` over plain HTTP on loopback, read-only. It never
//! listens elsewhere: there is no encryption and no authentication here, so an agent on the same machine
//! scrapes it and carries the numbers on.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What `/metrics` answers with.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page that takes longer is answered with 503.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that are answered at the same time; others wait.
const MAX_REQUESTS: usize = 16;

/// What the pages show. A refusal says why, for people.
#[tonic::async_trait]
pub trait Pages: Send + Sync + 'static {
    /// All metrics in the OpenMetrics text format.
    async fn metrics(&self) -> Result<String, String>;
    /// Whether the process does its work at all; one that does not should be restarted.
    async fn live(&self) -> Result<(), String>;
    /// Whether work should be sent here.
    async fn ready(&self) -> Result<(), String>;
}

/// A listening admin port; it ends when dropped.
pub struct Admin {
    /// Where it listens.
    pub address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

/// The admin port was to be opened to other machines.
#[derive(Debug, thiserror::Error)]
#[error(
    "refusing to open the admin port on {0}: it has neither encryption nor authentication and listens on loopback only; use 127.0.0.1:{port} and let an agent on this machine scrape it",
    port = .0.port()
)]
pub struct AdminAddressError(pub SocketAddr);

/// Refuses every address but those of this machine alone.
pub fn check_address(listen: SocketAddr) -> Result<(), AdminAddressError> {
    if listen.ip().is_loopback() { Ok(()) } else { Err(AdminAddressError(listen)) }
}

impl Admin {
    /// Listens on a loopback address; port 0 takes a free one.
    pub async fn start(listen: SocketAddr, pages: Arc<dyn Pages>) -> anyhow::Result<Self> {
        check_address(listen)?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("open the admin port on {listen}"))?;
        let address = listener.local_addr().context("open the admin port")?;
        let site = Site { pages, slots: Arc::new(tokio::sync::Semaphore::new(MAX_REQUESTS)) };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(live))
            .route("/readyz", get(ready))
            .fallback(async || plain(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz here"))
            .with_state(site)
            .layer(middleware::from_fn(only_this_machine));
        let server = async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin port ended");
            }
        };
        tracing::info!(%address, "admin port open");
        Ok(Self { address, _server: AbortOnDropHandle::new(tokio::spawn(server)) })
    }
}

#[derive(Clone)]
struct Site {
    pages: Arc<dyn Pages>,
    slots: Arc<tokio::sync::Semaphore>,
}

impl Site {
    /// Waits for a page, bounded in time and number.
    async fn bounded<T>(&self, page: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let answer = async {
            let _slot = self.slots.acquire().await.map_err(|_| "the admin port is closing".to_owned())?;
            page.await
        };
        let late = || Err(format!("no answer within {} s", PAGE_TIMEOUT.as_secs()));
        tokio::time::timeout(PAGE_TIMEOUT, answer).await.unwrap_or_else(|_| late())
    }
}

async fn metrics(State(site): State<Site>) -> Response {
    match site.bounded(site.pages.metrics()).await {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

async fn live(State(site): State<Site>) -> Response {
    verdict(site.bounded(site.pages.live()).await)
}

async fn ready(State(site): State<Site>) -> Response {
    verdict(site.bounded(site.pages.ready()).await)
}

fn verdict(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => plain(StatusCode::OK, "ok"),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n")).into_response()
}

/// A web page that a browser on this machine shows must not read here under a name of its own.
async fn only_this_machine(request: Request, next: Next) -> Response {
    match names_this_machine(request.headers()) {
        true => next.run(request).await,
        false => plain(StatusCode::FORBIDDEN, "ask by a loopback address or as localhost"),
    }
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether work should be sent to this process, and if not, why. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    why_not: Arc<Mutex<Option<String>>>,
}

impl Readiness {
    /// Not ready, for this reason.
    pub fn not_yet(why: &str) -> Self {
        Self { why_not: Arc::new(Mutex::new(Some(why.to_owned()))) }
    }

    /// Ready from now on.
    pub fn ready(&self) {
        *self.lock() = None;
    }

    /// Not ready from now on.
    pub fn not_ready(&self, why: impl Into<String>) {
        *self.lock() = Some(why.into());
    }

    /// The state now; the error says why not.
    pub fn state(&self) -> Result<(), String> {
        self.lock().clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // A text is whole whatever a panicking thread was doing.
        self.why_not.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Fixed(Readiness);

    #[tonic::async_trait]
    impl Pages for Fixed {
        async fn metrics(&self) -> Result<String, String> {
            Ok("# EOF\n".into())
        }

        async fn live(&self) -> Result<(), String> {
            Ok(())
        }

        async fn ready(&self) -> Result<(), String> {
            self.0.state()
        }
    }

    async fn get(address: SocketAddr, path: &str, host: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_answer_on_loopback_only() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9"] {
            assert!(check_address(address.parse().unwrap()).unwrap_err().to_string().contains("loopback only"));
        }
        let readiness = Readiness::not_yet("it has not joined a cluster yet");
        let admin = Admin::start(([127, 0, 0, 1], 0).into(), Arc::new(Fixed(readiness.clone()))).await.unwrap();
        let host = admin.address.to_string();
        let answer = get(admin.address, "/readyz", &host).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("not joined"), "{answer}");
        readiness.ready();
        assert!(get(admin.address, "/readyz", "localhost").await.starts_with("HTTP/1.1 200"));
        assert!(get(admin.address, "/livez", "[::1]:80").await.starts_with("HTTP/1.1 200"));
        let metrics = get(admin.address, "/metrics", &host).await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("openmetrics-text"), "{metrics}");
        assert!(get(admin.address, "/", &host).await.starts_with("HTTP/1.1 404"));
        assert!(get(admin.address, "/metrics", "rebound.example:80").await.starts_with("HTTP/1.1 403"));
    }
}
