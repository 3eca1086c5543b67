//! What a name means, on whose word, and how a repository gets its next commit.

mod common;

use std::time::{Duration, Instant};

use common::*;
use hubless_discovery::DhtKey;
use hubless_mirror::{AddRequest, ErrorKind, MirrorError, NotFound, ResolvedBy, With};
use hubless_store::ShelfQuery;
use hubless_transfer::Faults;
use hubless_types::{Access, RepoFacts, RepoKind, Revision, Timestamp};

/// A second add of a changed folder follows the first commit; of an unchanged one it makes none.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_folder_makes_a_child_commit() -> TestResult {
    let swarm = Swarm::new()?;
    let a = swarm.node()?;
    let dir = swarm.folder("repo", &[("config.json", b"{}"), ("sub/weights.bin", &noise(1, 9 * MIB))])?;
    let first = a.add(&dir).await?;
    assert!(!first.unchanged && first.parent.is_none());
    assert_eq!((first.files, first.bytes), (2, 2 + 9 * MIB as u64));

    let again = a.add(&dir).await?;
    assert!(again.unchanged && again.commit == first.commit);

    std::fs::write(dir.join("config.json"), b"{\"new\":1}")?;
    let second = a.add(&dir).await?;
    assert_eq!(second.parent, Some(first.commit));
    let manifest = a.mirror.manifest(&Caller::anyone(), None, second.commit).await?;
    assert_eq!(manifest.info().parents, [first.commit]);
    assert!(manifest.entry(&"sub/weights.bin".parse()?).is_some_and(|e| e.lfs.is_some()));
    assert_eq!(a.resolve(&[]).await?.commit, second.commit);
    Ok(())
}

/// A stranger's word is shown, with what to do, and not taken; asked for, it is taken and kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_word_is_shown_and_not_taken() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let commit = a.add(&swarm.folder("repo", &[("a.txt", b"hello")])?).await?.commit;

    let error = b.resolve(&[]).await.expect_err("nobody is trusted");
    assert_eq!(error.kind(), ErrorKind::Untrusted);
    let text = error.to_string();
    assert!(text.contains(&commit.to_string()) && text.contains(&a.id.to_string()), "{text}");
    assert!(error.hint().is_some_and(|h| h.contains(&format!("--accept-from {}", a.id))));

    let resolved = b.resolve(&[a.id]).await?;
    assert_eq!((resolved.commit, resolved.by), (commit, ResolvedBy::Publisher(a.id)));
    swarm.cut(&a);
    assert_eq!(b.resolve(&[]).await?.commit, commit, "what was accepted once is known later");
    Ok(())
}

/// What a peer holds is listed and found here before anybody asked for it, but not what only it may read.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_holds_is_listed() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let dir = swarm.folder("repo", &[("a.txt", b"hello")])?;
    for name in ["acme/tiny", "acme/hidden", "datasets/acme/words"] {
        a.mirror.add(AddRequest::new(&dir, name.parse()?), ignore()).await?;
    }
    let private = RepoFacts { access: Access::Private, ..RepoFacts::default() };
    a.store.catalogue().put_facts(&"acme/hidden".parse()?, &private)?;
    let listed = |kind, search: &str| -> Result<Vec<String>, MirrorError> {
        let query = ShelfQuery { search: search.into(), ..ShelfQuery::all(kind) };
        let page = b.mirror.find(&query, With::default())?;
        Ok(page.found.into_iter().map(|found| found.repo.to_string()).collect())
    };
    let is_found = async || listed(RepoKind::Dataset, "WORDS").is_ok_and(|found| !found.is_empty());
    eventually("it is listed", is_found).await?;
    assert_eq!(listed(RepoKind::Dataset, "")?, ["datasets/acme/words"]);
    assert_eq!(listed(RepoKind::Model, "")?, ["acme/tiny"]);
    Ok(())
}

/// A name that nobody knows and a repository that nobody knows are told apart.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_not_found() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let no_repo = b.resolve(&[a.id]).await.expect_err("there is none");
    assert_eq!(no_repo.kind(), ErrorKind::NotFound(NotFound::Repo));
    a.add(&swarm.folder("repo", &[("a.txt", b"hello")])?).await?;
    let dev: Revision = "dev".parse()?;
    let no_name = b.mirror.resolve(&tiny(), &dev, &Caller::taking([a.id])).await.expect_err("there is none");
    assert_eq!(no_name.kind(), ErrorKind::NotFound(NotFound::Revision));
    assert!(no_name.to_string().contains("`dev` of `acme/tiny`"), "{no_name}");
    Ok(())
}

/// An old word of a trusted signer, brought by somebody else, does not take a name back.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_refused() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, keeper) = (swarm.node()?, swarm.node()?);
    let b = swarm.node_with(|config| config.trusted = vec![a.id])?;
    let dir = swarm.folder("repo", &[("a.txt", b"one")])?;
    let first = a.add(&dir).await?.commit;
    keeper.pull_from(&[a.id]).await?;
    swarm.discovery.cut(keeper.id);

    std::fs::write(dir.join("a.txt"), b"two")?;
    let second = a.add(&dir).await?.commit;
    assert_eq!(b.pull_from(&[]).await?.commit, second);
    swarm.cut(&a);
    swarm.discovery.mend(keeper.id);

    assert_eq!(keeper.resolve(&[]).await?.commit, first);
    assert_eq!(b.pull_from(&[]).await?.commit, second);
    Ok(())
}

/// A signer whose clock is years ahead does not own a name for years.
#[tokio::test(flavor = "multi_thread")]
async fn a_word_from_the_future_is_refused() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    a.add(&swarm.folder("repo", &[("a.txt", b"one")])?).await?;
    let mut statement = a.store.catalogue().statements(&tiny(), None)?.remove(0);
    statement.body.seen = Timestamp(START.0 + 2 * 24 * 3600);
    let ahead = hubless_proof::sign_statement(statement.body, &hubless_proof::NodeKey::from_bytes([1; 32]));
    a.store.catalogue().put_statement(&ahead)?;
    let refused = b.resolve(&[a.id]).await;
    assert!(matches!(refused, Err(MirrorError::RepoNotFound { .. })), "{refused:?}");
    Ok(())
}

/// Once all whose word counts have spoken, nobody waits for others, who may be out of reach.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_those_who_can_change_nothing() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, silent, b) = (swarm.node()?, swarm.node()?, swarm.node()?);
    a.add(&swarm.folder("repo", &[("a.txt", b"one")])?).await?;
    silent.pull_from(&[a.id]).await?;
    silent.announced(&swarm, &b, DhtKey::Repo(tiny())).await?;
    swarm.set_faults(&silent, Faults { stall_after: Some(0), ..Faults::default() });
    let begun = Instant::now();
    b.pull_from(&[a.id]).await?;
    assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
    Ok(())
}

/// The newest word of two trusted signers counts, whoever brings it.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_two_trusted_signers_counts() -> TestResult {
    let swarm = Swarm::new()?;
    let (a, b) = (swarm.node()?, swarm.node()?);
    let c = swarm.node_with(|config| config.trusted = vec![a.id, b.id])?;
    a.add(&swarm.folder("one", &[("a.txt", b"one")])?).await?;
    swarm.clock.advance(60);
    let newer = b.add(&swarm.folder("two", &[("a.txt", b"two")])?).await?.commit;
    let resolved = c.resolve(&[]).await?;
    assert_eq!((resolved.commit, resolved.by), (newer, ResolvedBy::Publisher(b.id)));
    Ok(())
}
