//! Files and folders as `tree` and `paths-info` list them.

use hubless_types::{FileEntry, Manifest, RepoPath, TreeId};
use serde::Serialize;

use crate::routes::{date, title, xet};

/// One line of a listing.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Listed<'a> {
    /// A folder.
    Directory {
        oid: TreeId,
        size: u64,
        path: &'a RepoPath,
        #[serde(rename = "lastCommit", skip_serializing_if = "Option::is_none")]
        last_commit: Option<LastCommit<'a>>,
    },
    /// A file.
    File(File<'a>),
}

/// A file of a listing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File<'a> {
    oid: hubless_types::BlobId,
    /// The real size, also for an LFS file.
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs: Option<Lfs>,
    /// Where it is offered by Xet: those clients take no other way then.
    #[serde(skip_serializing_if = "Option::is_none")]
    xet_hash: Option<hubless_types::Sha256>,
    path: &'a RepoPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_commit: Option<LastCommit<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_file_status: Option<Security>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lfs {
    oid: hubless_types::Sha256,
    size: u64,
    pointer_size: u64,
}

/// The commit that is said to have touched a file last: the one that was asked for, the only one surely here.
#[derive(Serialize)]
pub(crate) struct LastCommit<'a> {
    id: hubless_types::CommitId,
    title: &'a str,
    date: String,
}

/// Nobody scanned it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    status: &'static str,
    av_scan: Option<()>,
    pickle_import_scan: Option<()>,
}

impl<'a> Listed<'a> {
    /// A file, with what `expand` adds.
    pub(crate) fn file(manifest: &'a Manifest, entry: &'a FileEntry, expand: bool, xet_above: u64) -> Self {
        let security = Security { status: "unscanned", av_scan: None, pickle_import_scan: None };
        Self::File(File {
            oid: entry.blob,
            size: entry.size,
            lfs: entry.lfs.map(|lfs| Lfs {
                oid: lfs.sha256,
                size: entry.size,
                pointer_size: lfs.pointer_size,
            }),
            xet_hash: xet::hash_of(xet_above, entry),
            path: &entry.path,
            last_commit: last_commit(manifest, expand),
            security_file_status: expand.then_some(security),
        })
    }

    /// A folder, with what `expand` adds.
    pub(crate) fn folder(manifest: &'a Manifest, folder: &'a (RepoPath, TreeId), expand: bool) -> Self {
        Self::Directory {
            oid: folder.1,
            size: 0,
            path: &folder.0,
            last_commit: last_commit(manifest, expand),
        }
    }
}

fn last_commit(manifest: &Manifest, expand: bool) -> Option<LastCommit<'_>> {
    let info = manifest.info();
    expand.then(|| LastCommit { id: manifest.commit(), title: title(info), date: date(info.time) })
}
