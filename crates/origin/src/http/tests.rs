//! The guard where it counts: at the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::TryStreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::OriginKind;

/// Answers every connection with `answer`, and counts them.
async fn serve(answer: String, tasks: &mut JoinSet<()>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (port, count)
}

/// An origin that is taken for a public one, and redirects to this machine by address and by name.
#[tokio::test]
async fn a_public_origin_cannot_make_this_node_connect_to_itself() {
    let mut tasks = JoinSet::new();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_owned();
    let (inner, reached) = serve(ok, &mut tasks).await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let to = format!("http://{host}:{inner}/x?sig=s3cret");
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let (outer, _) = serve(head, &mut tasks).await;
        let config = OriginConfig::new(&format!("http://127.0.0.1:{outer}"), OriginKind::Hub).unwrap();
        let http = Http::new(&config, &Limits::default()).unwrap();
        let ask = Ask::get(http.url(["x"]), Auth::Bearer(None), LaneKind::Api, OriginErrorKind::RepoNotFound);
        // A private origin may: it is the operator's own network.
        if host == "127.0.0.1" || host == "localhost" {
            assert_eq!(http.send(&ask).await.unwrap().bytes(9, "x").await.unwrap(), "ok", "{host}");
        }
        let before = reached.load(Ordering::SeqCst);
        let http = Http::new(&config, &Limits::default()).unwrap();
        http.pretend_public();
        let error = http.send(&ask).await.unwrap_err();
        assert!(matches!(error, OriginError::Redirect { .. }), "{host}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert_eq!(reached.load(Ordering::SeqCst), before, "{host}");
    }
}

/// A server that sends `pieces` with a pause before each, for as long as somebody listens.
async fn drip(piece: Vec<u8>, pause: Duration, pieces: usize, tasks: &mut JoinSet<()>) -> Http {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let Ok((mut socket, _)) = listener.accept().await else { return };
        let _ = socket.read(&mut [0; 4096]).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", piece.len() * pieces);
        let _ = socket.write_all(head.as_bytes()).await;
        for _ in 0..pieces {
            tokio::time::sleep(pause).await;
            if socket.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let mut config = OriginConfig::new(&format!("http://127.0.0.1:{port}"), OriginKind::Hub).unwrap();
    config.patience.stall = Duration::from_millis(300);
    Http::new(&config, &Limits::default()).unwrap()
}

async fn open(http: &Http, size: u64) -> crate::OriginBody {
    let ask = Ask::get(http.url(["x"]), Auth::Bearer(None), LaneKind::Files, OriginErrorKind::EntryNotFound);
    http.send(&ask).await.unwrap().file(hubless_types::ByteRange::whole(size), size).unwrap()
}

#[tokio::test]
async fn drops_do_not_keep_a_connection_alive() {
    let mut tasks = JoinSet::new();
    let http = drip(vec![7], Duration::from_millis(20), 500, &mut tasks).await;
    let begun = tokio::time::Instant::now();
    let error = open(&http, 500).await.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, OriginError::Stalled { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_sends_enough_or_waits_for_the_reader_does_not_stall() {
    let mut tasks = JoinSet::new();
    // Longer than the stall's time in all, never without enough.
    let http = drip(vec![7; 8192], Duration::from_millis(100), 10, &mut tasks).await;
    assert!(open(&http, 81_920).await.try_collect::<Vec<_>>().await.is_ok());
    let http = drip(vec![7; 1000], Duration::ZERO, 4, &mut tasks).await;
    let mut body = open(&http, 4000).await;
    let mut got = 0;
    while let Some(piece) = body.try_next().await.unwrap() {
        got += piece.len();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(got, 4000);
}
