//! What to ask of whom next: readers first, then the rarest parts.

use std::cell::Cell;
use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use hubless_types::{BlobHash, GROUP_BYTES};

use super::bits::{Bits, ones};
use super::file::{File, first_in_both};
use super::holder::{Cursor, Has, Holder};
use super::limits::{
    BASE_OUTSTANDING, FIRST_SEGMENT, MAX_STRETCH, MAX_WINDOW, MIN_SEGMENT, MIN_WINDOW, ORIGIN_SEGMENT,
    PIECE_GROUPS, SMALL_PART, UNKNOWN_RATE, URGENT_EXTRA, WINDOW_TIME,
};
use super::words::Source;
use super::{Plan, Reader, Wake};

impl Plan {
    /// Gives every holder with room as much as it may have in flight.
    pub(super) fn fill(&mut self) {
        let Wake { all, some } = std::mem::take(&mut self.wake);
        if !all && some.is_empty() {
            return;
        }
        self.serve_readers();
        let mut order = self.order();
        if !all {
            order.retain(|id| some.contains(id));
        }
        let rivals = self.rivals();
        // One request each in turn, so that a file with little left is spread over many.
        loop {
            let given = order.iter().filter(|id| self.give_next(id, rivals)).count();
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
        let todo = self.files.get(&reader.file)?.todo();
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
            (first.start - reader.next).max(FIRST_SEGMENT).min(holder.segment(false)).min(self.most_capped());
        let groups = first_in_both(todo, &holder.has.get(&reader.file)?.groups, first, most)?;
        let end = groups.end;
        // What is long is so far from the reader that it can wait its turn.
        let urgent = groups.end - groups.start < MIN_SEGMENT;
        self.request(id, reader.file, groups, urgent);
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
        let has = |has: &Has| has.groups.contains(group..group + 1);
        self.holders
            .iter()
            .filter(|(id, holder)| {
                Some(**id) != not && holder.usable(self.now) && holder.has.get(hash).is_some_and(has)
            })
            .map(|(id, holder)| (holder.time_among(bytes, guess), Reverse(holder.lan), *id))
            .min()
            .map(|(_, _, id)| id)
    }

    /// Asks `id` for the next segment that is not urgent, if it has room and anything is left for it.
    fn give_next(&mut self, id: &Source, rivals: u64) -> bool {
        let Some(holder) = self.holders.get(id) else { return false };
        // Who gives to others as well has others that ask.
        let rivals = if id.is_origin() { 0 } else { rivals.max(holder.gives_others.into()) };
        // They begin as this node does: it asks for little before it knows what they have.
        let requests = if rivals > 0 && holder.rate().is_none() { BASE_OUTSTANDING } else { usize::MAX };
        let full = holder.outstanding >= holder.limit().min(requests);
        if holder.idle_at == Some(self.changes) || full || !self.has_room() {
            return false;
        }
        let most = holder.segment(rivals > 0).min(self.most_capped());
        // What an origin was asked for it sends, also when it turns out that peers are quick enough.
        let most = if id.is_origin() && self.peers_have_any() { most.min(ORIGIN_SEGMENT) } else { most };
        let short = Cell::new(false);
        let next = self.go_on(id, most).or_else(|| self.begin(id, most, rivals, &short));
        let Some((file, groups)) = next else {
            let changes = self.changes;
            if let Some(holder) = self.holders.get_mut(id) {
                (holder.idle_at, holder.has_short) = (Some(changes), short.get());
                holder.cursor = None;
            }
            return false;
        };
        if let Some(cursor) = self.holders.get_mut(id).and_then(|holder| holder.cursor.as_mut()) {
            cursor.next = groups.end;
        }
        self.request(*id, file, groups, false);
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

    /// Chooses a new stretch: at a random place among the rarest pieces that this holder has. Where there is none, `short` says
    /// whether there is what is too short while it has something else to send.
    fn begin(
        &mut self,
        id: &Source,
        most: u64,
        rivals: u64,
        short: &Cell<bool>,
    ) -> Option<(BlobHash, Range<u64>)> {
        let draw = self.rng.next();
        // Where all ask for as much, all come again at the same moment, and choose without knowing of each other:
        // their first segments differ in length.
        let holder = self.holders.get(id)?;
        let first = !id.is_origin() && (holder.rate().is_none() || rivals > 0 && !holder.asked);
        let most = if first { 1 + self.rng.next() % PIECE_GROUPS } else { most };
        let Choice { hash, groups, rarity } = self.rarest(&Seeks { id, most, draw, rivals, short })?;
        if let Some(holder) = self.holders.get_mut(id) {
            // Where others fetch the same, each part is chosen anew: they may have it by then.
            let next = groups.start;
            let end = next + if rivals == 0 { MAX_STRETCH } else { 0 };
            holder.cursor = (rivals == 0).then_some(Cursor { file: hash, next, end, rarity });
        }
        Some((hash, groups))
    }

    /// Whether any peer that answers has anything of what is fetched.
    fn peers_have_any(&self) -> bool {
        self.holders.iter().any(|(id, h)| !id.is_origin() && h.usable(self.now) && !h.has.is_empty())
    }

    /// How many others fetch the same, those among them that may be about to begin.
    fn rivals(&self) -> u64 {
        let rival = |(id, h): &(&Source, &Holder)| {
            !id.is_origin() && (h.fetching > 0 || h.may_begin(self.now)) && h.usable(self.now)
        };
        self.holders.iter().filter(rival).count() as u64
    }

    /// The first segment at the `draw`th of the rarest pieces: of a source that says what it gave, first of what
    /// it gave to nobody.
    fn rarest(&self, seeks: &Seeks<'_>) -> Option<Choice> {
        let gives = self.holders.get(seeks.id)?.says_what_it_gave();
        let ranks = [(Of::Fresh, gives), (Of::Full, seeks.rivals > 0), (Of::Any, true)];
        let mut open = self.open(seeks.id);
        ranks.into_iter().filter(|(_, counts)| *counts).find_map(|(of, _)| {
            open.iter_mut().for_each(|open| open.of = of);
            self.seek(&open, seeks)
        })
    }

    /// The files of which `id` has pieces of which something is to do.
    fn open(&self, id: &Source) -> Vec<Open<'_>> {
        let Some(holder) = self.holders.get(id) else { return Vec::new() };
        let near = self.lan_alone && !holder.lan;
        // Both are in the order of their hashes: side by side they are found without a search for each.
        let mut files = self.files.iter().peekable();
        let mut open = Vec::new();
        for (hash, has) in &holder.has {
            while files.next_if(|(other, _)| *other < hash).is_some() {}
            let Some((hash, file)) = files.next_if(|(other, _)| *other == hash) else { continue };
            let one = Open { hash, file, has, near, of: Of::Any };
            if one.words(file.open()).next().is_some() {
                open.push(one);
            }
        }
        open
    }

    /// Whether `id` has anything to do that it gave to nobody.
    pub(super) fn has_fresh(&self, id: &Source) -> bool {
        let gives = self.holders.get(id).is_some_and(Holder::says_what_it_gave);
        let fresh = |open: Open<'_>| Open { of: Of::Fresh, ..open }.words(open.file.open()).next().is_some();
        gives && self.open(id).into_iter().any(fresh)
    }

    fn seek(&self, open: &[Open<'_>], seeks: &Seeks<'_>) -> Option<Choice> {
        let holder = self.holders.get(seeks.id)?;
        let used = open.iter().fold(0, |used, open| used | open.file.rarities());
        // What any peer has is left to the peers.
        let used = if self.peers_alone && seeks.id.is_origin() { used & 1 } else { used };
        let rarities = (0..u128::BITS as usize).filter(|rarity| used >> rarity & 1 == 1);
        for rarity in rarities {
            let level = Level::of(open, rarity);
            let mut short = None;
            // All of them are tried: what a holder has of a piece need not be what is to do of it.
            for (open, piece) in level.from(seeks.draw) {
                let part = if open.has.whole {
                    fair_part(level.total * PIECE_GROUPS, seeks.rivals)
                } else {
                    u64::MAX
                };
                let most = seeks.most.min(part);
                let Some(groups) = self.segment_at(seeks.id, open, piece, most, rarity, seeks.rivals) else {
                    continue;
                };
                let choice = Choice { hash: *open.hash, groups, rarity };
                if choice.groups.end - choice.groups.start >= SMALL_PART.min(most) || open.has.whole {
                    return Some(choice);
                }
                // The holder is being sent this piece itself: there will be more of it soon.
                short.get_or_insert(choice);
            }
            if short.is_some() && holder.outstanding < BASE_OUTSTANDING {
                return short;
            }
            seeks.short.set(seeks.short.get() || short.is_some());
        }
        None
    }

    /// One segment that begins in `piece`.
    fn segment_at(
        &self,
        id: &Source,
        open: &Open<'_>,
        piece: u64,
        most: u64,
        rarity: usize,
        rivals: u64,
    ) -> Option<Range<u64>> {
        let (start, end) = (piece * PIECE_GROUPS, (piece + 1) * PIECE_GROUPS);
        let end = if rivals == 0 { start + MAX_STRETCH } else { end.max(start + most - most % PIECE_GROUPS) };
        let stretch = |within: Range<u64>| {
            let first = first_in_both(open.file.todo(), &open.has.groups, within.clone(), 1)?;
            self.cut(id, open.hash, first.start..within.end, most, rarity)
        };
        if id.is_origin() {
            // Few requests and long ones: from where all that follows fits.
            let aligned = start / ORIGIN_SEGMENT * ORIGIN_SEGMENT;
            return stretch(aligned..aligned + MAX_STRETCH).or_else(|| stretch(start..end));
        }
        if open.of != Of::Fresh {
            return stretch(start..end);
        }
        open.has.gave.missing(start..end).runs().iter().find_map(|run| stretch(run.clone()))
    }

    /// The start of `stretch` as one segment: to do, held by `id`, and no less rare than `rarity`.
    fn cut(
        &self,
        id: &Source,
        hash: &BlobHash,
        stretch: Range<u64>,
        most: u64,
        rarity: usize,
    ) -> Option<Range<u64>> {
        let (file, has) = (self.files.get(hash)?, self.holders.get(id)?.has.get(hash)?);
        let start = stretch.start;
        let groups =
            first_in_both(file.todo(), &has.groups, stretch, most).filter(|groups| groups.start == start)?;
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

    /// Time in which `id` would bring `bytes` beside what it is sending.
    pub(super) fn time_among(&self, id: &Source, bytes: u64, guess: u64) -> Duration {
        self.holders.get(id).map_or(Duration::MAX, |holder| holder.time_among(bytes, guess))
    }

    /// Time in which `id` would be done with `bytes` more.
    pub(super) fn time_with(&self, id: &Source, bytes: u64, guess: u64) -> Duration {
        self.holders.get(id).map_or(Duration::MAX, |holder| holder.time_for(bytes, guess))
    }
}

/// What is looked for.
struct Seeks<'a> {
    id: &'a Source,
    most: u64,
    draw: u64,
    rivals: u64,
    /// Set where something was found that is too short while the holder has something else to send.
    short: &'a Cell<bool>,
}

/// What was found.
struct Choice {
    hash: BlobHash,
    groups: Range<u64>,
    rarity: usize,
}

/// Most that should be asked for at a time of `total` rarest groups: where little is left and others want it too,
/// each takes a small part, and has the rest from them.
fn fair_part(total: u64, rivals: u64) -> u64 {
    if rivals == 0 { u64::MAX } else { (total / (2 * (rivals + 1))).max(SMALL_PART) }
}

/// Which of its pieces count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Those of which it gave something to nobody.
    Fresh,
    /// Those that it has wholly.
    Full,
    Any,
}

/// A file of which a holder has something and something is to do.
struct Open<'a> {
    hash: &'a BlobHash,
    file: &'a File,
    has: &'a Has,
    /// Whether the holder leaves to the local network what that has.
    near: bool,
    of: Of,
}

impl Open<'_> {
    /// Those of `pieces` that the holder has and that count, by 64 where there are any.
    fn words<'b>(&'b self, pieces: &'b Bits) -> impl Iterator<Item = (u64, u64)> + 'b {
        let words = if pieces.is_empty() { 0 } else { pieces.words() };
        let word = |i| {
            let wanted = pieces.word(i) & self.has.pieces.word(i);
            let wanted = if self.near { wanted & !self.file.lan().word(i) } else { wanted };
            match self.of {
                Of::Fresh => wanted & !self.has.given.word(i),
                Of::Full => wanted & self.has.full.word(i),
                Of::Any => wanted,
            }
        };
        (0..words).map(move |i| (i as u64, word(i))).filter(|(_, word)| *word != 0)
    }
}

/// The pieces of one rarity over all files that a holder has something of.
struct Level<'a, 'b> {
    words: Vec<(&'b Open<'a>, u64, u64)>,
    total: u64,
}

impl<'a, 'b> Level<'a, 'b> {
    fn of(open: &'b [Open<'a>], rarity: usize) -> Self {
        let mut words = Vec::new();
        // Most files have nothing of most rarities, and to look for it there would cost more than all else.
        for file in open.iter().filter(|file| file.file.rarities() >> rarity & 1 == 1) {
            let level = file.file.level(rarity).into_iter();
            words.extend(level.flat_map(|level| file.words(level)).map(|(i, word)| (file, i, word)));
        }
        let total = words.iter().map(|(_, _, word)| u64::from(word.count_ones())).sum();
        Self { words, total }
    }

    /// All of them: the `draw`th, counted round and round, those after it, and those before it.
    fn from(&self, draw: u64) -> impl Iterator<Item = (&'b Open<'a>, u64)> {
        let mut n = draw.checked_rem(self.total).unwrap_or(0);
        let count = |word: u64| u64::from(word.count_ones());
        let at = self.words.iter().position(|(_, _, word)| {
            let here = n < count(*word);
            n -= if here { 0 } else { count(*word) };
            here
        });
        // The word that it is in comes twice: first without what is before it, at last with that alone.
        let at = at.unwrap_or(0);
        let first = self.words.get(at).and_then(|(_, _, word)| ones(*word).nth(n as usize)).unwrap_or(0);
        let before = (1 << first) - 1;
        (0..self.words.len() + usize::from(before > 0)).flat_map(move |i| {
            let (file, place, word) = self.words[(at + i) % self.words.len()];
            let mask = if i == 0 {
                !before
            } else if i < self.words.len() {
                u64::MAX
            } else {
                before
            };
            ones(word & mask).map(move |bit| (file, place * 64 + bit))
        })
    }
}
