//! A bad network: a TCP proxy between two processes that delays, loses, cuts, and swallows one direction.
//! What TCP makes of a lost packet is a pause in which everything behind it waits; so that is what happens here.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Dice;

/// Pause that TCP makes before it sends a lost packet again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How often a thread looks up from what it waits for.
const LOOK: Duration = Duration::from_millis(20);

/// What the network does to what passes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Network {
    /// Every byte takes so long.
    pub delay: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// Share of reads that are sent a second time after a pause.
    pub loss: f64,
    /// Nothing passes from who dialled to who listens, though the connection stands.
    pub mute_up: bool,
    /// Nothing passes back.
    pub mute_down: bool,
}

/// A listening proxy; its connections are cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where to dial.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    network: Mutex<Network>,
    connections: Mutex<Vec<TcpStream>>,
    lost: AtomicU64,
    passed: AtomicU64,
    done: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

impl Proxy {
    /// A proxy in front of `target`, with a sound network.
    pub fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            network: Mutex::default(),
            connections: Mutex::default(),
            lost: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            done: AtomicBool::new(false),
        });
        let inside = Arc::clone(&shared);
        let accept = std::thread::spawn(move || accept(&listener, target, &inside));
        Self { address, shared, accept: Some(accept) }
    }

    /// From now on the network is like this.
    pub fn set(&self, network: Network) {
        *self.shared.network.lock().unwrap_or_else(PoisonError::into_inner) = network;
    }

    /// Cuts every connection; new ones are taken.
    pub fn cut(&self) {
        for connection in self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that has ended cannot be cut, and need not.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Reads that were lost and sent again, and reads in all.
    pub fn losses(&self) -> (u64, u64) {
        (self.shared.lost.load(Ordering::Relaxed), self.shared.passed.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        self.cut();
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
    }
}

impl Shared {
    fn network(&self) -> Network {
        *self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_mute(&self, way: Way) -> bool {
        let network = self.network();
        if way == Way::Up { network.mute_up } else { network.mute_down }
    }

    fn done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    while !shared.done() {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(LOOK);
            continue;
        };
        // When the target is down the dialler sees its connection end, as it would without us.
        if let Ok(server) = TcpStream::connect(target) {
            connect(client, server, shared);
        }
    }
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    for stream in [&client, &server] {
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LOOK)).unwrap();
        shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone().unwrap());
    }
    let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    pump(client, server, Way::Up, shared);
    pump(server_too, client_too, Way::Down, shared);
}

/// Two threads a direction, so that delay costs time and not throughput.
fn pump(from: TcpStream, to: TcpStream, way: Way, shared: &Arc<Shared>) {
    let (parcels, arrivals) = channel();
    let inside = Arc::clone(shared);
    std::thread::spawn(move || read(from, &parcels, way, &inside));
    std::thread::spawn(move || write(to, &arrivals));
}

/// Bytes, and when they arrive.
type Parcel = (Instant, Vec<u8>);

fn read(mut from: TcpStream, parcels: &Sender<Parcel>, way: Way, shared: &Shared) {
    let mut dice = Dice::new(way as u64 + 1);
    let mut buffer = vec![0; 64 << 10];
    let mut latest = Instant::now();
    while !shared.done() {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        // What was read just before the silence is held back like the rest.
        while shared.is_mute(way) && !shared.done() {
            std::thread::sleep(LOOK);
        }
        let network = shared.network();
        shared.passed.fetch_add(1, Ordering::Relaxed);
        let mut pause = network.delay + network.jitter.mul_f64(dice.roll(1000) as f64 / 1000.0);
        if (dice.roll(1_000_000) as f64) < network.loss * 1e6 {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            pause += RETRANSMISSION;
        }
        latest = latest.max(Instant::now() + pause);
        if parcels.send((latest, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn write(mut to: TcpStream, arrivals: &Receiver<Parcel>) {
    while let Ok((due, bytes)) = arrivals.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 16];
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..length]).unwrap();
                    }
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<Duration> {
        let began = Instant::now();
        stream.write_all(b"ping")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"ping");
        Ok(began.elapsed())
    }

    #[test]
    fn it_passes_delays_loses_swallows_and_cuts() {
        let proxy = Proxy::new(echo());
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        ask(&mut stream).unwrap();
        proxy.set(Network { delay: Duration::from_millis(30), ..Network::default() });
        assert!(ask(&mut stream).unwrap() >= Duration::from_millis(60), "there and back");
        proxy.set(Network { loss: 1.0, ..Network::default() });
        assert!(ask(&mut stream).unwrap() >= 2 * RETRANSMISSION);
        assert!(proxy.losses().0 >= 2);
        proxy.set(Network { mute_down: true, ..Network::default() });
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(ask(&mut stream).is_err(), "nothing comes back");
        proxy.set(Network::default());
        stream.set_read_timeout(None).unwrap();
        let mut late = [0; 4];
        stream.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"ping", "what was under way arrives");
        proxy.cut();
        assert!(ask(&mut stream).is_err());
        assert!(ask(&mut TcpStream::connect(proxy.address).unwrap()).is_ok(), "new connections are taken");
    }
}
