//! The guard where it counts: at the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        let http = Http::new(&config).unwrap();
        let ask = Ask::get(http.url(["x"]), Auth::Bearer(None), LaneKind::Api, OriginErrorKind::RepoNotFound);
        // A private origin may: it is the operator's own network.
        if host == "127.0.0.1" || host == "localhost" {
            assert_eq!(http.send(&ask).await.unwrap().bytes(9, "x").await.unwrap(), "ok", "{host}");
        }
        let before = reached.load(Ordering::SeqCst);
        let http = Http::new(&config).unwrap();
        http.pretend_public();
        let error = http.send(&ask).await.unwrap_err();
        assert!(matches!(error, OriginError::Redirect { .. }), "{host}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert_eq!(reached.load(Ordering::SeqCst), before, "{host}");
    }
}
