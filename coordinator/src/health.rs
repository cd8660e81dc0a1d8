//! Whether the coordinator takes work: said as `grpc.health.v1` (the whole and each service), and to the
//! admin port.

use sheaf_proto::v1::job_service_server::JobServiceServer;
use sheaf_proto::v1::worker_service_server::WorkerServiceServer;
use sheaf_runtime::admin::Readiness;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::service::jobs::Jobs;
use crate::service::workers::Workers;

/// The state, cheap to clone. It starts as not serving.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    readiness: Readiness,
}

impl Health {
    /// The state and the service that tells it.
    pub async fn start() -> (Self, HealthServer<impl HealthService>) {
        let (reporter, service) = health_reporter();
        let health = Self { reporter, readiness: Readiness::not_yet("it is starting") };
        health.set(ServingStatus::NotServing).await;
        (health, service)
    }

    /// Takes work from now on.
    pub async fn serving(&self) {
        self.readiness.ready();
        self.set(ServingStatus::Serving).await;
    }

    /// Takes no work from now on.
    pub async fn not_serving(&self, why: &str) {
        self.readiness.not_ready(why);
        self.set(ServingStatus::NotServing).await;
    }

    /// The same for the admin port.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        match status {
            ServingStatus::Serving => {
                self.reporter.set_serving::<JobServiceServer<Jobs>>().await;
                self.reporter.set_serving::<WorkerServiceServer<Workers>>().await;
            }
            _ => {
                self.reporter.set_not_serving::<JobServiceServer<Jobs>>().await;
                self.reporter.set_not_serving::<WorkerServiceServer<Workers>>().await;
            }
        }
    }
}
