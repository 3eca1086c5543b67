//! Upload slots: who is sent bytes now, and who is next.
//!
//! A slot that is free goes to whoever has the fewest, then to whoever was sent the least of late, then to whoever has
//! waited longest: nodes share them, however many requests and connections each has. Nothing else is looked at.
//!
//! **Invariant:** no slot rests while somebody waits who may have one; one node has its share at most. Of nodes that neither
//! have a slot nor wait for one, no more than [`MAX_SERVED_NODES`] are remembered, and each less as time goes by.
//! **Not here:** how long anyone waits (`serve`, `bulk`), and which way the bytes go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hubless_types::NodeId;
use tokio::sync::oneshot;

use crate::limits::{MAX_SERVED_NODES, SERVED_HALF_LIFE, UPLOAD_SHARE};

/// All upload slots.
#[derive(Debug)]
pub(crate) struct Slots(Mutex<Table>);

/// A slot, or a place in the queue for one. Dropping it gives it back.
#[must_use = "dropping it gives it back"]
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    node: NodeId,
    number: u64,
}

impl Slots {
    pub(crate) fn new(all: usize) -> Self {
        Self(Mutex::new(Table::new(all, Instant::now())))
    }

    /// Waits for a slot for `node`, as long as it takes. Cancel safe.
    pub(crate) async fn take(self: &Arc<Self>, node: NodeId) -> Slot {
        self.take_after(None, node).await
    }

    /// As [`Slots::take`], for whoever goes on after `last`: that is given back once it waits, so that it is among those
    /// of whom one is next.
    pub(crate) async fn take_after(self: &Arc<Self>, last: Option<Slot>, node: NodeId) -> Slot {
        let (number, given) = self.table().enter(node, Instant::now());
        let slot = Slot { slots: self.clone(), node, number };
        drop(last);
        // It cannot fail: its other end is dropped with its place in the queue, which `slot` keeps.
        let _ = given.await;
        slot
    }

    /// `node`, which has a slot, was sent so many bytes.
    pub(crate) fn sent(&self, node: &NodeId, bytes: usize) {
        self.table().sent(node, bytes as u64, Instant::now());
    }

    /// Slots that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.table().taken
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.table().leave(&self.node, self.number);
    }
}

#[derive(Debug)]
struct Table {
    all: usize,
    taken: usize,
    /// Most slots of one node.
    share: usize,
    nodes: HashMap<NodeId, Row>,
    /// Requests so far.
    arrivals: u64,
    /// When what was sent last counted half.
    faded: Instant,
}

#[derive(Debug, Default)]
struct Row {
    has: usize,
    /// Bytes that it was sent of late: halved every [`SERVED_HALF_LIFE`].
    served: u64,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    give: oneshot::Sender<()>,
}

impl Row {
    fn asks(&self) -> bool {
        self.has > 0 || !self.waiting.is_empty()
    }
}

impl Table {
    fn new(all: usize, now: Instant) -> Self {
        let share = (all / UPLOAD_SHARE).max(1);
        Self { all, taken: 0, share, nodes: HashMap::new(), arrivals: 0, faded: now }
    }

    /// Queues a request of `node`, under a number of its own.
    fn enter(&mut self, node: NodeId, now: Instant) -> (u64, oneshot::Receiver<()>) {
        self.fade(now);
        if !self.nodes.contains_key(&node) {
            self.make_room();
            // As much as the one that got the least: a new key is no way to the front.
            let asking = self.nodes.values().filter(|row| row.asks());
            let served = asking.map(|row| row.served).min().unwrap_or(0);
            self.nodes.insert(node, Row { served, ..Row::default() });
        }
        let (number, (give, given)) = (self.arrivals, oneshot::channel());
        self.arrivals += 1;
        self.nodes.entry(node).or_default().waiting.push_back(Waiter { number, give });
        self.hand_out();
        (number, given)
    }

    /// A request is over, or waits no more.
    fn leave(&mut self, node: &NodeId, number: u64) {
        let Some(row) = self.nodes.get_mut(node) else { return };
        match row.waiting.iter().position(|waiter| waiter.number == number) {
            Some(place) => drop(row.waiting.remove(place)),
            None => {
                row.has -= 1;
                self.taken -= 1;
            }
        }
        if !row.asks() && row.served == 0 {
            self.nodes.remove(node);
        }
        self.hand_out();
    }

    fn sent(&mut self, node: &NodeId, bytes: u64, now: Instant) {
        self.fade(now);
        if let Some(row) = self.nodes.get_mut(node) {
            row.served = row.served.saturating_add(bytes);
        }
    }

    fn hand_out(&mut self) {
        while self.taken < self.all
            && let Some(node) = self.next()
            && let Some(row) = self.nodes.get_mut(&node)
            && let Some(waiter) = row.waiting.pop_front()
        {
            row.has += 1;
            self.taken += 1;
            // Whoever is gone gives it back when its `Slot` is dropped.
            let _ = waiter.give.send(());
        }
    }

    /// Whose turn it is.
    fn next(&self) -> Option<NodeId> {
        let waiting = self.nodes.iter().filter(|(_, row)| row.has < self.share);
        let turns = waiting
            .filter_map(|(node, row)| Some(((row.has, row.served, row.waiting.front()?.number), *node)));
        turns.min_by_key(|(turn, _)| *turn).map(|(_, node)| node)
    }

    fn fade(&mut self, now: Instant) {
        while now.saturating_duration_since(self.faded) >= SERVED_HALF_LIFE {
            self.faded += SERVED_HALF_LIFE;
            self.nodes.values_mut().for_each(|row| row.served /= 2);
            self.nodes.retain(|_, row| row.asks() || row.served > 0);
            if self.nodes.is_empty() {
                self.faded = now;
            }
        }
    }

    /// Forgets the node of which there is least to remember, if there are many.
    fn make_room(&mut self) {
        let idle = || self.nodes.iter().filter(|(_, row)| !row.asks());
        if idle().count() >= MAX_SERVED_NODES
            && let Some(node) = idle().min_by_key(|(_, row)| row.served).map(|(node, _)| *node)
        {
            self.nodes.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;
    use crate::stats::tests::node;

    /// A table and its requests, by number.
    struct Desk {
        table: Table,
        now: Instant,
        given: Vec<(NodeId, oneshot::Receiver<()>)>,
    }

    impl Desk {
        fn new(all: usize) -> Self {
            let now = Instant::now();
            Self { table: Table::new(all, now), now, given: Vec::new() }
        }

        fn ask(&mut self, number: usize) -> u64 {
            let (request, given) = self.table.enter(node(number), self.now);
            self.given.push((node(number), given));
            request
        }

        fn leave(&mut self, request: u64) {
            self.table.leave(&self.given[request as usize].0, request);
        }

        fn has(&mut self, request: u64) -> bool {
            self.given[request as usize].1.try_recv().is_ok()
        }

        fn sent(&mut self, number: usize, bytes: u64) {
            self.table.sent(&node(number), bytes, self.now);
        }
    }

    #[test]
    fn the_next_has_the_fewest_slots_then_got_the_least_then_waited_longest() {
        let mut desk = Desk::new(4);
        let first = [desk.ask(1), desk.ask(1), desk.ask(2), desk.ask(3)];
        assert!(first.map(|request| desk.has(request)).iter().all(|has| *has));
        let (two, three, four) = (desk.ask(2), desk.ask(3), desk.ask(4));
        desk.sent(2, 10);
        desk.sent(3, 9);
        desk.leave(first[0]);
        assert!(desk.has(four), "it has none, and came last");
        desk.leave(first[1]);
        assert!(desk.has(three) && !desk.has(two), "both have one, and one of them got less");
        desk.sent(3, 1);
        let (three, also_two) = (desk.ask(3), desk.ask(2));
        desk.leave(first[3]);
        assert!(
            desk.has(two) && !desk.has(three),
            "both have one and got as much, and one of them waits longer"
        );
        assert!(!desk.has(also_two));
    }

    #[test]
    fn a_node_has_half_of_the_slots_and_at_least_one() {
        for (all, share) in [(0, 0), (1, 1), (2, 1), (3, 1), (16, 8)] {
            let mut desk = Desk::new(all);
            let asked: Vec<u64> = (0..20).map(|_| desk.ask(1)).collect();
            assert_eq!(asked.into_iter().filter(|request| desk.has(*request)).count(), share);
            let others: Vec<u64> = (2..20).map(|other| desk.ask(other)).collect();
            assert_eq!(others.into_iter().filter(|request| desk.has(*request)).count(), all - share);
            assert_eq!(desk.table.taken, all);
        }
    }

    #[test]
    fn a_new_key_is_no_way_to_the_front_and_what_was_sent_fades() {
        let mut desk = Desk::new(1);
        let one = desk.ask(1);
        desk.sent(1, 1000);
        let (again, new) = (desk.ask(1), desk.ask(2));
        desk.leave(one);
        assert!(desk.has(again) && !desk.has(new), "they are even, and one of them waited longer");
        let turn = desk.ask(1);
        desk.sent(1, 1);
        desk.leave(again);
        assert!(desk.has(new) && !desk.has(turn), "now it got less");
        desk.leave(new);
        desk.leave(turn);
        assert_eq!(desk.table.nodes.len(), 2);
        desk.now += SERVED_HALF_LIFE * 9;
        let three = desk.ask(3);
        let left: Vec<u64> = desk.table.nodes.values().map(|row| row.served).collect();
        assert_eq!((left.len(), left.iter().max()), (3, Some(&1)));
        desk.now += SERVED_HALF_LIFE;
        desk.sent(3, 0);
        assert_eq!(desk.table.nodes.keys().collect::<Vec<_>>(), [&node(3)]);
        desk.leave(three);
        assert!(desk.table.nodes.is_empty());
    }

    #[test]
    fn of_many_strangers_those_are_remembered_that_got_the_most() {
        let mut desk = Desk::new(1);
        for stranger in 0..MAX_SERVED_NODES + 10 {
            let request = desk.ask(stranger);
            desk.sent(stranger, if stranger == 5 { 1 } else { 1000 });
            desk.leave(request);
        }
        assert_eq!(desk.table.nodes.len(), MAX_SERVED_NODES);
        assert!(
            !desk.table.nodes.contains_key(&node(5))
                && desk.table.nodes.contains_key(&node(MAX_SERVED_NODES + 9))
        );
    }

    #[tokio::test]
    async fn who_waits_no_more_leaves_no_trace() {
        let slots = Arc::new(Slots::new(1));
        let held = slots.take(node(1)).await;
        let mut gone = Box::pin(slots.take(node(2)));
        let mut given = Box::pin(slots.take(node(3)));
        assert!(futures::poll!(&mut gone).is_pending() && futures::poll!(&mut given).is_pending());
        drop(gone);
        assert_eq!(slots.table().nodes.len(), 2);
        drop(held);
        // It is its turn, and it does not know yet.
        assert_eq!(slots.taken(), 1);
        drop(given);
        assert_eq!(slots.taken(), 0);
        assert!(slots.table().nodes.is_empty());
        drop(slots.take(node(4)).await);
    }

    #[tokio::test]
    async fn who_goes_on_is_among_those_whose_turn_it_may_be() {
        let slots = Arc::new(Slots::new(1));
        let (one, mut other) = (slots.take(node(1)).await, Box::pin(slots.take(node(2))));
        assert!(futures::poll!(&mut other).is_pending());
        slots.table().nodes.entry(node(2)).or_default().served = 10;
        let again = futures::poll!(Box::pin(slots.take_after(Some(one), node(1))));
        assert!(again.is_ready() && futures::poll!(&mut other).is_pending());
    }

    /// Everybody comes to an end, whoever else gives up at whatever moment, and never are there more than there may be.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_slot_is_lost_and_nobody_is_forgotten() {
        let slots = Arc::new(Slots::new(4));
        let mut all = JoinSet::new();
        for request in 0..400_u64 {
            let slots = slots.clone();
            all.spawn(async move {
                let who = node(request as usize % 7);
                let patience = Duration::from_micros(request * 37 % 3000);
                if request % 3 == 0 && tokio::time::timeout(patience, slots.take(who)).await.is_err() {
                    return;
                }
                let _slot = slots.take(who).await;
                assert!(slots.taken() <= 4);
                slots.sent(&who, request as usize);
                tokio::time::sleep(Duration::from_micros(request % 500)).await;
            });
        }
        tokio::time::timeout(Duration::from_secs(20), all.join_all()).await.unwrap();
        assert_eq!(slots.taken(), 0);
        assert!(slots.table().nodes.values().all(|row| !row.asks()));
    }
}
