//! A plan of a file from a stranger: what is taken for one gives its range, or fails, and never goes round in circles.
#![no_main]

use hubless_origin::xet::{Plan, Rebuild, Step};
use libfuzzer_sys::fuzz_target;

/// Steps that no plan within its bounds takes.
const TOO_MANY: usize = 4_000_000;

fuzz_target!(|input: (u32, u16, &[u8])| {
    let (wanted, len, json) = input;
    let Ok(plan) = Plan::read(json, wanted.into()) else { return };
    let (mut rebuild, mut got) = (Rebuild::new(plan), 0);
    let chunk = vec![7; usize::from(len).max(1)];
    for step in 0.. {
        assert!(step < TOO_MANY);
        match rebuild.step() {
            Ok(Step::Give(bytes)) => got += bytes.len() as u64,
            Ok(Step::Fetch(_)) => {}
            Ok(Step::More) => {
                if rebuild.chunk(chunk.clone().into()).is_err() {
                    return;
                }
            }
            Ok(Step::Done) => break,
            Err(_) => return,
        }
    }
    assert_eq!(got, u64::from(wanted));
});
