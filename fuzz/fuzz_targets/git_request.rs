//! What a git client sends: never a panic, whatever it is.
#![no_main]

use hubless_proof::GitRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = GitRequest::parse(bytes);
});
