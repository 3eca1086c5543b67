//! Two nodes with a long way between them: what they send by QUIC passes a relay that takes its time. The lines, which are TCP,
//! are only passed on; how they do on a long way is what the bench is for.
//!
//! One node has IPv6 alone and the other IPv4 alone: they find no other way than the relay, which has both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubless_transfer::TransferConfig;
use hubless_types::{Provider, ProviderSource};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::support::{MIB, Node, groups_of, random_bytes};

/// Half a round trip: the whole is three times what makes a node far.
const DELAY: Duration = Duration::from_millis(30);
/// Bytes a second each way: the file would take more than a minute by this way alone.
const RATE: f64 = 250_000.0;
/// The longest that a packet waits for its turn.
const QUEUE: Duration = Duration::from_millis(100);
/// What a node opens to one that is far.
const LINES: usize = 8;
/// Longest datagram.
const DATAGRAM: usize = 65_536;

/// One direction of the way: when what is handed over now comes out.
struct Way {
    free_at: tokio::time::Instant,
}

impl Way {
    fn comes_out(&mut self, bytes: usize) -> Option<tokio::time::Instant> {
        let now = tokio::time::Instant::now();
        let turn = self.free_at.max(now);
        if turn > now + QUEUE {
            return None;
        }
        self.free_at = turn + Duration::from_secs_f64(bytes as f64 / RATE);
        Some(self.free_at + DELAY)
    }
}

/// Passes on what comes at `from` by `to`; with `end`, towards that address, else where `to` leads.
async fn pass(from: Arc<UdpSocket>, to: Arc<UdpSocket>, end: Option<SocketAddr>) {
    let (mut room, mut way) = (vec![0; DATAGRAM], Way { free_at: tokio::time::Instant::now() });
    let mut under_way = JoinSet::new();
    while let Ok(len) = from.recv(&mut room).await {
        while under_way.try_join_next().is_some() {}
        let Some(due) = way.comes_out(len) else { continue };
        let (packet, to) = (room[..len].to_vec(), to.clone());
        under_way.spawn(async move {
            sleep_until(due).await;
            let _ = match end {
                Some(end) => to.send_to(&packet, end).await,
                None => to.send(&packet).await,
            };
        });
    }
}

/// Where the first of two sockets is reached, whose queue holds what goes to `node`; it, and the one by which that goes on.
async fn pair(node: SocketAddr) -> Result<(SocketAddr, Arc<UdpSocket>, Arc<UdpSocket>)> {
    let out = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let into = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await?;
    into.connect(node).await?;
    Ok((out.local_addr()?, Arc::new(out), Arc::new(into)))
}

/// A relay to `node`; dropping the tasks ends it.
async fn relay(node: SocketAddr) -> Result<(SocketAddr, JoinSet<()>)> {
    let door = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    let (addr, mut tasks) = (door.local_addr()?, JoinSet::new());
    tasks.spawn(async move {
        let (mut room, mut ways) = (vec![0; DATAGRAM], HashMap::new());
        let mut tasks = JoinSet::new();
        while let Ok((len, asker)) = door.recv_from(&mut room).await {
            if let Entry::Vacant(new) = ways.entry(asker) {
                let Ok((queue, out, into)) = pair(node).await else { continue };
                tasks.spawn(pass(out, into.clone(), None));
                tasks.spawn(pass(into, door.clone(), Some(asker)));
                new.insert(queue);
            }
            if let Some(queue) = ways.get(&asker) {
                let _ = door.send_to(&room[..len], queue).await;
            }
        }
    });
    Ok((addr, tasks))
}

/// Passes on all connections that come at this port of IPv4 to the same one of IPv6.
async fn pass_lines(port: u16) -> Result<JoinSet<()>> {
    let (door, mut tasks) = (TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?, JoinSet::new());
    tasks.spawn(async move {
        let mut lines = JoinSet::new();
        while let Ok((mut near, _)) = door.accept().await {
            lines.spawn(async move {
                let Ok(mut far) = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Ok(tasks)
}

/// One segment is asked of a node that is far. It begins over QUIC, which is slow there, and goes on over the first line that is
/// open; all eight are opened at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_from_afar_begins_over_quic_and_goes_on_over_a_line() -> Result<()> {
    let six = |config: &mut TransferConfig| config.listen = vec![(Ipv6Addr::LOCALHOST, 0).into()];
    let (a, b) = (Node::start_with(90, six).await?, Node::start(91).await?);
    let content = random_bytes(16 * MIB);
    let file = a.disk.add(&content)?;
    let (addr, _relay) = relay(a.transfer.listen_addrs()[0]).await?;
    let _lines = pass_lines(a.transfer.bulk_port().context("it has lines")?).await?;
    let far = Provider { node: a.id(), addrs: vec![addr], source: ProviderSource::Dht };

    // What is short goes over QUIC and opens no line, yet its connection.
    b.fetch(&far, &file, 0..1).await?;
    let before = b.transfer.stats();
    assert_eq!((before.lines_out, before.by_lines), (0, 0), "{before:?}");
    let begun = Instant::now();
    timeout(Duration::from_secs(20), b.fetch(&far, &file, 1..groups_of(file.size).end)).await??;

    let stats = b.transfer.stats();
    println!("{:?}, {stats:?}", begun.elapsed());
    assert_eq!(b.disk.read(&file)?, content);
    let by_quic = stats.total.down - before.total.down - stats.by_lines;
    assert!(by_quic > 0 && by_quic < MIB as u64, "{by_quic} bytes began over QUIC: {stats:?}");
    assert!(stats.by_lines > 15 * MIB as u64, "{stats:?}");
    // The segment may be here before the last of them is open.
    while b.transfer.stats().lines_out < LINES && begun.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(b.transfer.stats().lines_out, LINES);
    Ok(())
}
