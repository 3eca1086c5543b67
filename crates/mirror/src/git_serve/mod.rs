//! Serves git itself, in protocol version 2: what `git clone` and `git fetch` ask of a repository that is held here.
//!
//! Commits, trees and small blobs come from the bundles that prove their manifests, larger plain files from
//! wherever [`Mirror::open_file`](crate::Mirror::open_file) has them. Nothing is ever packed ahead or kept.
//!
//! **Invariant:** a client is given a whole history, or one that ends where it asked, or an error that says what is
//! held; at most [`PACKS_AT_ONCE`] packs are made at once, each with memory for one commit and one piece of a file.
//! **Not here:** HTTP; version 0 and 1 of the protocol; pushes.

mod history;
mod lfs;
mod objects;
mod plan;
mod refs;
mod send;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use hubless_proof::{GitRequest, MAX_PKT_DATA, put_flush, put_line, put_packet};
use hubless_types::RepoId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Caller, Mirror, MirrorError};

pub use hubless_proof::MAX_GIT_REQUEST_BYTES;

/// Most packs that are made at once; the bundles they are made of may be large.
const PACKS_AT_ONCE: usize = 8;
/// Longest wait for a pack's turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest message to a git client, in bytes.
const MAX_SAID: usize = 2_000;

/// What a git client is answered, in pkt-lines.
pub type GitBody = BoxStream<'static, Result<Bytes, MirrorError>>;

/// Serves git. Clones share one limit.
#[derive(Clone)]
pub struct GitServer {
    mirror: Mirror,
    turns: Arc<Semaphore>,
}

impl GitServer {
    /// Serves what `mirror` holds or can get.
    pub fn new(mirror: Mirror) -> Self {
        Self { mirror, turns: Arc::new(Semaphore::new(PACKS_AT_ONCE)) }
    }

    /// What this server can do: the answer to `info/refs` of a client that speaks version 2.
    pub fn capabilities(agent: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let agent = format!("agent={agent}");
        for line in
            ["version 2", &agent, "ls-refs", "fetch=shallow filter wait-for-done", "object-format=sha1"]
        {
            say(&mut out, line);
        }
        put_flush(&mut out);
        out
    }

    /// An answer that a git client shows its user as the remote's error.
    pub fn refusal(why: &str) -> Vec<u8> {
        let mut out = Vec::new();
        say(&mut out, &format!("ERR {why}"));
        out
    }

    /// Answers one request, which is here whole.
    ///
    /// # Errors
    /// [`MirrorError::GitRequest`] if it is none; [`MirrorError::TooManyPacks`] if too many others are being
    /// answered; [`MirrorError::RepoNotFound`] and whatever else keeps a name from being resolved. What cannot be
    /// sent for want of history is said in the answer itself.
    pub async fn answer(
        &self,
        caller: &Caller,
        repo: &RepoId,
        request: Bytes,
    ) -> Result<GitBody, MirrorError> {
        match GitRequest::parse(&request).map_err(MirrorError::GitRequest)? {
            GitRequest::LsRefs(asked) => {
                let listed = refs::list(&self.mirror, caller, repo, &asked).await?;
                Ok(whole(listed))
            }
            GitRequest::Fetch(asked) => {
                drop(request);
                // A pack holds what small files hold, and who may have that is asked for every request.
                self.mirror.may_read(caller, repo).await?;
                let turn = self.turn().await?;
                match plan::plan(&self.mirror, caller, repo, *asked).await? {
                    plan::Plan::Say(answer) => Ok(whole(answer)),
                    plan::Plan::Pack(pack) => {
                        Ok(send::pack(&self.mirror, caller.clone(), repo.clone(), *pack, turn))
                    }
                }
            }
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, MirrorError> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        turn.map_err(|_| MirrorError::TooManyPacks)?.map_err(|_| MirrorError::Stopped)
    }
}

fn whole(answer: Vec<u8>) -> GitBody {
    futures::stream::once(async move { Ok(Bytes::from(answer)) }).boxed()
}

/// Appends a line, cut to what a frame holds.
fn say(out: &mut Vec<u8>, line: &str) {
    let line: String = line.chars().take(MAX_SAID).collect();
    // Four bytes a character at most, far below a frame's length.
    const { assert!(MAX_SAID * 4 < MAX_PKT_DATA) };
    if put_line(out, &line).is_err() {
        let _ = put_packet(out, b"");
    }
}
