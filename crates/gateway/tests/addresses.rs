//! Stories of addresses whose revision has slashes that nobody escaped, as `@huggingface/hub` sends them.

mod common;

use anyhow::Result;
use common::{Answer, TestResult, ask, endpoint};
use hubless_testkit::{MemoryOrigin, OriginFaults, Question, Swarm, SwarmNode};
use hubless_types::{CommitId, RepoId};

fn tiny() -> Result<RepoId> {
    Ok("acme/tiny".parse()?)
}

/// An origin with `main`, the branch `feature/slash` and the tag `v1/rc`; the commit of the branch.
fn origin(name: &str) -> Result<(MemoryOrigin, CommitId)> {
    let origin = MemoryOrigin::new(name);
    let main = origin.publish(&tiny()?, "main", &[("config.json", b"{}")])?;
    let branch = origin.publish(
        &tiny()?,
        "feature/slash",
        &[("onnx/model.onnx", b"onnx"), ("slash/onnx/other.txt", b"other")],
    )?;
    origin.point(&tiny()?, "refs/tags/v1/rc", main)?;
    Ok((origin, branch))
}

async fn get(node: &SwarmNode, path: &str) -> Result<Answer> {
    ask(&endpoint(node), "GET", path, &[], "").await
}

fn lists(origin: &MemoryOrigin) -> usize {
    origin.asked().iter().filter(|asked| asked.what == Question::Refs).count()
}

/// A node that never saw the repository finds out at the origin where the revision ends and the path begins.
#[tokio::test]
async fn a_branch_with_a_slash_is_told_from_the_path_behind_it() -> TestResult {
    for (path, holds) in [
        ("/api/models/acme/tiny/tree/feature/slash", "\"path\":\"slash\""),
        ("/api/models/acme/tiny/tree/feature/slash/onnx", "\"path\":\"onnx/model.onnx\""),
        ("/api/models/acme/tiny/tree/refs/heads/feature/slash/onnx", "\"path\":\"onnx/model.onnx\""),
        ("/api/models/acme/tiny/tree/feature%2Fslash/onnx", "\"path\":\"onnx/model.onnx\""),
        ("/acme/tiny/resolve/feature/slash/onnx/model.onnx", "onnx"),
        ("/acme/tiny/raw/feature/slash/slash/onnx/other.txt", "other"),
        ("/acme/tiny/resolve/v1/rc/config.json", "{}"),
    ] {
        let (swarm, (hub, branch)) = (Swarm::new()?, origin("https://hub.test")?);
        let node = swarm.node_below(vec![hub.origin()], |_| {})?;
        let answer = get(&node, path).await?;
        assert!(answer.status == 200 && answer.text().contains(holds), "{path}: {}", answer.text());
        let is_branch = answer.header("x-repo-commit") == branch.to_string();
        assert_eq!(is_branch, !path.contains("v1"), "{path}");
        assert!(lists(&hub) <= 1, "{path}: the list is asked for once");
    }
    Ok(())
}

/// Names that cannot go on behind their first segment, and names that are known, cost the origin no list.
#[tokio::test]
async fn the_usual_names_need_no_list() -> TestResult {
    let (swarm, (hub, branch)) = (Swarm::new()?, origin("https://hub.test")?);
    let node = swarm.node_below(vec![hub.origin()], |_| {})?;
    for path in [
        "/acme/tiny/resolve/main/some/where".to_owned(),
        format!("/acme/tiny/resolve/{branch}/some/where"),
        "/acme/tiny/resolve/absent/config.json".to_owned(),
        "/api/models/acme/tiny/tree/refs/pr/1/onnx".to_owned(),
        "/api/models/acme/tiny/tree/feature%2Fslash/onnx".to_owned(),
        // It is known by now.
        "/api/models/acme/tiny/tree/feature/slash/onnx".to_owned(),
    ] {
        get(&node, &path).await?;
        assert_eq!(lists(&hub), 0, "{path}");
    }
    Ok(())
}

/// Of several origins, the one that has the repository says where the revision ends.
#[tokio::test]
async fn the_origin_that_has_the_repository_lists_its_names() -> TestResult {
    let (swarm, (second, _)) = (Swarm::new()?, origin("https://second.test")?);
    let first = MemoryOrigin::new("https://first.test");
    let node = swarm.node_below(vec![first.origin(), second.origin()], |_| {})?;
    let answer = get(&node, "/acme/tiny/resolve/feature/slash/onnx/model.onnx").await?;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "onnx"));
    Ok(())
}

/// With the origin gone, nodes whose word counts say which names there are; strangers do not.
#[tokio::test]
async fn peers_know_where_a_branch_ends() -> TestResult {
    let (swarm, (hub, branch)) = (Swarm::new()?, origin("https://hub.test")?);
    let first = swarm.node_below(vec![hub.origin()], |_| {})?;
    let path = "/acme/tiny/resolve/feature/slash/onnx/model.onnx";
    assert_eq!(get(&first, path).await?.text(), "onnx");
    hub.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });

    let second = swarm.node_trusting(vec![first.id])?;
    let answer = get(&second, path).await?;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "onnx"));
    assert_eq!(answer.header("x-repo-commit"), branch.to_string());
    let stranger = swarm.node()?;
    assert_eq!(get(&stranger, path).await?.refusal().0, 404);
    Ok(())
}
