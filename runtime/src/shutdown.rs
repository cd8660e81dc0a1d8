//! Being asked to end: SIGTERM or Ctrl-C once means finish and leave, twice means now.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How urgently the process was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Not at all.
    No,
    /// Once: finish what is under way, then leave.
    ToLeave,
    /// Again: end at once.
    ToStop,
}

/// Tells when the process is asked to end; clones see the same.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<Asked>,
}

impl Shutdown {
    /// Takes SIGTERM and SIGINT over for as long as the runtime lives.
    pub fn listen() -> std::io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (sender, asked) = watch::channel(Asked::No);
        tokio::spawn(async move {
            for urgency in [Asked::ToLeave, Asked::ToStop] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                sender.send_replace(urgency);
            }
            // Nothing is more urgent; the sender stays so that receivers go on to wait.
            sender.closed().await;
        });
        Ok(Self { asked })
    }

    /// One that is asked by hand, for tests and for owners that end things themselves.
    pub fn by_hand() -> (watch::Sender<Asked>, Self) {
        let (sender, asked) = watch::channel(Asked::No);
        (sender, Self { asked })
    }

    /// How urgently it has been asked so far.
    pub fn so_far(&self) -> Asked {
        *self.asked.borrow()
    }

    /// Resolves when it has been asked at least so urgently.
    pub async fn asked(&mut self, at_least: Asked) -> Asked {
        // Copied out: the guard must not live across the wait below.
        let asked = self.asked.wait_for(|asked| *asked >= at_least).await.map(|asked| *asked);
        match asked {
            Ok(asked) => asked,
            // Nobody is left who could ask.
            Err(_) => std::future::pending().await,
        }
    }
}
