//! The requests in flight: sent, followed, ended, given up; and whose fault it was.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{BlobHash, GROUP_BYTES};

use super::Plan;
use super::limits::{CAPPED_LEAST, CAPPED_SHARE, HELD_FOR, PACE_AFTER, SLOW_SEGMENT, STALL_AFTER};
use super::words::{Action, Failure, RequestId, Source};

/// A request in flight.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) holder: Source,
    pub(super) file: BlobHash,
    pub(super) groups: Range<u64>,
    pub(super) sent: Duration,
    /// When the first of it came.
    pub(super) begun: Option<Duration>,
    /// File bytes verified so far.
    pub(super) bytes: u64,
    /// File bytes in all.
    pub(super) total: u64,
}

impl Request {
    /// The groups that have not come yet.
    pub(super) fn rest(&self) -> Range<u64> {
        self.after(self.bytes)..self.groups.end
    }

    /// The bytes that have not come yet.
    pub(super) fn left(&self) -> u64 {
        self.total - self.bytes
    }

    /// Time until all has come if it goes on as it did so far; zero while that is too short to tell.
    pub(super) fn time_at_its_pace(&self, now: Duration) -> Duration {
        let age = now.saturating_sub(self.begun.unwrap_or(now));
        if age < PACE_AFTER || self.bytes == 0 {
            return Duration::ZERO;
        }
        Duration::from_millis((age.as_millis() as u64).saturating_mul(self.left()) / self.bytes)
    }

    /// The group after the first `bytes` bytes; one that came in part counts as not come.
    fn after(&self, bytes: u64) -> u64 {
        if bytes >= self.total { self.groups.end } else { self.groups.start + bytes / GROUP_BYTES }
    }
}

impl Plan {
    /// Asks `holder` for `groups`. They need not be among what is to do: at the end some are asked for twice.
    pub(super) fn request(&mut self, id: Source, hash: BlobHash, groups: Range<u64>, urgent: bool) {
        let (Some(holder), Some(file)) = (self.holders.get_mut(&id), self.files.get_mut(&hash)) else {
            return;
        };
        let total = file.bytes(groups.clone());
        let request = RequestId(self.next_request);
        self.next_request += 1;
        file.take_from_todo(groups.clone());
        file.requests.push(request);
        holder.sent(self.now, total);
        let sent = Request {
            holder: id,
            file: hash,
            groups: groups.clone(),
            sent: self.now,
            begun: None,
            bytes: 0,
            total,
        };
        self.requests.insert(request, sent);
        self.actions.push(Action::Request { request, holder: id, file: hash, groups, urgent });
    }

    pub(super) fn started(&mut self, id: RequestId, after: Duration) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.begun.get_or_insert(self.now);
        let holder = request.holder;
        if let Some(holder) = self.holders.get_mut(&holder) {
            holder.answered(after);
        }
        self.set_away(&holder, false);
    }

    pub(super) fn held_back(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        if let Some(holder) = self.holders.get_mut(&request.holder) {
            holder.held_back(self.now);
            self.held_at = Some(self.now);
        }
    }

    /// Whether this node's own cap held bytes back a moment ago.
    pub(super) fn is_held_back(&self) -> bool {
        self.held_at.is_some_and(|at| self.now.saturating_sub(at) < HELD_FOR)
    }

    /// Whether one more request leaves each its part of this node's own cap.
    pub(super) fn has_room(&self) -> bool {
        let most = |cap: u64| usize::try_from(cap / CAPPED_SHARE).unwrap_or(usize::MAX).max(CAPPED_LEAST);
        self.cap.is_none_or(|cap| self.requests.len() < most(cap))
    }

    /// The longest segment under this node's own cap, in groups: half a second's worth of it.
    pub(super) fn most_capped(&self) -> u64 {
        self.cap.map_or(u64::MAX, |cap| (cap / 2 / GROUP_BYTES).max(SLOW_SEGMENT))
    }

    pub(super) fn progressed(&mut self, id: RequestId, bytes: u64) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let bytes = bytes.min(request.total);
        if bytes <= request.bytes {
            return;
        }
        let come = request.after(request.bytes)..request.after(bytes);
        let more = bytes - request.bytes;
        request.bytes = bytes;
        request.begun.get_or_insert(self.now);
        let (holder, file) = (request.holder, request.file);
        if let Some(holder) = self.holders.get_mut(&holder) {
            holder.received(self.now, more);
        }
        self.set_away(&holder, false);
        self.learn(&file, come);
    }

    pub(super) fn finished(&mut self, id: RequestId) {
        let Some(total) = self.requests.get(&id).map(|request| request.total) else { return };
        self.progressed(id, total);
        self.end(id);
    }

    pub(super) fn failed(&mut self, id: RequestId, kind: Failure) {
        let Some(request) = self.end(id) else { return };
        self.give_back(&request.file, request.rest());
        let now = self.now;
        match kind {
            // The operator chose it, and other files of it may well be right: it is only not asked for this one.
            Failure::Wrong if request.holder.is_origin() => {
                self.holder_has(request.holder, request.file, Arc::default());
            }
            Failure::Wrong => self.ban(request.holder),
            // While its other requests move on, this one only waited its turn.
            Failure::Stalled if self.is_sending(&request.holder) => {}
            Failure::Stalled => self.stalled(&request.holder),
            Failure::NotHeld => {
                self.holder_has(request.holder, request.file, Arc::default());
                self.rest(&request.holder, |holder| holder.fail(now, kind));
            }
            Failure::Refused => self.rest(&request.holder, |holder| holder.fail(now, kind)),
            Failure::Lost => {
                self.set_away(&request.holder, true);
                self.rest(&request.holder, |holder| holder.fail(now, kind));
            }
        }
    }

    /// A holder went silent: all that it was asked for is given to others, and it rests.
    pub(super) fn stalled(&mut self, id: &Source) {
        self.cancel_where(|request| request.holder == *id);
        let now = self.now;
        self.set_away(id, true);
        self.rest(id, |holder| holder.fail(now, Failure::Stalled));
    }

    /// Takes a request out of the table, of its holder's and of its file's counts.
    pub(super) fn end(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if let Some(holder) = self.holders.get_mut(&request.holder) {
            holder.ended(self.now, request.left());
            // What was too short while it had others in flight may not be so now.
            if holder.has_short {
                holder.idle_at = None;
            }
        }
        if let Some(file) = self.files.get_mut(&request.file) {
            file.requests.retain(|other| *other != id);
        }
        self.wake.some.insert(request.holder);
        Some(request)
    }

    /// Gives a request up; what it did not bring is to do again.
    pub(super) fn cancel(&mut self, id: RequestId) {
        if let Some(request) = self.end(id) {
            self.actions.push(Action::Cancel { request: id });
            self.give_back(&request.file, request.rest());
        }
    }

    /// Takes back what waits at a source that gave the same to others meanwhile, where it has something else that it
    /// gave to nobody: they will have it to give.
    pub(super) fn take_back_given(&mut self, id: &Source, hash: &BlobHash) {
        let Some(gave) = self.holders.get(id).and_then(|holder| holder.has.get(hash)).map(|has| &has.gave)
        else {
            return;
        };
        let given = |request: &&Request| {
            request.holder == *id && request.begun.is_none() && gave.overlaps(request.groups.clone())
        };
        let waits = self.files.get(hash).into_iter().flat_map(|file| &file.requests).copied();
        let waits: Vec<RequestId> =
            waits.filter(|id| self.requests.get(id).is_some_and(|request| given(&request))).collect();
        for request in waits {
            if !self.has_fresh(id) {
                break;
            }
            self.cancel(request);
        }
    }

    pub(super) fn cancel_where(&mut self, which: impl Fn(&Request) -> bool) {
        let ids: Vec<RequestId> = self.requests.iter().filter(|(_, r)| which(r)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.cancel(id));
    }

    /// Puts those of `groups` back on the list that are wanted, not here, and in no request.
    pub(super) fn give_back(&mut self, hash: &BlobHash, groups: Range<u64>) {
        let Some(file) = self.files.get_mut(hash) else { return };
        let mut back = file.held.missing(groups).intersection(&file.wanted);
        for request in file.requests.iter().filter_map(|id| self.requests.get(id)) {
            back.remove(request.rest());
        }
        if back.is_empty() {
            return;
        }
        file.put_into_todo(&back);
        for (id, holder) in &mut self.holders {
            let has = holder.has.get(hash);
            if has.is_some_and(|has| back.runs().iter().any(|run| has.groups.overlaps(run.clone()))) {
                holder.idle_at = None;
                self.wake.some.insert(*id);
            }
        }
    }

    /// `groups` are verified: nobody is asked for them any more.
    pub(super) fn learn(&mut self, hash: &BlobHash, groups: Range<u64>) {
        let Some(file) = self.files.get_mut(hash) else { return };
        if groups.is_empty() {
            return;
        }
        file.held.insert(groups.clone());
        file.take_from_todo(groups.clone());
        // Who follows somebody slow has all that there is most of the time, and lacks nothing but patience.
        (file.starving, file.starved) = (None, false);
        let held = &file.held;
        let useless = |request: &Request| {
            let rest = request.rest();
            rest.start < rest.end && rest.end > groups.start && held.contains(rest)
        };
        let over: Vec<RequestId> =
            file.requests.iter().filter(|id| self.requests.get(id).is_some_and(useless)).copied().collect();
        for id in over {
            self.end(id);
            self.actions.push(Action::Cancel { request: id });
        }
        self.check_done(hash);
    }

    pub(super) fn check_done(&mut self, hash: &BlobHash) {
        let Some(file) = self.files.get_mut(hash) else { return };
        if file.done || !file.todo().is_empty() || !file.is_whole() {
            return;
        }
        file.done = true;
        self.actions.push(Action::FileDone { file: *hash });
    }

    fn is_sending(&self, id: &Source) -> bool {
        self.holders.get(id).is_some_and(|h| h.outstanding > 0 && h.silent_for(self.now) < STALL_AFTER)
    }

    fn rest(&mut self, id: &Source, fail: impl FnOnce(&mut super::Holder)) {
        if let Some(holder) = self.holders.get_mut(id) {
            fail(holder);
        }
        self.weigh = true;
    }
}
