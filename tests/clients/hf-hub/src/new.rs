//! The programs over hf-hub 1.0.

use std::path::Path;

use hf_hub::{HFClientSync, HFError};

use crate::{Done, check, files};

pub(crate) fn run(operation: &str, fixture: &Path) -> Done {
    let client = HFClientSync::new()?;
    match operation {
        "look" => look(&client, fixture),
        "file" => file(&client, fixture),
        "whole" => whole(&client, fixture, "tiny"),
        "resume" => whole(&client, fixture, "big"),
        "ranges" => ranges(&client, fixture),
        "refusals" => refusals(&client),
        _ => Err(format!("no operation {operation}").into()),
    }
}

fn look(client: &HFClientSync, fixture: &Path) -> Done {
    let repo = client.model("acme", "tiny");
    let info = repo.info().send()?;
    check(info.sha.is_some_and(|sha| sha.len() == 40), "there is no commit")?;
    let tree = repo.list_tree().recursive(true).send()?;
    check(tree.len() >= files(&fixture.join("acme/tiny"))?.len(), "the tree has fewer files")?;
    let some = repo.get_paths_info().paths(vec!["config.json".into(), "absent".into()]).send()?;
    check(some.len() == 1, "paths-info")?;
    check(repo.file_exists().filename("config.json").send()?, "config.json is there")?;
    check(!repo.file_exists().filename("absent.json").send()?, "absent.json is not")?;
    check(repo.revision_exists().revision("main").send()?, "main is there")?;
    check(!repo.list_commits().send()?.is_empty(), "there is no history")?;
    check(!repo.list_refs().send()?.branches.is_empty(), "there is no branch")?;
    let found = client.list_models().search("tin").send()?;
    check(found.iter().any(|model| model.id == "acme/tiny"), "the search does not find it")
}

fn file(client: &HFClientSync, fixture: &Path) -> Done {
    let repo = client.model("acme", "tiny");
    for (path, bytes) in files(&fixture.join("acme/tiny"))? {
        check(std::fs::read(repo.download_file().filename(path.clone()).send()?)? == bytes, &path)?;
    }
    Ok(())
}

fn whole(client: &HFClientSync, fixture: &Path, name: &str) -> Done {
    let folder = client.model("acme", name).snapshot_download().send()?;
    check(files(&folder)? == files(&fixture.join("acme").join(name))?, "the files are others")
}

fn ranges(client: &HFClientSync, fixture: &Path) -> Done {
    let weights = std::fs::read(fixture.join("acme/tiny/model.safetensors"))?;
    let repo = client.model("acme", "tiny");
    for range in [0..10, 1_000_000..1_000_123, weights.len() as u64 - 7..weights.len() as u64] {
        let part = repo.download_file_to_bytes().filename("model.safetensors").range(range.clone()).send()?;
        check(part == weights[range.start as usize..range.end as usize], "a range has other bytes")?;
    }
    Ok(())
}

fn refusals(client: &HFClientSync) -> Done {
    let repo = client.model("acme", "tiny");
    let absent = repo.download_file().filename("absent.json").send();
    check(matches!(absent, Err(HFError::EntryNotFound { .. })), "an absent file is told as something else")?;
    // It takes any 404 of a download for an absent file, so the revision is asked for by itself.
    check(!repo.revision_exists().revision("absent").send()?, "an absent revision exists")?;
    let revision = repo.download_file().filename("config.json").revision("absent").send();
    check(revision.is_err(), "a file of an absent revision was got")?;
    let other = client.model("acme", "absent").info().send();
    check(matches!(other, Err(HFError::RepoNotFound { .. } | HFError::AuthRequired { .. })), "an absent repository is told as something else")
}
