//! Names and addresses from a stranger: what parses prints as something that parses to the same, and a path
//! stays beneath its folder.
#![no_main]

use std::path::{Component, Path};

use hubless_types::{PeerAddr, RepoPath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(path) = text.parse::<RepoPath>() {
        assert_eq!(path.as_str(), text);
        let inside = path.under(Path::new("/safe"));
        assert!(inside.starts_with("/safe") && inside.components().all(|c| c != Component::ParentDir));
    }
    if let Ok(addr) = text.parse::<PeerAddr>() {
        assert_eq!(addr.to_string().parse::<PeerAddr>().as_ref(), Ok(&addr));
    }
});
