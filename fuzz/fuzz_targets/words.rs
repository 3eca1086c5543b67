//! What a stranger may say of crowds, drafts and their parts: the questions 8 to 10 of `hubless/1`, and their answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hubless_transfer::strangers_words(bytes));
