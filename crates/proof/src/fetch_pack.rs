//! What a git client sends, and how it reads what a server answers, in protocol version 2 (gitprotocol-v2): the
//! other half of `upload_pack`.
//!
//! **Invariant:** an answer is read within named limits, whatever arrives; only a pack grows with what the server
//! sends, and the caller counts it.

use hubless_types::CommitId;

use crate::pkt_line::{Band, Packet, PacketBuffer, Packets, put_delim, put_flush, put_line};
use crate::{FetchRequest, LsRefs, PackFilter, ProofError};

/// Most lines that a server may send before the pack: a shallow fetch has a few.
const MAX_HEAD_LINES: usize = 4096;
/// Longest piece of a server's own words that is kept, in bytes.
const MAX_SAID_BYTES: usize = 2048;
/// Most refs that are read.
pub const MAX_REFS: usize = 200_000;
/// Longest name of a ref, in bytes.
const MAX_REF_BYTES: usize = 1024;

const fn malformed(why: &'static str) -> ProofError {
    ProofError::Malformed { what: "git answer", why }
}

/// Writes a request for a pack.
///
/// # Errors
/// [`ProofError::TooLarge`] if `agent` is longer than a frame.
pub fn write_fetch(fetch: &FetchRequest, agent: &str) -> Result<Vec<u8>, ProofError> {
    let mut out = begin("fetch", agent)?;
    let mut line = |text: String| put_line(&mut out, &text);
    line("ofs-delta".to_owned())?;
    if fetch.quiet {
        line("no-progress".to_owned())?;
    }
    for want in &fetch.wants {
        line(format!("want {}", CommitId::from_bytes(*want)))?;
    }
    for shallow in &fetch.shallow {
        line(format!("shallow {shallow}"))?;
    }
    if let Some(depth) = fetch.depth {
        line(format!("deepen {depth}"))?;
    }
    match fetch.filter {
        PackFilter::All => {}
        PackFilter::NoBlobs => line("filter blob:none".to_owned())?,
        PackFilter::BlobsBelow(limit) => line(format!("filter blob:limit={limit}"))?,
        PackFilter::NoTrees => line("filter tree:0".to_owned())?,
    }
    for have in &fetch.haves {
        line(format!("have {have}"))?;
    }
    if fetch.wait_for_done {
        line("wait-for-done".to_owned())?;
    }
    if fetch.done {
        line("done".to_owned())?;
    }
    put_flush(&mut out);
    Ok(out)
}

/// Writes a request for refs; annotated tags are peeled.
///
/// # Errors
/// As [`write_fetch`].
pub fn write_ls_refs(refs: &LsRefs, agent: &str) -> Result<Vec<u8>, ProofError> {
    let mut out = begin("ls-refs", agent)?;
    put_line(&mut out, "peel")?;
    if refs.symrefs {
        put_line(&mut out, "symrefs")?;
    }
    for prefix in &refs.prefixes {
        put_line(&mut out, &format!("ref-prefix {prefix}"))?;
    }
    put_flush(&mut out);
    Ok(out)
}

fn begin(command: &str, agent: &str) -> Result<Vec<u8>, ProofError> {
    let mut out = Vec::new();
    put_line(&mut out, &format!("command={command}"))?;
    put_line(&mut out, &format!("agent={agent}"))?;
    put_line(&mut out, "object-format=sha1")?;
    put_delim(&mut out);
    Ok(out)
}

/// What a server can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GitServer {
    /// It lists refs.
    pub ls_refs: bool,
    /// It sends packs without history.
    pub shallow: bool,
    /// It sends packs without blobs.
    pub filter: bool,
}

impl GitServer {
    /// Reads the answer to `info/refs?service=git-upload-pack`.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if it does not speak version 2 or names its objects otherwise than by SHA-1.
    pub fn parse(answer: &[u8]) -> Result<Self, ProofError> {
        let mut server = Self::default();
        let mut version = false;
        for packet in Packets::new(answer).take(MAX_HEAD_LINES) {
            let Some(line) = packet?.text() else { continue };
            match line.split_once('=') {
                None if line == "version 2" => version = true,
                None if line == "ls-refs" => server.ls_refs = true,
                Some(("ls-refs", _)) => server.ls_refs = true,
                Some(("fetch", can)) => {
                    server.shallow = can.split(' ').any(|word| word == "shallow");
                    server.filter = can.split(' ').any(|word| word == "filter");
                }
                Some(("object-format", format)) if format != "sha1" => {
                    return Err(malformed("its objects are not named by SHA-1"));
                }
                _ => {}
            }
        }
        if version { Ok(server) } else { Err(malformed("it does not speak version 2 of git's protocol")) }
    }
}

/// One ref at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRef {
    /// The full name.
    pub name: String,
    /// What it points to.
    pub id: [u8; 20],
    /// What an annotated tag comes down to.
    pub peeled: Option<[u8; 20]>,
}

impl GitRef {
    /// The commit that it means, if it means one.
    pub fn commit(&self) -> CommitId {
        CommitId::from_bytes(self.peeled.unwrap_or(self.id))
    }
}

/// What came of a request for refs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefsAnswer {
    /// The refs.
    Refs(Vec<GitRef>),
    /// The server's own words for why not.
    Refused(String),
}

/// Reads the answer to [`write_ls_refs`]. Names that are not UTF-8 and branches without a commit are left out.
///
/// # Errors
/// [`ProofError::TooLarge`] above [`MAX_REFS`]; [`ProofError::Malformed`] for lines that are none.
pub fn parse_ls_refs(answer: &[u8]) -> Result<RefsAnswer, ProofError> {
    let mut refs = Vec::new();
    for packet in Packets::new(answer) {
        let packet = packet?;
        if let Some(said) = refusal(&packet) {
            return Ok(RefsAnswer::Refused(said));
        }
        match packet {
            Packet::Data(_) => {}
            _ => return Ok(RefsAnswer::Refs(refs)),
        }
        let Some(line) = packet.text().filter(|line| !line.starts_with("unborn ")) else { continue };
        if refs.len() == MAX_REFS {
            let (size, limit) = (refs.len() as u64 + 1, MAX_REFS as u64);
            return Err(ProofError::TooLarge { what: "refs of a repository", size, limit });
        }
        refs.push(parse_ref(line).ok_or_else(|| malformed("a ref is not `<id> <name>`"))?);
    }
    Err(malformed("it is cut off"))
}

fn parse_ref(line: &str) -> Option<GitRef> {
    let mut words = line.split(' ');
    let id = words.next()?.parse::<CommitId>().ok()?;
    let name = words.next().filter(|name| (1..=MAX_REF_BYTES).contains(&name.len()))?;
    let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
    let peeled = peeled.map(|id| id.parse::<CommitId>()).transpose().ok()?;
    Some(GitRef { name: name.to_owned(), id: *id.as_bytes(), peeled: peeled.map(|id| *id.as_bytes()) })
}

/// The words after `ERR`, cut.
fn refusal(packet: &Packet<'_>) -> Option<String> {
    packet.line()?.strip_prefix(b"ERR ").map(words)
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MAX_SAID_BYTES).unwrap_or(bytes)).into_owned()
}

/// How far the answer to a request for a pack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchState {
    /// Before the pack.
    Head,
    /// In the pack.
    Pack,
    /// At its end.
    Done,
    /// There is none: the server's own words for why not.
    Refused(String),
}

/// Reads the answer to [`write_fetch`] as it arrives, and takes the pack out of it.
#[derive(Debug)]
pub struct FetchAnswer {
    buffer: PacketBuffer,
    state: FetchState,
    lines: usize,
}

impl Default for FetchAnswer {
    fn default() -> Self {
        Self { buffer: PacketBuffer::default(), state: FetchState::Head, lines: 0 }
    }
}

impl FetchAnswer {
    /// Takes what arrived, and appends to `pack` what of the pack is in it. What follows the end is passed over.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] if it is no such answer.
    pub fn push(&mut self, bytes: &[u8], pack: &mut Vec<u8>) -> Result<&FetchState, ProofError> {
        self.buffer.push(bytes);
        while matches!(self.state, FetchState::Head | FetchState::Pack) {
            let Some(packet) = self.buffer.next_packet()? else { break };
            if let Some(next) = take(&self.state, packet, pack)? {
                self.state = next;
            }
            if self.state == FetchState::Head {
                self.lines += 1;
                if self.lines > MAX_HEAD_LINES {
                    return Err(malformed("it has no pack"));
                }
            }
        }
        Ok(&self.state)
    }

    /// How far it is.
    pub const fn state(&self) -> &FetchState {
        &self.state
    }
}

fn take(
    state: &FetchState,
    packet: Packet<'_>,
    pack: &mut Vec<u8>,
) -> Result<Option<FetchState>, ProofError> {
    if *state == FetchState::Head {
        return match packet {
            Packet::Data(_) if packet.line() == Some(b"packfile") => Ok(Some(FetchState::Pack)),
            Packet::Data(_) => Ok(refusal(&packet).map(FetchState::Refused)),
            Packet::Delim => Ok(None),
            Packet::Flush | Packet::ResponseEnd => Err(malformed("it ends before the pack")),
        };
    }
    match (packet, packet.band()) {
        (_, Some(Band::Pack(bytes))) => pack.extend_from_slice(bytes),
        (_, Some(Band::Progress(_))) => {}
        (_, Some(Band::Error(said))) => return Ok(Some(FetchState::Refused(words(said)))),
        (Packet::Data(b""), None) => {}
        (Packet::Data(_), None) => return Err(malformed("it has an unknown band")),
        _ => return Ok(Some(FetchState::Done)),
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GitRequest, put_band, put_packet};
    use proptest::prelude::*;

    const ID: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        lines.iter().for_each(|line| match *line {
            "0000" => put_flush(&mut out),
            "0001" => put_delim(&mut out),
            line => put_line(&mut out, line).unwrap(),
        });
        out
    }

    fn answer(pack: &[u8]) -> Vec<u8> {
        let mut out = lines(&["shallow-info", &format!("shallow {ID}"), "0001", "packfile"]);
        put_band(&mut out, Band::Progress(b"counting"));
        put_band(&mut out, Band::Pack(pack));
        put_flush(&mut out);
        out
    }

    proptest! {
        #[test]
        fn a_server_reads_what_a_client_writes(
            wants in prop::collection::vec(any::<[u8; 20]>(), 1..5), haves in prop::collection::vec(any::<[u8; 20]>(), 0..3),
            depth in prop::option::of(1..100_u32), limit in 0..5000_u64, filter in 0..4_usize, done: bool, quiet: bool,
        ) {
            let filter = [PackFilter::All, PackFilter::NoBlobs, PackFilter::BlobsBelow(limit), PackFilter::NoTrees][filter];
            let haves: Vec<_> = haves.into_iter().map(CommitId::from_bytes).collect();
            let fetch = FetchRequest {
                wants, shallow: haves.clone(), haves, depth, filter, done, wait_for_done: false, quiet,
            };
            let bytes = write_fetch(&fetch, "hubless/1").unwrap();
            prop_assert_eq!(GitRequest::parse(&bytes), Ok(GitRequest::Fetch(Box::new(fetch))));
        }

        #[test]
        fn a_pack_comes_whole_however_it_is_cut(pack in prop::collection::vec(any::<u8>(), 0..400), piece in 1..90_usize) {
            let (mut reader, mut out) = (FetchAnswer::default(), Vec::new());
            for piece in answer(&pack).chunks(piece) {
                reader.push(piece, &mut out).unwrap();
            }
            prop_assert_eq!(reader.state(), &FetchState::Done);
            prop_assert_eq!(out, pack);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in prop::collection::vec(".{0,50}", 0..4)) {
            let text: Vec<&str> = text.iter().map(String::as_str).collect();
            for bytes in [bytes, lines(&text)] {
                let _ = parse_ls_refs(&bytes);
                let _ = GitServer::parse(&bytes);
                let _ = FetchAnswer::default().push(&bytes, &mut Vec::new());
                let _ = FetchAnswer::default().push(&[lines(&["packfile"]), bytes].concat(), &mut Vec::new());
            }
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let refused = |bytes: &[u8]| FetchAnswer::default().push(bytes, &mut Vec::new()).cloned();
        let said = FetchState::Refused("upload-pack: not our ref".to_owned());
        assert_eq!(refused(&lines(&["ERR upload-pack: not our ref"])), Ok(said.clone()));
        let mut late = lines(&["packfile"]);
        put_band(&mut late, Band::Error(b"upload-pack: not our ref"));
        assert_eq!(refused(&late), Ok(said));
        assert!(refused(&lines(&["0000"])).is_err());
        assert!(refused(&lines(&["packfile", "x"])).is_err(), "an unknown band");
        assert!(refused(&lines(&["shallow x"; MAX_HEAD_LINES + 1])).is_err(), "an endless head");
        assert_eq!(parse_ls_refs(&lines(&["ERR no"])), Ok(RefsAnswer::Refused("no".into())));
        let long = "x".repeat(60_000);
        let RefsAnswer::Refused(said) = parse_ls_refs(&lines(&[&format!("ERR {long}")])).unwrap() else {
            panic!()
        };
        assert_eq!(said.len(), MAX_SAID_BYTES);
    }

    #[test]
    fn refs_are_read_with_what_they_come_down_to() {
        let other = "1".repeat(40);
        let tag = format!("{ID} refs/tags/v1 peeled:{other}");
        let head = format!("{other} HEAD symref-target:refs/heads/main");
        let RefsAnswer::Refs(refs) =
            parse_ls_refs(&lines(&[&head, "unborn HEAD symref-target:refs/heads/x", &tag, "0000"])).unwrap()
        else {
            panic!("refused")
        };
        assert_eq!(refs.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["HEAD", "refs/tags/v1"]);
        assert!(refs.iter().all(|r| r.commit().to_string() == other));
        for bad in ["x refs/heads/main", ID, &format!("{ID} "), &format!("{ID} a peeled:x")] {
            assert!(parse_ls_refs(&lines(&[bad, "0000"])).is_err(), "{bad}");
        }
        assert!(parse_ls_refs(&lines(&[&head])).is_err(), "cut off");
    }

    #[test]
    fn a_server_says_what_it_can() {
        let full = [
            "# service=git-upload-pack",
            "0000",
            "version 2",
            "agent=git/2",
            "ls-refs=unborn",
            "fetch=shallow filter",
            "object-format=sha1",
            "0000",
        ];
        assert_eq!(
            GitServer::parse(&lines(&full)),
            Ok(GitServer { ls_refs: true, shallow: true, filter: true })
        );
        let least = ["version 2", "ls-refs", "fetch", "0000"];
        assert_eq!(GitServer::parse(&lines(&least)), Ok(GitServer { ls_refs: true, ..GitServer::default() }));
        assert!(GitServer::parse(&lines(&["version 2", "object-format=sha256"])).is_err());
        assert!(GitServer::parse(&lines(&[&format!("{ID} HEAD\0side-band")])).is_err(), "version 0");
        let mut binary = Vec::new();
        put_packet(&mut binary, b"\xff\xfe").unwrap();
        assert!(GitServer::parse(&binary).is_err());
    }
}
