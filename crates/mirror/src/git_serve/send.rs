//! Sends a pack: objects from bundles, then files as they come, in frames of at most 64 KiB.
//!
//! **Invariant:** a client that reads slowly holds a few pieces and its turn, nothing that grows; what fails on the
//! way is said on the error band, so that no client takes the part for the whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use hubless_proof::{Band, Bundle, PackKind, PackWriter, put_band, put_flush};
use hubless_types::{ByteRange, CommitId, RepoId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::Instant;

use super::GitBody;
use super::objects::{File, Part};
use super::plan::Pack;
use crate::mirror::Inner;
use crate::util::blocking;
use crate::{Caller, ErrorKind, FileReader, Mirror, MirrorError};

/// Pieces that wait for the client.
const QUEUE: usize = 4;
/// Bytes of a pack that are gathered before they go out.
const PIECE_BYTES: usize = 256 * 1024;
/// Longest wait for one file that is being fetched and checked.
const FILE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Longest pause between two looks at such a file; the client hears from us at each.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Sends `pack` for as long as the client reads.
pub(super) fn pack(
    mirror: &Mirror,
    caller: Caller,
    repo: RepoId,
    pack: Pack,
    turn: OwnedSemaphorePermit,
) -> GitBody {
    let (out, queue) = mpsc::channel(QUEUE);
    let inner = Arc::clone(&mirror.inner);
    let cancel = inner.cancel.clone();
    mirror.inner.tasks.spawn(async move {
        let _turn = turn;
        let sender = Sending { inner, caller, repo, tell: pack.tell, out };
        let _ = cancel.run_until_cancelled(sender.run(pack)).await;
    });
    stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) }).boxed()
}

type Item = Result<Bytes, MirrorError>;

struct Sending {
    inner: Arc<Inner>,
    caller: Caller,
    repo: RepoId,
    tell: bool,
    out: Sender<Item>,
}

/// The client hung up: nobody is left to tell anything.
struct HungUp;

/// Why a pack ends early.
enum Broken {
    HungUp,
    Failed(MirrorError),
}

impl From<MirrorError> for Broken {
    fn from(error: MirrorError) -> Self {
        Self::Failed(error)
    }
}

impl From<HungUp> for Broken {
    fn from(_: HungUp) -> Self {
        Self::HungUp
    }
}

/// A pack and what of it waits to go out.
struct Writer {
    pack: PackWriter,
    ready: Vec<u8>,
}

impl Sending {
    async fn run(self, pack: Pack) {
        if let Err(Broken::Failed(error)) = self.send(pack).await {
            tracing::warn!(%error, repo = %self.repo, "a pack could not be sent whole");
            let mut last = Vec::new();
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            put_band(&mut last, Band::Error(format!("{}{hint}", told(&error)).as_bytes()));
            let _ = self.put(last).await;
        }
    }

    async fn send(&self, pack: Pack) -> Result<(), Broken> {
        self.put(pack.head).await?;
        let many = if pack.objects == 1 { "object" } else { "objects" };
        self.tell(&format!("{} {many}\n", pack.objects)).await?;
        let mut ready = Vec::new();
        let mut writer = Writer { pack: PackWriter::new(pack.objects, &mut ready), ready };
        for part in pack.parts {
            let (commit, files) = (part.commit, part.files);
            let part = Part { files: Vec::new(), ..part };
            writer = self.send_part(writer, part).await?;
            for file in &files {
                writer = self.send_file(writer, commit, file).await?;
            }
        }
        let Writer { pack, mut ready } = writer;
        pack.finish(&mut ready).map_err(unpacked)?;
        let mut last = Vec::new();
        put_band(&mut last, Band::Pack(&ready));
        put_flush(&mut last);
        Ok(self.put(last).await?)
    }

    /// Sends what is in a commit's bundle.
    async fn send_part(&self, mut writer: Writer, part: Part) -> Result<Writer, Broken> {
        if !part.itself && part.trees.is_empty() && part.blobs.is_empty() {
            return Ok(writer);
        }
        let (store, out) = (self.inner.store.clone(), self.out.clone());
        let sent = blocking(move || {
            let stored = store.catalogue().bundle(part.commit)?;
            let stored = stored.ok_or(MirrorError::CommitNotFound { commit: part.commit })?;
            let bundle = Bundle::decode(&stored).map_err(unpacked)?;
            drop(stored);
            let itself = part.itself.then_some((PackKind::Commit, bundle.commit.as_slice()));
            let trees = part.trees.iter().map(|at| (PackKind::Tree, bundle.trees.get(*at as usize)));
            let blobs = part.blobs.iter().map(|at| (PackKind::Blob, bundle.blobs.get(*at as usize)));
            let rest = trees.chain(blobs).filter_map(|(kind, object)| Some((kind, object?.as_slice())));
            for (kind, object) in itself.into_iter().chain(rest) {
                writer.pack.object(kind, object, &mut writer.ready).map_err(unpacked)?;
                if writer.ready.len() >= PIECE_BYTES && out.blocking_send(Ok(writer.framed())).is_err() {
                    return Ok(None);
                }
            }
            Ok(Some(writer))
        })
        .await?;
        sent.ok_or(Broken::HungUp)
    }

    /// Sends a plain file as it comes.
    async fn send_file(&self, mut writer: Writer, commit: CommitId, file: &File) -> Result<Writer, Broken> {
        let mut reader = self.open(commit, file).await?;
        if reader.range.len() != file.size {
            let (path, claimed, found) = (file.path.clone(), file.size, reader.entry.size);
            return Err(MirrorError::WrongSize { path, claimed, found }.into());
        }
        writer.pack.begin(PackKind::Blob, file.size, &mut writer.ready).map_err(unpacked)?;
        while let Some(piece) = reader.body.next().await {
            let piece = piece?;
            writer = blocking(move || {
                writer.pack.push(&piece, &mut writer.ready).map_err(unpacked)?;
                Ok(writer)
            })
            .await?;
            if writer.ready.len() >= PIECE_BYTES {
                let framed = writer.framed();
                self.out.send(Ok(framed)).await.map_err(|_| HungUp)?;
            }
        }
        writer.pack.end(&mut writer.ready).map_err(unpacked)?;
        Ok(writer)
    }

    /// Opens a file, and waits for one that must be whole before it is shown.
    async fn open(&self, commit: CommitId, file: &File) -> Result<FileReader, Broken> {
        let mirror = Mirror { inner: Arc::clone(&self.inner) };
        let deadline = Instant::now() + FILE_TIMEOUT;
        loop {
            let range = ByteRange::whole(file.size);
            match mirror.open_file(&self.caller, &self.repo, commit, &file.path, range).await {
                Ok(reader) => return Ok(reader),
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < deadline => {
                    self.tell(&format!("{error}\n")).await?;
                    tokio::time::sleep(error.retry_after().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lets the client hear how far things are.
    async fn tell(&self, text: &str) -> Result<(), HungUp> {
        let mut out = Vec::new();
        match self.tell {
            true => put_band(&mut out, Band::Progress(text.as_bytes())),
            // An empty frame, so that nobody takes the connection for dead.
            false => out.extend_from_slice(b"0005\x01"),
        }
        self.put(out).await
    }

    async fn put(&self, bytes: Vec<u8>) -> Result<(), HungUp> {
        self.out.send(Ok(bytes.into())).await.map_err(|_| HungUp)
    }
}

impl Writer {
    /// What is ready, in frames.
    fn framed(&mut self) -> Bytes {
        let mut framed = Vec::with_capacity(self.ready.len() + self.ready.len() / 1024 + 16);
        put_band(&mut framed, Band::Pack(&self.ready));
        self.ready.clear();
        framed.into()
    }
}

fn unpacked(source: hubless_proof::ProofError) -> MirrorError {
    MirrorError::Internal(format!("a pack could not be written: {source}"))
}

/// What a stranger is told: nothing of this machine's disk.
fn told(error: &MirrorError) -> String {
    match error.kind() {
        ErrorKind::DiskFull | ErrorKind::Disk | ErrorKind::Internal => {
            "an internal fault; the node's log tells more".to_owned()
        }
        _ => error.to_string(),
    }
}
