//! What to ask of whom next: readers first, then the rarest parts.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use hubless_types::{BlobHash, GROUP_BYTES, GroupSet};

use super::file::{File, first_in_both};
use super::holder::Cursor;
use super::limits::{
    FIRST_SEGMENT, MAX_STRETCH, MAX_WINDOW, MIN_WINDOW, PIECE_GROUPS, SMALL_PART, UNKNOWN_RATE, URGENT_EXTRA,
    WINDOW_TIME,
};
use super::words::Source;
use super::{Plan, Reader};

/// A stretch of equally rare groups that a holder has and nobody was asked for.
struct Stretch {
    file: BlobHash,
    groups: Range<u64>,
}

impl Plan {
    /// Gives every holder with room as much as it may have in flight.
    pub(super) fn fill(&mut self) {
        self.serve_readers();
        let order = self.order();
        // One request each in turn, so that a file with little left is spread over many.
        loop {
            let given = order.iter().filter(|id| self.give_next(id)).count();
            if given == 0 {
                break;
            }
        }
    }

    /// Usable holders: the local network's first, the fastest first among them.
    pub(super) fn order(&self) -> Vec<Source> {
        let guess = self.guess();
        let mut order: Vec<_> = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.usable(self.now) && !holder.has.is_empty())
            .map(|(id, holder)| (Reverse(holder.lan), Reverse(holder.rate().unwrap_or(guess)), *id))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, id)| id).collect()
    }

    /// What a holder that was never measured is taken to send: the middle of those that were.
    pub(super) fn guess(&self) -> u64 {
        let mut rates: Vec<u64> = self.holders.values().filter_map(|holder| holder.rate()).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied().unwrap_or(UNKNOWN_RATE)
    }

    fn serve_readers(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let (window, guess) = (self.window(), self.guess());
        let readers: Vec<Reader> = self.readers.values().cloned().collect();
        for reader in readers {
            let end = reader.end.min(reader.next + window);
            let mut at = reader.next;
            while let Some(next) = self.serve_window(&reader, at..end, guess) {
                at = next;
            }
        }
    }

    /// Groups that are fetched before each reader's position.
    fn window(&self) -> u64 {
        let rate: u64 = self.holders.values().filter(|h| h.usable(self.now)).filter_map(|h| h.rate()).sum();
        let groups = rate.saturating_mul(WINDOW_TIME.as_secs()) / GROUP_BYTES;
        groups.clamp(MIN_WINDOW, MAX_WINDOW)
    }

    /// Asks for the first groups within `window` that nobody was asked for; says from where to go on, if at all.
    fn serve_window(&mut self, reader: &Reader, window: Range<u64>, guess: u64) -> Option<u64> {
        let todo = &self.files.get(&reader.file)?.todo;
        let first = first_in_both(todo, todo, window.clone(), u64::MAX)?;
        let Some(id) = self.soonest(&reader.file, first.start, guess, None) else {
            // Nobody has it; perhaps somebody has what follows.
            return Some(first.end.min((first.start / PIECE_GROUPS + 1) * PIECE_GROUPS));
        };
        let holder = self.holders.get(&id)?;
        if holder.outstanding >= holder.urgent_limit(URGENT_EXTRA) || !self.has_room() {
            return None;
        }
        let most =
            (first.start - reader.next).max(FIRST_SEGMENT).min(holder.segment()).min(self.most_capped());
        let groups = first_in_both(todo, holder.has.get(&reader.file)?, first, most)?;
        let end = groups.end;
        self.request(id, reader.file, groups);
        Some(end)
    }

    /// Who of those that have `group` would bring it first, other than `not`.
    pub(super) fn soonest(
        &self,
        hash: &BlobHash,
        group: u64,
        guess: u64,
        not: Option<Source>,
    ) -> Option<Source> {
        let bytes = FIRST_SEGMENT * GROUP_BYTES;
        let has = |has: &GroupSet| has.contains(group..group + 1);
        self.holders
            .iter()
            .filter(|(id, holder)| {
                Some(**id) != not && holder.usable(self.now) && holder.has.get(hash).is_some_and(has)
            })
            .map(|(id, holder)| (holder.time_for(bytes, guess), Reverse(holder.lan), *id))
            .min()
            .map(|(_, _, id)| id)
    }

    /// Asks `id` for the next segment that is not urgent, if it has room and anything is left for it.
    fn give_next(&mut self, id: &Source) -> bool {
        let Some(holder) = self.holders.get(id) else { return false };
        if holder.idle_at == Some(self.changes) || holder.outstanding >= holder.limit() || !self.has_room() {
            return false;
        }
        let most = holder.segment().min(self.most_capped());
        let Some((file, groups)) = self.go_on(id, most).or_else(|| self.begin(id, most)) else {
            let changes = self.changes;
            if let Some(holder) = self.holders.get_mut(id) {
                holder.idle_at = Some(changes);
                holder.cursor = None;
            }
            return false;
        };
        if let Some(cursor) = self.holders.get_mut(id).and_then(|holder| holder.cursor.as_mut()) {
            cursor.next = groups.end;
        }
        self.request(*id, file, groups);
        true
    }

    /// The next segment along the stretch that this holder is being followed along.
    fn go_on(&self, id: &Source, most: u64) -> Option<(BlobHash, Range<u64>)> {
        let holder = self.holders.get(id)?;
        let cursor = holder.cursor.as_ref().filter(|cursor| cursor.next < cursor.end)?;
        let stretch = cursor.next..cursor.end;
        let groups = self.cut(id, &cursor.file, stretch, most, cursor.rarity)?;
        Some((cursor.file, groups))
    }

    /// Chooses a new stretch: a random place among the rarest groups that this holder has.
    fn begin(&mut self, id: &Source, most: u64) -> Option<(BlobHash, Range<u64>)> {
        let (rarity, stretches) = self.rarest(id)?;
        let total: u64 = stretches.iter().map(|s| s.groups.end - s.groups.start).sum();
        let part = self.fair_part(total);
        let most = most.min(part);
        let mut place = self.rng.below(total);
        let chosen = stretches.into_iter().find(|s| {
            let len = s.groups.end - s.groups.start;
            let here = place < len;
            if !here {
                place -= len;
            }
            here
        })?;
        // From the start of a piece: what is left before it stays long enough to be worth a request.
        let step = most.clamp(1, PIECE_GROUPS);
        let start = (chosen.groups.start + place) / step * step;
        let start = start.max(chosen.groups.start);
        let end = chosen.groups.end.min(start + part.min(MAX_STRETCH));
        let groups = self.cut(id, &chosen.file, start..end, most, rarity)?;
        if let Some(holder) = self.holders.get_mut(id) {
            holder.cursor = Some(Cursor { file: chosen.file, next: start, end, rarity });
        }
        Some((chosen.file, groups))
    }

    /// Most that should be asked for at a time of `total` rarest groups: where little is left and others want it
    /// too, each takes a small part, and has the rest from them.
    fn fair_part(&self, total: u64) -> u64 {
        let wants = |(hash, has): (&BlobHash, &GroupSet)| {
            self.files.get(hash).is_some_and(|f| has.len() < f.groups())
        };
        let rivals = self
            .holders
            .iter()
            .filter(|(id, h)| !id.is_origin() && h.usable(self.now) && h.has.iter().any(wants))
            .count() as u64;
        if rivals == 0 { u64::MAX } else { (total / (2 * (rivals + 1))).max(SMALL_PART) }
    }

    /// The start of `stretch` as one segment: to do, held by `id`, and no less rare than `rarity`.
    fn cut(
        &self,
        id: &Source,
        hash: &BlobHash,
        stretch: Range<u64>,
        most: u64,
        rarity: u16,
    ) -> Option<Range<u64>> {
        let (file, has) = (self.files.get(hash)?, self.holders.get(id)?.has.get(hash)?);
        let start = stretch.start;
        let groups = first_in_both(&file.todo, has, stretch, most).filter(|groups| groups.start == start)?;
        let fits = |group: u64| file.rarity(group) <= rarity && !self.leaves(id, file, group);
        let mut end = start;
        while end < groups.end && fits(end) {
            end = groups.end.min((end / PIECE_GROUPS + 1) * PIECE_GROUPS);
        }
        // A segment of several pieces ends with a piece.
        let whole = end - end % PIECE_GROUPS;
        let end = if end < groups.end || whole <= start || groups.end < start + most { end } else { whole };
        (start < end).then_some(start..end)
    }

    /// The rarest groups that `id` has and nobody was asked for, over all files.
    fn rarest(&self, id: &Source) -> Option<(u16, Vec<Stretch>)> {
        let holder = self.holders.get(id)?;
        let mut best = u16::MAX;
        let mut found: Vec<Stretch> = Vec::new();
        for (hash, has) in &holder.has {
            let Some(file) = self.files.get(hash).filter(|file| !file.todo.is_empty()) else { continue };
            for run in file.todo.intersection(has).runs() {
                let mut at = run.start;
                while at < run.end {
                    let piece = at..run.end.min((at / PIECE_GROUPS + 1) * PIECE_GROUPS);
                    at = piece.end;
                    let rarity = file.rarity(piece.start);
                    if rarity > best || self.leaves(id, file, piece.start) {
                        continue;
                    }
                    if rarity < best {
                        best = rarity;
                        found.clear();
                    }
                    match found.last_mut().filter(|last| last.file == *hash && last.groups.end == piece.start)
                    {
                        Some(last) => last.groups.end = piece.end,
                        None => found.push(Stretch { file: *hash, groups: piece }),
                    }
                }
            }
        }
        (!found.is_empty()).then_some((best, found))
    }

    /// Whether `id` leaves `group` to the local network, or as an origin to the peers: they have it, and would be
    /// done soon enough alone.
    pub(super) fn leaves(&self, id: &Source, file: &File, group: u64) -> bool {
        let far = self.holders.get(id).is_some_and(|holder| !holder.lan);
        self.lan_alone && far && file.on_lan(group)
            || self.peers_alone && id.is_origin() && file.rarity(group) > 0
    }

    /// Whether `id` copies nothing that `other` was asked for.
    pub(super) fn leaves_to(&self, id: &Source, other: &Source) -> bool {
        let lan = |id: &Source| self.holders.get(id).is_some_and(|holder| holder.lan);
        self.lan_alone && !lan(id) && lan(other) || self.peers_alone && id.is_origin() && !other.is_origin()
    }

    /// Time in which `id` would be done with `bytes` more.
    pub(super) fn time_with(&self, id: &Source, bytes: u64, guess: u64) -> Duration {
        self.holders.get(id).map_or(Duration::MAX, |holder| holder.time_for(bytes, guess))
    }
}
