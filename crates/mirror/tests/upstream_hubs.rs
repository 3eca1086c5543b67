//! Several hubs, one of which is in trouble.

mod common;

use std::time::{Duration, Instant};

use common::*;
use hubless_origin::{OriginConfig, OriginKind};
use hubless_testkit::{Hub, HubFaults, Refusal, Scope};

/// Two hubs with the same repository, the first of which is busy, fails, or is gone once its name and commit were told: a
/// large file comes from the second at once, and is not waited for at the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_origin_is_not_waited_for_while_another_has_the_file() -> TestResult {
    let large = noise(2, 9 * MIB);
    let busy = || Refusal::page(429).with("Retry-After", "60");
    for refusal in [Some(busy()), Some(Refusal::page(500)), None] {
        let (swarm, first, second) = (Swarm::new()?, Hub::start().await?, Hub::start().await?);
        let files: [(&str, &[u8]); 1] = [("w.safetensors", &large)];
        let mut commits = Vec::new();
        for hub in [&first, &second] {
            hub.create(&tiny()).await?;
            commits.push(hub.push(&tiny(), "main", &files).await?);
        }
        let (commit, what) = (commits[0], format!("{refusal:?}"));
        assert_eq!(commits[1], commit, "the same files are the same commit");
        let origin = |hub: &Hub| hubless_origin::build(&OriginConfig::new(&hub.url(), OriginKind::Hub)?);
        let node = swarm.node_below(vec![origin(&first)?, origin(&second)?], |_| {})?;
        node.mirror.manifest(&Caller::anyone(), Some(&tiny()), commit).await?;
        match refusal {
            Some(_) => {
                first.set_faults(HubFaults { on: Scope::All, refuse: refusal, ..HubFaults::default() })
            }
            None => first.stop().await,
        }
        let began = Instant::now();
        assert_eq!(node.read(commit, "w.safetensors", 0).await?, large, "{what}");
        assert!(began.elapsed() < Duration::from_secs(7), "{what}: {:?}", began.elapsed());
    }
    Ok(())
}
