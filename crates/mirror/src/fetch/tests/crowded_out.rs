//! Those who are told of though others that are not there were named first.

use super::*;

/// As many as may be asked were named and are not there, but for one that is slow. Another that fetches the same from it is
/// told of, and most of the file comes from there.
#[tokio::test(start_paused = true)]
async fn who_a_crowd_names_is_asked_though_all_others_are_dead() -> Result<()> {
    let net = MemoryNet::new();
    let (source, neighbour, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
    let bytes = random_bytes(24 * MIB);
    let file = source.add(&bytes)?;
    let groups = file.size.div_ceil(GROUP_BYTES);
    let _most = neighbour.take(&file, &source, 0..groups - 64).await?;
    net.set_faults(source.id, rate(MIB / 2));
    let dead = (100..163_u8).map(|n| NodeId::from_bytes([n; 32]));
    let dead = dead.map(|node| Provider { node, addrs: Vec::new(), source: ProviderSource::Dht });
    let named: Vec<Provider> = dead.chain([source.provider()]).collect();

    let handle = me.fetcher.fetch(want(&file), stream::iter(named).boxed()).await?;
    // It begins when the others were known to be dead for a while.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let _rest = neighbour.fetch(&file, &[&source]).await?;
    timeout(LIMIT, handle.wait_done()).await??;

    assert_eq!(me.read(&file)?, bytes);
    let sent = net.sent(neighbour.id, me.id);
    assert!(sent > 8 * MIB, "{sent}");
    Ok(())
}
