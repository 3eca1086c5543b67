//! A closed lab: nodes that name each other share, and nobody else gets a byte.

use anyhow::ensure;
use hubless_tests::{Home, RunOptions, StoryResult, Tree, exit, same_files};

/// A stranger that knows a lab node's address and commit is refused; a member is not.
#[tokio::test]
async fn a_stranger_gets_nothing() -> StoryResult {
    let [home_a, home_b, home_s] = [Home::new()?, Home::new()?, Home::new()?];
    // Ids are made at the first start.
    let (a, b) = (home_a.start().await?, home_b.start().await?);
    let allow = format!("[swarm]\nnetwork = \"lab\"\nallow = [\"{}\", \"{}\"]\n", a.id, b.id);
    a.stop().await?;
    b.stop().await?;

    let closed = |home: &Home, options: RunOptions| options.config(&home.beside("lab.toml"), &allow);
    let a = home_a.start_with(closed(&home_a, RunOptions::default())?).await?;
    let tree = Tree::model(1)?;
    let commit = home_a.add(tree.path(), "acme/secret").await?;
    let b = home_b.start_with(closed(&home_b, RunOptions::knowing(&[&a]))?).await?;
    let arrived = home_b.beside("arrived");
    home_b.done(&["pull", &format!("acme/secret@{commit}"), "--to", &arrived.display().to_string()]).await?;
    same_files(tree.path(), &arrived)?;

    let joining =
        RunOptions::knowing(&[&a]).config(&home_s.beside("s.toml"), "[swarm]\nnetwork = \"lab\"\n")?;
    let stranger = home_s.start_with(joining).await?;
    let refused = home_s.run(&["pull", &format!("acme/secret@{commit}")]).await?;
    ensure!(matches!(refused.code, exit::NOT_FOUND | exit::UNAVAILABLE), "{refused:?}");
    for node in [a, b, stranger] {
        node.stop().await?;
    }
    Ok(())
}
