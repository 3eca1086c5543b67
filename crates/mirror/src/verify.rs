//! Hashes all that is here again, names what is wrong and who uses it, and has what is pinned fetched anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hubless_store::{BadBlob, BlobStatus, VerifyEvent};
use hubless_types::{
    BlobHash, CommitId, FileDigest, FileEntry, LinkTrust, POINTER_MAX_BYTES, RepoId, RepoPath,
};
use tokio::time::Instant;

use crate::meter::{HERE, TELL_EVERY};
use crate::mirror::Inner;
use crate::util::blocking;
use crate::{BadFile, Mirror, MirrorError, Progress, ProgressSink, VerifyReport};

/// Most users of one bad file that are named.
const MAX_USERS: usize = 16;
/// What can be done about a file that is wrong or gone, and is kept.
const KEPT: &str = "a pin, or what was published here, needs it: a running node fetches it anew from whoever has it; else \
                    add its folder or pull it again, or unpin it";
/// Manifests that are looked at between two looks at the catalogue.
const MANIFEST_PAGE: usize = 256;

impl Mirror {
    /// Hashes every file that is here. Bad ones are named with who uses them, and dropped; those that something
    /// pinned needs are fetched anew in the background if there is a network. What was here, is kept and is gone is
    /// named likewise, each time until it is here again.
    ///
    /// # Errors
    /// [`MirrorError::Store`] of the catalogue or the disk; a wrong file is no error.
    pub async fn verify(&self, progress: ProgressSink) -> Result<VerifyReport, MirrorError> {
        let inner = Arc::clone(&self.inner);
        let report = blocking(move || inner.verify(&progress)).await?;
        if report.refetching > 0 {
            self.inner.wake_keeper();
        }
        Ok(report)
    }
}

impl Inner {
    fn verify(&self, progress: &ProgressSink) -> Result<VerifyReport, MirrorError> {
        let usage = self.store.blobs().usage()?;
        let _ = progress.try_send(Progress::Total {
            files: usage.owned + usage.referenced + usage.partial,
            bytes: usage.owned_bytes + usage.referenced_bytes + usage.partial_bytes,
        });
        let (started, mut told, mut done) = (Instant::now(), Instant::now(), 0_u64);
        let found = self.store.blobs().verify(&mut |event| {
            match event {
                VerifyEvent::Good { bytes, .. } => done += bytes,
                VerifyEvent::Bad(bad) => {
                    let text = format!("`{}`: {}", bad.path.display(), bad.why);
                    let _ = progress.try_send(Progress::Note { text });
                }
                VerifyEvent::Begins { .. } => {}
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let millis = started.elapsed().as_millis() as u64;
                let rate = (done * 1000).checked_div(millis).unwrap_or(0);
                let _ =
                    progress.try_send(Progress::Bytes { done, from: vec![(HERE.to_owned(), done)], rate });
            }
            !self.cancel.is_cancelled()
        })?;
        let mut report = VerifyReport {
            files: found.good + found.bad.len() as u64,
            bytes: found.bytes,
            ..VerifyReport::default()
        };
        let dropped: HashSet<BlobHash> = found.bad.iter().map(|bad| bad.hash).collect();
        if !found.bad.is_empty() {
            self.name_bad(found.bad, &mut report)?;
        }
        if !self.cancel.is_cancelled() {
            self.name_gone(&dropped, &mut report)?;
        }
        Ok(report)
    }

    /// Names the files of kept commits that were whole here once and are not now, but for those that were `named` before.
    fn name_gone(&self, named: &HashSet<BlobHash>, report: &mut VerifyReport) -> Result<(), MirrorError> {
        let mut gone: HashMap<BlobHash, BadFile> = HashMap::new();
        for commit in self.kept_commits()? {
            self.add_gone(commit, named, &mut gone)?;
        }
        if self.net.is_some() {
            report.refetching += gone.len() as u64;
        }
        let mut gone: Vec<BadFile> = gone.into_values().collect();
        gone.sort_by(|a, b| a.used_by.cmp(&b.used_by));
        report.bad.append(&mut gone);
        Ok(())
    }

    fn add_gone(
        &self,
        commit: CommitId,
        named: &HashSet<BlobHash>,
        gone: &mut HashMap<BlobHash, BadFile>,
    ) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let Some(manifest) = catalogue.manifest(commit)? else { return Ok(()) };
        let repos = catalogue.repos_of(commit)?;
        self.each_link(&manifest, |entry, link| {
            // Only what was hashed here was here; what a pin still waits for was not.
            let Some(link) = link.filter(|link| link.trust == LinkTrust::Proven) else { return Ok(()) };
            let is_here = matches!(self.store.blobs().status(&link.hash)?, BlobStatus::Complete { .. });
            if is_here || is_bundled(entry) || named.contains(&link.hash) {
                return Ok(());
            }
            let why = || format!("it is no longer whole on this disk; {KEPT}");
            let (digest, used_by) = (Some(entry.digest()), Vec::new());
            let file = || BadFile { digest, place: None, used_by, why: why() };
            let users = &mut gone.entry(link.hash).or_insert_with(file).used_by;
            let left = MAX_USERS.saturating_sub(users.len());
            users.extend(repos.iter().map(|repo| (repo.clone(), entry.path.clone())).take(left));
            Ok(())
        })
    }

    fn name_bad(&self, bad: Vec<BadBlob>, report: &mut VerifyReport) -> Result<(), MirrorError> {
        let kept = self.kept_blobs()?;
        let mut users = self.users_of(&bad)?;
        for blob in bad {
            let is_kept = kept.contains(&blob.hash);
            if is_kept && self.net.is_some() {
                report.refetching += 1;
            }
            let digest = self.store.catalogue().digests_of(&blob.hash)?.into_iter().next();
            let used_by = users.remove(&blob.hash).unwrap_or_default();
            let why = if is_kept { format!("{}; {KEPT}", blob.why) } else { blob.why };
            report.bad.push(BadFile { digest, place: Some(blob.path), used_by, why });
        }
        Ok(())
    }

    /// Which repositories and paths use the bad blobs.
    fn users_of(&self, bad: &[BadBlob]) -> Result<HashMap<BlobHash, Vec<(RepoId, RepoPath)>>, MirrorError> {
        let mut digests: HashMap<FileDigest, BlobHash> = HashMap::new();
        for blob in bad {
            let known = self.store.catalogue().digests_of(&blob.hash)?;
            digests.extend(known.into_iter().map(|digest| (digest, blob.hash)));
        }
        let mut users: HashMap<BlobHash, Vec<(RepoId, RepoPath)>> = HashMap::new();
        self.each_manifest(|commit| self.add_users(commit, &digests, &mut users))?;
        Ok(users)
    }

    fn add_users(
        &self,
        commit: CommitId,
        digests: &HashMap<FileDigest, BlobHash>,
        users: &mut HashMap<BlobHash, Vec<(RepoId, RepoPath)>>,
    ) -> Result<(), MirrorError> {
        let catalogue = self.store.catalogue();
        let Some(manifest) = catalogue.manifest(commit)? else { return Ok(()) };
        let repos = catalogue.repos_of(commit)?;
        let mut seen = HashSet::new();
        for entry in manifest.entries() {
            let Some(hash) = digests.get(&entry.digest()) else { continue };
            let names = users.entry(*hash).or_default();
            for repo in &repos {
                let user = (repo.clone(), entry.path.clone());
                if names.len() < MAX_USERS && seen.insert(user.clone()) && !names.contains(&user) {
                    names.push(user);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn each_manifest(
        &self,
        mut visit: impl FnMut(CommitId) -> Result<(), MirrorError>,
    ) -> Result<(), MirrorError> {
        let mut after = None;
        loop {
            let page = self.store.catalogue().manifests(after, MANIFEST_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            page.into_iter().try_for_each(&mut visit)?;
        }
    }
}

/// Whether the commit's own bundle has the content.
const fn is_bundled(entry: &FileEntry) -> bool {
    entry.lfs.is_none() && entry.size <= POINTER_MAX_BYTES
}
