//! The programs of the client matrix for the hf-hub crates: `hf-hub-client CRATE OPERATION FIXTURE`, CRATE being 1.0 or 0.5.

mod new;
mod old;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

/// What everything here returns.
type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Fails with `what` unless `holds`.
fn check(holds: bool, what: &str) -> Done {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// The files of a folder, by path.
fn files(folder: &Path) -> Done<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_string_lossy().into_owned(), std::fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

fn main() -> Done {
    let [version, operation, fixture] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("give CRATE OPERATION FIXTURE".into());
    };
    let fixture = PathBuf::from(fixture);
    match &version[..] {
        "1.0" => new::run(operation, &fixture)?,
        "0.5" => old::run(operation, &fixture)?,
        _ => return Err(format!("no version {version}").into()),
    }
    println!("ok");
    Ok(())
}
