//! Links between what git or LFS calls a file and the BLAKE3 tree that its bytes are fetched by.

use hubless_types::{BlobHash, FileDigest, Link, LinkTrust};
use serde::{Deserialize, Serialize};

use super::codec::Record;
use super::db::Cf;
use super::txn::Txn;
use super::{Catalogue, keys};
use crate::error::Result;

/// Links that are read or written in one go.
const LINKS_AT_ONCE: usize = 4096;

/// A link without its digest, which is its key.
#[derive(Serialize, Deserialize)]
struct LinkRecord {
    hash: BlobHash,
    size: u64,
    trust: LinkTrust,
}

impl Record for LinkRecord {
    const NAME: &'static str = "link";
}

impl LinkRecord {
    fn of(self, digest: FileDigest) -> Link {
        Link { digest, hash: self.hash, size: self.size, trust: self.trust }
    }
}

impl Catalogue {
    /// Stores a link unless one that is as well known is there; a proven one stays for good.
    ///
    /// Where two nodes claim different trees for one file, the first claim stays until it is struck.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn put_link(&self, link: &Link) -> Result<()> {
        self.change(|txn| put(txn, link).map(drop))
    }

    /// Stores many links by the rules of [`Catalogue::put_link`], some thousands at a time; returns how many were
    /// stored.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`]; what was stored before the error stays.
    pub fn put_links(&self, links: &[Link]) -> Result<usize> {
        let mut stored = 0;
        for some in links.chunks(LINKS_AT_ONCE) {
            stored += self.change(|txn| {
                some.iter().try_fold(0, |count, link| Ok(count + usize::from(put(txn, link)?)))
            })?;
        }
        Ok(stored)
    }

    /// The link of a file.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn link(&self, digest: &FileDigest) -> Result<Option<Link>> {
        let found: Option<LinkRecord> = self.db().get(Cf::Links, &keys::digest(digest))?;
        Ok(found.map(|r| r.of(*digest)))
    }

    /// The links of many files, in their order.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn links(&self, digests: &[FileDigest]) -> Result<Vec<Option<Link>>> {
        let mut links = Vec::with_capacity(digests.len());
        for some in digests.chunks(LINKS_AT_ONCE) {
            let keys: Vec<_> = some.iter().map(keys::digest).collect();
            let found = self.db().get_many::<LinkRecord>(Cf::Links, &keys)?;
            links.extend(found.into_iter().zip(some).map(|(r, digest)| r.map(|r| r.of(*digest))));
        }
        Ok(links)
    }

    /// Forgets that `digest` is `hash`, unless that is proven; returns whether it was known so.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn strike_link(&self, digest: &FileDigest, hash: &BlobHash) -> Result<bool> {
        self.change(|txn| strike(txn, digest, hash))
    }

    /// The files that are linked to a tree, sorted.
    ///
    /// # Errors
    /// As [`Catalogue::set_ref`].
    pub fn digests_of(&self, hash: &BlobHash) -> Result<Vec<FileDigest>> {
        self.db().page(Cf::LinkHashes, hash.as_bytes(), None, usize::MAX, |key, _| {
            keys::read_digest(&key[BlobHash::LEN..])
        })
    }
}

fn reverse_key(hash: &BlobHash, digest_key: &[u8]) -> Vec<u8> {
    [&hash.as_bytes()[..], digest_key].concat()
}

pub(super) fn put(txn: &mut Txn<'_>, link: &Link) -> Result<bool> {
    let key = keys::digest(&link.digest);
    if let Some(old) = txn.get::<LinkRecord>(Cf::Links, &key)? {
        if old.trust >= link.trust {
            return Ok(false);
        }
        txn.delete(Cf::LinkHashes, reverse_key(&old.hash, &key));
    }
    txn.put(Cf::LinkHashes, reverse_key(&link.hash, &key), &())?;
    txn.put(Cf::Links, key, &LinkRecord { hash: link.hash, size: link.size, trust: link.trust })?;
    Ok(true)
}

pub(super) fn strike(txn: &mut Txn<'_>, digest: &FileDigest, hash: &BlobHash) -> Result<bool> {
    let key = keys::digest(digest);
    let Some(old) = txn.get::<LinkRecord>(Cf::Links, &key)? else { return Ok(false) };
    if old.hash != *hash || old.trust == LinkTrust::Proven {
        return Ok(false);
    }
    txn.delete(Cf::LinkHashes, reverse_key(hash, &key));
    txn.delete(Cf::Links, key);
    Ok(true)
}
