//! Those whom a crowd names: who is near of them, and that they are asked.

use super::*;
use crate::fetch::OnLink;

/// A source of a file, one who has nearly all of it and asks the source for the rest, and this node, which hears of that one from
/// the source.
struct Scene {
    net: MemoryNet,
    source: Node,
    neighbour: Node,
    me: Node,
    bytes: Vec<u8>,
    file: Imported,
    _most: PartialBlob,
}

impl Scene {
    async fn new(size: u64, source_rate: u64) -> Result<Self> {
        let net = MemoryNet::new();
        let (source, neighbour, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
        let bytes = random_bytes(size);
        let file = source.add(&bytes)?;
        let groups = file.size.div_ceil(GROUP_BYTES);
        let _most = neighbour.take(&file, &source, 0..groups - 64).await?;
        net.set_faults(source.id, rate(source_rate));
        Ok(Self { net, source, neighbour, me, bytes, file, _most })
    }

    /// Has the neighbour ask for the rest.
    async fn rest(&self) -> Result<FetchHandle> {
        Ok(self.neighbour.fetch(&self.file, &[&self.source]).await?)
    }

    /// Waits until this node has the file.
    async fn arrives(&self, handle: FetchHandle) -> Result<()> {
        timeout(LIMIT, handle.wait_done()).await??;
        assert_eq!(self.me.read(&self.file)?, self.bytes);
        Ok(())
    }
}

/// At an address on a link of this node's own the neighbour counts as near: what it has is left to it, and the far source sends
/// little.
#[tokio::test(start_paused = true)]
async fn a_neighbour_that_a_crowd_names_is_preferred_to_the_far_source_that_named_it() -> Result<()> {
    let mut sent = Vec::new();
    for near in [true, false] {
        let scene = Scene::new(12 * MIB, 2 * MIB).await?;
        let Scene { net, source, neighbour, me, file, .. } = &scene;
        net.set_faults(neighbour.id, rate(2 * MIB));
        // Whom a crowd names in the network in memory is met on this machine.
        let on_link = OnLink::by(move |addr| near && addr.ip().is_loopback());
        let fetcher = Fetcher::new(me.store.clone(), me.client.clone(), FetchConfig { on_link, ..config(3) });

        let _rest = scene.rest().await?;
        let handle = fetcher.fetch(want(file), stream::iter([source.provider()]).boxed()).await?;
        scene.arrives(handle).await?;
        sent.push(net.sent(source.id, me.id));
    }
    println!("the far source sent {} and {} bytes", sent[0], sent[1]);
    assert!(sent[0] < 3 * MIB && sent[1] > 4 * MIB, "{sent:?}");
    Ok(())
}

/// As many as may be asked were named and are not there, but for the source, which is slow. The neighbour is asked as soon as it
/// is told of, and most of the file comes from there.
#[tokio::test(start_paused = true)]
async fn who_a_crowd_names_is_asked_though_all_others_are_dead() -> Result<()> {
    let scene = Scene::new(24 * MIB, MIB / 2).await?;
    let Scene { net, source, neighbour, me, file, .. } = &scene;
    let dead = (100..163_u8).map(|n| NodeId::from_bytes([n; 32]));
    let dead = dead.map(|node| Provider { node, addrs: Vec::new(), source: ProviderSource::Dht });
    let named: Vec<Provider> = dead.chain([source.provider()]).collect();

    let handle = me.fetcher.fetch(want(file), stream::iter(named).boxed()).await?;
    // By then the others are known to be dead for a while.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let _rest = scene.rest().await?;
    scene.arrives(handle).await?;
    let sent = net.sent(neighbour.id, me.id);
    assert!(sent > 8 * MIB, "{sent}");
    Ok(())
}
