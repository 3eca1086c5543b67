//! What a git client asks of a server, in protocol version 2 (gitprotocol-v2): `ls-refs` and `fetch`.
//!
//! **Invariant:** a request is read whole or refused; what is not served here is refused by name, never ignored,
//! so that nobody takes an answer for more than it is.
//! **Not here:** what is held and may be shown (`mirror`).

use hubless_types::CommitId;

use crate::ProofError;
use crate::pkt_line::{Packet, Packets};

/// Longest request that is read, in bytes: a blobless clone that asks for 150,000 blobs at once.
pub const MAX_GIT_REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// Most prefixes of an `ls-refs` that are looked at; git itself sends a few.
const MAX_PREFIXES: usize = 256;
/// `deepen` by this much means all there is (`git fetch --unshallow`).
pub const INFINITE_DEPTH: u32 = 0x7fff_ffff;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitRequest {
    /// Which refs there are.
    LsRefs(LsRefs),
    /// A pack.
    Fetch(Box<FetchRequest>),
}

/// Which refs there are, and how they are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsRefs {
    /// Whether symbolic refs tell their target.
    pub symrefs: bool,
    /// Only refs that begin with one of these; none means all.
    pub prefixes: Vec<String>,
}

impl LsRefs {
    /// Whether `name` is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Objects that are left out although they belong to what is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PackFilter {
    /// None.
    #[default]
    All,
    /// `blob:none`: every blob.
    NoBlobs,
    /// `blob:limit=N`: blobs of this many bytes and more.
    BlobsBelow(u64),
    /// `tree:0`: trees and blobs.
    NoTrees,
}

impl PackFilter {
    /// Whether trees go out.
    pub const fn trees(self) -> bool {
        !matches!(self, Self::NoTrees)
    }

    /// Whether a blob of `size` bytes goes out.
    pub const fn blob(self, size: u64) -> bool {
        match self {
            Self::All => true,
            Self::NoBlobs | Self::NoTrees => false,
            Self::BlobsBelow(limit) => size < limit,
        }
    }
}

/// A pack is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// Objects: commits, or in a partial clone trees and blobs.
    pub wants: Vec<[u8; 20]>,
    /// Commits that the client has.
    pub haves: Vec<CommitId>,
    /// Commits that the client has without what they follow.
    pub shallow: Vec<CommitId>,
    /// How many commits deep, from those that are wanted; 1 or more.
    pub depth: Option<u32>,
    /// What is left out.
    pub filter: PackFilter,
    /// Whether the client has told all that it has.
    pub done: bool,
    /// Whether only an answer to `done` may be a pack.
    pub wait_for_done: bool,
    /// Whether it does not want to hear how far things are.
    pub quiet: bool,
}

impl GitRequest {
    /// Reads one request.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] above [`MAX_GIT_REQUEST_BYTES`]; [`ProofError::Malformed`] for what is no request
    /// or asks for something that is not served here, which it names.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        if bytes.len() > MAX_GIT_REQUEST_BYTES {
            let (size, limit) = (bytes.len() as u64, MAX_GIT_REQUEST_BYTES as u64);
            return Err(ProofError::TooLarge { what: "a git request, in bytes", size, limit });
        }
        let mut packets = Packets::new(bytes);
        let command = read_command(&mut packets)?;
        match command {
            "ls-refs" => read_ls_refs(&mut packets).map(Self::LsRefs),
            "fetch" => read_fetch(&mut packets).map(|fetch| Self::Fetch(Box::new(fetch))),
            _ => Err(wrong("only the commands `ls-refs` and `fetch` are served")),
        }
    }
}

const fn wrong(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git request", why }
}

/// The next line of a section; `None` at the mark that ends it, or at the end.
fn next_line<'a>(packets: &mut Packets<'a>) -> Result<Option<&'a str>, ProofError> {
    match packets.next().transpose()? {
        None | Some(Packet::Flush | Packet::Delim | Packet::ResponseEnd) => Ok(None),
        Some(packet) => packet.text().map(Some).ok_or(wrong("a line is not UTF-8")),
    }
}

/// The command, and past the capabilities that follow it.
fn read_command<'a>(packets: &mut Packets<'a>) -> Result<&'a str, ProofError> {
    let mut command = None;
    loop {
        let line = match packets.next().transpose()? {
            Some(packet @ Packet::Data(_)) => packet.text().ok_or(wrong("a line is not UTF-8"))?,
            Some(Packet::Delim) => break,
            // No arguments follow.
            None | Some(Packet::Flush | Packet::ResponseEnd) => break,
        };
        match line.split_once('=') {
            Some(("command", name)) if command.is_none() => command = Some(name),
            Some(("object-format", format)) if format != "sha1" => {
                return Err(wrong("only SHA-1 repositories are served"));
            }
            _ => {}
        }
    }
    command.ok_or(wrong("it names no command"))
}

fn read_ls_refs(packets: &mut Packets<'_>) -> Result<LsRefs, ProofError> {
    let mut asked = LsRefs::default();
    while let Some(line) = next_line(packets)? {
        match line.split_once(' ') {
            Some(("ref-prefix", prefix)) if asked.prefixes.len() < MAX_PREFIXES => {
                asked.prefixes.push(prefix.to_owned());
            }
            Some(("ref-prefix", _)) => return Err(wrong("it names too many ref prefixes")),
            _ if line == "symrefs" => asked.symrefs = true,
            // `peel` and `unborn` change nothing: no tag here is an object, and nothing is unborn.
            _ => {}
        }
    }
    Ok(asked)
}

fn read_fetch(packets: &mut Packets<'_>) -> Result<FetchRequest, ProofError> {
    let mut asked = FetchRequest::default();
    while let Some(line) = next_line(packets)? {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "want" => asked.wants.push(*commit(value)?.as_bytes()),
            "have" => asked.haves.push(commit(value)?),
            "shallow" => asked.shallow.push(commit(value)?),
            "deepen" => asked.depth = Some(depth(value)?),
            "filter" => asked.filter = filter(value)?,
            "done" => asked.done = true,
            "wait-for-done" => asked.wait_for_done = true,
            "no-progress" => asked.quiet = true,
            // What a pack may hold, and need not.
            "thin-pack" | "ofs-delta" | "include-tag" => {}
            "deepen-since" | "deepen-not" | "deepen-relative" => {
                return Err(wrong(
                    "history is cut by `--depth` alone; dates, refs and `--deepen` are not served",
                ));
            }
            _ => return Err(wrong("it asks for something that is not offered")),
        }
    }
    Ok(asked)
}

fn commit(text: &str) -> Result<CommitId, ProofError> {
    text.parse().map_err(|_| wrong("an object id has 40 hexadecimal digits"))
}

fn depth(text: &str) -> Result<u32, ProofError> {
    text.parse().ok().filter(|depth| *depth > 0).ok_or(wrong("a depth is a number above 0"))
}

/// Reads a filter (git-rev-list's `--filter`).
fn filter(text: &str) -> Result<PackFilter, ProofError> {
    let unknown = wrong("the filters are blob:none, blob:limit=N and tree:0");
    match text {
        "blob:none" => Ok(PackFilter::NoBlobs),
        "tree:0" => Ok(PackFilter::NoTrees),
        _ => text.strip_prefix("blob:limit=").and_then(size).map(PackFilter::BlobsBelow).ok_or(unknown),
    }
}

/// A number with git's units.
fn size(text: &str) -> Option<u64> {
    let unit = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => 1 << 10,
        b'm' => 1 << 20,
        b'g' => 1 << 30,
        _ => 1,
    };
    let digits = if unit == 1 { text } else { text.get(..text.len() - 1)? };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkt_line::{put_delim, put_flush, put_line};
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn request(command: &str, lines: &[&str]) -> Result<GitRequest, ProofError> {
        let mut bytes = Vec::new();
        put_line(&mut bytes, &format!("command={command}")).unwrap();
        put_line(&mut bytes, "agent=git/2.47.3").unwrap();
        put_delim(&mut bytes);
        lines.iter().for_each(|line| put_line(&mut bytes, line).unwrap());
        put_flush(&mut bytes);
        GitRequest::parse(&bytes)
    }

    fn fetch(lines: &[&str]) -> Result<FetchRequest, ProofError> {
        match request("fetch", lines)? {
            GitRequest::Fetch(fetch) => Ok(*fetch),
            GitRequest::LsRefs(_) => panic!("a fetch"),
        }
    }

    #[test]
    fn a_clone_is_understood() {
        let asked = fetch(&[
            "thin-pack",
            "no-progress",
            "ofs-delta",
            "deepen 1",
            "filter blob:limit=1k",
            &format!("want {ID}"),
            "done",
        ])
        .unwrap();
        assert_eq!((asked.wants.len(), asked.depth, asked.done, asked.quiet), (1, Some(1), true, true));
        assert_eq!(asked.filter, PackFilter::BlobsBelow(1024));
        let Ok(GitRequest::LsRefs(refs)) = request("ls-refs", &["peel", "symrefs", "ref-prefix refs/heads/"])
        else {
            panic!("an ls-refs")
        };
        assert!(refs.symrefs && refs.wants("refs/heads/main") && !refs.wants("HEAD"));
    }

    #[test]
    fn what_is_not_served_is_named() {
        for bad in ["deepen-since 5", "deepen 0", "deepen -1", "want x", "filter sparse:oid=x", "want-ref x"]
        {
            assert!(fetch(&[bad]).is_err(), "{bad}");
        }
        assert!(request("object-info", &[]).is_err());
        assert!(GitRequest::parse(b"0000").is_err());
        assert!(GitRequest::parse(&vec![b'0'; MAX_GIT_REQUEST_BYTES + 1]).is_err());
    }

    #[test]
    fn filters_leave_out_what_they_say() {
        assert!(PackFilter::All.blob(u64::MAX) && PackFilter::All.trees());
        assert!(!PackFilter::NoBlobs.blob(0) && PackFilter::NoBlobs.trees());
        assert!(PackFilter::BlobsBelow(10).blob(9) && !PackFilter::BlobsBelow(10).blob(10));
        assert!(!PackFilter::NoTrees.blob(0) && !PackFilter::NoTrees.trees());
        assert_eq!(
            (size("2m"), size("3G"), size("7"), size("k"), size("")),
            (Some(2 << 20), Some(3 << 30), Some(7), None, None)
        );
    }

    proptest! {
        #[test]
        fn no_request_panics(lines in prop::collection::vec("(want|have|shallow|deepen|filter|done|ref-prefix)? ?[a-z0-9:=]{0,44}", 0..9)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let _ = request("fetch", &lines);
            let _ = request("ls-refs", &lines);
            let _ = GitRequest::parse(lines.join("").as_bytes());
        }
    }
}
