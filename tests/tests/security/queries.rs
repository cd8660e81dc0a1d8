//! Queries over TLS: workers give rows to each other behind certificates, and to nobody who speaks plainly.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::processes::Guarded;

/// How HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// First byte of what TLS says to those who do not speak it.
const TLS_ALERT: u8 = 0x15;

/// Rows meet rows of other files, so that both workers read what the other one wrote.
const JOIN: &str = "SELECT a.id % 5 AS m, count(*) AS n FROM rows a JOIN rows b ON a.id = b.id + 1 GROUP BY 1 ORDER BY 1";

#[test]
fn workers_exchange_rows_of_a_join_over_tls() {
    let guarded = Guarded::start();
    let asked = ["sql", JOIN, "--table", "rows=data/", "--target-partitions", "4", "-o", "csv", "--quiet"];
    let answer = guarded.ask(&asked).succeeded();
    assert_eq!(answer.stdout, "m,n\n0,399\n1,400\n2,400\n3,400\n4,400\n");
    for worker in ["worker-1", "worker-2"] {
        let log = guarded.log(worker);
        assert!(log.contains("query task done"), "{worker} took no part:\n{log}");
        refuse_plain(rows_of(&log));
    }
    guarded.end();
}

/// Where a worker serves rows.
fn rows_of(log: &str) -> SocketAddr {
    let line = log.lines().find(|line| line.contains("serving rows of queries")).expect("a worker says where it serves rows");
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let port = address.parse::<SocketAddr>().unwrap().port();
    ([127, 0, 0, 1], port).into()
}

/// A connection without TLS is told so, if anything.
fn refuse_plain(address: SocketAddr) {
    let mut plain = TcpStream::connect(address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    plain.write_all(PREFACE).unwrap();
    let mut answer = [0];
    let read = plain.read(&mut answer);
    assert!(matches!(read, Ok(0) | Err(_)) || answer[0] == TLS_ALERT, "rows are served without TLS: {answer:?}");
}
