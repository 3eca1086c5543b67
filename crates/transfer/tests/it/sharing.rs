//! What is not shared is not here, as far as any peer can tell: whatever it knows already, and however it asks.

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use hubless_store::{Imported, PartialBlob, RefRecord, RefSource};
use hubless_transfer::{Delivered, MemoryNet, TransferError};
use hubless_types::{
    Access, BlobHash, CommitId, Link, Provider, ProviderSource, PublicSignature, RepoFacts, RepoId, Revision,
    Statement, StatementBody, Timestamp,
};

use crate::stories::manifest;
use crate::support::{Disk, MIB, Node, groups_of, no_tick, node_id, random_bytes};

type Flat = Result<()>;

fn is_not_held(outcome: &Result<impl std::fmt::Debug, TransferError>) -> bool {
    matches!(outcome, Err(TransferError::NotHeld { .. }))
}

fn said(repo: &RepoId, signer: u8) -> Result<Statement> {
    let body = StatementBody {
        repo: repo.clone(),
        revision: "main".parse()?,
        commit: CommitId::from_bytes([1; 20]),
        origin: None,
        seen: Timestamp(5),
        links: None,
    };
    Ok(Statement { body, signer: node_id(signer), signature: PublicSignature([3; 64]) })
}

/// A peer that knows commit, digest, root and size of what it may not have gets nothing; it gets all of it once it may,
/// and nothing again after that was taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_digest_and_root_gets_nothing() -> Flat {
    let (a, b) = (Node::start(120).await?, Node::start(121).await?);
    let (blobs, catalogue) = (a.disk.store.blobs(), a.disk.store.catalogue());
    let (large, small) = (a.disk.add(&random_bytes(MIB))?, a.disk.add(b"small")?);
    let half = a.disk.add(&random_bytes(2 * MIB))?;
    let commit = CommitId::from_bytes([1; 20]);
    catalogue.put_manifest(None, &manifest(commit)?, b"bundle", None)?;
    for shared in [false, true, false] {
        for file in [&large, &small, &half] {
            if shared {
                blobs.share(&file.hash)?
            } else {
                blobs.unshare(&file.hash)?
            };
        }
        if shared {
            catalogue.share_commit(commit)?
        } else {
            catalogue.unshare_commit(commit)?
        }
        assert_eq!(gets(&b, &a.provider(), &large, &small, commit).await?, [shared; 5]);
    }
    Ok(())
}

/// Whether a peer gets segment, tree, small file, links and manifest.
async fn gets(
    b: &Node,
    from: &Provider,
    large: &Imported,
    small: &Imported,
    commit: CommitId,
) -> Result<[bool; 5]> {
    let disk = Disk::new(122)?;
    let blob = disk.partial(large)?;
    let tree = b.client.tree(from, &blob).await;
    let segment = b.client.segment(from, groups_of(large.size), &blob, no_tick()).await;
    let manifest = b.client.manifest(from, commit).await;
    for (what, outcome) in [("segment", &segment), ("tree", &tree)] {
        anyhow::ensure!(outcome.is_ok() || is_not_held(outcome), "{what}: {outcome:?}");
    }
    anyhow::ensure!(manifest.is_ok() || is_not_held(&manifest), "{manifest:?}");
    let files = b.client.small_files(from, &[small.digest]).await?;
    let links: Vec<Link> = b.client.links(from, &[large.digest, small.digest]).await?;
    Ok([segment.is_ok(), tree.is_ok(), !files.is_empty(), !links.is_empty(), manifest.is_ok()])
}

/// A blob that may not be given is not among what is held; it is told as soon as it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_told_when_it_may_be_given() -> Flat {
    let (a, b) = (Node::start(123).await?, Node::start(124).await?);
    let file = a.disk.add(&random_bytes(MIB))?;
    a.disk.store.blobs().unshare(&file.hash)?;
    let mut holdings = b.client.holdings(&a.provider(), &[file.hash]).await?;
    let silent = tokio::time::timeout(std::time::Duration::from_millis(800), holdings.next()).await;
    assert!(silent.is_err(), "{silent:?}");
    a.disk.store.blobs().share(&file.hash)?;
    assert_eq!(holdings.next().await.context("a push")??.hash, file.hash);
    Ok(())
}

/// Of a repository that not everybody may read, peers hear no names either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_about_gated_repositories_are_not_told() -> Flat {
    let (a, b) = (Node::start(125).await?, Node::start(126).await?);
    let repo: RepoId = "acme/secret".parse()?;
    let catalogue = a.disk.store.catalogue();
    catalogue.put_statement(&said(&repo, 125)?)?;
    for access in [Access::Open, Access::GatedAuto, Access::GatedManual, Access::Private] {
        catalogue.put_facts(&repo, &RepoFacts { access, ..RepoFacts::default() })?;
        let told = b.client.statements(&a.provider(), &repo, None).await?.len();
        assert_eq!(told, usize::from(access.is_open()), "{access:?}");
    }
    Ok(())
}

/// What is held and may be given is listed to whoever asks, over the network and in memory, page by page; what is hidden,
/// gated, only known, or known by what somebody here asked for, is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_listed() -> Flat {
    let (a, b) = (Node::start(130).await?, Node::start(131).await?);
    let catalogue = a.disk.store.catalogue();
    let name = |n: u16| format!("acme/n{n:03}").parse::<RepoId>();
    let commit = |n: u16| {
        let mut id = [7; 20];
        id[..2].copy_from_slice(&n.to_be_bytes());
        CommitId::from_bytes(id)
    };
    let main: Revision = "main".parse()?;
    for n in 0..600 {
        catalogue.add_commit_to_repo(&name(n)?, commit(n))?;
        catalogue.share_commit(commit(n))?;
        // The fifth is known by its commit alone, which somebody here asked for, and the sixth was in a cache.
        let by = match n {
            5 => RefSource::Commit,
            6 => RefSource::Adopted,
            _ => RefSource::Published,
        };
        catalogue.set_ref(&name(n)?, &main, RefRecord { commit: commit(n), seen: Timestamp(1), by })?;
    }
    catalogue.unshare_commit(commit(3))?;
    let gated = RepoFacts { access: Access::GatedAuto, ..RepoFacts::default() };
    catalogue.put_facts(&name(4)?, &gated)?;
    catalogue.put_statement(&said(&"acme/known".parse()?, 130)?)?;
    let expected: Vec<RepoId> =
        (0..600).filter(|n| ![3, 4, 5, 6].contains(n)).map(name).collect::<Result<_, _>>()?;

    let net = MemoryNet::new();
    net.join(node_id(130), a.disk.store.clone());
    for client in [b.client.clone(), net.join(node_id(131), b.disk.store.clone())] {
        let (mut told, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = client.repos(&a.provider(), after).await?;
            told.extend(page.repos);
            (pages, after) = (pages + 1, page.next);
            if after.is_none() {
                break;
            }
        }
        assert_eq!((told, pages), (expected.clone(), 3));
    }
    Ok(())
}

/// A node that announces nothing lists nothing either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_announces_nothing_lists_nothing() -> Flat {
    let (a, b) = (Node::start_with(132, |c| c.lists_repos = false).await?, Node::start(133).await?);
    assert!(is_not_held(&b.client.repos(&a.provider(), None).await));
    Ok(())
}

fn tree_of(disk: &Disk, file: &Imported) -> Result<PartialBlob> {
    Ok(disk.store.blobs().partial(file.hash, file.size)?)
}

/// A tree comes before its bytes, over the network and in memory; bytes from anywhere are checked with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_comes_alone() -> Flat {
    let (a, b) = (Node::start(127).await?, Node::start(128).await?);
    let twin = Disk::new(129)?;
    let net = MemoryNet::new();
    net.join(a.id(), a.disk.store.clone());
    let in_memory = net.join(node_id(129), twin.store.clone());
    // More than one frame of parents, one, and none.
    for size in [70 * MIB + 5, 3 * MIB, 9] {
        let content = random_bytes(size);
        let file = a.disk.add(&content)?;
        for (client, disk, peer) in [
            (&b.client, &b.disk, a.provider()),
            (&in_memory, &twin, Provider { node: a.id(), addrs: vec![], source: ProviderSource::Lan }),
        ] {
            let blob = tree_of(disk, &file)?;
            client.tree(&peer, &blob).await?;
            assert!(blob.has_tree() && blob.have().is_empty());
            client.tree(&peer, &blob).await?;
            let mut filler = blob.filler(groups_of(file.size))?;
            filler.push(&content)?;
            filler.finish()?;
            assert!(blob.is_complete());
        }
    }
    let trees = net.deliveries().into_iter().filter(|d| matches!(d.what, Delivered::Tree { .. })).count();
    assert_eq!(trees, 2, "what is here is not asked for");
    Ok(())
}

/// Who has only a part of a blob gives no tree, unless the whole tree came first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_holder_gives_its_tree_when_it_is_whole() -> Flat {
    let (a, b, c) = (Node::start(130).await?, Node::start(131).await?, Node::start(132).await?);
    let file = a.disk.add(&random_bytes(4 * MIB))?;
    let held = b.fetch(&a.provider(), &file, 3..9).await?;
    let asked = tree_of(&c.disk, &file)?;
    let refused = c.client.tree(&b.provider(), &asked).await;
    assert!(is_not_held(&refused), "{refused:?}");
    b.client.tree(&a.provider(), &held).await?;
    c.client.tree(&b.provider(), &asked).await?;
    assert!(asked.has_tree());
    let unknown = c.disk.store.blobs().partial(BlobHash::from_bytes([1; 32]), 1 << 20)?;
    let refused = c.client.tree(&a.provider(), &unknown).await;
    assert!(is_not_held(&refused), "{refused:?}");
    Ok(())
}
