//! A hub over real HTTP and git, and nodes below it that have nothing yet.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::Router;
use hubless_gateway::{GatewayConfig, router};
use hubless_testkit::{Hub, Swarm, SwarmNode, hub_origin};
use hubless_types::{CommitId, RepoId};

use super::{Answer, ask};

/// Bytes of the small file: more than comes along with a commit.
const SMALL: usize = 3_000;
/// Bytes of the large file: LFS, thus on the hub's content network.
const LARGE: usize = 2 * 1024 * 1024 + 5;

/// A hub that has `acme/tiny`: `s.txt`, `w.safetensors`, and a config that comes along with the commit.
pub struct Upstream {
    pub hub: Hub,
    pub commit: CommitId,
}

/// A node below it, and its endpoint.
pub struct Below {
    pub node: SwarmNode,
    pub app: Router,
    /// Its peers, of which it has none, and its folder.
    pub swarm: Swarm,
}

/// The repository of these stories.
pub fn tiny() -> Result<RepoId> {
    Ok("acme/tiny".parse()?)
}

/// Bytes that a seed makes, without a short period.
pub fn noise(seed: u32, len: usize) -> Vec<u8> {
    let byte = |n: u32| (n.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 13) as u8;
    (0..len as u32).map(byte).collect()
}

/// What `s.txt` and `w.safetensors` hold.
pub fn content(path: &str) -> Vec<u8> {
    if path.ends_with("s.txt") { noise(1, SMALL) } else { noise(2, LARGE) }
}

impl Upstream {
    pub async fn begin() -> Result<Self> {
        let hub = Hub::start().await?;
        let (small, large) = (content("s.txt"), content("w.safetensors"));
        let files: [(&str, &[u8]); 3] =
            [("config.json", b"{}"), ("s.txt", &small), ("w.safetensors", &large)];
        let commit = hub.push(&tiny()?, "main", &files).await?;
        Ok(Self { hub, commit })
    }

    /// A node that has nothing yet.
    pub fn below(&self) -> Result<Below> {
        self.below_waiting(Duration::from_secs(60))
    }

    /// The same, which waits so long for a file to be whole. It bears less with a silent origin than a real one, so that
    /// stories end soon, and lets clients wait longer, so that a busy machine does not change their ends.
    pub fn below_waiting(&self, claimed_wait: Duration) -> Result<Below> {
        let origin = hub_origin(&self.hub.url(), |config| {
            config.patience.head = Duration::from_secs(2);
            config.patience.stall = Duration::from_secs(2);
        })?;
        let patient = GatewayConfig { answer_timeout: Duration::from_secs(60), ..GatewayConfig::default() };
        // Opening a store takes a while, in which the others go on.
        tokio::task::block_in_place(|| {
            let swarm = Swarm::new()?;
            let node = swarm.node_below(vec![origin], |config| {
                config.claimed_wait = claimed_wait;
                config.answer_within = Duration::from_secs(9);
            })?;
            let app = router(node.mirror.clone(), &patient, None);
            Ok(Below { node, app, swarm })
        })
    }
}

impl Below {
    pub async fn get(&self, path: &str) -> Result<Answer> {
        ask(&self.app, "GET", path, &[], "").await
    }

    /// The same, as whoever has `token`.
    pub async fn ask_as(&self, token: Option<&str>, method: &str, path: &str) -> Result<Answer> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        ask(&self.app, method, path, &headers, "").await
    }

    /// Asks as long as it is told to come again, as a client does.
    pub async fn get_in_the_end(&self, path: &str) -> Result<Answer> {
        let begun = Instant::now();
        loop {
            let answer = self.get(path).await?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            ensure!(begun.elapsed() < Duration::from_secs(60), "{path}: still {}", answer.text());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Fails unless nothing but the lists of `commits` commits is kept here.
    pub fn keeps_nothing(&self, commits: u64) -> Result<()> {
        let status = self.node.mirror.status()?;
        let bytes = (status.files, status.owned_bytes, status.partial_bytes);
        ensure!(bytes == (0, 0, 0) && status.commits == commits, "it keeps {status:?}");
        let left = files_below(self.swarm.dir.path(), "blobs")?;
        ensure!(left.is_empty(), "it keeps {left:?}");
        Ok(())
    }
}

/// Files in folders of the name `folder`, whose bytes are on the disk.
fn files_below(dir: &Path, folder: &str) -> Result<Vec<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = folders.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let (path, data) = {
                let e = entry?;
                (e.path(), e.metadata()?)
            };
            if data.is_dir() {
                folders.push(path);
            } else if data.blocks() > 0 && path.components().any(|part| part.as_os_str() == folder) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}
