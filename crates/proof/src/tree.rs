//! Git's tree objects: one folder each.

use std::cmp::Ordering;
use std::collections::HashSet;

use crate::ProofError;

/// One entry of a folder, as git keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TreeEntry {
    /// Kind and permissions, such as 0o100644, 0o040000 (folder) or 0o160000 (submodule).
    pub mode: u32,
    /// Any bytes but NUL and `/`; whether they are a safe name is for others to say.
    pub name: Vec<u8>,
    /// The blob, tree or commit that it names.
    pub id: [u8; 20],
}

/// What a mode's upper bits say that an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File { executable: bool },
    Symlink,
    Folder,
    Submodule,
}

impl EntryKind {
    /// Reads a mode as git does: permissions other than the owner's `x` are of no account.
    pub(crate) const fn of(mode: u32) -> Option<Self> {
        match mode & 0o170_000 {
            0o100_000 => Some(Self::File { executable: mode & 0o100 != 0 }),
            0o120_000 => Some(Self::Symlink),
            0o040_000 => Some(Self::Folder),
            0o160_000 => Some(Self::Submodule),
            _ => None,
        }
    }

    const fn is_folder(self) -> bool {
        matches!(self, Self::Folder)
    }
}

/// An entry that borrows its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry<'a> {
    pub(crate) mode: u32,
    pub(crate) kind: EntryKind,
    pub(crate) name: &'a [u8],
    pub(crate) id: [u8; 20],
}

/// Reads a tree's entries one by one, and holds them to git's order.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    last: Option<RawEntry<'a>>,
}

impl<'a> Entries<'a> {
    pub(crate) const fn new(tree: &'a [u8]) -> Self {
        Self { rest: tree, last: None }
    }

    fn read(&mut self) -> Result<RawEntry<'a>, ProofError> {
        let (mode, rest) = split_at_byte(self.rest, b' ').ok_or_else(|| malformed("it is cut off"))?;
        let (name, rest) = split_at_byte(rest, 0).ok_or_else(|| malformed("it is cut off"))?;
        let (id, rest) = rest.split_first_chunk::<20>().ok_or_else(|| malformed("it is cut off"))?;
        let (mode, kind) = read_mode(mode).ok_or_else(|| malformed("a mode is none that git knows"))?;
        check_name(name)?;
        let entry = RawEntry { mode, kind, name, id: *id };
        if let Some(last) = self.last {
            match git_order((last.name, last.kind), (name, kind)) {
                Ordering::Less => {}
                Ordering::Equal => return Err(same_name(name)),
                Ordering::Greater => return Err(malformed("its entries are not in git's order")),
            }
        }
        self.rest = rest;
        self.last = Some(entry);
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<RawEntry<'a>, ProofError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git tree", why }
}

fn same_name(name: &[u8]) -> ProofError {
    ProofError::SameName { name: String::from_utf8_lossy(name).into_owned() }
}

fn split_at_byte(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = bytes.iter().position(|b| *b == at)?;
    Some((&bytes[..i], &bytes[i + 1..]))
}

/// Octal; git's oldest trees have a 0 before folders' modes.
fn read_mode(text: &[u8]) -> Option<(u32, EntryKind)> {
    if !(1..=7).contains(&text.len()) {
        return None;
    }
    let mode = text.iter().try_fold(0, |mode, b| match b {
        b'0'..=b'7' => Some(mode << 3 | u32::from(b - b'0')),
        _ => None,
    })?;
    Some((mode, EntryKind::of(mode)?))
}

fn check_name(name: &[u8]) -> Result<(), ProofError> {
    if name.is_empty() {
        return Err(malformed("a name is empty"));
    }
    if name.iter().any(|b| matches!(b, b'/' | 0)) {
        return Err(malformed("a name holds `/` or NUL"));
    }
    Ok(())
}

/// By bytes, a folder as if its name ended in `/`.
fn git_order(a: (&[u8], EntryKind), b: (&[u8], EntryKind)) -> Ordering {
    let shared = a.0.len().min(b.0.len());
    let next = |(name, kind): (&[u8], EntryKind)| match name.get(shared) {
        Some(byte) => *byte,
        None if kind.is_folder() => b'/',
        None => 0,
    };
    a.0[..shared].cmp(&b.0[..shared]).then_with(|| next(a).cmp(&next(b))).then(a.0.len().cmp(&b.0.len()))
}

/// Reads a tree object's content (no header).
///
/// # Errors
/// [`ProofError::Malformed`] if it is cut, a mode is unknown, a name is empty or holds `/`, or the entries are
/// not in git's order; [`ProofError::SameName`] if an entry is repeated (a file and a folder of one name, which
/// need not follow each other, are left to `Manifest::new`).
pub fn parse_tree(content: &[u8]) -> Result<Vec<TreeEntry>, ProofError> {
    let owned = |e: RawEntry<'_>| TreeEntry { mode: e.mode, name: e.name.to_vec(), id: e.id };
    Entries::new(content).map(|entry| entry.map(owned)).collect()
}

/// Writes a tree object's content (no header), in git's order.
///
/// # Errors
/// [`ProofError::SameName`] if two entries have one name, whatever their kinds; [`ProofError::Malformed`] if a
/// mode is none that git writes, or a name is empty or holds NUL or `/`.
pub fn write_tree(entries: Vec<TreeEntry>) -> Result<Vec<u8>, ProofError> {
    let mut keyed = Vec::with_capacity(entries.len());
    for entry in entries {
        let kind = written_kind(entry.mode).ok_or_else(|| malformed("a mode is none that git writes"))?;
        check_name(&entry.name)?;
        keyed.push((kind, entry));
    }
    keyed.sort_by(|a, b| git_order((&a.1.name, a.0), (&b.1.name, b.0)));
    let mut names = HashSet::with_capacity(keyed.len());
    if let Some((_, twice)) = keyed.iter().find(|(_, e)| !names.insert(&e.name[..])) {
        return Err(same_name(&twice.name));
    }
    let mut out = Vec::with_capacity(keyed.iter().map(|(_, e)| e.name.len() + 28).sum());
    for (_, entry) in &keyed {
        out.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        out.extend_from_slice(&entry.name);
        out.push(0);
        out.extend_from_slice(&entry.id);
    }
    Ok(out)
}

fn written_kind(mode: u32) -> Option<EntryKind> {
    let written = matches!(mode, 0o100_644 | 0o100_664 | 0o100_755 | 0o120_000 | 0o040_000 | 0o160_000);
    EntryKind::of(mode).filter(|_| written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(mode: u32, name: &str) -> TreeEntry {
        TreeEntry { mode, name: name.into(), id: [9; 20] }
    }

    fn raw(entries: &[(&str, &str)]) -> Vec<u8> {
        let one = |(mode, name): &(&str, &str)| [format!("{mode} {name}\0").as_bytes(), &[9; 20]].concat();
        entries.iter().flat_map(one).collect()
    }

    #[test]
    fn folders_sort_as_if_they_ended_in_a_slash() {
        let names = [(0o040_000, "a"), (0o100_644, "a0"), (0o100_644, "a-b"), (0o100_644, "a.b")];
        let tree = write_tree(names.map(|(mode, name)| entry(mode, name)).to_vec()).unwrap();
        let order: Vec<_> =
            parse_tree(&tree).unwrap().into_iter().map(|e| String::from_utf8(e.name).unwrap()).collect();
        assert_eq!(order, ["a-b", "a.b", "a", "a0"]);
    }

    #[test]
    fn old_spellings_are_read() {
        let tree = parse_tree(&raw(&[("100664", "a"), ("040000", "b"), ("160000", "c")])).unwrap();
        assert_eq!(tree.iter().map(|e| e.mode).collect::<Vec<_>>(), [0o100_664, 0o040_000, 0o160_000]);
    }

    #[test]
    fn what_git_would_not_write_is_refused() {
        for (bad, why) in [
            (raw(&[("100644", "")]), "an empty name"),
            (raw(&[("100644", "a/b")]), "a slash"),
            (raw(&[("100644", "b"), ("100644", "a")]), "disorder"),
            (raw(&[("100644", "a"), ("100644", "a")]), "a repeated name"),
            (raw(&[("40000", "a"), ("100644", "a-b")]), "a folder sorted as a file"),
            (raw(&[("10064x", "a")]), "letters in a mode"),
            (raw(&[("0", "a")]), "no kind"),
            (raw(&[("", "a")]), "no mode"),
            (raw(&[("777777777777", "a")]), "an endless mode"),
            (raw(&[("100644", "a")])[..20].to_vec(), "a cut id"),
            (b"100644 a".to_vec(), "a cut name"),
            (b"1006".to_vec(), "a cut mode"),
        ] {
            assert!(parse_tree(&bad).is_err(), "{why}");
        }
        for (bad, why) in [
            (vec![entry(0o100_644, "a"), entry(0o040_000, "a")], "a file that is a folder too"),
            (vec![entry(0o100_600, "a")], "a mode that git does not write"),
            (vec![entry(0o100_644, "a\0b")], "a NUL"),
            (vec![entry(0o100_644, "..\u{2f}a")], "a slash"),
        ] {
            assert!(write_tree(bad).is_err(), "{why}");
        }
    }

    proptest! {
        #[test]
        fn a_tree_reads_as_it_is_written(
            names in prop::collection::hash_map(prop::collection::vec((1_u8..).prop_filter("", |b| *b != b'/'), 1..6), 0..6_usize, 0..20),
        ) {
            let modes = [0o100_644, 0o100_664, 0o100_755, 0o120_000, 0o040_000, 0o160_000];
            let entries: Vec<_> = names.into_iter().map(|(name, m)| TreeEntry { mode: modes[m], name, id: [m as u8; 20] }).collect();
            let tree = write_tree(entries.clone()).unwrap();
            let mut back = parse_tree(&tree).unwrap();
            prop_assert_eq!(write_tree(back.clone()).unwrap(), tree);
            let mut entries = entries;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            back.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(back, entries);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![Just(0), Just(b' '), Just(b'4'), Just(b'0'), any::<u8>()], 0..80)) {
            let _ = parse_tree(&bytes);
        }
    }
}
