//! Small files: one request each, checked in memory before anything is kept.

use std::sync::Arc;

use hubless_store::{DigestKind, digest_bytes};
use hubless_types::{ByteRange, Link, LinkTrust};

use super::ask::{more_telling, try_next};
use super::remote::Remote;
use crate::MirrorError;
use crate::mirror::Inner;
use crate::obtain::Gauge;
use crate::util::blocking;
use hubless_origin::OriginError;

impl Inner {
    /// Gets a small file from the first origin that has it.
    pub(super) async fn small_by_origin(
        &self,
        remotes: &[Arc<Remote>],
        gauge: &Gauge,
    ) -> Result<Link, MirrorError> {
        let (mut refused, mut lied) = (None, None);
        for remote in remotes {
            let entry = &remote.errand().entry;
            match whole(remote, entry.size).await {
                Ok(bytes) => match self.take_in(remote, bytes).await? {
                    Some(link) => {
                        gauge.came_whole(remote.source(), link.size);
                        self.settle(&link, remote.errand()).await?;
                        return Ok(link);
                    }
                    None => lied = Some(MirrorError::WrongContent { digest: entry.digest() }),
                },
                Err(error) => {
                    tracing::debug!(origin = remote.name(), path = %entry.path, %error, "an origin did not send a file");
                    let go_on = try_next(&error);
                    refused = Some(more_telling(refused, error));
                    if !go_on {
                        break;
                    }
                }
            }
        }
        Err(lied.or_else(|| refused.map(MirrorError::Origin)).unwrap_or(MirrorError::Stopped))
    }

    /// Takes a file in that is what it should be. Nothing is stored before that is known.
    async fn take_in(&self, remote: &Remote, bytes: Vec<u8>) -> Result<Option<Link>, MirrorError> {
        let (blobs, digest) = (self.store.blobs().clone(), remote.errand().entry.digest());
        let size = bytes.len() as u64;
        let kind = DigestKind::of(&digest);
        let taken = blocking(move || {
            let found = digest_bytes(&bytes, kind);
            if found != Some(digest) {
                return Ok(Err(found));
            }
            Ok(Ok(blobs.import_bytes(&bytes, kind)?))
        })
        .await?;
        match taken {
            Ok(file) => Ok(Some(Link { digest, hash: file.hash, size, trust: LinkTrust::Proven })),
            Err(found) => {
                let found = found.map_or_else(|| "a SHA-1 collision".to_owned(), |d| d.to_string());
                self.lies.tell(remote, &format!("it has the digest {found}"));
                Ok(None)
            }
        }
    }
}

/// All bytes of a file of `size` bytes; small, so that memory holds them.
async fn whole(remote: &Remote, size: u64) -> Result<Vec<u8>, OriginError> {
    let mut body = remote.open(ByteRange::whole(size)).await?;
    let mut bytes = Vec::with_capacity(size as usize);
    while let Some(piece) = body.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > size {
            break;
        }
    }
    let got = bytes.len() as u64;
    if got == size {
        return Ok(bytes);
    }
    Err(OriginError::Length { origin: remote.name().to_owned(), got, expected: size })
}
