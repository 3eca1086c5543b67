//! An LFS pointer from a stranger: what is read is kept by its canonical form.
#![no_main]

use hubless_proof::Pointer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(pointer) = Pointer::parse(bytes) {
        assert_eq!(Pointer::parse(&pointer.canonical()), Some(pointer));
    }
});
