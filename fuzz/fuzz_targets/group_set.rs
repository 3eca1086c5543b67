//! A set of groups from a stranger: what decodes encodes to as much or less, and decodes to the same set.
#![no_main]

use hubless_types::GroupSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(set) = GroupSet::decode(bytes) {
        let encoded = set.encode();
        assert!(encoded.len() <= bytes.len());
        assert_eq!(GroupSet::decode(&encoded), Ok(set));
    }
});
