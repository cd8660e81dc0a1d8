//! Asking the cluster twice a second, reading keys, drawing again. A coordinator that goes away is asked
//! again until it is back; what was known of it stays on the screen meanwhile.

use std::pin::Pin;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use sheaf_proto::v1;
use sheaf_runtime::exit::Exit;
use tokio::sync::mpsc;

use super::screen::{Order, Screen};
use super::snapshot::{Snapshot, take};
use super::view::draw;
use crate::embedded::Client;
use crate::failure::Failure;

/// Time between two looks at the cluster.
const EVERY: Duration = Duration::from_millis(500);

/// An answer that takes longer counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the cluster, again and again if it has to.
pub type Connect = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Client, Failure>> + Send>> + Send + Sync>;

/// What the asker is told.
enum Ask {
    /// Whose log lines are wanted.
    Select(Option<String>),
    /// An order to carry out.
    Order(Order),
}

/// What the asker tells.
enum Heard {
    Snapshot(Box<Snapshot>),
    Away(String),
    Done(String),
}

/// Shows the cluster until the user leaves.
pub async fn live(address: String, connect: Connect) -> Result<(), Failure> {
    // The first connection fails as other commands do, before the screen is taken over.
    let client = connect().await?;
    let mut terminal = ratatui::try_init().map_err(|e| Failure::new(Exit::Failed, format!("set up the terminal: {e}")))?;
    let (asks, asked) = mpsc::channel(16);
    let (heard, hearing) = mpsc::channel(16);
    let asker = tokio::spawn(Asker { address, connect, client: Some(client), selected: None, heard }.run(asked));
    let shown = show(&mut terminal, keys(), asks, hearing).await;
    asker.abort();
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(|e| Failure::new(Exit::Failed, format!("draw on the terminal: {e}")))
}

/// Keys and changes of size, from a thread of their own that ends with the receiver.
fn keys() -> mpsc::Receiver<std::io::Result<Event>> {
    let (send, receive) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !send.is_closed() {
            let event = match event::poll(Duration::from_millis(100)) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = event.is_err();
            if send.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receive
}

async fn show(
    terminal: &mut DefaultTerminal,
    mut keys: mpsc::Receiver<std::io::Result<Event>>,
    asks: mpsc::Sender<Ask>,
    mut hearing: mpsc::Receiver<Heard>,
) -> std::io::Result<()> {
    let (mut snapshot, mut screen) = (Snapshot::default(), Screen::default());
    loop {
        terminal.draw(|frame| draw(frame, &snapshot, &screen))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                    let before = screen.job.clone();
                    match screen.key(key, &snapshot) {
                        Some(Order::Quit) => return Ok(()),
                        Some(order) => {
                            let sent = asks.try_send(Ask::Order(order));
                            if sent.is_err() {
                                // A full queue means that nobody answers: the order would come too late.
                                screen.message = "the coordinator is away; nothing was done".to_owned();
                            }
                        }
                        None => {}
                    }
                    if screen.job != before {
                        // The next selection asks again.
                        let _ = asks.try_send(Ask::Select(screen.job.clone()));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            heard = hearing.recv() => match heard {
                Some(Heard::Snapshot(new)) => {
                    if screen.away {
                        screen.message = "the coordinator is back".to_owned();
                    }
                    screen.away = false;
                    screen.history.add(&new);
                    snapshot = *new;
                }
                Some(Heard::Away(why)) => {
                    screen.away = true;
                    screen.message = why;
                }
                Some(Heard::Done(what)) => screen.message = what,
                None => return Ok(()),
            },
        }
    }
}

/// Talks to the cluster, apart from the screen so that keys are heard while it waits.
struct Asker {
    address: String,
    connect: Connect,
    client: Option<Client>,
    selected: Option<String>,
    heard: mpsc::Sender<Heard>,
}

impl Asker {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let heard = tokio::select! {
                _ = ticks.tick() => self.look().await,
                ask = asked.recv() => match ask {
                    Some(Ask::Select(job)) => {
                        self.selected = job;
                        self.look().await
                    }
                    Some(Ask::Order(order)) => self.obey(order).await,
                    None => return,
                },
            };
            if self.heard.send(heard).await.is_err() {
                return;
            }
        }
    }

    async fn look(&mut self) -> Heard {
        if self.client.is_none() {
            match tokio::time::timeout(ANSWER_TIMEOUT, (self.connect)()).await {
                Ok(Ok(client)) => self.client = Some(client),
                Ok(Err(failure)) => return Heard::Away(failure.message),
                Err(_) => return Heard::Away(late()),
            }
        }
        let Some(client) = &mut self.client else { return Heard::Away(late()) };
        match tokio::time::timeout(ANSWER_TIMEOUT, take(client, &self.address, self.selected.as_deref())).await {
            Ok(Ok(snapshot)) => Heard::Snapshot(Box::new(snapshot)),
            Ok(Err(status)) => {
                self.client = None;
                Heard::Away(format!("the coordinator does not answer: {}", status.message()))
            }
            Err(_) => {
                self.client = None;
                Heard::Away(late())
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Heard {
        let Some(client) = &mut self.client else { return Heard::Done("the coordinator is away; nothing was done".to_owned()) };
        let (done, result) = match order {
            Order::Cancel(job) => {
                let result = client.cancel_job(v1::CancelJobRequest { job: job.clone() }).await.map(drop);
                (format!("job {job} is being cancelled"), result)
            }
            Order::Drain(worker) => {
                let result = client.drain_worker(v1::DrainWorkerRequest { worker }).await.map(drop);
                (format!("worker {worker} is draining"), result)
            }
            Order::Quit => return Heard::Done(String::new()),
        };
        Heard::Done(result.map_or_else(|status| status.message().to_owned(), |()| done))
    }
}

fn late() -> String {
    format!("no answer from the coordinator within {} s", ANSWER_TIMEOUT.as_secs())
}
