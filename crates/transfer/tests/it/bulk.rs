//! Long segments over TCP: between two honest nodes, and what strangers do with the port.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubless_store::Imported;
use hubless_types::GROUP_BYTES;
use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh_blobs::protocol::{GetRequest, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::hostile::{HUBLESS, dial, endpoint};
use crate::support::{MIB, Node, counting, groups_of, no_tick, random_bytes};

type Flat = Result<()>;

pub(crate) const MIB_GROUPS: u64 = MIB as u64 / GROUP_BYTES;

/// Fetches a first megabyte, and waits for the line that this opens.
pub(crate) async fn with_line(from: &Node, to: &Node, file: &Imported) -> Flat {
    to.fetch(&from.provider(), file, 0..MIB_GROUPS).await?;
    let before = Instant::now();
    while to.transfer.stats().lines_out == 0 {
        anyhow::ensure!(before.elapsed() < Duration::from_secs(5), "no line");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Many segments at once go over the line, in any order, and every byte is right and told of once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_segments_go_over_tcp() -> Flat {
    let (a, b) = (Node::start(1).await?, Node::start(2).await?);
    let content = random_bytes(20 * MIB + 12_345);
    let file = a.disk.add(&content)?;
    with_line(&a, &b, &file).await?;
    let blob = b.disk.partial(&file)?;
    let (tick, told) = counting();
    let mut starts: Vec<u64> = (MIB_GROUPS..groups_of(file.size).end).step_by(MIB_GROUPS as usize).collect();
    starts.reverse();
    let peer = a.provider();
    let all = starts.into_iter().map(|start| {
        let end = (start + MIB_GROUPS).min(groups_of(file.size).end);
        b.client.segment(&peer, start..end, &blob, tick.clone())
    });
    futures::future::try_join_all(all).await?;
    assert_eq!(b.disk.read(&file)?, content);
    assert_eq!(told.load(Ordering::Relaxed), file.size - MIB as u64);
    let (up, down) = (a.transfer.stats(), b.transfer.stats());
    assert!(down.by_lines > 12 * MIB as u64, "{down:?}");
    assert_eq!(up.total.up, down.total.down, "both ends count the same");
    assert_eq!(up.uploads, 0);
    Ok(())
}

/// A node without the bulk path, as those before it are, and one with it understand one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_lines_go_on_over_quic() -> Flat {
    let (a, b) = (Node::start_with(3, |c| c.bulk_port = None).await?, Node::start(4).await?);
    assert!(a.transfer.bulk_port().is_none() && b.transfer.bulk_port().is_some());
    for (from, to, size) in [(&a, &b, 3 * MIB), (&b, &a, 3 * MIB + 1)] {
        let file = from.disk.add(&random_bytes(size))?;
        for range in [0..MIB_GROUPS, MIB_GROUPS..groups_of(file.size).end] {
            to.fetch(&from.provider(), &file, range).await?;
            sleep(Duration::from_millis(100)).await;
        }
        assert!(to.disk.is_whole(&file)?);
        assert_eq!(to.transfer.stats().by_lines, 0);
    }
    Ok(())
}

/// A segment that nobody wants any more stops soon, and the next one on the line is not held up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_taken_back_stops_soon() -> Flat {
    let (a, b) = (Node::start(5).await?, Node::start(6).await?);
    let big = a.disk.add(&random_bytes(96 * MIB))?;
    let other = a.disk.add(&random_bytes(2 * MIB))?;
    with_line(&a, &b, &big).await?;
    let blob = b.disk.partial(&big)?;
    let peer = a.provider();
    let (tick, told) = counting();
    let fetch = b.client.segment(&peer, MIB_GROUPS..groups_of(big.size).end, &blob, tick);
    let begun = async {
        while told.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = fetch => anyhow::bail!("it was not to come to its end: {done:?}"),
        () = begun => {}
    }
    let before = Instant::now();
    b.fetch(&peer, &other, groups_of(other.size)).await?;
    assert!(b.disk.is_whole(&other)?);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    assert!(b.transfer.stats().by_lines > 2 * MIB as u64, "the line still serves");
    let sent = a.transfer.stats().total.up;
    assert!(sent < 64 * MIB as u64, "{sent} bytes were sent of what nobody wants");
    assert!(!blob.is_complete());
    Ok(())
}

/// A node that stops in the middle of sending and receiving does so within two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_in_the_middle_of_a_line() -> Flat {
    let (a, b) = (Node::start(7).await?, Node::start(8).await?);
    let file = a.disk.add(&random_bytes(64 * MIB))?;
    with_line(&a, &b, &file).await?;
    let (blob, peer, client) = (b.disk.partial(&file)?, a.provider(), b.client.clone());
    let (tick, told) = counting();
    let mut fetch = JoinSet::new();
    fetch
        .spawn(async move { client.segment(&peer, MIB_GROUPS..groups_of(file.size).end, &blob, tick).await });
    while told.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let before = Instant::now();
    tokio::join!(a.transfer.shutdown(), b.transfer.shutdown());
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let ended = timeout(Duration::from_secs(1), fetch.join_next()).await?.context("it ends")??;
    assert!(ended.is_err());
    Ok(())
}

/// What a stranger gets that asks for a line: the connection, its stream, and the offer's port and ticket.
struct Offered {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    port: u16,
    ticket: [u8; 16],
}

async fn ask_for_line(from: &Endpoint, node: &Node) -> Result<Offered> {
    let connection = dial(from, node, HUBLESS).await?;
    ask_on(connection).await
}

async fn ask_on(connection: Connection) -> Result<Offered> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&[0x17, 1, 0, 0, 0, 1]).await?;
    let mut head = [0; 4];
    recv.read_exact(&mut head).await?;
    let mut body = vec![0; u32::from_le_bytes(head) as usize];
    recv.read_exact(&mut body).await?;
    let (port, ticket, _cipher): (u16, [u8; 16], u8) = postcard::from_bytes(&body)?;
    Ok(Offered { connection, send, recv, port, ticket })
}

async fn show(offered: &Offered) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", offered.port)).await?;
    stream.write_all(&offered.ticket).await?;
    Ok(stream)
}

/// Whether the other side has closed it, within so long.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut sink = vec![0; 4096];
    let end = async { while !matches!(stream.read(&mut sink).await, Ok(0) | Err(_)) {} };
    timeout(within, end).await.is_ok()
}

async fn ask_for(offered: &mut Offered, file: &Imported) -> Flat {
    let hash = iroh_blobs::Hash::from_bytes(*file.hash.as_bytes());
    let get = postcard::to_stdvec(&Request::Get(GetRequest::blob(hash)))?;
    let wish = [&(get.len() as u32 + 1).to_le_bytes()[..], &[0], &get].concat();
    Ok(offered.send.write_all(&wish).await?)
}

/// Connections without a ticket get nothing, are closed soon, and keep nobody from a line for longer than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_ticket_are_closed() -> Flat {
    let (a, b) = (Node::start(10).await?, Node::start(11).await?);
    let file = a.disk.add(&random_bytes(3 * MIB))?;
    let port = a.transfer.bulk_port().context("a port")?;
    let before = Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..80 {
        strangers.push(TcpStream::connect(("127.0.0.1", port)).await?);
    }
    let mut closed_at_once = 0;
    for stranger in &mut strangers {
        closed_at_once += usize::from(closes(stranger, Duration::from_millis(20)).await);
    }
    assert!((16..30).contains(&closed_at_once), "{closed_at_once}");
    let mut liar = TcpStream::connect(("127.0.0.1", port)).await?;
    let _ = liar.write_all(&[7; 4096]).await;
    assert!(closes(&mut liar, Duration::from_secs(1)).await);
    // Meanwhile bytes go over QUIC.
    b.fetch(&a.provider(), &file, groups_of(file.size)).await?;
    for stranger in &mut strangers {
        assert!(closes(stranger, Duration::from_secs(4)).await);
    }
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
    let mut wrong = TcpStream::connect(("127.0.0.1", port)).await?;
    wrong.write_all(&[7; 16]).await?;
    assert!(closes(&mut wrong, Duration::from_secs(1)).await, "a ticket that nobody was given");
    let c = Node::start(12).await?;
    with_line(&a, &c, &file).await
}

/// A ticket is good once; a node has eight lines, however many connections it opens, and a line ends with its stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_counted_and_end_with_their_stream() -> Flat {
    let node = Node::start(13).await?;
    let stranger = endpoint(14).await?;
    let mut held = Vec::new();
    for turn in 0..8 {
        let offered = if turn % 2 == 0 {
            ask_for_line(&stranger, &node).await?
        } else {
            let (first, _): &(Offered, TcpStream) = held.last().context("one")?;
            ask_on(first.connection.clone()).await?
        };
        let line = show(&offered).await?;
        held.push((offered, line));
    }
    let mut again = show(&held[0].0).await?;
    assert!(closes(&mut again, Duration::from_secs(1)).await, "a ticket that was shown before");
    let connection = held[7].0.connection.clone();
    assert!(ask_on(connection.clone()).await.is_err(), "a ninth line");
    let (mut first, mut line) = held.remove(0);
    assert!(!closes(&mut line, Duration::from_millis(100)).await);
    first.send.finish()?;
    assert!(closes(&mut line, Duration::from_secs(1)).await);
    sleep(Duration::from_millis(100)).await;
    let ninth = ask_on(connection).await?;
    let mut line = show(&ninth).await?;
    ninth.connection.close(0_u32.into(), b"");
    assert!(closes(&mut line, Duration::from_secs(1)).await, "it ends with the connection");
    drop(held);
    Ok(())
}

/// A ticket that nobody shows is no longer good after five seconds, and its place is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_that_is_not_used_runs_out() -> Flat {
    let node = Node::start(15).await?;
    let stranger = endpoint(16).await?;
    let mut offered = ask_for_line(&stranger, &node).await?;
    let end = timeout(Duration::from_secs(7), offered.recv.read_to_end(10)).await?;
    assert!(end.is_err(), "the stream is reset");
    let mut late = show(&offered).await?;
    assert!(closes(&mut late, Duration::from_secs(1)).await);
    Ok(())
}

/// Who asks on lines and takes nothing has its share of the upload slots, and they are free when it is gone; others are
/// served meanwhile. Wishes without end, or that are none, end the line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_takes_nothing_has_its_share_alone() -> Flat {
    let node = Node::start_with(17, |c| c.upload_slots = 4).await?;
    let file = node.disk.add(&random_bytes(32 * MIB))?;
    let stranger = endpoint(18).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut offered = ask_for_line(&stranger, &node).await?;
        let line = show(&offered).await?;
        ask_for(&mut offered, &file).await?;
        held.push((offered, line));
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(node.transfer.stats().uploads, 2);
    let honest = Node::start(19).await?;
    honest.fetch(&node.provider(), &file, groups_of(file.size)).await?;
    let (flood, line) = &mut held[0];
    for _ in 0..40 {
        if ask_for(flood, &file).await.is_err() {
            break;
        }
    }
    assert!(closes(line, Duration::from_secs(2)).await, "more wishes than a line may have");
    let (garbled, line) = &mut held[1];
    garbled.send.write_all(&[3, 0, 0, 0, 9, 9, 9]).await?;
    assert!(closes(line, Duration::from_secs(2)).await, "a wish that is none");
    drop(held);
    stranger.close().await;
    let before = Instant::now();
    while node.transfer.stats().uploads > 0 {
        assert!(before.elapsed() < Duration::from_secs(3), "slots are still held");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// In a closed swarm nobody else is offered a line, and a node asks nobody else for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_swarm_offers_lines_to_its_own() -> Flat {
    let friend = crate::support::node_id(21);
    let node = Node::start_with(20, |c| c.allow = Some(vec![friend])).await?;
    let file = node.disk.add(&random_bytes(3 * MIB))?;
    assert!(ask_for_line(&endpoint(22).await?, &node).await.is_err());
    let inside = Node::start(21).await?;
    with_line(&node, &inside, &file).await?;
    let outside = Node::start_with(23, |c| c.allow = Some(vec![friend])).await?;
    let blob = outside.disk.partial(&file)?;
    assert!(outside.client.segment(&node.provider(), groups_of(file.size), &blob, no_tick()).await.is_err());
    assert_eq!(outside.transfer.stats().lines_out, 0);
    Ok(())
}
