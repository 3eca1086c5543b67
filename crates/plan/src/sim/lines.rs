//! How bytes flow: requests that wait for a slot, and lines that are shared among those that have one.

use std::ops::Range;
use std::time::Duration;

use hubless_types::{ByteRange, GROUP_BYTES};

use super::{Event, Failure, LOST_AFTER, RequestId, Sim};

pub(super) type FlowId = usize;

/// Rounds in which what some flows cannot use goes to others.
const SHARING_ROUNDS: usize = 3;

/// Rounds in which a step's slots are given.
const SERVING_ROUNDS: usize = 3;

/// Longest wait for a slot, as on the network.
const SLOT_WAIT: Duration = Duration::from_secs(2);

/// One asker's part of the slots: one in so many, as on the network.
const SLOT_SHARE: usize = 2;

/// Bytes in a packet, for what a lossy line lets through.
const PACKET: f64 = 1400.0;

pub(super) struct Flow {
    to: usize,
    from: usize,
    request: RequestId,
    file: usize,
    groups: Range<u64>,
    total: u64,
    sent_at: Duration,
    /// When its first byte comes, if it need not wait for a slot: after the way there and the way back. No slot is
    /// held on the way: a sender is done with an answer when it has left.
    arrives: Duration,
    sending: bool,
    bytes: u64,
    told: u64,
    /// Bytes a second that losses allow.
    cap: u64,
    rate: u64,
}

impl Flow {
    /// Most bytes a second that it can use in a step of so many microseconds.
    const fn most(&self, step: u64) -> u64 {
        let left = ((self.total - self.bytes) * 1_000_000).div_ceil(step);
        if left < self.cap { left } else { self.cap }
    }

    /// Whether it ends in this step, at the rate that it was given.
    const fn ends(&self, step: u64) -> bool {
        self.bytes + self.rate * step / 1_000_000 >= self.total
    }
}

impl Sim {
    pub(super) fn ask(
        &mut self,
        to: usize,
        from: usize,
        request: RequestId,
        file: usize,
        groups: Range<u64>,
    ) {
        let total = ByteRange::of_groups(groups.clone(), self.world.sizes[file]).len();
        let one_way = self.nodes[to].spec.delay + self.nodes[from].spec.delay;
        let loss = self.nodes[to].spec.loss.max(self.nodes[from].spec.loss);
        // Mathis, Semke, Mahdavi and Ott (1997): what a stream does at such a loss.
        let cap = 1.22 * PACKET / (2.0 * one_way.as_secs_f64() * loss.sqrt());
        let flow = Flow {
            to,
            from,
            request,
            file,
            groups,
            total,
            sent_at: self.now,
            arrives: self.now + one_way * 2,
            sending: false,
            bytes: 0,
            told: 0,
            cap: if loss > 0.0 { cap as u64 } else { u64::MAX },
            rate: 0,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.flows.push(None);
            self.flows.len() - 1
        });
        self.flows[id] = Some(flow);
        self.nodes[to].asked.insert(request, id);
        self.nodes[to].out.requests += 1;
        self.nodes[from].waiting.push_back(id);
    }

    /// Takes a flow away; its asker has been told, or knows.
    pub(super) fn end(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows[id].take()?;
        self.free.push(id);
        let sender = &mut self.nodes[flow.from];
        if flow.sending {
            sender.sending.retain(|other| *other != id);
        } else {
            sender.waiting.retain(|other| *other != id);
        }
        self.nodes[flow.to].asked.remove(&flow.request);
        Some(flow)
    }

    fn end_with(&mut self, id: FlowId, kind: Failure) {
        if let Some(flow) = self.end(id) {
            self.fail(flow.to, flow.request, kind);
        }
    }

    /// Gives slots to those who wait, and shares the lines among those who have one. What ends within the step leaves
    /// its slot, and what it does not need of its line, to the next.
    pub(super) fn serve(&mut self) {
        for round in 0..SERVING_ROUNDS {
            let more = self.admit();
            if round > 0 && !more {
                break;
            }
            self.share();
        }
    }

    /// Gives free slots to those who wait: the next is whoever has the fewest, and got the least so far. Whether there
    /// was any.
    fn admit(&mut self) -> bool {
        let step = self.world.step.as_micros() as u64;
        let mut any = false;
        for i in 0..self.nodes.len() {
            if self.nodes[i].waiting.is_empty() {
                continue;
            }
            if self.nodes[i].spec.is_away(self.now) {
                self.lose(i);
                continue;
            }
            let slots = self.nodes[i].spec.slots;
            let stays = |id: &&FlowId| self.flows[**id].as_ref().is_some_and(|flow| !flow.ends(step));
            let stay = self.nodes[i].sending.iter().filter(stays).count();
            for _ in stay..slots {
                let Some(next) = self.next_in_turn(i) else { break };
                let node = &mut self.nodes[i];
                node.waiting.retain(|id| *id != next);
                node.sending.push(next);
                if let Some(flow) = self.flows[next].as_mut() {
                    flow.sending = true;
                    self.note_given(next);
                    any = true;
                }
            }
            let late = |id: &FlowId| {
                self.flows[*id].as_ref().is_some_and(|flow| flow.arrives + SLOT_WAIT < self.now)
            };
            let late: Vec<FlowId> = self.nodes[i].waiting.iter().copied().filter(late).collect();
            self.nodes[i].out.refused += late.len() as u64;
            late.into_iter().for_each(|id| self.end_with(id, Failure::Refused));
        }
        any
    }

    fn next_in_turn(&self, i: usize) -> Option<FlowId> {
        let node = &self.nodes[i];
        let having = |to: usize| {
            node.sending
                .iter()
                .filter(|id| self.flows[**id].as_ref().is_some_and(|flow| flow.to == to))
                .count()
        };
        let share = (node.spec.slots / SLOT_SHARE).max(1);
        let waiting = node.waiting.iter().enumerate().filter_map(|(place, id)| {
            let flow = self.flows[*id].as_ref().filter(|flow| flow.arrives <= self.now)?;
            let has = having(flow.to);
            let served = node.served.get(&flow.to).copied().unwrap_or(0);
            (has < share).then_some((has, served, place, *id))
        });
        waiting.min().map(|(_, _, _, id)| id)
    }

    /// A source of a whole file remembers what it gave.
    fn note_given(&mut self, id: FlowId) {
        let Some(flow) = &self.flows[id] else { return };
        let node = &mut self.nodes[flow.from];
        if !node.spec.fetches && !node.spec.origin {
            let all = node.given.entry(flow.file).or_default();
            let new = all.missing(flow.groups.clone()).len();
            node.out.given_once += new;
            if node.out.given_all.is_none() {
                node.out.given_twice += flow.groups.end - flow.groups.start - new;
            }
            all.insert(flow.groups.clone());
            let groups: u64 = self.world.sizes.iter().map(|size| size.div_ceil(GROUP_BYTES)).sum();
            if node.out.given_once == groups {
                node.out.given_all.get_or_insert(self.now);
            }
            let to = node.gave.entry(flow.file).or_default().entry(flow.to).or_default();
            to.insert(flow.groups.clone());
            node.gave_more.insert(flow.file);
        }
    }

    /// Requests to one that is gone fail; those to one that stands still wait.
    fn lose(&mut self, i: usize) {
        if !self.nodes[i].spec.is_dead(self.now) {
            return;
        }
        let node = &self.nodes[i];
        let lost =
            |id: &FlowId| self.flows[*id].as_ref().is_some_and(|flow| flow.sent_at + LOST_AFTER < self.now);
        let lost: Vec<FlowId> = node.waiting.iter().copied().filter(lost).collect();
        lost.into_iter().for_each(|id| self.end_with(id, Failure::Lost));
    }

    /// Shares uplinks and downlinks among the flows. One that is about to end takes no more than it has left: the rest
    /// of the step is the others'.
    fn share(&mut self) {
        let (now, step) = (self.now, self.world.step.as_micros() as u64);
        let mut left: Vec<u64> =
            self.nodes.iter().map(|n| if n.spec.sends(now) { n.spec.up } else { 0 }).collect();
        let mut down: Vec<u64> =
            self.nodes.iter().map(|n| if n.spec.is_away(now) { 0 } else { n.spec.down }).collect();
        let mut takers = vec![0_u64; left.len()];
        let mut open: Vec<FlowId> = self.nodes.iter().flat_map(|node| &node.sending).copied().collect();
        for id in &open {
            if let Some(flow) = self.flows[*id].as_mut() {
                flow.rate = 0;
            }
        }
        let mut senders = vec![0_u64; left.len()];
        for round in 0..SHARING_ROUNDS {
            let least = if round == 0 { 0 } else { 1000 };
            senders.fill(0);
            takers.fill(0);
            open.retain(|id| {
                let Some(flow) = &self.flows[*id] else { return false };
                let open = flow.rate < flow.most(step) && left[flow.from] > least && down[flow.to] > 1000;
                if open {
                    senders[flow.from] += 1;
                    takers[flow.to] += 1;
                }
                open
            });
            let (was_left, was_down) = (left.clone(), down.clone());
            for id in &open {
                let Some(flow) = self.flows[*id].as_mut() else { continue };
                let part =
                    (was_left[flow.from] / senders[flow.from]).min(was_down[flow.to] / takers[flow.to]);
                let part = part.min(flow.most(step) - flow.rate);
                flow.rate += part;
                left[flow.from] -= part;
                down[flow.to] -= part;
            }
        }
    }

    /// Moves the bytes of one step.
    pub(super) fn flow(&mut self) {
        let step = self.world.step.as_micros() as u64;
        let sending: Vec<FlowId> = self.nodes.iter().flat_map(|node| &node.sending).copied().collect();
        for id in sending {
            let Some(flow) = self.flows[id].as_mut().filter(|flow| flow.sending) else { continue };
            let (from, to) = (flow.from, flow.to);
            if self.nodes[from].spec.is_dead(self.now) {
                if flow.sent_at + LOST_AFTER < self.now {
                    self.end_with(id, Failure::Lost);
                }
                continue;
            }
            if self.nodes[to].spec.is_dead(self.now) {
                self.end_with(id, Failure::Lost);
                continue;
            }
            let before = flow.bytes;
            flow.bytes = flow.total.min(before + flow.rate * step / 1_000_000);
            flow.rate = 0;
            if flow.bytes == before && flow.total > before {
                continue;
            }
            self.take(id, before);
        }
    }

    /// Counts what one flow moved, and tells its asker of its beginning and its end.
    fn take(&mut self, id: FlowId, before: u64) {
        let Some(flow) = &self.flows[id] else { return };
        let (from, to, file, request) = (flow.from, flow.to, flow.file, flow.request);
        let (moved, over, sent_at) = (flow.bytes - before, flow.bytes == flow.total, flow.sent_at);
        if !self.nodes[from].held[file].contains(flow.groups.clone()) {
            return self.end_with(id, Failure::NotHeld);
        }
        let group = |bytes: u64| {
            if bytes == flow.total { flow.groups.end } else { flow.groups.start + bytes / GROUP_BYTES }
        };
        let come = group(before)..group(flow.bytes);
        let sender = &mut self.nodes[from];
        sender.out.sent += moved;
        *sender.served.entry(to).or_default() += moved;
        if sender.spec.lies_after.is_some_and(|after| sender.out.sent > after) {
            return self.end_with(id, Failure::Wrong);
        }
        let node = &mut self.nodes[to];
        node.out.taken += moved;
        if before == 0 {
            node.inbox.push(Event::SegmentStarted { request, after: self.now.saturating_sub(sent_at) });
        }
        if !come.is_empty() {
            let size = self.world.sizes[file];
            let new = node.held[file].missing(come.clone());
            node.out.twice += come.end - come.start - new.len();
            node.lacking -= new.bytes(size);
            if self.world.watched == Some(to) {
                for group in new.runs().iter().cloned().flatten() {
                    node.out.came.entry((file, group)).or_insert(self.now);
                }
            }
            node.held[file].insert(come);
            node.changed.insert(file);
        }
        if over {
            node.inbox.push(Event::SegmentDone { request });
            self.end(id);
        }
    }

    /// Tells those who ask how far their requests are.
    pub(super) fn report_progress(&mut self) {
        let sending: Vec<FlowId> = self.nodes.iter().flat_map(|node| &node.sending).copied().collect();
        for id in sending {
            let Some(flow) = self.flows[id].as_mut().filter(|flow| flow.bytes > flow.told) else { continue };
            flow.told = flow.bytes;
            let (request, bytes) = (flow.request, flow.bytes);
            self.nodes[flow.to].inbox.push(Event::SegmentProgress { request, bytes });
        }
    }
}
