//! What a stranger may say of crowds, drafts, their parts, and what is held: the questions 8 to 11 of `hubless/1`, and their answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hubless_transfer::strangers_words(bytes));
