//! What a git server that is a stranger answers.
#![no_main]

use hubless_proof::{FetchAnswer, GitServer, parse_ls_refs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_ls_refs(bytes);
    let _ = GitServer::parse(bytes);
    let (mut answer, mut pack) = (FetchAnswer::default(), Vec::new());
    for piece in bytes.chunks(11) {
        if answer.push(piece, &mut pack).is_err() {
            break;
        }
    }
    assert!(pack.len() <= bytes.len());
});
