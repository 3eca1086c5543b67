//! Stories of a node that has to fetch first.

mod common;

use std::time::Duration;

use common::{BIG, TestResult, ask, big_bytes, endpoint, model_folder};
use hubless_testkit::{Faults, Swarm};

const BIG_FILE: &str = "/acme/tiny/resolve/main/w.safetensors";

#[tokio::test]
async fn a_name_nobody_trusted_speaks_for_is_no_revision_but_its_commit_is() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node_trusting(vec![])?;
    let commit = publisher.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?.commit;
    let app = endpoint(&swarm.node_trusting(vec![])?);

    let by_name = ask(&app, "GET", "/acme/tiny/resolve/main/config.json", &[], "").await?;
    assert_eq!((by_name.refusal().0, by_name.refusal().1), (404, "RevisionNotFound"));
    assert!(
        by_name.header("x-error-message").contains(&publisher.id.to_string()),
        "it says who might be trusted"
    );

    let by_commit = ask(&app, "GET", &format!("/acme/tiny/resolve/{commit}/w.safetensors"), &[], "").await?;
    assert_eq!(by_commit.status, 200);
    assert!(by_commit.body == big_bytes());
    Ok(())
}

#[tokio::test]
async fn what_a_trusted_node_published_is_streamed() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node_trusting(vec![])?;
    publisher.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?;
    let app = endpoint(&swarm.node_trusting(vec![publisher.id])?);

    let part = ask(&app, "GET", BIG_FILE, &[("range", "bytes=5000000-5000009")], "").await?;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &big_bytes()[5_000_000..5_000_010]));
    let head = ask(&app, "HEAD", BIG_FILE, &[], "").await?;
    assert_eq!(head.header("content-length"), BIG.to_string());
    assert!(ask(&app, "GET", BIG_FILE, &[], "").await?.body == big_bytes());
    Ok(())
}

/// Nobody says when a repository that was learned from a peer was made: its commit's time stands for it, and where the
/// commit is not here nothing does. 1970 never.
#[tokio::test]
async fn a_listing_gives_no_made_up_times() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node_trusting(vec![])?;
    publisher.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?;
    let app = endpoint(&swarm.node_trusting(vec![publisher.id])?);
    for (known, path) in [(false, "/acme/tiny/resolve/absent/config.json"), (true, BIG_FILE)] {
        ask(&app, "HEAD", path, &[], "").await?;
        for query in ["", "?full=true", "?expand=createdAt&expand=lastModified"] {
            let list = ask(&app, "GET", &format!("/api/models{query}"), &[], "").await?.json()?;
            let repos = list.as_array().map(Vec::as_slice).unwrap_or_default();
            assert!(!known || repos.len() == 1, "{list}");
            for time in repos.iter().flat_map(|repo| [repo.get("createdAt"), repo.get("lastModified")]) {
                assert!(time.is_some() || !known, "{list}");
                assert!(time.is_none_or(|time| !time.to_string().contains("1970")), "{list}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_is_told_to_come_back_when_the_only_holder_stalls() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node_trusting(vec![])?;
    publisher.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?;
    let app = endpoint(&swarm.node_trusting(vec![publisher.id])?);
    assert_eq!(ask(&app, "HEAD", BIG_FILE, &[], "").await?.status, 200);

    swarm.set_faults(&publisher, Faults { stall_after: Some(0), ..Faults::default() });
    let began = tokio::time::Instant::now();
    let answer = ask(&app, "GET", BIG_FILE, &[], "").await?;
    assert!(began.elapsed() < Duration::from_secs(10), "clients wait no longer");
    assert!(matches!(answer.status.as_u16(), 429 | 503), "{answer:?}");
    assert!(!answer.header("retry-after").is_empty() && !answer.header("x-error-code").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_body_that_cannot_be_completed_is_cut() -> TestResult {
    let swarm = Swarm::new()?;
    let publisher = swarm.node_trusting(vec![])?;
    publisher.publish(&"acme/tiny".parse()?, model_folder(&swarm)?).await?;
    let app = endpoint(&swarm.node_trusting(vec![publisher.id])?);
    assert_eq!(ask(&app, "HEAD", BIG_FILE, &[], "").await?.status, 200);

    swarm.set_faults(&publisher, Faults { cut_after: Some(BIG as u64 / 2), ..Faults::default() });
    match ask(&app, "GET", BIG_FILE, &[], "").await {
        Ok(answer) => assert!(answer.status.as_u16() >= 400, "never a short 200"),
        Err(cut) => assert!(!cut.to_string().is_empty()),
    }
    Ok(())
}
