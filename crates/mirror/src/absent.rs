//! Files that nobody had a moment ago: whoever asks again soon is told so at once, and not made to wait each time
//! for as long as a search takes.
//!
//! **Invariant:** at most [`MAX_ABSENT`] files, each for at most [`ABSENT_FOR`].
//! **Not here:** files that are here; those are shown without a look at this.

use std::collections::HashMap;
use std::time::Duration;

use hubless_types::FileDigest;
use tokio::time::Instant;

/// How long a file that nobody had is not looked for again for a reader.
const ABSENT_FOR: Duration = Duration::from_secs(5);
/// Files that are remembered; with more, those remembered so far are forgotten together.
const MAX_ABSENT: usize = 4096;

/// Files that nobody had a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Absent(HashMap<FileDigest, Instant>);

impl Absent {
    /// Nobody who was reached has the file.
    pub(crate) fn note(&mut self, digest: FileDigest, now: Instant) {
        if self.0.len() >= MAX_ABSENT {
            self.0.retain(|_, since| now.duration_since(*since) < ABSENT_FOR);
        }
        if self.0.len() >= MAX_ABSENT {
            self.0.clear();
        }
        self.0.insert(digest, now);
    }

    /// Whether it was looked for a moment ago, in vain.
    pub(crate) fn is_known(&self, digest: &FileDigest, now: Instant) -> bool {
        self.0.get(digest).is_some_and(|since| now.duration_since(*since) < ABSENT_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_types::Sha256;

    fn digest(n: u32) -> FileDigest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        FileDigest::Sha256(Sha256::from_bytes(bytes))
    }

    #[test]
    fn a_search_in_vain_is_remembered_for_a_moment_and_within_bounds() {
        let (mut absent, now) = (Absent::default(), Instant::now());
        absent.note(digest(1), now);
        assert!(absent.is_known(&digest(1), now) && !absent.is_known(&digest(2), now));
        assert!(!absent.is_known(&digest(1), now + ABSENT_FOR));
        for n in 0..3 * MAX_ABSENT as u32 {
            absent.note(digest(n), now);
            assert!(absent.0.len() <= MAX_ABSENT);
        }
    }
}
