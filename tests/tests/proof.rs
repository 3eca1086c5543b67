//! A proof that one machine writes and another checks, with nothing but the file.

use anyhow::{Context as _, ensure};
use hubless_tests::{Home, StoryResult, Tree, exit};

/// Exit code of what the disk refuses.
const DISK: i32 = 7;

/// The chain is shown, exported and checked where there is no node and no data; a changed byte is found.
#[tokio::test]
async fn a_proof_travels_alone() -> StoryResult {
    let [home, elsewhere] = [Home::new()?, Home::new()?];
    let node = home.start().await?;
    let tree = Tree::model(1)?;
    let commit = home.add(tree.path(), "acme/tiny").await?;

    let shown = home.done_object(&["prove", "acme/tiny@main", "model.safetensors"]).await?;
    ensure!(shown["commit"] == commit.as_str() && shown["statements"][0]["signer"] == node.id.as_str());
    ensure!(shown["vouchers"][0] == node.id.as_str(), "the links are signed: {shown}");
    ensure!(shown["file"]["blake3"].as_str().is_some_and(|root| root.len() == 64), "{shown}");

    let file = home.beside("tiny.proof");
    let path = file.display().to_string();
    home.done_object(&["prove", "acme/tiny", "--export", &path]).await?;
    let again = home.run(&["prove", "acme/tiny", "--export", &path]).await?;
    ensure!(again.code == DISK, "it overwrites nothing: {again:?}");
    node.stop().await?;

    let checked = elsewhere.done_object(&["prove", "--check", &path]).await?;
    ensure!(checked["commit"] == commit.as_str() && checked["signed"] == true, "{checked}");
    ensure!(!elsewhere.data().exists(), "checking needs no data folder");
    let other = elsewhere.run(&["prove", "--check", &path, "acme/other"]).await?;
    ensure!(other.code == exit::INTEGRITY, "{other:?}");

    let honest = std::fs::read(&file)?;
    // What was signed of one name is nobody's word for another.
    let mut renamed = honest.clone();
    let name = renamed.windows(4).position(|name| name == b"main").context("it names the branch")?;
    renamed[name..name + 4].copy_from_slice(b"next");
    let other_name = elsewhere.beside("renamed.proof");
    std::fs::write(&other_name, renamed)?;
    let checked = elsewhere.done_object(&["prove", "--check", &other_name.display().to_string()]).await?;
    ensure!(checked["revision"] == "next" && checked["signed"] == false, "{checked}");
    for at in [honest.len() / 3, honest.len() / 2, honest.len() - 1] {
        let mut changed = honest.clone();
        *changed.get_mut(at).context("it has bytes")? ^= 1;
        let forged = elsewhere.beside("forged.proof");
        std::fs::write(&forged, changed)?;
        let refused = elsewhere.run(&["prove", "--check", &forged.display().to_string()]).await?;
        // A link that was changed loses its signers; everything else proves nothing.
        let unsigned = refused.code == 0 && refused.out.contains("\"vouchers\":[]");
        ensure!(refused.code == exit::INTEGRITY || unsigned, "byte {at}: {refused:?}");
    }
    Ok(())
}

/// Who says what of a name is shown, on the running node and without it.
#[tokio::test]
async fn names_are_shown_with_who_says_them() -> StoryResult {
    let home = Home::new()?;
    let node = home.start().await?;
    let tree = Tree::model(1)?;
    let commit = home.add(tree.path(), "acme/tiny").await?;
    let names = home.done_object(&["names", "acme/tiny"]).await?;
    let main = &names["names"][0];
    ensure!(main["revision"] == "main" && main["resolved"]["commit"] == commit.as_str(), "{names}");
    ensure!(main["by"] == format!("publisher {}", node.id), "{names}");
    ensure!(main["said"][0]["role"] == "here", "{names}");

    let info = hubless_tests::get(&format!("{}/api/models/acme/tiny", node.http)).await?;
    let by = info.header("x-hubless-resolved-by");
    ensure!(by == format!("publisher {}", node.id), "{by}");
    let none = home.run(&["names", "acme/none"]).await?;
    ensure!(none.code == exit::NOT_FOUND, "{none:?}");
    node.stop().await?;
    let offline = home.done_object(&["names", "acme/tiny"]).await?;
    ensure!(offline["names"][0]["resolved"]["commit"] == commit.as_str(), "{offline}");
    Ok(())
}
