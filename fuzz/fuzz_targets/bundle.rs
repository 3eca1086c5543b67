//! A bundle from a stranger: what decodes has one encoding, and its check ends.
#![no_main]

use hubless_proof::{Bundle, commit_id};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::decode(bytes) {
        assert_eq!(bundle.encode(), bytes);
        // Asked for by its own id, so that more than the first comparison is reached.
        if let Ok(id) = commit_id(&bundle.commit) {
            let _ = bundle.check(id);
        }
    }
});
