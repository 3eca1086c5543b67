//! What a stranger asks about provider records, and what it answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(hubless_discovery::survives_a_round_trip(bytes));
});
