//! The programs over hf-hub 0.5.

use std::path::Path;

use hf_hub_05::api::sync::{Api, ApiBuilder};
use hf_hub_05::{Repo, RepoType};

use crate::{Done, check, files};

pub(crate) fn run(operation: &str, fixture: &Path) -> Done {
    let api = ApiBuilder::from_env().with_progress(false).build()?;
    match operation {
        "look" => look(&api, fixture),
        "file" => file(&api, fixture, "acme/tiny"),
        "resume" => file(&api, fixture, "acme/big"),
        "refusals" => refusals(&api),
        _ => Err(format!("no operation {operation}").into()),
    }
}

fn look(api: &Api, fixture: &Path) -> Done {
    let info = api.model("acme/tiny".into()).info()?;
    let names: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
    check(names == files(&fixture.join("acme/tiny"))?.into_keys().collect::<Vec<_>>(), "the files are others")?;
    let rows = api.repo(Repo::with_revision("acme/rows".into(), RepoType::Dataset, "main".into())).info()?;
    check(info.sha.len() == 40 && rows.sha.len() == 40, "there is no commit")
}

fn file(api: &Api, fixture: &Path, name: &str) -> Done {
    let repo = api.model(name.into());
    for (path, bytes) in files(&fixture.join(name))? {
        // It escapes nothing in a path, so odd names are not for it.
        if path.contains(['%', ' ']) {
            continue;
        }
        check(std::fs::read(repo.get(&path)?)? == bytes, &path)?;
    }
    Ok(())
}

fn refusals(api: &Api) -> Done {
    let repo = api.model("acme/tiny".into());
    check(repo.get("absent.json").is_err(), "an absent file was got")?;
    check(repo.get("config.json").is_ok(), "a file was not got after a refusal")?;
    check(api.model("acme/absent".into()).info().is_err(), "an absent repository has info")
}
