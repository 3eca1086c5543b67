//! LFS pointers: the small text that stands in git for a large file.

use hubless_types::{POINTER_MAX_BYTES, Sha256};

/// What an LFS pointer says of the file that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// The SHA-256 of the file.
    pub sha256: Sha256,
    /// Its length in bytes, at most `i64::MAX`.
    pub size: u64,
}

/// The versions that git-lfs takes: public, pre-release and alpha.
const VERSIONS: [&str; 3] =
    ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"];
/// The keys that a pointer must have, in this order.
const KEYS: [&str; 3] = ["version", "oid", "size"];

impl Pointer {
    /// Reads a blob as a pointer; `None` if git-lfs would take it for a plain file.
    ///
    /// As tolerant as git-lfs: white space around it, blank lines, `\r\n`, the older versions, and the
    /// `ext-N-name` lines of extensions. Any other key, or the three keys in another order, make a plain file.
    /// Stricter in one thing: the digest must be 64 lower-case hexadecimal digits.
    pub fn parse(blob: &[u8]) -> Option<Self> {
        // git-lfs's own bound is exclusive.
        if blob.len() as u64 >= POINTER_MAX_BYTES {
            return None;
        }
        let text = std::str::from_utf8(blob).ok()?.trim();
        let mut values = [""; KEYS.len()];
        let mut found = 0;
        let mut extensions = [None; 10];
        for line in text.lines().filter(|l| !l.is_empty()) {
            let (key, value) = line.split_once(' ')?;
            match KEYS.get(found)? {
                expected if *expected == key => {
                    values[found] = value;
                    found += 1;
                }
                _ => read_extension(&mut extensions, key, value)?,
            }
        }
        let [version, oid, size] = values;
        let known = found == KEYS.len() && VERSIONS.contains(&version);
        let size = size.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok())?;
        known.then_some(Self { sha256: read_oid(oid)?, size })
    }

    /// The pointer as git-lfs writes it.
    pub fn canonical(&self) -> Vec<u8> {
        format!("version {}\noid sha256:{}\nsize {}\n", VERSIONS[0], self.sha256, self.size).into_bytes()
    }
}

fn read_oid(value: &str) -> Option<Sha256> {
    value.strip_prefix("sha256:")?.parse().ok()
}

/// Takes `ext-N-name sha256:…`; two extensions of one priority are refused, as git-lfs does.
fn read_extension<'a>(seen: &mut [Option<&'a str>; 10], key: &'a str, value: &str) -> Option<()> {
    let (digit, name) = key.strip_prefix("ext-")?.split_once('-')?;
    let [digit @ b'0'..=b'9'] = digit.as_bytes() else { return None };
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let slot = &mut seen[usize::from(digit - b'0')];
    let fits = slot.is_none_or(|other| other == name) && read_oid(value).is_some();
    *slot = Some(name);
    fits.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn parse(text: &str) -> Option<u64> {
        Pointer::parse(text.replace("OID", OID).as_bytes()).map(|p| p.size)
    }

    #[test]
    fn what_git_lfs_reads_is_a_pointer() {
        for good in [
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize 12345\n",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize 12345",
            "version https://git-lfs.github.com/spec/v1\r\noid sha256:OID\r\nsize 12345\r\n",
            "\n\nversion https://git-lfs.github.com/spec/v1\n\noid sha256:OID\nsize 12345\n\n",
            "version https://hawser.github.com/spec/v1\noid sha256:OID\nsize 12345\n",
            "version http://git-media.io/v/2\noid sha256:OID\nsize 12345\n",
            "version https://git-lfs.github.com/spec/v1\next-0-foo sha256:OID\next-1-bar sha256:OID\noid sha256:OID\nsize 12345\n",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize +12345\n",
        ] {
            assert_eq!(parse(good), Some(12345), "{good}");
        }
    }

    #[test]
    fn anything_else_is_a_plain_file() {
        for bad in [
            "",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\n",
            "oid sha256:OID\nsize 1\nversion https://git-lfs.github.com/spec/v1\n",
            "version https://git-lfs.github.com/spec/v2\noid sha256:OID\nsize 1\n",
            "version https://git-lfs.github.com/spec/v1\noid sha1:OID\nsize 1\n",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID0\nsize 1\n",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize -1\n",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize 9223372036854775808\n",
            "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize 1\nmore 2\n",
            "version https://git-lfs.github.com/spec/v1\nkey value\noid sha256:OID\nsize 1\n",
            "version https://git-lfs.github.com/spec/v1\next-0-a sha256:OID\next-0-b sha256:OID\noid sha256:OID\nsize 1\n",
            "version https://git-lfs.github.com/spec/v1\next-10-a sha256:OID\noid sha256:OID\nsize 1\n",
            "version  https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize 1\n",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let padded =
            |n| format!("{:<n$}", "version https://git-lfs.github.com/spec/v1\noid sha256:OID\nsize 7\n");
        assert_eq!(parse(&padded(1023 - OID.len() + 3)), Some(7));
        assert_eq!(parse(&padded(1024 - OID.len() + 3)), None);
        assert_eq!(Pointer::parse(b"version https://git-lfs.github.com/spec/v1\xff"), None);
    }

    proptest! {
        #[test]
        fn a_pointer_reads_as_it_is_written(sha256: [u8; 32], size in 0..=i64::MAX as u64) {
            let pointer = Pointer { sha256: Sha256::from_bytes(sha256), size };
            prop_assert_eq!(Pointer::parse(&pointer.canonical()), Some(pointer));
        }

        #[test]
        fn no_text_panics(lines in prop::collection::vec("(version|oid|size|ext-[0-9]-.?|) ?(sha256:[0-9a-f]{64}|.{0,20})", 0..8)) {
            let _ = Pointer::parse(lines.join("\n").as_bytes());
        }
    }
}
