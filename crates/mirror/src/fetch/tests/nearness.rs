//! Who is near, of those whom a crowd names.

use super::*;
use crate::fetch::OnLink;

/// One who has nearly all of a file asks a source for the rest, and so does this node, which hears of it there. At an
/// address on a link of this node's own it counts as near: what it has is left to it, and the far source sends little.
#[tokio::test(start_paused = true)]
async fn a_neighbour_that_a_crowd_names_is_preferred_to_the_far_source_that_named_it() -> Result<()> {
    let mut sent = Vec::new();
    for near in [true, false] {
        let net = MemoryNet::new();
        let (source, neighbour, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?, Node::new(&net, 3)?);
        let bytes = random_bytes(12 * MIB);
        let file = source.add(&bytes)?;
        let groups = file.size.div_ceil(GROUP_BYTES);
        let _most = neighbour.take(&file, &source, 0..groups - 64).await?;
        net.set_faults(source.id, rate(2 * MIB));
        net.set_faults(neighbour.id, rate(2 * MIB));
        // Whom a crowd names in the network in memory is met on this machine.
        let on_link = OnLink::by(move |addr| near && addr.ip().is_loopback());
        let fetcher = Fetcher::new(me.store.clone(), me.client.clone(), FetchConfig { on_link, ..config(3) });

        let _rest = neighbour.fetch(&file, &[&source]).await?;
        let handle = fetcher.fetch(want(&file), stream::iter([source.provider()]).boxed()).await?;
        timeout(LIMIT, handle.wait_done()).await??;

        assert_eq!(me.read(&file)?, bytes);
        sent.push(net.sent(source.id, me.id));
    }
    println!("the far source sent {} and {} bytes", sent[0], sent[1]);
    assert!(sent[0] < 3 * MIB && sent[1] > 4 * MIB, "{sent:?}");
    Ok(())
}
