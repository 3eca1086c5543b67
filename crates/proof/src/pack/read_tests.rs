//! Packs that git made, packs that nobody should send, and any bytes at all.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

const LIMITS: PackLimits =
    PackLimits { bytes: 1 << 20, objects: 1000, inflated: 1 << 20, depth: 50, keep_blob: 1 << 20 };

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The head of an entry, with a length that may be a lie.
fn head(kind: u8, mut size: u64) -> Vec<u8> {
    let mut out = vec![kind << 4 | (size & 0x0f) as u8];
    size >>= 4;
    while size > 0 {
        *out.last_mut().unwrap() |= 0x80;
        out.push((size & 0x7f) as u8);
        size >>= 7;
    }
    out
}

fn whole(kind: u8, content: &[u8]) -> Vec<u8> {
    [head(kind, content.len() as u64), zlib(content)].concat()
}

fn delta_from(id: [u8; 20], delta: &[u8]) -> Vec<u8> {
    [head(7, delta.len() as u64), id.to_vec(), zlib(delta)].concat()
}

fn delta_before(distance: u8, delta: &[u8]) -> Vec<u8> {
    [head(6, delta.len() as u64), vec![distance], zlib(delta)].concat()
}

fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = [b"PACK\0\0\0\x02".as_slice(), &(entries.len() as u32).to_be_bytes()].concat();
    out.extend(entries.concat());
    let sum = Sha1::try_digest(&out).hash().to_vec();
    [out, sum].concat()
}

fn read(pack: &[u8]) -> Result<Vec<PackObject>, ProofError> {
    read_pack(pack, &LIMITS)
}

#[test]
fn whole_objects_and_deltas_come_out_by_their_ids() {
    let base = object_id("blob", b"hello\n").unwrap();
    // "hello\n" and then the piece "!"; and from that, twice its first three bytes.
    let longer = delta_before(whole(3, b"hello\n").len() as u8, &[6, 7, 0x90, 6, 1, b'!']);
    let twice = delta_from(object_id("blob", b"hello\n!").unwrap(), &[7, 6, 0x90, 3, 0x90, 3]);
    let objects = read(&pack(&[whole(3, b"hello\n"), longer, twice])).unwrap();
    let contents: Vec<_> = objects.iter().map(|o| o.content.clone().unwrap()).collect();
    assert_eq!(contents, [b"hello\n".to_vec(), b"hello\n!".to_vec(), b"helhel".to_vec()]);
    assert!(objects.iter().all(|o| o.kind == ObjectKind::Blob) && objects[0].id == base);
}

#[test]
fn what_a_delta_needs_may_come_after_it() {
    let base = object_id("tree", b"").unwrap();
    let objects = read(&pack(&[delta_from(base, &[0, 1, 1, b'x']), whole(2, b"")])).unwrap();
    assert_eq!((objects.len(), objects[1].kind, objects[1].size), (2, ObjectKind::Tree, 1));
}

#[test]
fn large_blobs_are_measured_and_dropped() {
    let limits = PackLimits { keep_blob: 3, ..LIMITS };
    let objects =
        read_pack(&pack(&[whole(3, b"abc"), whole(3, b"abcd"), whole(1, b"long")]), &limits).unwrap();
    let kept: Vec<_> = objects.iter().map(|o| (o.size, o.content.is_some())).collect();
    assert_eq!(kept, [(3, true), (4, false), (4, true)]);
}

#[test]
fn packs_that_nobody_should_send_are_refused() {
    let good = pack(&[whole(3, b"abc")]);
    let mut flipped = good.clone();
    flipped[14] ^= 1;
    for (bad, why) in [
        (vec![], "nothing"),
        (good[..good.len() - 1].to_vec(), "a cut"),
        (flipped, "a changed byte"),
        ([&good[..], b"x"].concat(), "a tail"),
        (pack(&[[head(3, 4), zlib(b"abc")].concat()]), "an object shorter than it says"),
        (pack(&[[head(3, 2), zlib(b"abc")].concat()]), "an object longer than it says"),
        (pack(&[head(3, 3)]), "an object without content"),
        (pack(&[[head(0, 3), zlib(b"abc")].concat()]), "no kind"),
        (pack(&[[head(5, 3), zlib(b"abc")].concat()]), "a reserved kind"),
        (pack(&[delta_from([1; 20], &[0, 0])]), "a base that is elsewhere"),
        (pack(&[delta_before(0, &[0, 0])]), "a delta of itself"),
        (pack(&[whole(3, b"abc"), delta_before(5, &[3, 0])]), "a base that begins nowhere"),
        (
            pack(&[vec![0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]]),
            "an endless length",
        ),
        (b"PACK\0\0\0\x04\0\0\0\0".iter().copied().chain([0; 20]).collect(), "a version of its own"),
    ] {
        assert!(matches!(read(&bad), Err(ProofError::Malformed { .. })), "{why}: {:?}", read(&bad));
    }
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = vec![0; 2 << 20];
    let bomb = pack(&[whole(3, &zeros)]);
    assert!(bomb.len() < 4096);
    assert!(matches!(read(&bomb), Err(ProofError::TooLarge { .. })));
    // A delta whose copies multiply its base.
    let base = whole(3, &zeros[..0x1_0000]);
    let copies = [vec![0x80, 0x80, 4, 0x80, 0x80, 0x80, 1], vec![0x80; 32]].concat();
    let delta = delta_before(u8::try_from(base.len()).unwrap() & 0x7f, &copies);
    assert!(matches!(read(&pack(&[base, delta])), Err(ProofError::TooLarge { .. })));
    // A promise of many objects takes no memory.
    let promise = [b"PACK\0\0\0\x02\x00\x00\x03\xe8".as_slice(), &[0; 20]].concat();
    assert!(matches!(read(&promise), Err(ProofError::Malformed { .. })));
    let promise = [b"PACK\0\0\0\x02\xff\xff\xff\xff".as_slice(), &[0; 20]].concat();
    assert!(matches!(read(&promise), Err(ProofError::TooLarge { .. })));
}

#[test]
fn a_chain_is_followed_as_deep_as_it_may_be() {
    let mut entries = vec![whole(3, b"0")];
    for i in 0..60_u8 {
        let distance = entries.last().unwrap().len() as u8;
        entries.push(delta_before(distance, &[1, 1, 1, i]));
        let ok = read(&pack(&entries)).is_ok();
        assert_eq!(ok, i < 50, "{i}");
    }
}

#[test]
fn the_first_object_tells_its_length_early() {
    let pack = pack(&[whole(3, &[7; 5000])]);
    assert_eq!(peek_object(&pack[..11]), Ok(None));
    assert_eq!(peek_object(&pack[..14]), Ok(None));
    let (kind, size, at) = peek_object(&pack[..20]).unwrap().unwrap();
    assert_eq!((kind, size, at), (ObjectKind::Blob, 5000, 15));
    assert!(peek_object(b"PACK\0\0\0\x02\0\0\0\0").is_err());
    assert!(peek_object(b"<!doctype html>").is_err());
}

/// What `git pack-objects` writes of a repository with a history, deltas of both forms included.
#[test]
fn what_git_packs_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str], input: &[u8]| {
        let mut child = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "git {args:?}");
        out.stdout
    };
    git(&["init", "-q", "-b", "main", "."], b"");
    for i in 0..20 {
        let lines: Vec<String> =
            (0..300).map(|n| format!("line {n} of version {}", if n % 20 == i { i } else { 0 })).collect();
        std::fs::write(folder.path().join("text"), lines.join("\n")).unwrap();
        std::fs::write(folder.path().join(format!("file-{i}")), [i as u8; 40]).unwrap();
        git(&["add", "-A"], b"");
        git(&["commit", "-qm", "more"], b"");
    }
    let expected: std::collections::BTreeSet<String> =
        String::from_utf8(git(&["rev-list", "--objects", "--all", "--no-object-names"], b""))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
    for form in ["--delta-base-offset", "--no-reuse-delta"] {
        let pack = git(&["pack-objects", "--all", "--stdout", "-q", form], b"");
        let found: std::collections::BTreeSet<String> =
            read(&pack).unwrap().iter().map(|o| o.id.iter().map(|b| format!("{b:02x}")).collect()).collect();
        assert_eq!(found, expected, "{form}");
    }
}

proptest! {
    #[test]
    fn objects_read_as_they_were_packed(
        contents in prop::collection::vec((1..5_u8, prop::collection::vec(any::<u8>(), 0..300)), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let entries: Vec<_> = contents.iter().map(|(kind, content)| whole(*kind, content)).collect();
        let bytes = pack(&entries);
        let back: Vec<_> = read(&bytes).unwrap().into_iter().map(|o| o.content.unwrap()).collect();
        prop_assert_eq!(back, contents.into_iter().map(|c| c.1).collect::<Vec<_>>());
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn no_bytes_panic(
        entries in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..30), prop::collection::vec(any::<u8>(), 0..30)), 0..5),
        junk in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let entries: Vec<_> = entries.into_iter().map(|(head, data)| [head, zlib(&data)].concat()).collect();
        let _ = read(&pack(&entries));
        let _ = read(&junk);
        let _ = peek_object(&[b"PACK\0\0\0\x02\0\0\0\x01", &junk[..]].concat());
    }
}
