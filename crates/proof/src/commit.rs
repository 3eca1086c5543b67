//! Git's commit objects.

use std::str::FromStr;

use hubless_types::{CommitId, CommitInfo, Timestamp, TreeId};

use crate::ProofError;

/// Longest commit object that is taken, in bytes: its message is kept with the manifest.
pub const MAX_COMMIT_BYTES: usize = 1024 * 1024;
/// Latest time that a commit is written with; git refuses what overflows its signed times.
const MAX_TIME: u64 = i64::MAX as u64;

/// A commit to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// Its root folder.
    pub tree: TreeId,
    /// What it follows.
    pub parents: Vec<CommitId>,
    /// Author and committer.
    pub author_name: String,
    /// Their mail address; may be empty.
    pub author_mail: String,
    /// When, in UTC.
    pub time: Timestamp,
    /// The message; space at the ends of its lines, and blank lines around it, do not matter.
    pub message: String,
}

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git commit", why }
}

/// Reads a commit object's content (no header).
///
/// `tree`, `parent`…, `author` and `committer` must come first and in this order; signatures, encodings, merged
/// tags and other headers are passed over. Text that is not UTF-8 is read with replacement characters. A date
/// that git could not read either becomes 0.
///
/// # Errors
/// [`ProofError::Malformed`] if one of these is missing or cut; [`ProofError::TooLarge`] above
/// [`MAX_COMMIT_BYTES`].
pub fn parse_commit(content: &[u8]) -> Result<CommitInfo, ProofError> {
    check_len(content.len())?;
    let mut lines = Lines(content);
    let tree = lines.id("tree")?.ok_or_else(|| malformed("it names no tree"))?;
    let mut parents = Vec::new();
    while let Some(parent) = lines.id("parent")? {
        parents.push(parent);
    }
    let author = lines.field("author").ok_or_else(|| malformed("it names no author"))?;
    let committer = lines.field("committer").ok_or_else(|| malformed("it names no committer"))?;
    let (author, _) = split_ident(author);
    let (_, time) = split_ident(committer);
    let message = lines.message().ok_or_else(|| malformed("it has no end of headers"))?;
    let message = String::from_utf8_lossy(message).into_owned();
    Ok(CommitInfo { tree, parents, author, time, message })
}

fn check_len(len: usize) -> Result<(), ProofError> {
    if len > MAX_COMMIT_BYTES {
        let (size, limit) = (len as u64, MAX_COMMIT_BYTES as u64);
        return Err(ProofError::TooLarge { what: "a commit object, in bytes", size, limit });
    }
    Ok(())
}

/// What is left of a commit.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn line(&self) -> Option<(&'a [u8], &'a [u8])> {
        let end = self.0.iter().position(|b| *b == b'\n')?;
        Some((&self.0[..end], &self.0[end + 1..]))
    }

    /// The value of the next line, if the line begins with `key`.
    fn field(&mut self, key: &str) -> Option<&'a [u8]> {
        let (line, rest) = self.line()?;
        let value = line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")?;
        self.0 = rest;
        Some(value)
    }

    fn id<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, ProofError> {
        let read = |hex: &[u8]| std::str::from_utf8(hex).ok().and_then(|hex| hex.parse().ok());
        let value = self.field(key);
        value.map(|hex| read(hex).ok_or_else(|| malformed("an id is not 40 hexadecimal digits"))).transpose()
    }

    /// Passes over the other headers; `None` if no blank line ends them.
    fn message(&mut self) -> Option<&'a [u8]> {
        loop {
            let (line, rest) = self.line()?;
            self.0 = rest;
            if line.is_empty() {
                return Some(rest);
            }
        }
    }
}

/// Splits `Name <mail> 1700000000 +0100` after the mail.
fn split_ident(ident: &[u8]) -> (String, Timestamp) {
    let end = ident.iter().rposition(|b| *b == b'>').map_or(ident.len(), |i| i + 1);
    let (who, date) = ident.split_at(end);
    let seconds =
        std::str::from_utf8(date).ok().and_then(|d| d.split_ascii_whitespace().next()?.parse().ok());
    (String::from_utf8_lossy(who).into_owned(), Timestamp(seconds.unwrap_or(0)))
}

/// Writes a commit object's content (no header) as `git commit` would: of the message, space at the ends of
/// lines and superfluous blank lines are dropped, and one line feed ends it.
///
/// # Errors
/// [`ProofError::BadCommit`] if the name is empty, name or mail hold a control character, `<` or `>`, the
/// message holds a NUL, or the time overflows git's; [`ProofError::TooLarge`] above [`MAX_COMMIT_BYTES`].
pub fn write_commit(new: &NewCommit) -> Result<Vec<u8>, ProofError> {
    let name = clean_ident("author name", &new.author_name)?;
    let mail = clean_ident("author mail", &new.author_mail)?;
    if name.is_empty() {
        return Err(ProofError::BadCommit { field: "author name", why: "is empty" });
    }
    if new.message.contains('\0') {
        return Err(ProofError::BadCommit { field: "message", why: "holds a NUL" });
    }
    if new.time.0 > MAX_TIME {
        return Err(ProofError::BadCommit { field: "time", why: "is later than git can say" });
    }
    let ident = format!("{name} <{mail}> {} +0000", new.time.0);
    let mut out = format!("tree {}\n", new.tree);
    for parent in &new.parents {
        out.push_str(&format!("parent {parent}\n"));
    }
    out.push_str(&format!("author {ident}\ncommitter {ident}\n\n"));
    out.push_str(&clean_message(&new.message));
    check_len(out.len())?;
    Ok(out.into_bytes())
}

/// What `git stripspace` does: no space at the ends of lines, no blank lines around or two in a row.
fn clean_message(message: &str) -> String {
    let mut out = String::with_capacity(message.len() + 1);
    let mut gap = false;
    for line in message.split('\n').map(|line| line.trim_end_matches([' ', '\t', '\r'])) {
        if line.is_empty() {
            gap = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut gap) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn clean_ident<'a>(field: &'static str, text: &'a str) -> Result<&'a str, ProofError> {
    if text.chars().any(|c| c.is_control() || matches!(c, '<' | '>')) {
        return Err(ProofError::BadCommit { field, why: "holds a control character, `<` or `>`" });
    }
    Ok(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn new() -> NewCommit {
        NewCommit {
            tree: TREE.parse().unwrap(),
            parents: vec![],
            author_name: "Ada L.".into(),
            author_mail: "ada@example.org".into(),
            time: Timestamp(1_700_000_000),
            message: "\n\nFirst \n\n\t\n\nand more\r\n\n".into(),
        }
    }

    #[test]
    fn it_is_what_git_writes() {
        let written = String::from_utf8(write_commit(&new()).unwrap()).unwrap();
        let ident = "Ada L. <ada@example.org> 1700000000 +0000";
        assert_eq!(written, format!("tree {TREE}\nauthor {ident}\ncommitter {ident}\n\nFirst\n\nand more\n"));
    }

    #[test]
    fn names_cannot_forge_lines() {
        let bad: [fn(&mut NewCommit); 7] = [
            |c| c.author_name = "a\nparent x".into(),
            |c| c.author_name = "a <b".into(),
            |c| c.author_mail = "a>b".into(),
            |c| c.author_mail = "a\0".into(),
            |c| c.author_name = " ".into(),
            |c| c.message = "a\0b".into(),
            |c| c.time = Timestamp(u64::MAX),
        ];
        for (i, change) in bad.into_iter().enumerate() {
            let mut commit = new();
            change(&mut commit);
            assert!(matches!(write_commit(&commit), Err(ProofError::BadCommit { .. })), "{i}");
        }
    }

    #[test]
    fn signed_and_odd_commits_are_read() {
        let raw = [
            format!("tree {TREE}\nparent {TREE}\nparent {}\n", "1".repeat(40)).as_bytes(),
            b"author J\xfcrgen <j@x> 12 +0100\ncommitter Hub <> 34 -0700\nencoding ISO-8859-1\n",
            b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n tree of lies\n -----END PGP SIGNATURE-----\n",
            b"mergetag object 1\n type commit\n\nMerge\n\nauthor is not a header here\n",
        ]
        .concat();
        let info = parse_commit(&raw).unwrap();
        assert_eq!(
            (info.parents.len(), info.time, &info.author[..]),
            (2, Timestamp(34), "J\u{fffd}rgen <j@x>")
        );
        assert_eq!((info.title(), info.message.lines().count()), ("Merge", 3));
    }

    #[test]
    fn odd_dates_and_names_do_not_matter() {
        let read = |ident: &str| {
            parse_commit(format!("tree {TREE}\nauthor {ident}\ncommitter {ident}\n\n").as_bytes())
        };
        for (ident, author, time) in [
            ("A <a> -5 +0000", "A <a>", 0),
            ("A <a> 99999999999999999999 +0000", "A <a>", 0),
            ("A <a>", "A <a>", 0),
            ("A", "A", 0),
            ("", "", 0),
            ("A <b> <a> 7 +0", "A <b> <a>", 7),
        ] {
            let info = read(ident).unwrap();
            assert_eq!((&info.author[..], info.time.0, &info.message[..]), (author, time, ""));
        }
    }

    #[test]
    fn a_commit_cut_anywhere_in_its_headers_is_refused() {
        let whole =
            write_commit(&NewCommit { parents: vec![CommitId::from_bytes([1; 20])], ..new() }).unwrap();
        let headers = whole.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
        for len in 0..headers {
            assert!(parse_commit(&whole[..len]).is_err(), "{len}");
        }
        assert!(parse_commit(&whole[..headers]).is_ok());
        assert!(matches!(parse_commit(&vec![b'x'; MAX_COMMIT_BYTES + 1]), Err(ProofError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn a_commit_reads_as_it_is_written(
            name in "[^\\p{C}<> ][^\\p{C}<>]{0,20}[^\\p{C}<>\\s]", mail in "[a-z@.]{0,20}", message in "[^\0]{0,80}",
            time in 0..=MAX_TIME, tree: [u8; 20], parents in prop::collection::vec(any::<[u8; 20]>(), 0..4),
        ) {
            let parents: Vec<_> = parents.into_iter().map(CommitId::from_bytes).collect();
            let commit = NewCommit {
                tree: TreeId::from_bytes(tree), parents: parents.clone(), author_name: name.clone(),
                author_mail: mail.clone(), time: Timestamp(time), message: message.clone(),
            };
            let info = parse_commit(&write_commit(&commit).unwrap()).unwrap();
            prop_assert_eq!(&info.message, &clean_message(&message));
            prop_assert_eq!(info.author, format!("{} <{mail}>", name.trim()));
            prop_assert_eq!((info.tree, info.parents, info.time), (commit.tree, parents, commit.time));
        }

        #[test]
        fn no_bytes_panic(tail in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'>'), any::<u8>()], 0..60)) {
            let _ = parse_commit(&tail);
            let _ = parse_commit(&[format!("tree {TREE}\nauthor ").as_bytes(), &tail].concat());
        }
    }
}
