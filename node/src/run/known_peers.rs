//! The nodes that were known when this one stopped, so that it finds back without a bootstrap node.
//!
//! **Invariant:** the file has at most [`MAX_PEERS`] addresses and is read within [`MAX_BYTES`]; what cannot be read
//! is passed over, since all of it can be found again.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hubless_discovery::Dht;
use hubless_types::PeerAddr;

/// Its name in the data folder.
const FILE: &str = "peers";
/// Most addresses that it has.
const MAX_PEERS: usize = 64;
/// Most bytes of it that are read.
const MAX_BYTES: u64 = 16 * 1024;
/// How often it is written while the node runs.
const EVERY: Duration = Duration::from_secs(5 * 60);

/// The addresses in the file; none if there is none.
pub(super) fn load(data: &Path) -> Vec<PeerAddr> {
    let mut text = String::new();
    let read =
        fs::File::open(data.join(FILE)).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => text.lines().filter_map(|line| line.parse().ok()).take(MAX_PEERS).collect(),
        Err(_) => Vec::new(),
    }
}

/// Writes them, whole or not at all. A node that knows nobody keeps what it knew.
pub(super) fn save(data: &Path, peers: &[PeerAddr]) {
    if peers.is_empty() {
        return;
    }
    let text: String = peers.iter().take(MAX_PEERS).map(|peer| format!("{peer}\n")).collect();
    let fresh = data.join(format!("{FILE}.new"));
    if let Err(error) = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, data.join(FILE))) {
        tracing::warn!(%error, "cannot remember the nodes that are known");
    }
}

/// Writes them now and then, until it is dropped.
pub(super) async fn keep(data: std::path::PathBuf, discovery: Arc<Dht>) {
    loop {
        tokio::time::sleep(EVERY).await;
        save(&data, &discovery.known());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_survive_and_rubbish_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).is_empty());
        let node = "12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk";
        let peers: Vec<PeerAddr> =
            (1..=100).map(|port| format!("/ip4/10.0.0.1/tcp/{port}/p2p/{node}").parse().unwrap()).collect();
        save(dir.path(), &peers);
        assert_eq!(load(dir.path()), peers[..MAX_PEERS]);
        save(dir.path(), &[]);
        assert_eq!(load(dir.path()).len(), MAX_PEERS);
        fs::write(dir.path().join(FILE), format!("rubbish\n{}\n\u{0}", peers[0])).unwrap();
        assert_eq!(load(dir.path()), peers[..1]);
    }
}
