//! Whether bytes that are here already are those of a file of this repository: an origin is asked how it begins.

use std::sync::Arc;

use hubless_origin::OriginError;
use hubless_types::{ByteRange, Link, RepoId};

use super::ask::more_telling;
use super::remote::Remote;
use crate::MirrorError;
use crate::mirror::Inner;
use crate::util::blocking;

/// Bytes at a file's beginning that an origin has to give for it.
const BEGINNING_BYTES: u64 = 64 * 1024;

impl Inner {
    /// Makes sure that a whole blob may be shown as a file of `repo`: where nobody gave it as one yet, an origin has
    /// to give its beginning. Without a token, it is everybody's from then on.
    ///
    /// # Errors
    /// The origin's refusal; [`MirrorError::NoSource`] without one: what another repository has is as if it were
    /// not here.
    pub(crate) async fn confirm(
        self: &Arc<Self>,
        remotes: &[Arc<Remote>],
        repo: &RepoId,
        link: &Link,
    ) -> Result<(), MirrorError> {
        if self.may_show(repo, &link.hash)? {
            return Ok(());
        }
        let range = ByteRange::new(0, link.size.min(BEGINNING_BYTES));
        let (blobs, hash) = (self.store.blobs().clone(), link.hash);
        let ours = blocking(move || {
            let file = blobs.open(&hash)?.ok_or(hubless_store::StoreError::NotHere { hash })?;
            Ok(file.read(range)?)
        })
        .await?;
        let mut refused = None;
        for remote in remotes {
            match beginning(remote, range).await {
                Ok(theirs) if theirs[..] == ours[..] => {
                    self.settle(link, remote.errand()).await?;
                    return self.keep_private(remotes, link).await;
                }
                Ok(_) => self.lies.tell(remote, "it begins otherwise than the file of its digest"),
                Err(error) => refused = Some(more_telling(refused, error)),
            }
        }
        let what = || format!("{} as a file of `{repo}`", link.digest);
        Err(refused.map_or_else(|| MirrorError::NoSource { what: what() }, MirrorError::Origin))
    }
}

async fn beginning(remote: &Remote, range: ByteRange) -> Result<Vec<u8>, OriginError> {
    let mut body = remote.open(range).await?;
    let mut bytes = Vec::with_capacity(range.len() as usize);
    while let Some(piece) = body.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > range.len() {
            break;
        }
    }
    Ok(bytes)
}
