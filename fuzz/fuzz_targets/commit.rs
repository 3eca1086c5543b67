//! A commit object from a stranger.
#![no_main]

use hubless_proof::parse_commit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_commit(bytes);
});
