//! Ours and git's objects are the same: what we write git takes, under the same ids; what git writes we read
//! as git lists it. The real `git` is run a few times a case, always with a batch.

mod support;

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use hubless_proof::{
    Bundle, NewCommit, Pointer, TreeEntry, blob_id, parse_commit, parse_tree, tree_id, write_commit,
    write_tree,
};
use hubless_types::{BlobId, CommitId, FileEntry, FileMode, Manifest};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use support::{Case, Folders, Git, Kind, Listing, cases};

/// Each case runs git three to six times.
const CASES: u32 = 24;

fn run(test: impl Fn(&Git, Case) -> Result<()>) -> Result<Git> {
    let git = Git::init()?;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    runner
        .run(&cases(), |case| test(&git, case).map_err(|e| TestCaseError::fail(format!("{e:#}"))))
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(git)
}

fn listing(manifest: &Manifest) -> Listing {
    let mode = |mode| match mode {
        FileMode::Regular => "100644",
        FileMode::Executable => "100755",
        FileMode::Symlink => "120000",
    };
    let row = |e: &FileEntry| {
        let blob_size = e.lfs.map_or(e.size, |lfs| lfs.pointer_size);
        (e.path.to_string(), (mode(e.mode).to_owned(), e.blob, blob_size))
    };
    manifest.entries().iter().map(row).collect()
}

fn folders(manifest: &Manifest) -> Folders {
    manifest.folders().iter().map(|(path, id)| (path.to_string(), id.to_string())).collect()
}

/// What we build, git stores under the same ids, lists alike, and finds nothing wrong with.
#[test]
fn git_takes_what_we_write() -> Result<()> {
    let git = run(|git, case| {
        let (commit, bundle, manifest) = Bundle::build(case.new_files()?, case.meta(vec![]))?;
        let large = case.files.iter().filter(|f| f.content.len() > 1024).map(|f| &f.content);
        let blobs: Vec<Vec<u8>> = bundle.blobs.iter().chain(large).cloned().collect();
        let ids =
            |objects: &[Vec<u8>], id: fn(&[u8]) -> String| objects.iter().map(|o| id(o)).collect::<Vec<_>>();
        assert_eq!(git.hash_objects("blob", &blobs)?, ids(&blobs, |o| blob_id(o).unwrap().to_string()));
        assert_eq!(
            git.hash_objects("tree", &bundle.trees)?,
            ids(&bundle.trees, |o| tree_id(o).unwrap().to_string())
        );
        assert_eq!(git.hash_objects("commit", &[bundle.commit])?, [commit.to_string()]);

        let (files, trees) = git.ls_tree(&commit.to_string())?;
        assert_eq!((listing(&manifest), folders(&manifest)), (files, trees));
        let title = git.text(&["log", "-1", "--format=%an <%ae>|%ct|%s", &commit.to_string()])?;
        let info = manifest.info();
        assert_eq!(title.trim_end_matches('\n'), format!("{}|{}|{}", info.author, info.time.0, info.title()));
        git.text(&["update-ref", &format!("refs/heads/{commit}"), &commit.to_string()])?;
        Ok(())
    })?;
    // One pass over all that the cases left behind; git would name every badly written object.
    git.text(&["fsck", "--strict", "--no-dangling"])?;
    Ok(())
}

/// What git writes, we prove from its raw objects, and find what git lists.
#[test]
fn we_take_what_git_writes() -> Result<()> {
    run(|git, case| {
        let commit: CommitId = git.fast_import(&case)?.parse()?;
        let objects = git.all_objects()?;
        let bundle = bundle_of(commit, &objects)?;
        let manifest = Bundle::decode(&bundle.encode())?.check(commit)?;
        let (files, trees) = git.ls_tree(&commit.to_string())?;
        assert_eq!((listing(&manifest), folders(&manifest)), (files, trees));

        // And we write the very bytes that git wrote.
        for tree in &bundle.trees {
            assert_eq!(&write_tree(parse_tree(tree)?)?, tree);
        }
        let info = manifest.info();
        let meta = case.meta(info.parents.clone());
        let ours = write_commit(&NewCommit {
            tree: info.tree,
            parents: meta.parents,
            author_name: meta.author_name,
            author_mail: meta.author_mail,
            time: meta.time,
            message: meta.message,
        })?;
        assert_eq!(String::from_utf8(ours), String::from_utf8(bundle.commit));
        for file in case.files.iter().filter(|f| f.kind == Kind::Lfs) {
            let entry = manifest.entry(&file.path).unwrap();
            let pointer = Pointer::parse(&file.content).unwrap();
            assert_eq!((entry.lfs.unwrap().sha256, entry.size), (pointer.sha256, pointer.size));
        }
        Ok(())
    })?;
    Ok(())
}

/// Gathers a commit's bundle from raw objects, as an origin would.
fn bundle_of(commit: CommitId, objects: &HashMap<String, Vec<u8>>) -> Result<Bundle> {
    let mut bundle = Bundle { commit: objects[&commit.to_string()].clone(), ..Bundle::default() };
    let mut todo = vec![parse_commit(&bundle.commit)?.tree.to_string()];
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let tree = objects[&id].clone();
        for TreeEntry { mode, id, .. } in parse_tree(&tree)? {
            let id = BlobId::from_bytes(id);
            match mode {
                0o040_000 => todo.push(id.to_string()),
                0o160_000 => {}
                _ if !seen.insert(id.to_string()) => {}
                _ => match &objects[&id.to_string()] {
                    small if small.len() <= 1024 => bundle.blobs.push(small.clone()),
                    large => bundle.sizes.push((id, large.len() as u64)),
                },
            }
        }
        bundle.trees.push(tree);
    }
    Ok(bundle)
}

/// `git mktree` sorts and hashes any entries as we do.
#[test]
fn trees_are_sorted_as_git_sorts_them() -> Result<()> {
    let name = prop::collection::vec(
        prop_oneof![Just(b'a'), Just(b'-'), Just(b'.'), Just(b'0'), 1..=255_u8]
            .prop_filter("", |b| *b != b'/'),
        1..5,
    );
    let modes = prop::sample::select(vec![0o100_644, 0o100_755, 0o120_000, 0o040_000, 0o160_000]);
    let trees = prop::collection::vec(
        prop::collection::hash_map(name, (modes, any::<[u8; 20]>()), 1..12),
        CASES as usize,
    );
    let git = Git::init()?;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(2) });
    let compared = runner.run(&trees, |trees| {
        let trees: Vec<Vec<TreeEntry>> = trees
            .into_iter()
            .map(|t| t.into_iter().map(|(name, (mode, id))| TreeEntry { mode, name, id }).collect())
            .map(|mut t: Vec<TreeEntry>| {
                t.retain(|e| !matches!(&e.name[..], b"." | b".."));
                t
            })
            .collect();
        let theirs = git.mktree(&trees).unwrap();
        let ours: Vec<_> =
            trees.into_iter().map(|t| tree_id(&write_tree(t).unwrap()).unwrap().to_string()).collect();
        prop_assert_eq!(ours, theirs);
        Ok(())
    });
    compared.map_err(|e| anyhow::anyhow!("{e}"))
}

/// A commit without files, as `git commit --allow-empty` makes it, and ours on top of it.
#[test]
fn an_empty_repository_has_a_commit_too() -> Result<()> {
    let git = Git::init()?;
    git.text(&["commit", "--quiet", "--allow-empty", "-m", "nothing yet"])?;
    let commit: CommitId = git.text(&["rev-parse", "HEAD"])?.trim().parse()?;
    // Git knows the empty tree without storing it.
    let mut objects = git.all_objects()?;
    objects.insert(tree_id(b"")?.to_string(), vec![]);
    let manifest = bundle_of(commit, &objects)?.check(commit)?;
    assert_eq!((manifest.entries().len(), manifest.info().title()), (0, "nothing yet"));
    assert_eq!(manifest.info().parents, []);

    let (child, bundle, _) = Bundle::build(vec![], Case::default().meta(vec![commit]))?;
    assert_eq!(git.hash_objects("commit", &[bundle.commit])?, [child.to_string()]);
    assert_eq!(git.text(&["rev-list", &child.to_string()])?, format!("{child}\n{commit}\n"));
    assert_eq!(git.ls_tree(&child.to_string())?.0.len(), 0);
    Ok(())
}

/// A message is cleaned as `git stripspace`, and so `git commit`, cleans it.
#[test]
fn messages_are_cleaned_as_git_cleans_them() -> Result<()> {
    let git = Git::init()?;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    let compared = runner.run(&"([ab\\x0b\\r\\t é]{0,3}\n){0,8}[a ]{0,2}", |message| {
        let tree = tree_id(b"").unwrap();
        let meta = Case::default().meta(vec![]);
        let (author_name, author_mail, time) = (meta.author_name, meta.author_mail, meta.time);
        let theirs = git.strip_space(&message).unwrap();
        let new = NewCommit { tree, parents: vec![], author_name, author_mail, time, message };
        prop_assert_eq!(parse_commit(&write_commit(&new).unwrap()).unwrap().message, theirs);
        Ok(())
    });
    compared.map_err(|e| anyhow::anyhow!("{e}"))
}
