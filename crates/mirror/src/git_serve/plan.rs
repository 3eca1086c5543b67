//! What a fetch is answered: an acknowledgement, an error, or a pack and what it is made of.

use std::collections::HashSet;
use std::sync::Arc;

use hubless_proof::{Bundle, FetchRequest, put_delim, put_flush};
use hubless_types::{CommitId, Manifest, RepoId, Revision};

use super::history::{self, Gap, History};
use super::objects::{Gathering, ObjectId, Part};
use super::{GitServer, say};
use crate::mirror::Inner;
use crate::util::blocking;
use crate::{Caller, Mirror, MirrorError};

/// Most commits of one request that are looked for at peers and origins.
const MAX_LOOKED_FOR: usize = 16;
/// Most commits that are searched for trees and blobs that a partial clone asks for by name.
const MAX_SEARCHED: usize = 256;
/// Most commits of one request that are told to be known here too.
const MAX_ACKNOWLEDGED: usize = 1_024;

/// What a fetch is answered.
pub(super) enum Plan {
    /// Words alone.
    Say(Vec<u8>),
    /// A pack.
    Pack(Box<Pack>),
}

/// A pack that is to be sent.
pub(super) struct Pack {
    /// What goes before it.
    pub(super) head: Vec<u8>,
    pub(super) parts: Vec<Part>,
    pub(super) objects: u32,
    /// Whether the client wants to hear how far things are.
    pub(super) tell: bool,
}

/// Decides what `asked` is answered.
pub(super) async fn plan(
    mirror: &Mirror,
    caller: &Caller,
    repo: &RepoId,
    asked: FetchRequest,
) -> Result<Plan, MirrorError> {
    let inner = &mirror.inner;
    let known: HashSet<CommitId> = inner.store.catalogue().commits_of(repo)?.into_iter().collect();
    let (mut commits, mut others) = (Vec::new(), HashSet::new());
    for want in &asked.wants {
        let commit = CommitId::from_bytes(*want);
        match known.contains(&commit) && inner.store.catalogue().has_manifest(commit)? {
            true => commits.push(commit),
            false => _ = others.insert(*want),
        }
    }
    // A name was told that leads to a commit whose objects are not here yet.
    for want in others.iter().copied().take(MAX_LOOKED_FOR).collect::<Vec<_>>() {
        let commit = CommitId::from_bytes(want);
        let is_ref = mirror.refs(repo)?.iter().any(|(_, record)| record.commit == commit);
        let fetch = is_ref || (others.len() == 1 && !inner.holds_object(repo, want).await?);
        if fetch && inner.real_manifest(caller, repo, commit).await.is_ok() {
            others.remove(&want);
            commits.push(commit);
        }
    }
    let (inner, repo) = (Arc::clone(inner), repo.clone());
    blocking(move || Job { inner: &inner, repo: &repo, asked: &asked }.run(&commits, others)).await
}

/// One request and what it is about.
struct Job<'a> {
    inner: &'a Inner,
    repo: &'a RepoId,
    asked: &'a FetchRequest,
}

impl Job<'_> {
    fn run(&self, commits: &[CommitId], mut others: HashSet<ObjectId>) -> Result<Plan, MirrorError> {
        let catalogue = self.inner.store.catalogue();
        // What only another repository has is not held here, as far as this one's readers are told.
        let parents = |commit| match self.inner.shows(self.repo, commit)? {
            true => Ok(catalogue.manifest_head(commit)?.map(|head| head.info.parents)),
            false => Ok(None),
        };
        let walked = history::walk::<MirrorError>(commits, self.asked, parents)?;
        let common = self.common()?;
        let early = !self.asked.done;
        if early && (self.asked.wait_for_done || common.is_empty() || walked.is_err()) {
            return Ok(Plan::Say(acknowledge(&common, false)));
        }
        let found = match walked {
            Ok(found) => found,
            Err(gap) => return Ok(Plan::Say(GitServer::refusal(&self.why(commits, &gap)))),
        };
        let mut gathering = Gathering::new(self.asked.filter);
        self.gather_others(&mut gathering, &mut others)?;
        if let Some(lost) = others.iter().next() {
            let lost = CommitId::from_bytes(*lost);
            let why = format!("upload-pack: not our ref {lost}: nobody reached has it in `{}`", self.repo);
            return Ok(Plan::Say(GitServer::refusal(&why)));
        }
        for commit in &found.spare {
            if let Some(manifest) = self.inner.shown_manifest(self.repo, *commit)? {
                gathering.spare(&manifest);
            }
        }
        for commit in &found.send {
            match self.read(*commit)? {
                Some((manifest, bundle)) => gathering.take_commit(&manifest, &bundle).map_err(damaged)?,
                None => return Ok(Plan::Say(GitServer::refusal(&self.gone(*commit)))),
            }
        }
        let Some((parts, objects)) = gathering.into_parts() else {
            return Ok(Plan::Say(GitServer::refusal("that is more than one pack can hold")));
        };
        let mut head = if early { acknowledge(&common, true) } else { Vec::new() };
        self.tell_ends(&mut head, &found);
        say(&mut head, "packfile");
        Ok(Plan::Pack(Box::new(Pack { head, parts, objects, tell: !self.asked.quiet })))
    }

    /// Which of the client's commits are known here too.
    fn common(&self) -> Result<Vec<CommitId>, MirrorError> {
        if self.asked.haves.is_empty() {
            return Ok(Vec::new());
        }
        // Only those of this repository: nobody is to find out by asking what else is here.
        let known: HashSet<CommitId> =
            self.inner.store.catalogue().commits_of(self.repo)?.into_iter().collect();
        let haves = self.asked.haves.iter().filter(|have| known.contains(*have));
        Ok(haves.copied().take(MAX_ACKNOWLEDGED).collect())
    }

    fn gather_others(
        &self,
        gathering: &mut Gathering,
        others: &mut HashSet<ObjectId>,
    ) -> Result<(), MirrorError> {
        for commit in self.inner.newest_first(self.repo)? {
            if others.is_empty() {
                break;
            }
            let Some(manifest) = self.inner.shown_manifest(self.repo, commit)? else { continue };
            if names_any(&manifest, others)
                && let Some((manifest, bundle)) = self.read(commit)?
            {
                gathering.take_wanted(&manifest, &bundle, others).map_err(damaged)?;
            }
        }
        Ok(())
    }

    fn read(&self, commit: CommitId) -> Result<Option<(Arc<Manifest>, Bundle)>, MirrorError> {
        let catalogue = self.inner.store.catalogue();
        let (Some(manifest), Some(bundle)) =
            (self.inner.shown_manifest(self.repo, commit)?, catalogue.bundle(commit)?)
        else {
            return Ok(None);
        };
        Ok(Some((manifest, Bundle::decode(&bundle).map_err(damaged)?)))
    }

    /// Tells where the history that the client will have ends.
    fn tell_ends(&self, head: &mut Vec<u8>, found: &History) {
        if self.asked.depth.is_none() {
            return;
        }
        say(head, "shallow-info");
        found.shallow.iter().for_each(|commit| say(head, &format!("shallow {commit}")));
        found.unshallow.iter().for_each(|commit| say(head, &format!("unshallow {commit}")));
        put_delim(head);
    }

    fn why(&self, commits: &[CommitId], gap: &Gap) -> String {
        match gap {
            Gap::NotHeld { depth: 0, commit } => self.gone(*commit),
            Gap::NotHeld { commit, depth } => {
                let from = commits.first().map_or_else(|| "it".to_owned(), CommitId::to_string);
                let many = if *depth == 1 { "commit" } else { "commits" };
                format!(
                    "more history is asked for than is held: of `{}` this node has {depth} {many} from {from} on, \
                     and not {commit}; ask for what is held with --depth {depth}",
                    self.repo
                )
            }
            Gap::TooMany => "that is more history than one pack takes; ask for less with --depth".to_owned(),
        }
    }

    fn gone(&self, commit: CommitId) -> String {
        format!("the git objects of commit {commit} of `{}` are not here", self.repo)
    }
}

/// What was proven when it was stored does not read any more.
fn damaged(source: hubless_proof::ProofError) -> MirrorError {
    MirrorError::Internal(format!("a stored bundle does not read: {source}"))
}

fn names_any(manifest: &Manifest, wanted: &HashSet<ObjectId>) -> bool {
    wanted.contains(manifest.info().tree.as_bytes())
        || manifest.folders().iter().any(|(_, id)| wanted.contains(id.as_bytes()))
        || manifest.entries().iter().any(|entry| wanted.contains(entry.blob.as_bytes()))
}

/// Tells which commits both have, and whether a pack follows.
fn acknowledge(common: &[CommitId], ready: bool) -> Vec<u8> {
    let mut out = Vec::new();
    say(&mut out, "acknowledgments");
    if common.is_empty() {
        say(&mut out, "NAK");
    }
    common.iter().for_each(|commit| say(&mut out, &format!("ACK {commit}")));
    if ready {
        say(&mut out, "ready");
        put_delim(&mut out);
    } else {
        put_flush(&mut out);
    }
    out
}

impl Inner {
    /// The commits of `repo` that are here: those that names point at first; at most [`MAX_SEARCHED`].
    pub(super) fn newest_first(&self, repo: &RepoId) -> Result<Vec<CommitId>, MirrorError> {
        let catalogue = self.store.catalogue();
        let main = Revision::main();
        let mut refs = catalogue.refs(repo)?;
        refs.sort_by_key(|(name, record)| (*name != main, std::cmp::Reverse(record.seen)));
        let mut seen = HashSet::new();
        let named = refs.into_iter().map(|(_, record)| record.commit);
        let all = named.chain(catalogue.commits_of(repo)?).filter(|commit| seen.insert(*commit));
        Ok(all.take(MAX_SEARCHED).collect())
    }

    /// Whether a commit of `repo` that is here names the object.
    async fn holds_object(self: &Arc<Self>, repo: &RepoId, object: ObjectId) -> Result<bool, MirrorError> {
        let (inner, repo) = (Arc::clone(self), repo.clone());
        blocking(move || {
            let wanted = HashSet::from([object]);
            for commit in inner.newest_first(&repo)? {
                if inner.shown_manifest(&repo, commit)?.is_some_and(|m| names_any(&m, &wanted)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}
