//! What a malicious peer may try with the proof of a commit, one story each. Nothing of it is kept.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use common::*;
use futures::stream::{self, BoxStream, StreamExt as _};
use hubless_discovery::{
    DhtKey, Discovery, DiscoveryError, DiscoveryStatus, Lifetime, MAX_RECORDS_PER_KEY, MemoryDiscovery, Told,
    Trace,
};
use hubless_limits::Limits;
use hubless_mirror::{ErrorKind, Mirror, MirrorConfig, MirrorError, MirrorParts};
use hubless_proof::{
    Bundle, NewCommit, NodeKey, TreeEntry, blob_id, commit_id, tree_id, write_commit, write_tree,
};
use hubless_store::{DhtRow, DigestKind, ImportMode, Store};
use hubless_transfer::Faults;
use hubless_types::*;

const FILE: u32 = 0o100_644;
const FOLDER: u32 = 0o040_000;

/// Bytes of the large file of the honest repository.
const WEIGHTS: usize = 9 * MIB;

/// Somebody who lies, somebody who asks, and an honest commit that the former holds alone.
struct Scene {
    swarm: Swarm,
    liar: Node,
    victim: Node,
    commit: CommitId,
    weights: Vec<u8>,
}

impl Scene {
    async fn new() -> Result<Self> {
        let swarm = Swarm::new()?;
        let (liar, victim) = (swarm.node()?, swarm.node()?);
        let weights = noise(1, WEIGHTS);
        let dir = swarm.folder("repo", &[("config.json", b"{}"), ("data/w.bin", &weights)])?;
        let commit = liar.add(&dir).await?.commit;
        Ok(Self { swarm, liar, victim, commit, weights })
    }

    /// Has the liar send another bundle for `commit`.
    fn forge(&self, commit: CommitId, bundle: &Bundle) -> Result<()> {
        let catalogue = self.liar.store.catalogue();
        let held = catalogue.manifest(self.commit)?.context("it was added")?;
        let (files, folders) = (held.entries().to_vec(), held.folders().to_vec());
        let manifest = Manifest::new(commit, held.info().clone(), files, folders)?;
        catalogue.put_manifest(Some(&tiny()), &manifest, &bundle.encode(), None)?;
        Ok(catalogue.share_commit(commit)?)
    }

    fn bundle(&self) -> Result<Bundle> {
        let bytes = self.liar.store.catalogue().bundle(self.commit)?.context("it was added")?;
        Ok(Bundle::decode(&bytes)?)
    }

    /// The victim finds out, says so, and keeps nothing.
    async fn is_refused(&self, commit: CommitId, why: &str) -> TestResult {
        let (caller, repo) = (Caller::anyone(), tiny());
        let asked = self.victim.mirror.manifest(&caller, Some(&repo), commit);
        let error = asked.await.err().context("it is a lie")?;
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        let MirrorError::Proof { what, source } = &error else { panic!("{error}") };
        assert!(what.contains(&self.liar.id.short()), "{what} names who sent it");
        assert!(source.to_string().contains(why), "{source}");
        let catalogue = self.victim.store.catalogue();
        assert!(!catalogue.has_manifest(commit)? && catalogue.bundle(commit)?.is_none());
        assert!(catalogue.commits_of(&tiny())?.is_empty());
        Ok(())
    }

    fn digest(&self) -> Result<FileDigest> {
        let manifest = self.liar.store.catalogue().manifest(self.commit)?.context("it was added")?;
        Ok(manifest.entry(&"data/w.bin".parse()?).context("it has it")?.digest())
    }
}

fn commit_of(root: &[u8]) -> Result<Vec<u8>> {
    Ok(write_commit(&NewCommit {
        tree: tree_id(root)?,
        parents: vec![],
        author_name: "evil".into(),
        author_mail: String::new(),
        time: START,
        message: "forged".into(),
    })?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_does_not_hash_is_refused() -> TestResult {
    let scene = Scene::new().await?;
    for place in 0..scene.bundle()?.trees.len() {
        let mut bundle = scene.bundle()?;
        *bundle.trees[place].last_mut().context("a tree has bytes")? ^= 1;
        scene.forge(scene.commit, &bundle)?;
        scene.is_refused(scene.commit, "is named, but is not in the bundle").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_with_another_sha256_is_refused() -> TestResult {
    let scene = Scene::new().await?;
    let mut bundle = scene.bundle()?;
    let pointer = bundle.blobs.iter_mut().find(|b| b.starts_with(b"version ")).context("it has a pointer")?;
    let text = String::from_utf8(pointer.clone())?;
    let (before, after) = text.split_once("sha256:").context("it names a sha256")?;
    *pointer = format!("{before}sha256:{}{}", "ab".repeat(32), &after[64..]).into_bytes();
    scene.forge(scene.commit, &bundle)?;
    scene.is_refused(scene.commit, "neither its content nor its size").await
}

/// The sha256 is right, the BLAKE3 root is another file's, and that file's bytes are there to go with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_link_for_a_right_sha256_shows_nothing() -> TestResult {
    let scene = Scene::new().await?;
    // The one who added it is honest here; somebody else has nothing but the commit's objects, and lies.
    let (digest, liar) = (scene.digest()?, scene.swarm.node()?);
    liar.mirror.manifest(&Caller::anyone(), Some(&tiny()), scene.commit).await?;
    scene.swarm.cut(&scene.liar);
    let path = scene.swarm.folder("lie", &[("x", &noise(66, WEIGHTS))])?.join("x");
    let lie = liar.store.blobs().import(&path, ImportMode::Copy, DigestKind::Sha256, &|_| {})?;
    liar.store.blobs().share(&lie.hash)?;
    let link = Link { digest, hash: lie.hash, size: WEIGHTS as u64, trust: LinkTrust::Proven };
    liar.store.catalogue().put_link(&link)?;
    let table = hubless_proof::LinkTable::new(vec![(digest, lie.hash, WEIGHTS as u64)])?;
    liar.store.catalogue().put_link_table(scene.commit, &table.encode())?;

    let read = scene.victim.read(scene.commit, "data/w.bin", 0).await.map(|bytes| bytes.len());
    let error = read.expect_err("there is only a lie");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert!(scene.victim.store.catalogue().link(&digest)?.is_none_or(|l| l.trust == LinkTrust::Claimed));
    assert!(scene.victim.store.blobs().open(&lie.hash)?.is_none(), "its bytes were dropped");
    Ok(())
}

/// The link is right, the bytes are not: they are refused at the wrong one, and an honest node's are taken.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_under_a_right_link_are_refused() -> TestResult {
    let scene = Scene::new().await?;
    let honest = scene.swarm.node()?;
    honest.pull_commit(scene.commit).await?;
    scene.victim.mirror.manifest(&Caller::anyone(), Some(&tiny()), scene.commit).await?;
    scene.swarm.net.set_faults(honest.id, Faults { unreachable: true, ..Faults::default() });
    let wrong = Faults { wrong_byte_at: Some(5_000_000), ..Faults::default() };
    scene.swarm.net.set_faults(scene.liar.id, wrong);
    let reading = scene.victim.read(scene.commit, "data/w.bin", 0);
    let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
    assert!(!matches!(read, Ok(Ok(_))), "nobody has the right bytes");
    let digest = scene.digest()?;
    assert!(scene.victim.store.catalogue().link(&digest)?.is_none_or(|l| l.trust < LinkTrust::Proven));

    scene.swarm.net.set_faults(honest.id, Faults::default());
    eventually("the honest node's bytes are taken", async || {
        scene.victim.read(scene.commit, "data/w.bin", 0).await.is_ok_and(|read| read == scene.weights)
    })
    .await
}

/// Seven small trees that name ten million files: given up on at the limit, not at the end.
#[tokio::test(flavor = "multi_thread")]
async fn ten_million_entries_are_refused_in_time() -> TestResult {
    let scene = Scene::new().await?;
    let content = b"x".to_vec();
    let (mut id, mut mode) = (*blob_id(&content)?.as_bytes(), FILE);
    let mut bundle = Bundle { blobs: vec![content], ..Bundle::default() };
    for _ in 0..7 {
        let entry = |n: u8| TreeEntry { mode, name: vec![b'a' + n], id };
        let tree = write_tree((0..10).map(entry).collect())?;
        (id, mode) = (*tree_id(&tree)?.as_bytes(), FOLDER);
        bundle.trees.push(tree);
    }
    bundle.commit = commit_of(bundle.trees.last().context("it has trees")?)?;
    let commit = commit_id(&bundle.commit)?;
    scene.forge(commit, &bundle)?;
    let started = Instant::now();
    scene.is_refused(commit, "over the limit").await?;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_collide_on_a_case_blind_disk_are_refused() -> TestResult {
    let scene = Scene::new().await?;
    let content = b"x".to_vec();
    let file = TreeEntry { mode: FILE, name: b"w.bin".to_vec(), id: *blob_id(&content)?.as_bytes() };
    let folder = write_tree(vec![file])?;
    let id = *tree_id(&folder)?.as_bytes();
    let entry = |name: &[u8]| TreeEntry { mode: FOLDER, name: name.to_vec(), id };
    let root = write_tree(vec![entry(b"Data"), entry(b"data")])?;
    let commit = commit_of(&root)?;
    let id = commit_id(&commit)?;
    let bundle = Bundle { commit, trees: vec![root, folder], blobs: vec![content], sizes: vec![] };
    scene.forge(id, &bundle)?;
    scene.is_refused(id, "does not tell case").await
}

/// A pointer that git-lfs reads and would not write so, as long as one that it writes: the blob that the commit names is
/// given, not one that says the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_is_given_as_it_stands_in_the_commit() -> TestResult {
    let scene = Scene::new().await?;
    let sha256 = "ab".repeat(32);
    let odd = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize +12345");
    for text in [odd.clone(), odd.replace("+12345", "12345\n")] {
        let content = text.into_bytes();
        let entry = TreeEntry { mode: FILE, name: b"w.bin".to_vec(), id: *blob_id(&content)?.as_bytes() };
        let root = write_tree(vec![entry])?;
        let commit = commit_of(&root)?;
        let id = commit_id(&commit)?;
        let blobs = vec![content.clone()];
        scene.forge(id, &Bundle { commit, trees: vec![root], blobs, sizes: vec![] })?;
        let manifest = scene.victim.mirror.manifest(&Caller::anyone(), Some(&tiny()), id).await?;
        let entry = manifest.entry(&"w.bin".parse()?).context("it is there")?;
        assert_eq!(entry.size, 12_345);
        assert_eq!(scene.victim.mirror.pointer(&tiny(), id, entry)?, Some(content));
    }
    Ok(())
}

/// What a lookup gives where a hundred thousand providers were made up for every key: the true one is the fortieth.
struct Flooded {
    network: MemoryDiscovery,
    honest: Provider,
    /// How many were taken off the stream.
    read: Arc<AtomicUsize>,
}

/// Places of a lookup before the true provider.
const BEFORE: usize = 40;

fn nowhere(n: usize) -> Provider {
    let mut id = [0xee; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let [.., high, middle, low] = n.to_be_bytes();
    let addrs = vec![SocketAddr::from(([9, high, middle, low], 4001))];
    Provider { node: NodeId::from_bytes(id), addrs, source: ProviderSource::Dht }
}

#[async_trait]
impl Discovery for Flooded {
    async fn announce(&self, keys: &[DhtKey], lifetime: Lifetime) -> Result<Told, DiscoveryError> {
        self.network.announce(keys, lifetime).await
    }
    async fn withdraw(&self, keys: &[DhtKey]) -> Result<(), DiscoveryError> {
        self.network.withdraw(keys).await
    }
    async fn trace(&self, key: &DhtKey) -> Result<Trace, DiscoveryError> {
        self.network.trace(key).await
    }
    fn find(&self, _key: &DhtKey) -> BoxStream<'static, Provider> {
        let all = (0..BEFORE).map(nowhere).chain([self.honest.clone()]).chain((BEFORE..100_000).map(nowhere));
        let read = self.read.clone();
        stream::iter(all).inspect(move |_| _ = read.fetch_add(1, Ordering::Relaxed)).boxed()
    }
    fn peers(&self) -> Vec<Provider> {
        Vec::new()
    }
    fn is_on_link(&self, _addr: &SocketAddr) -> bool {
        false
    }
    fn status(&self) -> DiscoveryStatus {
        self.network.status()
    }
    async fn shutdown(&self) {
        self.network.shutdown().await;
    }
}

const ASKER: [u8; 32] = [99; 32];

/// A node that knows nothing yet and finds providers by `discovery`.
fn asker(swarm: &Swarm, discovery: Arc<dyn Discovery>) -> Result<Node> {
    let (key, clock) = (NodeKey::from_bytes(ASKER), swarm.clock.clone());
    let id = key.id();
    let store = Store::open(&swarm.dir.path().join("asker"), id, clock.clone())?;
    let mirror = Mirror::start(MirrorParts {
        store: store.clone(),
        key: key.clone(),
        clock,
        config: MirrorConfig { lookup_timeout: Duration::from_secs(2), ..MirrorConfig::default() },
        discovery,
        peers: swarm.net.join(id, store.clone()),
        origins: Vec::new(),
        limits: Limits::default(),
    });
    Ok(Node { mirror, store, key, id })
}

/// A lookup gives a hundred thousand false providers: no more are taken off it in a round than are asked, the true one
/// among the first 64 is asked, and the file is here within seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_of_a_hundred_thousand_false_providers_costs_a_bounded_number_of_dials() -> TestResult {
    const MOST: usize = 64;
    // One round for the commit, one for links, and two or three for the file.
    const ROUNDS: usize = 8;
    let Scene { swarm, liar: honest, commit, weights, .. } = Scene::new().await?;
    let (id, read) = (NodeKey::from_bytes(ASKER).id(), Arc::new(AtomicUsize::new(0)));
    let at = SocketAddr::from(([127, 0, 0, 1], 4001));
    let discovery = Flooded {
        network: swarm.discovery.node(id, at),
        honest: Provider { node: honest.id, addrs: vec![at], source: ProviderSource::Dht },
        read: read.clone(),
    };
    let asker = asker(&swarm, Arc::new(discovery))?;
    let begun = Instant::now();
    asker.pull_commit(commit).await?;
    assert_eq!(asker.read(commit, "data/w.bin", 0).await?, weights);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let dials: Vec<_> = swarm.net.dials().into_iter().filter(|dial| dial.from == id).collect();
    let who: BTreeSet<NodeId> = dials.iter().map(|dial| dial.to).collect();
    let read = read.load(Ordering::Relaxed);
    println!("{} dials of {} nodes, {read} providers read", dials.len(), who.len());
    assert!(who.contains(&honest.id) && who.len() <= MOST, "{}", who.len());
    // Each node is asked for a few things; whoever is not reached is tried again, at growing pauses.
    assert!(dials.len() <= 16 * MOST && read <= ROUNDS * (MOST + 1), "{} dials, {read} read", dials.len());
    Ok(())
}

/// Twenty thousand providers announce one key to one keeper. It keeps no more of them than it keeps of any key; the
/// true one that comes when half of them have, from five subnets, gets its place, and keeps it when the other half come
/// from all over the internet.
#[test]
fn a_flood_of_false_records_of_a_key_neither_fills_the_keeper_nor_hides_who_announces_amid_it() -> TestResult
{
    // Each is looked at on disk: five times as many take half a minute.
    const FLOOD: usize = 20_000;
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(START));
    let store = Store::open(dir.path(), NodeKey::from_bytes([1; 32]).id(), clock)?;
    let (keeper, key) = (store.catalogue(), DhtKey::Commit(CommitId::from_bytes([7; 20])).to_bytes());
    // A thousand come each second, and each record lasts two days from when it came.
    let row = |provider: NodeId, at: [u8; 4], n: usize| DhtRow {
        provider,
        addrs: vec![SocketAddr::from((at, 4001))],
        expires: START.plus(172_800 + n as u64 / 1_000),
        own: false,
    };
    let honest = NodeKey::from_bytes([2; 32]).id();
    for n in 0..FLOOD {
        if n == FLOOD / 2 {
            let verdict = keeper.dht_add(&key, row(honest, [81, 2, 3, 4], n))?;
            assert!(verdict.is_kept(), "{verdict:?}");
        }
        let [.., high, middle, low] = n.to_be_bytes();
        let at = if n < FLOOD / 2 { [80, 1, low % 5, middle] } else { [9, high, middle, low] };
        keeper.dht_add(&key, row(nowhere(n).node, at, n))?;
    }
    let kept = keeper.dht_providers(&key, START)?;
    assert!(kept.len() <= MAX_RECORDS_PER_KEY && keeper.dht_count()? == kept.len() as u64, "{}", kept.len());
    assert!(kept.iter().any(|row| row.provider == honest), "the true one is gone");
    Ok(())
}

/// Three hundred records of a commit, and as many of its file, name nodes that are nowhere, many of them before the true
/// one. No more than 64 nodes are asked for a thing, and the one who has it is among them.
#[tokio::test(flavor = "multi_thread")]
async fn false_records_cost_a_bounded_number_of_dials() -> TestResult {
    const MOST: usize = 64;
    let Scene { swarm, liar: honest, victim, commit, weights } = Scene::new().await?;
    let manifest = honest.mirror.manifest(&Caller::anyone(), None, commit).await?;
    let digest = manifest.entry(&"data/w.bin".parse()?).context("it has it")?.digest();
    let FileDigest::Sha256(shard) = digest else { anyhow::bail!("it is no shard") };
    let keys = [DhtKey::Commit(commit), DhtKey::Shard(shard)];
    eventually("the true ones are there", async || {
        keys.iter().all(|key| swarm.discovery.announced(&honest.id, key).is_some())
    })
    .await?;
    // The latest records come first, and there are so many before and after the true ones that these are just reached.
    let true_ones = swarm.discovery.node(honest.id, SocketAddr::from(([127, 0, 0, 1], 4001)));
    true_ones.withdraw(&keys).await?;
    for n in 0..600u16 {
        if n == 70 {
            true_ones.announce(&keys, Lifetime::Whole).await?;
        }
        let mut id = [0xee; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        let [high, low] = n.to_be_bytes();
        let liar = swarm.discovery.node(NodeId::from_bytes(id), SocketAddr::from(([9, 9, high, low], 4001)));
        liar.announce(&keys[usize::from(n % 2)..][..1], Lifetime::Whole).await?;
        liar.shutdown().await;
    }
    // Whoever is connected would be asked first.
    swarm.discovery.cut(honest.id);
    swarm.discovery.cut(victim.id);

    let id = NodeKey::from_bytes(ASKER).id();
    let discovery = swarm.discovery.node(id, SocketAddr::from(([127, 0, 0, 99], 4001)));
    let asker = asker(&swarm, Arc::new(discovery))?;
    let begun = Instant::now();
    asker.pull_commit(commit).await?;
    assert_eq!(asker.read(commit, "data/w.bin", 0).await?, weights);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let mut tried: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for dial in swarm.net.dials().into_iter().filter(|dial| dial.from == id) {
        tried.entry(dial.what).or_default().push(dial.to);
    }
    assert!(tried["manifest"].contains(&honest.id) && tried["segment"].iter().all(|node| *node == honest.id));
    for (what, nodes) in tried.iter().filter(|(what, _)| **what != "segment") {
        let who: BTreeSet<&NodeId> = nodes.iter().collect();
        // Whoever is not reached is tried again, at growing pauses.
        assert!(who.len() <= MOST && nodes.len() <= 4 * MOST, "{what}: {} of {}", nodes.len(), who.len());
    }
    Ok(())
}
