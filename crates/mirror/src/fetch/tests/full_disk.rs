//! A disk that fills up in the middle of a fetch.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_full_disk_ends_the_fetch_at_once_and_keeps_what_is_verified() -> Result<()> {
    let net = MemoryNet::new();
    let (seed, me) = (Node::new(&net, 1)?, Node::new(&net, 2)?);
    let bytes = random_bytes(16 * MIB);
    let file = seed.add(&bytes)?;
    net.set_faults(seed.id, rate(2 * MIB));
    net.set_faults(me.id, Faults { disk_full_after: Some(3), ..Faults::default() });
    let fetcher = Fetcher::new(me.store.clone(), me.client.clone(), config(2));
    let handle = fetcher.fetch(want(&file), stream::iter([seed.provider()]).boxed()).await?;
    let error = timeout(LIMIT, handle.wait_done()).await?.unwrap_err();
    let FetchError::Disk { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, StoreError::DiskFull { .. }));
    assert_eq!(fetcher.running(), 0);
    fetcher.shutdown().await;

    // With room again, only the rest is fetched.
    net.set_faults(me.id, Faults::default());
    let held = me.store.blobs().partial(file.hash, file.size)?.have().bytes(file.size);
    assert!(held > 0);
    let before = net.sent_by(seed.id);
    drop(me.fetch_whole(&file, &[&seed]).await?);
    assert!(net.sent_by(seed.id) - before < file.size - held + MIB / 2);
    assert_eq!(me.read(&file)?, bytes);
    Ok(())
}
