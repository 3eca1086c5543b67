//! Random operations, held against plain maps.

use std::collections::{BTreeMap, BTreeSet};

use hubless_types::{Link, LinkTrust, Pin, PublicSignature, Statement, StatementBody, Timestamp};
use proptest::prelude::*;

use super::*;

/// Opening a database for each case takes some milliseconds.
fn few_cases() -> ProptestConfig {
    ProptestConfig { cases: 12, ..ProptestConfig::default() }
}

fn trust(n: u8) -> LinkTrust {
    [LinkTrust::Claimed, LinkTrust::Vouched, LinkTrust::Proven][usize::from(n % 3)]
}

#[derive(Debug, Clone)]
enum LinkStep {
    Put { digest: u8, hash: u8, trust: u8 },
    Strike { digest: u8, hash: u8 },
}

fn link_steps() -> impl Strategy<Value = Vec<LinkStep>> {
    let put =
        (0..6_u8, 0..4_u8, 0..3_u8).prop_map(|(digest, hash, trust)| LinkStep::Put { digest, hash, trust });
    let strike = (0..6_u8, 0..4_u8).prop_map(|(digest, hash)| LinkStep::Strike { digest, hash });
    prop::collection::vec(prop_oneof![3 => put, 1 => strike], 0..120)
}

/// The rules of links, on a map.
fn apply(model: &mut BTreeMap<FileDigest, Link>, step: &LinkStep) {
    match *step {
        LinkStep::Put { digest: d, hash: h, trust: t } => {
            let link = Link { digest: digest(d), hash: hash(h), size: u64::from(h), trust: trust(t) };
            let old = model.get(&link.digest);
            if old.is_none_or(|old| old.trust < link.trust) {
                model.insert(link.digest, link);
            }
        }
        LinkStep::Strike { digest: d, hash: h } => {
            let old = model.get(&digest(d));
            if old.is_some_and(|old| old.hash == hash(h) && old.trust != LinkTrust::Proven) {
                model.remove(&digest(d));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum QueueStep {
    Schedule { key: Vec<u8>, due: u64 },
    Unschedule { key: Vec<u8> },
}

fn queue_steps() -> impl Strategy<Value = Vec<QueueStep>> {
    let key = || prop::collection::vec(0..3_u8, 0..3);
    let schedule = (key(), 0..20_u64).prop_map(|(key, due)| QueueStep::Schedule { key, due });
    let unschedule = key().prop_map(|key| QueueStep::Unschedule { key });
    prop::collection::vec(prop_oneof![3 => schedule, 1 => unschedule], 0..120)
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn links_follow_their_rules(steps in link_steps(), together in any::<bool>()) {
        let f = fixture();
        let mut model = BTreeMap::new();
        let mut batch = f.catalogue.batch();
        for step in &steps {
            apply(&mut model, step);
            let fresh = f.catalogue.batch();
            match *step {
                LinkStep::Put { digest: d, hash: h, trust: t } => {
                    batch.put_link(&Link { digest: digest(d), hash: hash(h), size: u64::from(h), trust: trust(t) })
                }
                LinkStep::Strike { digest: d, hash: h } => batch.strike_link(&digest(d), &hash(h)),
            };
            if !together {
                std::mem::replace(&mut batch, fresh).commit().unwrap();
            }
        }
        batch.commit().unwrap();
        let digests: Vec<_> = (0..6).map(digest).collect();
        let expected: Vec<_> = digests.iter().map(|d| model.get(d).copied()).collect();
        prop_assert_eq!(f.catalogue.links(&digests).unwrap(), expected.clone());
        for (digest, expected) in digests.iter().zip(expected) {
            prop_assert_eq!(f.catalogue.link(digest).unwrap(), expected);
        }
        for h in 0..4 {
            let there: BTreeSet<_> = f.catalogue.digests_of(&hash(h)).unwrap().into_iter().collect();
            let expected = model.values().filter(|l| l.hash == hash(h)).map(|l| l.digest).collect();
            prop_assert_eq!(there, expected);
        }
    }

    #[test]
    fn the_announce_queue_is_a_map_by_time(steps in queue_steps(), now in 0..20_u64, limit in 0..12_usize) {
        let f = fixture();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                QueueStep::Schedule { key, due } => {
                    f.catalogue.schedule(&key, Timestamp(due)).unwrap();
                    model.insert(key, Timestamp(due));
                }
                QueueStep::Unschedule { key } => {
                    prop_assert_eq!(f.catalogue.unschedule(&key).unwrap(), model.remove(&key).is_some());
                }
            }
        }
        let f = f.reopened();
        let mut due: Vec<_> = model.iter().map(|(key, due)| (*due, key.clone())).collect();
        due.sort();
        prop_assert_eq!(f.catalogue.next_due().unwrap(), due.first().map(|row| row.0));
        prop_assert_eq!(f.catalogue.scheduled_count().unwrap(), due.len() as u64);
        due.retain(|row| row.0 <= Timestamp(now));
        due.truncate(limit);
        prop_assert_eq!(f.catalogue.due(Timestamp(now), limit).unwrap(), due);
        for (key, due) in &model {
            prop_assert_eq!(f.catalogue.due_of(key).unwrap(), Some(*due));
        }
    }

    #[test]
    fn pins_are_a_map_by_name(steps in prop::collection::vec((any::<bool>(), 0..3_u8, 0..3_u8, 0..9_u8), 0..60)) {
        let f = fixture();
        let mut model = BTreeMap::new();
        for (put, r, v, c) in steps {
            let (repo, revision) = (repo(&format!("acme/r{r}")), revision(&format!("v{v}")));
            if put {
                let since = Timestamp(u64::from(c));
                let pin = Pin { repo: repo.clone(), revision: revision.clone(), commit: commit(c), since };
                f.catalogue.put_pin(&pin).unwrap();
                model.insert((repo, revision), pin);
            } else {
                let known = f.catalogue.remove_pin(&repo, &revision).unwrap();
                prop_assert_eq!(known, model.remove(&(repo, revision)).is_some());
            }
        }
        prop_assert_eq!(f.catalogue.pins().unwrap(), model.into_values().collect::<Vec<_>>());
    }

    #[test]
    fn the_newest_statement_of_each_signer_is_kept(
        steps in prop::collection::vec((0..2_u8, 0..2_u8, 0..3_u8, 0..9_u64), 0..80),
    ) {
        let f = fixture();
        let mut model: BTreeMap<_, Statement> = BTreeMap::new();
        for (r, v, signer, seen) in steps {
            let (repo, revision) = (repo(&format!("acme/r{r}")), revision(&format!("v{v}")));
            let body = StatementBody {
                repo: repo.clone(),
                revision: revision.clone(),
                commit: commit(seen as u8),
                origin: None,
                seen: Timestamp(seen),
                links: None,
            };
            let statement = Statement { body, signer: node(signer), signature: PublicSignature([7; 64]) };
            let key = (repo, revision, node(signer));
            let newer = model.get(&key).is_none_or(|old| old.body.seen <= statement.body.seen);
            prop_assert_eq!(f.catalogue.put_statement(&statement).unwrap(), newer);
            if newer {
                model.insert(key, statement);
            }
        }
        for r in 0..2 {
            let repo = repo(&format!("acme/r{r}"));
            let all: Vec<_> = model.values().filter(|s| s.body.repo == repo).cloned().collect();
            prop_assert_eq!(f.catalogue.statements(&repo, None).unwrap(), all.clone());
            let some: Vec<_> = all.into_iter().filter(|s| s.body.revision == revision("v1")).collect();
            prop_assert_eq!(f.catalogue.statements(&repo, Some(&revision("v1"))).unwrap(), some);
        }
    }
}
