//! What a stranger may send of the bulk path: offers, wishes, questions and sealed records. Nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hubless_transfer::strangers_bytes(bytes));
