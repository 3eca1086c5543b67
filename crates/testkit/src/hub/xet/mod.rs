//! The stand-in's Xet: leave to ask its store, plans of files, and ranges of xorbs behind signed addresses.

mod lz4;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use hyper::header::{HeaderMap, RANGE};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::store::Stored;
use super::Shared;
use super::answer::{Handled, Refused, json_ok, set, whole};
use super::record::Who;

/// How chunks are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum XetPacking {
    /// As they are.
    Plain,
    /// By LZ4.
    Lz4,
    /// Sorted by four, then LZ4.
    GroupedLz4,
    /// One after another by each of these.
    #[default]
    Each,
}

impl XetPacking {
    const fn scheme(self, index: usize) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Lz4 => 1,
            Self::GroupedLz4 => 2,
            Self::Each => (index % 3) as u8,
        }
    }
}

/// Changes an answer before it is sent.
pub type Tamper<T> = Arc<dyn Fn(&mut T) + Send + Sync>;

/// That a hub keeps LFS files in Xet, and how.
#[derive(Clone)]
pub struct XetMode {
    /// How chunks are stored.
    pub packing: XetPacking,
    /// What the content network answers to whoever asks for such a file plainly; `None` gives it.
    pub bridge: Option<u16>,
    /// For how many seconds leave is given, as the hub says it.
    pub life: i64,
    /// Changes plans.
    pub tamper_plan: Option<Tamper<Value>>,
    /// Changes what is sent of a xorb.
    pub tamper_xorb: Option<Tamper<Vec<u8>>>,
}

impl Default for XetMode {
    fn default() -> Self {
        let packing = XetPacking::default();
        Self { packing, bridge: Some(400), life: 900, tamper_plan: None, tamper_xorb: None }
    }
}

impl fmt::Debug for XetMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XetMode").field("packing", &self.packing).field("bridge", &self.bridge).finish()
    }
}

#[derive(Default)]
struct Inner {
    mode: Option<XetMode>,
    stored: HashMap<String, Arc<Stored>>,
    passes: u64,
    /// The first pass that is good.
    good_from: u64,
}

/// What a hub knows of Xet.
#[derive(Default)]
pub(crate) struct XetDoor(Mutex<Inner>);

impl XetDoor {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, mode: Option<XetMode>) {
        let mut inner = self.inner();
        inner.stored.clear();
        inner.mode = mode;
    }

    pub(crate) fn mode(&self) -> Option<XetMode> {
        self.inner().mode.clone()
    }

    /// Passes that were given are no longer taken.
    pub(crate) fn end_passes(&self) {
        let mut inner = self.inner();
        inner.good_from = inner.passes;
    }

    fn next_pass(&self) -> String {
        let mut inner = self.inner();
        inner.passes += 1;
        format!("xet-pass-{}", inner.passes - 1)
    }

    fn is_good(&self, who: &Who) -> bool {
        let number = who.token().and_then(|token| token.strip_prefix("xet-pass-")?.parse::<u64>().ok());
        let inner = self.inner();
        number.is_some_and(|number| (inner.good_from..inner.passes).contains(&number))
    }
}

/// How Xet calls the file of a sha256.
pub(crate) fn id_of(sha256: &str) -> String {
    sha256.chars().rev().collect()
}

/// `GET …/xet-read-token/{rev}`, for whoever may read.
pub(crate) fn leave(shared: &Shared) -> Handled {
    let mode = shared.xet.mode().ok_or_else(|| Refused::new(404, None, "there is no Xet here"))?;
    Ok(json_ok(&json!({
        "accessToken": shared.xet.next_pass(),
        "casUrl": format!("{}/cas", shared.content_url),
        "exp": jiff::Timestamp::now().as_second() + mode.life,
    })))
}

/// What the content network gives of Xet: `/cas/…` to whoever has leave, `/xorbs/…` by its address; `None` for what
/// is something else.
pub(crate) async fn network(
    shared: &Shared,
    target: &str,
    who: &Who,
    headers: &HeaderMap,
) -> Option<Handled> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(id) = path.strip_prefix("/cas/v1/reconstructions/") {
        return Some(plan(shared, id, who, headers).await);
    }
    let (sha256, number) = path.strip_prefix("/xorbs/")?.split_once('/')?;
    if *who != Who::Nobody {
        return Some(Err(Refused::bad_request("only one way to authenticate may be used")));
    }
    Some(xorb(shared, sha256, number, query, headers).await)
}

async fn plan(shared: &Shared, id: &str, who: &Who, headers: &HeaderMap) -> Handled {
    if !shared.xet.is_good(who) {
        return Err(Refused::new(401, None, "no such pass"));
    }
    let mode = shared.xet.mode().unwrap_or_default();
    let sha256 = id_of(id);
    let stored = stored(shared, &sha256).await?;
    let range = asked(headers).unwrap_or(0..stored.len());
    if range.start >= stored.len() {
        return Err(Refused::new(416, None, "the file is shorter"));
    }
    let range = range.start..range.end.min(stored.len());
    let url = |xorb: usize, bytes: &Range<u64>| {
        let signature = shared.xorb_signature(&sha256, xorb, bytes);
        format!("{}/xorbs/{sha256}/{xorb}?Signature={signature}", shared.content_url)
    };
    let mut plan = stored.plan(range, url);
    if let Some(tamper) = &mode.tamper_plan {
        tamper(&mut plan);
    }
    Ok(json_ok(&plan))
}

async fn xorb(shared: &Shared, sha256: &str, number: &str, query: &str, headers: &HeaderMap) -> Handled {
    let stored = stored(shared, sha256).await?;
    let gone = || Refused::new(404, None, "no such xorb");
    let number: usize = number.parse().map_err(|_| gone())?;
    let bytes = stored.xorb(number).ok_or_else(gone)?;
    // The range is part of what is signed.
    let range = asked(headers).unwrap_or(0..bytes.len() as u64);
    if query != format!("Signature={}", shared.xorb_signature(sha256, number, &range)) {
        return Err(Refused::new(403, None, "the signature is missing, wrong or expired"));
    }
    let mut part = bytes[range.start as usize..range.end as usize].to_vec();
    if let Some(tamper) = shared.xet.mode().unwrap_or_default().tamper_xorb {
        tamper(&mut part);
    }
    let mut response = whole(206, "application/octet-stream", part);
    let text = format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len());
    set(&mut response, "content-range", &text);
    Ok(response)
}

async fn stored(shared: &Shared, sha256: &str) -> Result<Arc<Stored>, Refused> {
    let (known, mode) = {
        let inner = shared.xet.inner();
        (inner.stored.get(sha256).cloned(), inner.mode.clone())
    };
    let mode = mode.ok_or_else(|| Refused::new(404, None, "there is no Xet here"))?;
    if let Some(stored) = known {
        return Ok(stored);
    }
    let file = tokio::fs::read(shared.git.lfs_path(sha256)).await.context("no such file")?;
    let stored = Arc::new(Stored::of(&file, mode.packing));
    shared.xet.inner().stored.insert(sha256.to_owned(), stored.clone());
    Ok(stored)
}

/// `bytes=0-9`, half-open.
fn asked(headers: &HeaderMap) -> Option<Range<u64>> {
    let (first, last) = headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
}

impl Shared {
    fn xorb_signature(&self, sha256: &str, xorb: usize, bytes: &Range<u64>) -> String {
        let secret = format!("{} {} {sha256} {xorb} {bytes:?}", self.content_url, self.state.epoch());
        hex::encode(Sha256::digest(secret))
    }
}
