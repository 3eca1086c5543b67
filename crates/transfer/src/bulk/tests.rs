//! A server of lines that does not keep to what it offers, and what the fetching side makes of it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hubless_store::{DigestKind, Imported, PartialBlob, Store};
use hubless_types::{GROUP_BYTES, GroupSet, ManualClock, NodeId, Provider, ProviderSource, Timestamp};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, RelayMode, SecretKey};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::seal::{Cipher, HEAD_BYTES, Kind, Sealer, TAG_BYTES};
use super::words::{Offer, TICKET_BYTES, line_key};
use crate::client::Tick;
use crate::limits::{BULK_GROUPS, MAX_GET_BYTES};
use crate::wire::QUESTION_HEAD;
use crate::{STALL_TIMEOUT, Transfer, TransferConfig, TransferError, get, wire};

const SIZE: usize = 6 * 1024 * 1024;

/// What the server does with a line on which something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The port does not answer.
    Deaf,
    /// Sends nothing.
    Silent,
    /// The first half of the answer, then the end of the connection.
    BreaksOff,
    /// A wrong byte in the last group.
    WrongByte,
    /// The whole answer, sealed with another key.
    OtherKey,
    /// A byte more than was asked for.
    TooMuch,
    /// A refusal each time: not held.
    Refuses,
    /// All is right with it; QUIC sends the first half of an answer and no more.
    Honest,
}

struct Disk {
    store: Store,
    _dir: tempfile::TempDir,
}

fn disk(seed: u8) -> Result<Disk> {
    let dir = tempfile::tempdir()?;
    let node = NodeId::from_bytes(*SecretKey::from_bytes(&[seed; 32]).public().as_bytes());
    let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000)));
    Ok(Disk { store: Store::open(dir.path(), node, clock)?, _dir: dir })
}

fn add(disk: &Disk) -> Result<Imported> {
    let bytes: Vec<u8> = (0..SIZE).map(|i| (i * 31 % 251) as u8 ^ (i / 7919) as u8).collect();
    let file = disk.store.blobs().import_bytes(&bytes, DigestKind::Sha256)?;
    disk.store.blobs().share(&file.hash)?;
    Ok(file)
}

/// Answers on QUIC as an honest node does, and on lines as it was told.
struct Server {
    provider: Provider,
    _disk: Disk,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(seed: u8, disk: Disk, line: Line) -> Result<Self> {
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(&[seed; 32]))
            .relay_mode(RelayMode::Disabled)
            .alpns(vec![get::ALPN.to_vec(), wire::ALPN.to_vec()])
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")?
            .bind()
            .await?;
        let node = NodeId::from_bytes(*endpoint.id().as_bytes());
        let provider = Provider { node, addrs: endpoint.bound_sockets(), source: ProviderSource::Lan };
        let (store, mut tasks) = (disk.store.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else { continue };
                let store = store.clone();
                streams.spawn(async move {
                    let mut running = JoinSet::new();
                    while let Ok((send, recv)) = connection.accept_bi().await {
                        let (store, connection) = (store.clone(), connection.clone());
                        running.spawn(async move { answer(send, recv, connection, store, line).await });
                    }
                });
            }
        });
        Ok(Self { provider, _disk: disk, _tasks: tasks })
    }
}

async fn answer(
    mut send: SendStream,
    mut recv: RecvStream,
    connection: Connection,
    store: Store,
    line: Line,
) -> Result<()> {
    if connection.alpn() == get::ALPN {
        let mut bytes = encoded(&store, &recv.read_to_end(MAX_GET_BYTES).await?)?;
        if line == Line::Honest {
            bytes.truncate(bytes.len() / 2);
            send.write_all(&bytes).await?;
            std::future::pending::<()>().await;
        }
        send.write_all(&bytes).await?;
        send.finish()?;
        let _ = send.stopped().await;
        return Ok(());
    }
    let mut head = [0; QUESTION_HEAD + 1];
    recv.read_exact(&mut head).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let listener = (line != Line::Deaf).then_some(listener);
    let ticket = [9; TICKET_BYTES];
    let offer = Offer { port, ticket, cipher: Cipher::Aes256Gcm };
    send.write_chunk(offer.encode()?).await?;
    let (mut stream, _) = listener.context("deaf")?.accept().await?;
    let mut shown = [0; TICKET_BYTES];
    stream.read_exact(&mut shown).await?;
    assert_eq!(shown, ticket);
    let key = line_key(&connection, &ticket).context("a key")?;
    let key = if line == Line::OtherKey { [1; 32] } else { key };
    let mut sealer = Sealer::new(Cipher::Aes256Gcm, &key)?;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    loop {
        let mut len = [0; 4];
        recv.read_exact(&mut len).await?;
        let mut wish = vec![0; u32::from_le_bytes(len) as usize];
        recv.read_exact(&mut wish).await?;
        if wish[0] != 0 {
            continue;
        }
        let mut bytes = encoded(&store, &wish[1..])?;
        match line {
            Line::Silent => continue,
            Line::BreaksOff => bytes.truncate(SIZE / 2),
            Line::WrongByte => *bytes.last_mut().context("a byte")? ^= 1,
            Line::TooMuch => bytes.push(0),
            Line::Refuses => {
                record(&mut sealer, &mut stream, Kind::End, &4_u32.to_le_bytes())?;
                continue;
            }
            Line::Deaf | Line::OtherKey | Line::Honest => {}
        }
        for plain in bytes.chunks(50_000) {
            record(&mut sealer, &mut stream, Kind::Data, plain)?;
        }
        if line == Line::BreaksOff {
            return Ok(());
        }
    }
}

fn encoded(store: &Store, request: &[u8]) -> Result<Vec<u8>> {
    let get = get::Get::decode(request).context("a request")?;
    let file = Arc::new(store.blobs().open(&get.hash)?.context("it is here")?);
    let groups = get.wanted(file.size()).context("groups")?;
    Ok(file.encode(groups).collect::<Result<Vec<_>, _>>()?.concat())
}

fn record(sealer: &mut Sealer, stream: &mut std::net::TcpStream, kind: Kind, plain: &[u8]) -> Result<()> {
    let mut room = vec![0; HEAD_BYTES + plain.len() + TAG_BYTES];
    room[HEAD_BYTES..HEAD_BYTES + plain.len()].copy_from_slice(plain);
    sealer.seal(kind, &mut room, plain.len())?;
    Ok(stream.write_all(&room)?)
}

struct Fetcher {
    disk: Disk,
    transfer: Transfer,
}

impl Fetcher {
    async fn start(seed: u8) -> Result<Self> {
        let disk = disk(seed)?;
        let config = TransferConfig::new([seed; 32], vec!["127.0.0.1:0".parse()?]);
        Ok(Self { transfer: Transfer::start(config, disk.store.clone()).await?, disk })
    }

    async fn fetch(
        &self,
        from: &Server,
        blob: &PartialBlob,
        groups: std::ops::Range<u64>,
    ) -> Result<(), TransferError> {
        self.transfer.client().segment(&from.provider, groups, blob, Arc::new(|_| ())).await
    }

    /// Fetches a first megabyte over QUIC, and waits until a line is open or has failed.
    async fn warm_up(&self, from: &Server, blob: &PartialBlob, opens: bool) -> Result<()> {
        self.fetch(from, blob, 0..BULK_GROUPS).await?;
        let (before, most) = (Instant::now(), Duration::from_secs(if opens { 10 } else { 1 }));
        while self.transfer.stats().lines_out == 0 && before.elapsed() < most {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.transfer.stats().lines_out, usize::from(opens));
        Ok(())
    }
}

async fn meet(seed: u8, line: Line) -> Result<(Server, Fetcher, PartialBlob, u64)> {
    let held = disk(seed)?;
    let file = add(&held)?;
    let (server, fetcher) = (Server::start(seed, held, line).await?, Fetcher::start(seed + 1).await?);
    let blob = fetcher.disk.store.blobs().partial(file.hash, file.size)?;
    fetcher.warm_up(&server, &blob, line != Line::Deaf).await?;
    Ok((server, fetcher, blob, (SIZE as u64).div_ceil(GROUP_BYTES)))
}

/// Where the port cannot be reached, or what comes was not sealed by the peer, or the line breaks off, QUIC brings the rest
/// in the same call, and the line is left alone for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_fails_is_made_up_for_over_quic() -> Result<()> {
    for (seed, line) in [(10, Line::Deaf), (12, Line::OtherKey), (14, Line::BreaksOff)] {
        let (server, fetcher, blob, end) = meet(seed, line).await?;
        fetcher.fetch(&server, &blob, BULK_GROUPS..end).await?;
        assert!(blob.is_complete(), "{line:?}");
        let by_lines = fetcher.transfer.stats().by_lines;
        let down = fetcher.transfer.stats().total.down;
        match line {
            // What lies in the socket when it breaks may be lost; what was taken from it is not asked for again.
            Line::BreaksOff => {
                assert!(by_lines > 500_000 && down < SIZE as u64 + 200_000, "{by_lines} {down}")
            }
            _ => assert_eq!(by_lines, 0, "{line:?}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(fetcher.transfer.stats().lines_out, 0, "{line:?}");
    }
    Ok(())
}

/// Where a line comes about while QUIC is slow, the segment goes on there from where it was: no byte is counted or asked for
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_quic_brought_before_there_was_a_line_is_not_asked_for_again() -> Result<()> {
    let held = disk(16)?;
    let file = add(&held)?;
    let (server, fetcher) = (Server::start(16, held, Line::Honest).await?, Fetcher::start(17).await?);
    let (blob, end) =
        (fetcher.disk.store.blobs().partial(file.hash, file.size)?, (SIZE as u64).div_ceil(GROUP_BYTES));
    let told = Arc::new(AtomicU64::new(0));
    let counted = told.clone();
    let tick: Tick = Arc::new(move |bytes| {
        counted.fetch_add(bytes, Ordering::Relaxed);
    });
    let comes = async {
        while blob.have().len() < end / 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let remote = fetcher.transfer.remote();
    let rest = remote.by_quic(&server.provider, 0..end, &blob, &tick, comes).await?;
    assert!(rest.end == end && rest.start >= end / 3 && rest.start <= end / 2, "{rest:?}");
    assert_eq!(blob.have(), GroupSet::from(0..rest.start));
    assert_eq!(told.load(Ordering::Relaxed), rest.start * GROUP_BYTES);
    let rest = loop {
        match remote.by_line(&server.provider, rest.clone(), &blob, &tick).await? {
            left if left == rest => tokio::time::sleep(Duration::from_millis(5)).await,
            left => break left,
        }
    };
    assert!(rest.is_empty() && blob.is_complete(), "{rest:?}");
    assert_eq!(told.load(Ordering::Relaxed), SIZE as u64);
    Ok(())
}

/// A wrong byte is found where it is, and what came right before it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_byte_on_a_line_is_found_where_it_is() -> Result<()> {
    let (server, fetcher, blob, end) = meet(20, Line::WrongByte).await?;
    let error = fetcher.fetch(&server, &blob, BULK_GROUPS..end).await.unwrap_err();
    assert!(
        matches!(error, TransferError::WrongBytes { offset, .. } if offset == (end - 1) * GROUP_BYTES),
        "{error:?}"
    );
    assert!(error.blames_peer());
    assert_eq!(blob.have(), GroupSet::from(0..end - 1));
    Ok(())
}

/// More than was asked for is a breach of the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_was_asked_for_is_refused() -> Result<()> {
    let (server, fetcher, blob, end) = meet(22, Line::TooMuch).await?;
    let error = fetcher.fetch(&server, &blob, BULK_GROUPS..end).await.unwrap_err();
    assert!(matches!(error, TransferError::Protocol { .. }), "{error:?}");
    Ok(())
}

/// A line on which nothing comes is given up within the stall timeout; then QUIC is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_line_is_found_out() -> Result<()> {
    let (server, fetcher, blob, end) = meet(24, Line::Silent).await?;
    let before = Instant::now();
    let error = fetcher.fetch(&server, &blob, BULK_GROUPS..end).await.unwrap_err();
    let took = before.elapsed();
    assert!(matches!(error, TransferError::Stalled { .. }), "{error:?}");
    assert!(took >= STALL_TIMEOUT && took < STALL_TIMEOUT + Duration::from_secs(2), "{took:?}");
    fetcher.fetch(&server, &blob, BULK_GROUPS..end).await?;
    assert!(blob.is_complete());
    Ok(())
}

/// A refusal ends its answer alone: the line goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_leaves_the_line_open() -> Result<()> {
    let (server, fetcher, blob, end) = meet(26, Line::Refuses).await?;
    for _ in 0..3 {
        let error = fetcher.fetch(&server, &blob, BULK_GROUPS..end).await.unwrap_err();
        assert!(matches!(error, TransferError::NotHeld { .. }), "{error:?}");
    }
    assert_eq!(fetcher.transfer.stats().lines_out, 1);
    Ok(())
}
