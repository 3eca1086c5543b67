//! The DHT table against a model, and against a flood.

use std::collections::BTreeMap;

use hubless_types::Timestamp;
use proptest::prelude::*;

use super::super::{DHT_MAX_ADDRS, DhtRow, DhtVerdict};
use super::*;

const SMALL: DhtLimits = DhtLimits { per_peer: 4, per_key: 3, seats: 2, total: 10 };

fn row(provider: u8, expires: u64, own: bool) -> DhtRow {
    let addrs = vec![std::net::SocketAddr::from(([192, 0, 2, provider], 4001))];
    DhtRow { provider: node(provider), addrs, expires: Timestamp(expires), own }
}

#[derive(Debug, Clone)]
enum Step {
    Add { key: u8, provider: u8, expires: u64 },
    AddOwn { key: u8 },
    Remove { key: u8, provider: u8 },
    Expire { now: u64, limit: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5_u8, 1..8_u8, 0..30_u64).prop_map(|(key, provider, expires)| Step::Add { key, provider, expires }),
        1 => (0..5_u8).prop_map(|key| Step::AddOwn { key }),
        1 => (0..5_u8, 0..8_u8).prop_map(|(key, provider)| Step::Remove { key, provider }),
        1 => (0..12_u64, 0..4_usize).prop_map(|(now, limit)| Step::Expire { now, limit }),
    ];
    prop::collection::vec(step, 0..150)
}

/// The table as maps from (key, provider) to expiry.
#[derive(Default)]
struct Model {
    strangers: BTreeMap<(Vec<u8>, u8), u64>,
    arrivals: BTreeMap<(Vec<u8>, u8), usize>,
    arrived: usize,
    own: BTreeMap<Vec<u8>, u64>,
}

impl Model {
    fn add(&mut self, key: &[u8], provider: u8, expires: u64) -> DhtVerdict {
        let place = (key.to_vec(), provider);
        if let Some(old) = self.strangers.get_mut(&place) {
            *old = expires;
            return DhtVerdict::Renewed;
        }
        if self.strangers.keys().filter(|(_, p)| *p == provider).count() as u64 >= SMALL.per_peer {
            return DhtVerdict::PeerFull;
        }
        let of_key: Vec<_> = self.strangers.iter().filter(|((k, _), _)| k == key).collect();
        let mut verdict = DhtVerdict::Added;
        if of_key.len() >= SMALL.per_key {
            let mut standing = of_key;
            standing.sort_by_key(|(place, _)| self.arrivals[*place]);
            let standing = standing.split_off(SMALL.seats);
            let (loser, soonest) = standing.into_iter().min_by_key(|(place, e)| (**e, place.1)).unwrap();
            if *soonest >= expires {
                return DhtVerdict::KeyFull;
            }
            let loser = loser.clone();
            self.strangers.remove(&loser);
            verdict = DhtVerdict::Replaced;
        } else if self.strangers.len() as u64 >= SMALL.total {
            return DhtVerdict::TableFull;
        }
        self.arrived += 1;
        self.arrivals.insert(place.clone(), self.arrived);
        self.strangers.insert(place, expires);
        verdict
    }

    fn expire(&mut self, now: u64, limit: usize) -> usize {
        let mut over: Vec<_> =
            self.strangers.iter().filter(|(_, e)| **e <= now).map(|(k, e)| (*e, k.clone())).collect();
        over.sort();
        over.truncate(limit);
        self.strangers.retain(|key, _| !over.iter().any(|(_, k)| k == key));
        over.len()
    }

    fn providers(&self, key: &[u8], now: u64) -> Vec<DhtRow> {
        let own = self.own.get(key).map(|expires| row(0, *expires, true));
        let mut strangers: Vec<_> = self
            .strangers
            .iter()
            .filter(|((k, _), expires)| k == key && **expires > now)
            .map(|((_, provider), expires)| row(*provider, *expires, false))
            .collect();
        strangers.sort_by_key(|row| std::cmp::Reverse(row.expires));
        own.into_iter().chain(strangers).collect()
    }
}

/// Keys of which one begins as another: none may take the other's rows.
fn key(n: u8) -> Vec<u8> {
    vec![7; usize::from(n) + 1]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_bounds_hold_and_nothing_is_lost(steps in steps(), now in 0..30_u64) {
        let f = fixture().with_dht_limits(SMALL);
        let (c, mut model) = (&f.catalogue, Model::default());
        for step in steps {
            match step {
                Step::Add { key: k, provider, expires } => {
                    let expected = model.add(&key(k), provider, expires);
                    prop_assert_eq!(c.dht_add(&key(k), row(provider, expires, false)).unwrap(), expected);
                }
                Step::AddOwn { key: k } => {
                    let known = model.own.insert(key(k), 3).is_some();
                    let expected = if known { DhtVerdict::Renewed } else { DhtVerdict::Added };
                    prop_assert_eq!(c.dht_add(&key(k), row(0, 3, true)).unwrap(), expected);
                }
                Step::Remove { key: k, provider } => {
                    let own = provider == 0 && model.own.remove(&key(k)).is_some();
                    let known = model.strangers.remove(&(key(k), provider)).is_some() || own;
                    prop_assert_eq!(c.dht_remove(&key(k), &node(provider)).unwrap(), known);
                }
                Step::Expire { now, limit } => {
                    prop_assert_eq!(c.dht_expire(Timestamp(now), limit).unwrap(), model.expire(now, limit));
                }
            }
            prop_assert_eq!(c.dht_count().unwrap(), model.strangers.len() as u64);
        }
        for k in 0..5 {
            prop_assert_eq!(c.dht_providers(&key(k), Timestamp(now)).unwrap(), model.providers(&key(k), now));
        }
        let own: Vec<_> = c.dht_own(None, 100).unwrap().into_iter().map(|(key, _)| key).collect();
        prop_assert_eq!(own.clone(), model.own.keys().cloned().collect::<Vec<_>>());
        if let [first, rest @ ..] = &own[..] {
            let after: Vec<_> = c.dht_own(Some(first), 100).unwrap().into_iter().map(|(key, _)| key).collect();
            prop_assert_eq!(after, rest);
        }
    }
}

#[test]
fn odd_rows_are_cut_or_refused() {
    let f = fixture();
    for bad in [&[][..], &[0; 65]] {
        assert_eq!(f.catalogue.dht_add(bad, row(1, 9, false)).unwrap(), DhtVerdict::BadKey);
        assert!(f.catalogue.dht_providers(bad, Timestamp(0)).unwrap().is_empty());
        assert!(!f.catalogue.dht_remove(bad, &node(1)).unwrap());
    }
    let mut many = row(1, 9, false);
    many.addrs = vec![many.addrs[0]; 1000];
    assert!(f.catalogue.dht_add(&[0; 64], many).unwrap().is_kept());
    assert_eq!(f.catalogue.dht_providers(&[0; 64], Timestamp(0)).unwrap()[0].addrs.len(), DHT_MAX_ADDRS);
}

/// Strangers make up keys and nodes without end: the table stops growing, memory does not follow, our own rows and
/// those of an older neighbour stay, and expiry empties it.
#[test]
fn a_flood_ends_at_the_bounds() {
    let limits = DhtLimits { per_peer: 9_000, per_key: 64, seats: 48, total: 40_000 };
    let f = fixture().with_dht_limits(limits);
    let c = &f.catalogue;
    let own = (0..500_u32).map(|n| n.to_be_bytes());
    assert!(own.clone().all(|key| c.dht_add(&key, row(0, 1, true)).unwrap().is_kept()));
    c.dht_add(b"shard", row(99, 50, false)).unwrap();
    let before = resident_bytes();
    let mut verdicts = BTreeMap::<String, u32>::new();
    for n in 0..60_000_u32 {
        let key = [&n.to_be_bytes()[..], &[9; 30]].concat();
        let verdict = c.dht_add(&key, row((n % 6) as u8 + 1, 100, false)).unwrap();
        *verdicts.entry(format!("{verdict:?}")).or_default() += 1;
    }
    assert_eq!(c.dht_count().unwrap(), limits.total);
    assert!(verdicts["TableFull"] > 10_000, "{verdicts:?}");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 80 << 20, "memory grew by {grown} bytes");

    assert_eq!(c.dht_add(b"shard", row(99, 200, false)).unwrap(), DhtVerdict::Renewed);
    assert!(own.clone().all(|key| c.dht_providers(&key, Timestamp(5)).unwrap()[0].own));
    let mut dropped = 0;
    while let n @ 1.. = c.dht_expire(Timestamp(100), 1000).unwrap() {
        dropped += n;
    }
    assert_eq!((dropped as u64, c.dht_count().unwrap()), (limits.total - 1, 1));
    assert_eq!(c.dht_own(None, 1000).unwrap().len(), 500);
}

/// A hundred thousand providers are made up for one key: the table stays at its bound, those who were there before the
/// flood stay in it and renew, and a newcomer gets in.
#[test]
fn a_flood_for_one_key_displaces_nobody_who_was_there() {
    let f = fixture();
    let c = &f.catalogue;
    let far = |n: u32| {
        let [a, b, d, e] = n.to_be_bytes();
        let mut id = [9; 32];
        id[..4].copy_from_slice(&[a, b, d, e]);
        let addrs = vec![std::net::SocketAddr::from(([80, b, d, e], 4001))];
        DhtRow { provider: hubless_types::NodeId::from_bytes(id), addrs, expires: Timestamp(100), own: false }
    };
    // Each in a subnet of its own, as people are.
    let home = |n: u8| vec![std::net::SocketAddr::from(([90, n, 1, 1], 4001))];
    let honest: Vec<DhtRow> = (1..=20).map(|n| DhtRow { addrs: home(n), ..row(n, 50, false) }).collect();
    honest.iter().for_each(|row| assert!(c.dht_add(b"key", row.clone()).unwrap().is_kept()));
    for n in 0..100_000_u32 {
        c.dht_add(b"key", DhtRow { expires: Timestamp(100 + u64::from(n)), ..far(n) }).unwrap();
    }
    let late = row(99, 200_000, false);
    assert!(c.dht_add(b"key", late.clone()).unwrap().is_kept());
    assert_eq!(
        c.dht_add(b"key", DhtRow { expires: Timestamp(300_000), ..honest[0].clone() }).unwrap(),
        DhtVerdict::Renewed
    );
    let rows = c.dht_providers(b"key", Timestamp(10)).unwrap();
    assert_eq!(rows.len(), crate::DHT_MAX_PER_KEY);
    for row in honest.iter().chain([&late]) {
        assert!(rows.iter().any(|r| r.provider == row.provider));
    }
}

/// One subnet of the internet cannot take a key to itself; a private one, which may be a whole office, can.
#[test]
fn a_subnet_has_its_share_of_a_key() {
    let f = fixture();
    let kept = |ip: [u8; 3]| {
        let row = |n: u8| DhtRow {
            addrs: vec![std::net::SocketAddr::from(([ip[0], ip[1], ip[2], n], 1))],
            ..row(n, 9, false)
        };
        (1..40).filter(|n| f.catalogue.dht_add(&ip, row(*n)).unwrap().is_kept()).count()
    };
    assert_eq!((kept([80, 1, 1]), kept([10, 0, 0])), (crate::DHT_MAX_PER_SUBNET, 39));
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
