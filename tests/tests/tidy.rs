//! The arrows between crates, each library in its place, and the form of every source file.
//!
//! ARCHITECTURE.md's table: who may use whom. A new arrow is a decision: make it here, and say why there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Longest source file, in lines.
const MAX_LINES: usize = 600;

const TYPES: &str = "hubless-types";
const PROOF: &str = "hubless-proof";
const LIMITS: &str = "hubless-limits";
const STORE: &str = "hubless-store";
const ORIGIN: &str = "hubless-origin";
const PLAN: &str = "hubless-plan";
const DISCOVERY: &str = "hubless-discovery";
const TRANSFER: &str = "hubless-transfer";
const MIRROR: &str = "hubless-mirror";
const GATEWAY: &str = "hubless-gateway";
const TESTKIT: &str = "hubless-testkit";
const NODE: &str = "hubless";
const TESTS: &str = "hubless-tests";

/// Who may use whom.
const ARROWS: &[(&str, &[&str])] = &[
    (TYPES, &[]),
    (PROOF, &[TYPES]),
    (LIMITS, &[TYPES]),
    (STORE, &[TYPES]),
    (ORIGIN, &[TYPES, PROOF, LIMITS]),
    (DISCOVERY, &[TYPES]),
    (PLAN, &[TYPES]),
    (TRANSFER, &[TYPES, STORE, LIMITS]),
    (MIRROR, &[TYPES, PROOF, LIMITS, STORE, ORIGIN, DISCOVERY, TRANSFER, PLAN]),
    (GATEWAY, &[TYPES, MIRROR]),
    (TESTKIT, &[TYPES, PROOF, LIMITS, STORE, ORIGIN, DISCOVERY, TRANSFER, MIRROR, GATEWAY]),
    (NODE, &[TYPES, PROOF, LIMITS, STORE, ORIGIN, DISCOVERY, TRANSFER, MIRROR, GATEWAY]),
    (TESTS, &[]),
];

/// Libraries that one crate alone uses, by the beginning of their names.
const OWNERS: &[(&str, &str)] = &[
    ("libp2p", DISCOVERY),
    ("iroh", TRANSFER),
    ("ring", TRANSFER),
    ("rocksdb", STORE),
    ("librocksdb", STORE),
    ("axum", GATEWAY),
    ("reqwest", ORIGIN),
    ("lz4_flex", ORIGIN),
    ("clap", NODE),
    ("indicatif", NODE),
];

fn metadata() -> Result<Metadata> {
    let manifest = hubless_tests::crate_folder().join("../Cargo.toml");
    Ok(MetadataCommand::new().manifest_path(manifest).no_deps().exec()?)
}

fn arrows_of(package: &Package, kinds: &[DependencyKind]) -> BTreeSet<String> {
    let wanted = package.dependencies.iter().filter(|d| kinds.contains(&d.kind));
    wanted.map(|d| d.name.clone()).filter(|name| name.starts_with("hubless")).collect()
}

/// Every arrow is one that DESIGN draws; tests alone may also use the testkit.
#[test]
fn crates_use_only_whom_they_may() -> Result<()> {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for package in &metadata()?.packages {
        let name = package.name.as_str();
        let may = allowed.get(name).with_context(|| format!("`{name}` is not in the table of arrows"))?;
        for arrow in arrows_of(package, &[DependencyKind::Normal, DependencyKind::Build]) {
            ensure!(may.contains(&arrow.as_str()), "`{name}` may not use `{arrow}`");
        }
        for arrow in arrows_of(package, &[DependencyKind::Development]) {
            let fits = may.contains(&arrow.as_str()) || arrow == TESTKIT;
            ensure!(fits, "the tests of `{name}` may not use `{arrow}`");
        }
    }
    Ok(())
}

/// libp2p, iroh, rocksdb and the others have one user each, also in tests.
#[test]
fn libraries_stay_in_their_crate() -> Result<()> {
    for package in &metadata()?.packages {
        for dependency in &package.dependencies {
            let owner = OWNERS.iter().find(|(library, _)| dependency.name.starts_with(library));
            if let Some((_, owner)) = owner {
                ensure!(
                    package.name == *owner,
                    "`{}` uses `{}`, which is `{owner}`'s",
                    package.name,
                    dependency.name
                );
            }
        }
    }
    Ok(())
}

/// Names of libraries do not leak through code either: `use iroh::…` stands only in its crate.
#[test]
fn no_source_names_anothers_library() -> Result<()> {
    let root = root();
    for file in sources(&root)? {
        let crate_of = folder_owner(&root, &file);
        for line in std::fs::read_to_string(&file)?.lines() {
            let Some(rest) = line.trim_start().strip_prefix("use ") else { continue };
            let library: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if let Some((_, owner)) = OWNERS.iter().find(|(name, _)| library.starts_with(name)) {
                ensure!(crate_of == Some(*owner), "{}: `{library}` is {owner}'s", file.display());
            }
        }
    }
    Ok(())
}

/// Every file says what it is for, and none grows beyond reading.
#[test]
fn every_source_file_begins_with_its_purpose_and_stays_short() -> Result<()> {
    for file in sources(&root())? {
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.starts_with("//! "), "{}: the first line must begin with `//! `", file.display());
        let lines = text.lines().count();
        ensure!(
            lines <= MAX_LINES,
            "{}: {lines} lines, at most {MAX_LINES} are read with pleasure",
            file.display()
        );
    }
    Ok(())
}

/// No crate hides from the table: every folder with a `Cargo.toml` is a member.
#[test]
fn every_crate_is_a_member() -> Result<()> {
    let members: BTreeSet<PathBuf> =
        metadata()?.packages.iter().map(|p| PathBuf::from(p.manifest_path.as_std_path())).collect();
    for entry in std::fs::read_dir(root().join("crates"))? {
        let manifest = entry?.path().join("Cargo.toml");
        ensure!(!manifest.exists() || members.contains(&manifest.canonicalize()?), "{}", manifest.display());
    }
    Ok(())
}

fn root() -> PathBuf {
    let root = hubless_tests::crate_folder().join("..");
    root.canonicalize().unwrap_or(root)
}

fn folder_owner(root: &Path, file: &Path) -> Option<&'static str> {
    let path = file.strip_prefix(root).ok()?;
    let mut parts = path.components().map(|part| part.as_os_str().to_str());
    let name = match parts.next()?? {
        "crates" => format!("hubless-{}", parts.next()??),
        "node" => NODE.to_owned(),
        _ => return None,
    };
    ARROWS.iter().map(|(name, _)| *name).find(|known| *known == name)
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "node", "tests"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    ensure!(files.len() > 50, "found only {} sources", files.len());
    Ok(files)
}
