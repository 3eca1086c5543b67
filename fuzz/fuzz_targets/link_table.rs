//! A link table from a stranger: what decodes has one encoding, and so one id.
#![no_main]

use hubless_proof::LinkTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(table) = LinkTable::decode(bytes) {
        assert_eq!(table.encode(), bytes);
    }
});
