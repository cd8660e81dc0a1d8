//! What a worker serves to others: rows that it wrote for later stages. One that leaves turns to the copies whoever can
//! read them there, and lets those finish who are reading.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{Action, FlightData, Ticket};
use async_trait::async_trait;
use ballista_executor::flight_service::BallistaFlightService;
use futures::Stream;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::depot::Depot;
use super::relay::{Answers, Fetch, Rows};

/// Rows of this worker's stages.
#[derive(Clone)]
pub(super) struct Serving {
    service: BallistaFlightService,
    depot: Depot,
    counter: Counter,
}

/// Who reads from this worker; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Counter {
    leaving: Arc<AtomicBool>,
    readers: Arc<watch::Sender<usize>>,
}

impl Counter {
    /// Turns away who can read a copy, and waits until nobody reads here.
    pub(super) async fn settle(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        // The sender lives as long as this: the wait has no other end.
        drop(self.readers.subscribe().wait_for(|readers| *readers == 0).await);
    }

    /// Serves everybody again.
    pub(super) fn open(&self) {
        self.leaving.store(false, Ordering::SeqCst);
    }

    fn reader(&self) -> Reader {
        self.readers.send_modify(|readers| *readers += 1);
        Reader(Arc::clone(&self.readers))
    }
}

/// Somebody who reads, until dropped.
struct Reader(Arc<watch::Sender<usize>>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.send_modify(|readers| *readers -= 1);
    }
}

impl Serving {
    /// Serves what lies in a work folder; the depot knows which queries have copies.
    pub(super) fn new(work: String, depot: Depot, counter: Counter) -> Self {
        Self { service: BallistaFlightService::new(work), depot, counter }
    }

    /// Takes note of a reader. It is counted before the look, so that one who is let in is waited for.
    fn admit(&self, action: &[u8]) -> Result<Reader, Status> {
        let reader = self.counter.reader();
        let Fetch { job, .. } = Fetch::read(action)?;
        match self.counter.leaving.load(Ordering::SeqCst) && self.depot.has(&job) {
            true => Err(Status::unavailable("this worker leaves the cluster; the copy has the same rows")),
            false => Ok(reader),
        }
    }
}

#[async_trait]
impl Answers for Serving {
    async fn get(&self, ticket: Ticket) -> Result<Rows<FlightData>, Status> {
        let reader = self.admit(&ticket.ticket)?;
        Ok(Box::pin(Counted { rows: self.service.do_get(Request::new(ticket)).await?.into_inner(), _reader: reader }))
    }

    async fn action(&self, action: Action) -> Result<Rows<arrow_flight::Result>, Status> {
        let reader = self.admit(&action.body)?;
        Ok(Box::pin(Counted { rows: self.service.do_action(Request::new(action)).await?.into_inner(), _reader: reader }))
    }
}

/// Rows on their way to a reader.
struct Counted<S> {
    rows: S,
    _reader: Reader,
}

impl<S: Stream + Unpin> Stream for Counted<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.rows).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_reads_is_waited_for() {
        let counter = Counter::default();
        counter.settle().await;
        let readers = [counter.reader(), counter.reader()];
        let settling = counter.clone();
        let mut settled = tokio::spawn(async move { settling.settle().await });
        for reader in readers {
            tokio::task::yield_now().await;
            assert!(!settled.is_finished());
            drop(reader);
        }
        tokio::time::timeout(std::time::Duration::from_secs(10), &mut settled).await.expect("nobody reads").expect("no panic");
    }
}
