//! One direction's valve: what goes through it is counted, held to the rate, and refused when the month is used up.

use std::sync::atomic::{AtomicU64, Ordering};

use hubless_types::Timestamp;

use crate::bucket::Bucket;
use crate::month::{Spent, content_end};
use crate::{Direction, Rate, Volume};

/// What bytes are for: a month's last hundredth (at most 64 MB) is kept for names and manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Files.
    Content,
    /// What a name means, manifests, who holds what.
    Words,
}

/// One direction's valve. Without a limit a call costs a few atomic operations.
#[derive(Debug)]
pub struct Valve {
    direction: Direction,
    bucket: Bucket,
    /// Bytes of this month.
    used: AtomicU64,
    /// Bytes since the beginning that the rate was asked for.
    passed: AtomicU64,
    /// The month's cap; `u64::MAX` without one.
    cap: AtomicU64,
    /// When the month ends, in seconds since 1970.
    until: AtomicU64,
}

impl Valve {
    pub(crate) fn new(direction: Direction) -> Self {
        Self {
            direction,
            bucket: Bucket::new(Rate::UNLIMITED),
            used: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            cap: AtomicU64::new(u64::MAX),
            until: AtomicU64::new(u64::MAX),
        }
    }

    /// The rate that holds now.
    pub fn rate(&self) -> Rate {
        self.bucket.rate()
    }

    /// Whether a month's bytes are bounded: they cost something.
    pub fn is_metered(&self) -> bool {
        self.cap.load(Ordering::Relaxed) < u64::MAX
    }

    /// Bytes that went through this month.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes since the node began that the rate let through: without what packets cost beside what they carry.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// The cap of the month, if bytes for `what` may not go through any more.
    pub fn spent(&self, what: Use) -> Option<Spent> {
        let cap = self.cap.load(Ordering::Relaxed);
        if cap == u64::MAX {
            return None;
        }
        let end = match what {
            Use::Content => content_end(cap),
            Use::Words => cap,
        };
        let until = Timestamp(self.until.load(Ordering::Relaxed));
        (self.used() >= end).then(|| Spent { direction: self.direction, cap: Volume::of(cap), until })
    }

    /// The most of `wanted` bytes that are worth being read at once under the rate that holds now: a hundredth of a
    /// second's worth.
    pub fn piece(&self, wanted: usize) -> usize {
        self.bucket.piece(wanted)
    }

    /// Waits for leave to send some of `wanted` bytes (not 0) and counts them; how many may be sent now, at least 1. All who
    /// wait get their turns in the order in which they came. Cancel safe: what it did not return was not counted.
    pub async fn take(&self, wanted: usize) -> usize {
        let bytes = self.bucket.take(wanted).await;
        self.pass(bytes);
        bytes
    }

    /// As [`Valve::take`], for a thread that may block. It shares the turns with tasks.
    pub fn take_blocking(&self, wanted: usize) -> usize {
        let bytes = self.bucket.take_blocking(wanted);
        self.pass(bytes);
        bytes
    }

    /// Counts bytes that have come, and waits until the rate allows the next. Cancelled, it has counted all of them.
    pub async fn pay(&self, bytes: usize) {
        self.pass(bytes);
        self.wait_for(bytes).await;
    }

    /// As [`Valve::pay`], for a thread that may block.
    pub fn pay_blocking(&self, bytes: usize) {
        self.pass(bytes);
        let mut left = bytes;
        while left > 0 {
            left -= self.bucket.take_blocking(left);
        }
    }

    /// Counts a small message, and lets it pass by all bulk that waits. Where small messages use up half of the rate,
    /// further ones wait among the others.
    pub async fn small(&self, bytes: usize) {
        self.pass(bytes);
        if !self.bucket.pass_small(bytes) {
            self.wait_for(bytes).await;
        }
    }

    /// Counts bytes of the month that no rate holds back: what packets cost beside what they carry.
    pub fn count(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that the rate lets through, now or by whoever settles them.
    pub(crate) fn pass(&self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        self.count(bytes as u64);
    }

    async fn wait_for(&self, bytes: usize) {
        let mut owed = bytes;
        self.settle(&mut owed).await;
    }

    /// Waits until nothing is owed. Cancel safe: what is settled stays so.
    pub(crate) async fn settle(&self, owed: &mut usize) {
        while *owed > 0 {
            *owed -= self.bucket.take(*owed).await;
        }
    }

    pub(crate) fn set(&self, rate: Rate, cap: Volume, until: Timestamp) {
        self.bucket.set_rate(rate);
        self.cap.store(cap.bytes().unwrap_or(u64::MAX), Ordering::Relaxed);
        self.until.store(until.0, Ordering::Relaxed);
    }

    pub(crate) fn cap(&self) -> Volume {
        match self.cap.load(Ordering::Relaxed) {
            u64::MAX => Volume::UNLIMITED,
            bytes => Volume::of(bytes),
        }
    }

    /// A new month.
    pub(crate) fn begin(&self) {
        self.used.store(0, Ordering::Relaxed);
    }
}
