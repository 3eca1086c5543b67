//! A statement from a stranger, as it travels.
#![no_main]

use hubless_proof::verify_statement;
use hubless_types::Statement;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(statement) = postcard::from_bytes::<Statement>(bytes) {
        let _ = verify_statement(&statement);
    }
});
