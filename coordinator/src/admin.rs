//! The coordinator's pages on the admin port.

use std::time::Duration;

use sheaf_runtime::admin::{Pages, Readiness};
use tokio::sync::oneshot;

use crate::context::Context;
use crate::event_loop::Input;

/// An event loop that answers later than this is stuck.
const LOOP_TIMEOUT: Duration = Duration::from_secs(3);

/// [`Pages`] over the log and the event loop.
pub struct CoordinatorPages {
    /// Shared things.
    pub context: Context,
    /// Whether the coordinator takes work.
    pub readiness: Readiness,
}

impl CoordinatorPages {
    /// Has the loop bring the metrics up to date, which also shows that it goes round.
    async fn observe(&self) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.context.events.send(Input::Observe(reply));
        match tokio::time::timeout(LOOP_TIMEOUT, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("the event loop has ended".to_owned()),
            Err(_) => Err(format!("the event loop did not answer within {} s", LOOP_TIMEOUT.as_secs())),
        }
    }
}

#[tonic::async_trait]
impl Pages for CoordinatorPages {
    async fn metrics(&self) -> Result<String, String> {
        // The numbers of a coordinator that is stuck are worth more than none.
        if let Err(why) = self.observe().await {
            tracing::warn!(why, "metrics may be out of date");
        }
        self.context.metrics.log_index(self.context.log.last_index());
        self.context.metrics.text()
    }

    async fn live(&self) -> Result<(), String> {
        let observed = self.observe().await;
        // One that has said that it stops has ended its loop, and ends by itself: restarting it would only cut
        // short what it still writes.
        if self.readiness.state().is_err() { Ok(()) } else { observed }
    }

    async fn ready(&self) -> Result<(), String> {
        self.readiness.state()?;
        self.context.log.health()
    }
}
