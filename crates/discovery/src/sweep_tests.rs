//! Sweeps and walks over a network that is a list of nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use rand::seq::SliceRandom as _;

use super::*;
use crate::place::{estimate, expected_bits};
use crate::seek::Seek;

/// A network in which everybody answers at once, and knows what a full routing table would.
struct Net {
    nodes: BTreeMap<Place, Contact>,
    /// Nodes that answer nothing.
    dead: BTreeSet<PeerId>,
    /// Nodes of one attacker, who name each other only.
    sybils: BTreeSet<PeerId>,
    asked: u64,
}

impl Net {
    fn new(size: usize) -> Self {
        let mut net =
            Self { nodes: BTreeMap::new(), dead: BTreeSet::new(), sybils: BTreeSet::new(), asked: 0 };
        (0..size).for_each(|_| _ = net.join(PeerId::random()));
        net
    }

    fn join(&mut self, peer: PeerId) -> Place {
        let contact = Contact::new(peer, Vec::new());
        let place = contact.place;
        self.nodes.insert(place, contact);
        place
    }

    /// Makes identities until `count` of them lie within `bits` of `target`.
    fn surround(&mut self, target: &Place, bits: u32, count: usize) {
        while self.sybils.len() < count {
            let peer = PeerId::random();
            if Place::of_peer(&peer).shared_bits(target) >= bits {
                self.join(peer);
                self.sybils.insert(peer);
            }
        }
    }

    /// What `of` has in its routing table: all near it, twenty of each half farther away, other ones than others have.
    fn table(&self, of: &Place) -> Vec<Contact> {
        let mut buckets: HashMap<u32, usize> = HashMap::new();
        let mut room = |place: &Place| {
            let bucket = buckets.entry(of.shared_bits(place)).or_default();
            *bucket += 1;
            *bucket <= K
        };
        // Honest nodes were there first, and stay.
        let met = |c: &Contact| (of.lead() ^ c.place.lead()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut all: Vec<&Contact> = self.nodes.values().filter(|c| c.place != *of).collect();
        all.sort_by_key(|c| (self.sybils.contains(&c.peer), met(c)));
        all.into_iter().filter(|c| room(&c.place)).cloned().collect()
    }

    fn answer(&mut self, by: &Contact, target: &Place, bits: u32) -> Option<Vec<(Contact, bool)>> {
        self.asked += 1;
        if self.dead.contains(&by.peer) {
            return None;
        }
        let mut known = if self.sybils.contains(&by.peer) {
            self.nodes.values().filter(|c| self.sybils.contains(&c.peer)).cloned().collect()
        } else {
            self.table(&by.place)
        };
        known.sort_by_key(|c| target.distance(&c.place));
        let mut rest = known.split_off(known.len().min(K));
        rest.retain(|c| c.place.shared_bits(target) >= bits);
        rest.shuffle(&mut rand::rng());
        Some(known.into_iter().chain(rest.into_iter().take(K)).map(|c| (c, false)).collect())
    }

    fn walk(&mut self, from: &Place, target: Place) -> Seek {
        let table = self.table(from);
        let bits = expected_bits(estimate(from, table.iter().map(|c| c.place), K));
        let mut seek = Seek::new(target, bits, table.into_iter().map(|c| (c, false)));
        let mut now = Instant::now();
        while !seek.is_over() {
            match seek.next(now) {
                Some(contact) => match self.answer(&contact, &target, bits) {
                    Some(closer) => seek.answered(&contact.peer, closer, 0, now),
                    None => seek.failed(&contact.peer, "dead", now),
                },
                None => now += Duration::from_millis(100),
            }
        }
        seek
    }

    /// Sweeps `keys` from `from`: the tally, and who was told of which key.
    fn sweep(&mut self, from: &Place, keys: &[Vec<u8>]) -> (Tally, BTreeMap<Vec<u8>, BTreeSet<PeerId>>) {
        let (mut regions, now) = (Regions::default(), Instant::now());
        let (mut sweep, mut told) = (Sweep::new(keys.to_vec()), BTreeMap::new());
        loop {
            match sweep.next(&regions, now) {
                Step::Walk(place) => {
                    let (region, nodes) = self.walk(from, place).learned();
                    sweep.walked(!nodes.is_empty());
                    regions.learn(Keepers::new(region, nodes, now));
                }
                Step::Send(batch) => {
                    assert!(batch.keys.len() <= MAX_KEYS);
                    sweep.kept(batch.number, batch.keys.len() as u16, 0);
                    for key in batch.keys {
                        told.entry(key).or_insert_with(BTreeSet::new).insert(batch.to.peer);
                    }
                }
                Step::Wait => panic!("everything is answered at once"),
                Step::Done => return (sweep.tally(), told),
            }
        }
    }

    /// The nodes nearest to a place, of those that live.
    fn nearest(&self, target: &Place, count: usize, but: &Place) -> BTreeSet<PeerId> {
        let mut all: Vec<&Contact> =
            self.nodes.values().filter(|c| !self.dead.contains(&c.peer) && c.place != *but).collect();
        all.sort_by_key(|c| target.distance(&c.place));
        all.into_iter().take(count).map(|c| c.peer).collect()
    }
}

fn keys(count: u32) -> Vec<Vec<u8>> {
    let digest = |n: u32| <sha2::Sha256 as sha2::Digest>::digest(n.to_be_bytes()).to_vec();
    (0..count).map(|n| [&[0x12, 32], &digest(n)[..]].concat()).collect()
}

#[test]
fn ten_times_the_keys_take_no_more_walks() {
    for (size, most) in [(8, 1), (30, 1), (128, 8), (600, 40)] {
        let mut net = Net::new(size);
        let from = *net.nodes.keys().next().unwrap();
        let few = net.sweep(&from, &keys(1_000)).0;
        let many = net.sweep(&from, &keys(10_000)).0;
        assert!(many.walks <= most && many.walks <= few.walks + 3, "{size}: {} {}", few.walks, many.walks);
        assert!(many.missed.is_empty());
    }
}

#[test]
fn each_key_is_told_to_the_nodes_nearest_to_it() {
    let mut net = Net::new(128);
    let from = *net.nodes.keys().next().unwrap();
    let (tally, told) = net.sweep(&from, &keys(300));
    assert_eq!((told.len(), tally.missed.len()), (300, 0));
    nearly_all_are_told(&net, &from, &told, K);
}

/// Of the `count` live nodes nearest to each key most were told, and nearly all on the whole: where nodes happen to lie
/// differs from run to run.
fn nearly_all_are_told(net: &Net, from: &Place, told: &BTreeMap<Vec<u8>, BTreeSet<PeerId>>, count: usize) {
    let right = |(key, nodes): (&Vec<u8>, &BTreeSet<PeerId>)| {
        net.nearest(&Place::of_key(key), count, from).intersection(nodes).count()
    };
    let right: Vec<usize> = told.iter().map(right).collect();
    let (least, all) = (right.iter().min().copied().unwrap_or(0), right.iter().sum::<usize>());
    assert!(least >= count / 2, "{least} of {count}");
    assert!(all * 100 >= count * told.len() * 85, "{all} of {} times {count}", told.len());
}

#[test]
fn a_third_of_the_nodes_dead_makes_no_difference_to_the_others() {
    let mut net = Net::new(128);
    let from = *net.nodes.keys().next().unwrap();
    net.dead = net.nodes.values().step_by(3).map(|c| c.peer).collect();
    let (_, told) = net.sweep(&from, &keys(100));
    nearly_all_are_told(&net, &from, &told, 10);
    assert!(told.values().all(|nodes| nodes.is_disjoint(&net.dead)));
}

/// Sixty nodes are made next to a key. Honest ones are told of it all the same, and a lookup that somebody else begins
/// asks some of those, within the questions that it has.
#[test]
fn sixty_nodes_around_a_key_cannot_hide_it() {
    for size in [64, 128, 400] {
        let mut net = Net::new(size);
        let places: Vec<Place> = net.nodes.keys().copied().collect();
        let (announcer, seeker) = (places[0], places[size / 2]);
        let key = keys(1).remove(0);
        let place = Place::of_key(&key);
        net.surround(&place, 10, 60);
        let (_, told) = net.sweep(&announcer, std::slice::from_ref(&key));
        let honest: BTreeSet<PeerId> = told[&key].difference(&net.sybils).copied().collect();
        assert!(honest.len() >= 5, "{size}: only {} honest nodes were told", honest.len());

        let walk = net.walk(&seeker, place);
        let mut asked: Vec<_> = walk.candidates().filter(|c| c.fate != crate::seek::Fate::New).collect();
        asked.retain(|c| honest.contains(&c.contact.peer));
        assert!(!asked.is_empty(), "{size}: the lookup met no honest node that knows");
    }
}

#[test]
fn what_a_walk_learned_is_used_again_and_ages() {
    let (now, key) = (Instant::now(), keys(1).remove(0));
    let contact = Contact::new(PeerId::random(), Vec::new());
    let mut regions = Regions::default();
    let mut sweep = Sweep::new([key.clone()]);
    assert_eq!(sweep.next(&regions, now), Step::Walk(Place::of_key(&key)));
    assert_eq!(sweep.next(&regions, now), Step::Wait);
    regions.learn(Keepers::new(Region::whole(), vec![contact.clone()], now));
    sweep.walked(true);
    let batch = Batch { number: 0, to: contact.clone(), keys: vec![key.clone()] };
    assert_eq!(sweep.next(&regions, now), Step::Send(batch));
    sweep.lost(0, &contact.peer);
    assert_eq!(sweep.next(&regions, now), Step::Done);
    assert_eq!(sweep.tally().missed, std::slice::from_ref(&key), "nobody took it");

    assert!(matches!(Sweep::new([key.clone()]).next(&regions, now), Step::Send(_)));
    assert!(matches!(Sweep::new([key.clone()]).next(&regions, now + REGION_LIFE), Step::Walk(_)));
    regions.lost(&contact.peer);
    assert!(matches!(Sweep::new([key]).next(&regions, now), Step::Walk(_)));
}

/// Sweeps `keys` over two nodes that keep all there is; `answer` says what comes of a batch, by its place among those to
/// its node: how many keys are kept, or nothing if it is lost.
fn sweep_of_two(keys: &[Vec<u8>], answer: impl Fn(usize) -> Option<usize>) -> Tally {
    let now = Instant::now();
    let nodes = [PeerId::random(), PeerId::random()].map(|peer| Contact::new(peer, Vec::new()));
    let mut regions = Regions::default();
    regions.learn(Keepers::new(Region::whole(), nodes.to_vec(), now));
    let (mut sweep, mut sent) = (Sweep::new(keys.to_vec()), Vec::new());
    let mut before: HashMap<PeerId, usize> = HashMap::new();
    loop {
        match sweep.next(&regions, now) {
            Step::Send(batch) => sent.push(batch),
            // Answers come in another order than they were asked for.
            Step::Wait => {
                let batch = sent.pop().expect("it waits for a batch");
                let place = before.entry(batch.to.peer).or_default();
                let len = batch.keys.len();
                match answer(*place) {
                    Some(kept) => sweep.kept(batch.number, kept as u16, (len - kept) as u16),
                    None => sweep.lost(batch.number, &batch.to.peer),
                }
                *place += 1;
            }
            Step::Walk(_) => panic!("the nodes are known"),
            Step::Done => return sweep.tally(),
        }
    }
}

/// Nodes that have room for one batch more: what they had no room for is not taken for kept.
#[test]
fn keys_that_everybody_refused_are_named_beside_those_that_were_kept() {
    let keys = keys(4_096);
    let tally = sweep_of_two(&keys, |batch| Some(if batch == 0 { MAX_KEYS } else { 0 }));
    assert_eq!((tally.kept, tally.refused), (2 * 1_024, 2 * 3_072));
    assert_eq!((tally.unwanted.len(), tally.missed.len()), (3_072, 0));
    let tally = sweep_of_two(&keys, |batch| Some(if batch == 0 { 1_000 } else { 0 }));
    assert_eq!((tally.unwanted.len(), tally.missed.len()), (3_096, 0), "of the first batch the last 24");
}

#[test]
fn keys_whose_batch_was_lost_are_missed_though_others_were_kept() {
    let keys = keys(4_096);
    let tally = sweep_of_two(&keys, |batch| (batch != 1).then_some(MAX_KEYS));
    assert_eq!((tally.missed.len(), tally.unwanted.len()), (1_024, 0));
    assert_eq!((tally.kept, tally.failed), (2 * 3_072, 2));
}

#[test]
fn one_who_takes_a_key_is_enough() {
    let now = Instant::now();
    let key = keys(1).remove(0);
    for order in [[0, 1], [1, 0]] {
        let nodes = [PeerId::random(), PeerId::random()].map(|peer| Contact::new(peer, Vec::new()));
        let mut regions = Regions::default();
        regions.learn(Keepers::new(Region::whole(), nodes.to_vec(), now));
        let mut sweep = Sweep::new([key.clone()]);
        let mut sent = Vec::new();
        while let Step::Send(batch) = sweep.next(&regions, now) {
            sent.push(batch);
        }
        for at in order {
            match at {
                0 => sweep.kept(sent[0].number, 1, 0),
                _ => sweep.lost(sent[1].number, &sent[1].to.peer),
            }
        }
        assert_eq!(sweep.next(&regions, now), Step::Done);
        let tally = sweep.tally();
        assert!(tally.missed.is_empty() && tally.unwanted.is_empty());
    }
}

#[test]
fn a_walk_that_met_nobody_ends_the_sweep() {
    let mut sweep = Sweep::new(keys(10));
    assert!(matches!(sweep.next(&Regions::default(), Instant::now()), Step::Walk(_)));
    sweep.walked(false);
    assert_eq!(sweep.next(&Regions::default(), Instant::now()), Step::Done);
    assert_eq!(sweep.tally().missed.len(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the size of the network and the number of keys: no more walks than parts with twenty nodes, and a
    /// little for those that are cut unluckily; every key is told to somebody.
    #[test]
    fn walks_are_as_many_as_parts(size in 1usize..300, count in 1u32..2_000) {
        let mut net = Net::new(size);
        let from = *net.nodes.keys().next().unwrap();
        let (tally, told) = net.sweep(&from, &keys(count));
        prop_assert!(tally.walks <= 2 + 4 * (size as u64 / K as u64 + 1), "{} walks", tally.walks);
        prop_assert!(tally.walks <= u64::from(count));
        let expected = if size == 1 { 0 } else { count as usize };
        prop_assert_eq!(told.len(), expected);
    }

    /// However they answer, a walk ends, and asks no more than it may.
    #[test]
    fn a_walk_ends(answers in proptest::collection::vec(0u8..40, 1..250), slow in 0usize..4) {
        let (target, mut now) = (Place::of_key(b"target"), Instant::now());
        let some = |n: u8| (0..n).map(|_| (Contact::new(PeerId::random(), Vec::new()), false)).collect::<Vec<_>>();
        let mut seek = Seek::new(target, 3, some(20));
        let (mut asked, mut answers) = (0, answers.into_iter().cycle());
        while !seek.is_over() {
            match seek.next(now) {
                Some(contact) => {
                    asked += 1;
                    if slow == 0 || asked % (slow + 1) != 0 {
                        seek.answered(&contact.peer, some(answers.next().unwrap()), 0, now);
                    }
                }
                None => {
                    now = seek.wake(now).unwrap_or(now + Duration::from_secs(1));
                    seek.give_up(now);
                }
            }
        }
        prop_assert!(asked <= crate::seek::MAX_ASKED);
        prop_assert!(seek.candidates().count() <= 512);
    }
}
