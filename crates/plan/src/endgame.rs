//! What is taken from the slow: before a reader, in the middle, and at the end.

use std::ops::Range;
use std::time::Duration;

use hubless_types::{GROUP_BYTES, GroupSet};

use super::file::first_in_both;
use super::limits::{
    ENDGAME_GAIN_TENTHS, ENDGAME_MARGIN, FIRST_SEGMENT, MAX_COPIES, MAX_REST, READER_WAIT, RECLAIM_AFTER,
    RESCUE_AFTER, SLOW_SEGMENT, SMALL_PART,
};
use super::requests::Request;
use super::words::{RequestId, Source};
use super::{Plan, Reader};

impl Plan {
    /// Time until a request is done, as far as can be told; zero while it is too young to tell.
    fn time_left(&self, request: &Request) -> Duration {
        let Some(holder) = self.holders.get(&request.holder) else { return Duration::ZERO };
        let age = self.now.saturating_sub(request.sent);
        match holder.rate() {
            Some(rate) => {
                // Its requests share what it sends; one that was silent for long is not about to end.
                let ms = request.left().saturating_mul(1000 * holder.outstanding as u64) / rate.max(1);
                Duration::from_millis(ms).max(if age > RESCUE_AFTER {
                    holder.silent_for(self.now)
                } else {
                    Duration::ZERO
                })
            }
            None if age > RESCUE_AFTER => MAX_REST,
            None => Duration::ZERO,
        }
    }

    /// How many requests are out for any of what `request` has still to bring.
    fn copies(&self, request: &Request) -> usize {
        let (rest, Some(file)) = (request.rest(), self.files.get(&request.file)) else { return 0 };
        let same = |other: &&Request| {
            let theirs = other.rest();
            theirs.start < rest.end && rest.start < theirs.end
        };
        file.requests.iter().filter_map(|id| self.requests.get(id)).filter(same).count()
    }

    /// Takes from slow holders what would hold up the file for long, where a faster one has it.
    pub(super) fn reclaim_slow(&mut self) {
        let slow: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| {
                let rest = request.rest();
                rest.end - rest.start > SLOW_SEGMENT
                    && self.time_left(request) > RECLAIM_AFTER
                    && self.is_there_faster(request)
            })
            .map(|(id, _)| *id)
            .collect();
        slow.into_iter().for_each(|id| self.cancel(id));
    }

    fn is_there_faster(&self, request: &Request) -> bool {
        let Some(rate) = self.holders.get(&request.holder).and_then(|holder| holder.rate()) else {
            return false;
        };
        self.holders.iter().any(|(id, holder)| {
            *id != request.holder
                && holder.usable(self.now)
                && holder.rate().is_some_and(|other| other / 4 >= rate.max(1))
                && holder.has.get(&request.file).is_some_and(|has| has.groups.overlaps(request.rest()))
        })
    }

    /// Asks a second holder for the bytes at a reader's position where the first keeps it waiting.
    pub(super) fn rescue_readers(&mut self) {
        let readers: Vec<Reader> = self.readers.values().cloned().collect();
        for reader in &readers {
            // `None`: nothing to rescue.
            let _ = self.rescue(reader);
        }
    }

    fn rescue(&mut self, reader: &Reader) -> Option<()> {
        let held = &self.files.get(&reader.file)?.held;
        let head = reader.next + held.run_from(reader.next);
        if head >= reader.end {
            return None;
        }
        let covers = |(_, request): &(&RequestId, &Request)| {
            request.file == reader.file && request.rest().contains(&head)
        };
        let (id, late) = self.requests.iter().find(covers)?;
        if self.is_deep(late, head) {
            // All of it is asked for anew, from the reader's place on.
            let id = *id;
            self.cancel(id);
            return Some(());
        }
        let holder = self.holders.get(&late.holder)?;
        let slow = holder.rate().is_some_and(|rate| rate < FIRST_SEGMENT * GROUP_BYTES);
        let silent = self.now.saturating_sub(late.sent).min(holder.silent_for(self.now)) >= RESCUE_AFTER;
        if !(slow || silent) || self.copies(late) >= MAX_COPIES || !self.has_room() {
            return None;
        }
        let (guess, rest) = (self.guess(), head..late.rest().end.min(head + FIRST_SEGMENT));
        let other = self.soonest(&reader.file, head, guess, Some(late.holder))?;
        let bytes = (rest.end - rest.start) * GROUP_BYTES;
        if !silent && self.time_with(&other, bytes, guess) * 2 > self.time_left(late) {
            return None;
        }
        let has = &self.holders.get(&other)?.has.get(&reader.file)?.groups;
        let groups = first_in_both(has, has, rest, FIRST_SEGMENT)?;
        self.request(other, reader.file, groups, true);
        Some(())
    }

    /// Whether `group` lies so deep in a request that asking for it anew would bring it much sooner.
    fn is_deep(&self, request: &Request, group: u64) -> bool {
        let Some(holder) = self.holders.get(&request.holder) else { return false };
        let Some(rate) = holder.rate() else { return false };
        let before = (group - request.rest().start) * GROUP_BYTES;
        let ms = before.saturating_mul(1000 * holder.outstanding as u64) / rate.max(1);
        let (wait, guess) = (Duration::from_millis(ms), self.guess());
        let soonest = self.soonest(&request.file, group, guess, None);
        let anew = soonest.map(|id| self.time_among(&id, FIRST_SEGMENT * GROUP_BYTES, guess));
        wait > READER_WAIT && anew.is_some_and(|anew| anew.saturating_mul(2) < wait)
    }

    /// Gives holders that have nothing left to do a copy of what others are late with.
    pub(super) fn endgame(&mut self) {
        // Under a full cap a copy comes at the cost of something that is not here yet.
        if !self.has_room() || self.requests.is_empty() || self.finds_work() {
            return;
        }
        let guess = self.guess();
        for id in self.order() {
            let free = |plan: &Self| {
                plan.holders
                    .get(&id)
                    .is_some_and(|h| h.idle_at == Some(plan.changes) && h.outstanding < h.limit())
            };
            while free(self) && self.help_out(&id, guess) {}
        }
    }

    /// Whether anything is left that nobody was asked for and somebody can send: it is not the end yet.
    fn finds_work(&self) -> bool {
        let open = |(id, holder): (&Source, &super::Holder), hash, file: &super::File| {
            holder.usable(self.now)
                && holder.has.get(hash).is_some_and(|has| {
                    let first = |run: &Range<u64>| {
                        let both = first_in_both(file.todo(), &has.groups, run.clone(), 1);
                        both.is_some_and(|groups| !self.leaves(id, file, groups.start))
                    };
                    file.todo().runs().iter().any(first)
                })
        };
        let files = self.files.iter().filter(|(_, file)| !file.todo().is_empty());
        files.into_iter().any(|(hash, file)| self.holders.iter().any(|holder| open(holder, hash, file)))
    }

    /// What another could bring, at most `most` groups at a time, of a request that lacks `missing`: where it moves on, what is
    /// last of the second half, so that the two meet and nothing comes twice.
    fn what_helps(&self, request: &Request, missing: &GroupSet, most: u64) -> Option<Range<u64>> {
        let (start, end) = (missing.runs().first()?.start, missing.runs().last()?.end);
        let holder = self.holders.get(&request.holder)?;
        let moves = request.bytes > 0 && holder.silent_for(self.now) < RESCUE_AFTER;
        let half = (end - start) / 2;
        let last = (start + half).max(end.saturating_sub(most));
        Some(if moves && half >= SMALL_PART { last..end } else { start..end })
    }

    /// Asks `id` for the latest of what it could bring earlier.
    fn help_out(&mut self, id: &Source, guess: u64) -> bool {
        let Some(holder) = self.holders.get(id) else { return false };
        let latest = self
            .requests
            .values()
            .filter(|request| request.holder != *id && !self.leaves_to(id, &request.holder))
            .filter_map(|request| {
                let file = self.files.get(&request.file)?;
                let missing = file.held.missing(request.rest());
                let most = holder.segment(false);
                let within = self.what_helps(request, &missing, most)?;
                let has = &holder.has.get(&request.file)?.groups;
                let groups = first_in_both(&missing, has, within, most)?;
                let mine = holder.time_for(file.bytes(groups.clone()), guess);
                let theirs = self.time_left(request).max(request.time_at_its_pace(self.now));
                let gains = theirs.as_millis() * 10 > mine.as_millis() * u128::from(ENDGAME_GAIN_TENTHS)
                    && theirs > mine + ENDGAME_MARGIN;
                (gains && self.copies(request) < MAX_COPIES).then_some((theirs, request.file, groups))
            })
            .max_by(|a, b| (a.0, a.1, a.2.start).cmp(&(b.0, b.1, b.2.start)));
        let Some((_, file, groups)) = latest else { return false };
        self.request(*id, file, groups, false);
        true
    }
}
