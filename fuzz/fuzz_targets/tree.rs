//! A tree object from a stranger: what is read can be written, and reads the same again.
#![no_main]

use hubless_proof::{parse_tree, write_tree};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = parse_tree(bytes)
        && let Ok(written) = write_tree(entries.clone())
    {
        assert_eq!(parse_tree(&written), Ok(entries));
    }
});
