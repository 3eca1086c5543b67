//! A proof file from a stranger: what decodes has one encoding, and its check ends.
#![no_main]

use hubless_proof::ProofFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = ProofFile::decode(bytes) {
        assert_eq!(file.encode(), bytes);
        let _ = file.check();
    }
});
