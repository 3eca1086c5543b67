//! A pack from a stranger: it costs what its limits allow, and every object is what its id says.
#![no_main]

use hubless_proof::{ObjectKind, PackLimits, blob_id, peek_object, read_pack};
use libfuzzer_sys::fuzz_target;
use sha1_checked::Sha1;

const LIMITS: PackLimits =
    PackLimits { bytes: 1 << 20, objects: 1000, inflated: 1 << 20, depth: 50, keep_blob: 1 << 10 };

fuzz_target!(|bytes: &[u8]| {
    let _ = peek_object(bytes);
    // With a checksum that is right, so that more than the first comparison is reached.
    let pack = [bytes, &Sha1::try_digest(bytes).hash()[..]].concat();
    for object in read_pack(&pack, &LIMITS).unwrap_or_default() {
        if let (ObjectKind::Blob, Some(content)) = (object.kind, &object.content) {
            assert_eq!(blob_id(content).map(|id| *id.as_bytes()), Ok(object.id));
        }
    }
});
