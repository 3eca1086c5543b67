//! Origins beside peers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{GROUP_BYTES, GroupSet};

use super::super::sim::{Sim, Spec, World, file_id, node_id};
use super::super::{Action, Event, Failure, Source};
use super::{MBIT, MIB, added, plan, secs};

#[test]
fn an_origin_and_a_slow_peer_feed_one_file_together() {
    let size = 64 * MIB;
    let origin = Spec::new(80 * MBIT, 0).seed(&[size]).origin();
    let peer = Spec::new(80 * MBIT, 0).seed(&[size]);
    let mut sim = Sim::new(World::new(1, &[size], vec![origin, peer, Spec::new(0, 1000 * MBIT).leech()]));
    sim.run(secs(100));
    let ended = sim.outcome(2).finished.expect("it ends").as_secs_f64();
    let alone = size as f64 / (80 * MBIT) as f64;
    assert!(ended < 0.7 * alone, "{ended} s of {alone} s");
    assert!(sim.outcome(0).sent > size / 4 && sim.outcome(1).sent > size / 4);
}

#[test]
fn an_origin_is_spared_where_peers_are_quick_enough() {
    let size = 128 * MIB;
    for lan in [true, false] {
        let origin = Spec::new(1000 * MBIT, 0).seed(&[size]).origin();
        let peer = Spec { lan, ..Spec::new(800 * MBIT, 0).seed(&[size]) };
        let mut leech = Spec::new(0, 1000 * MBIT).leech();
        leech.lan = lan;
        let mut sim = Sim::new(World::new(1, &[size], vec![origin, peer, leech]));
        sim.run(secs(100));
        assert!(sim.outcome(2).finished.is_some());
        // Of far peers it is not known at once how quick they are.
        let most = if lan { size / 20 } else { size / 3 };
        assert!(sim.outcome(0).sent <= most, "{} bytes of {size}", sim.outcome(0).sent);
    }
}

#[test]
fn when_the_peers_are_gone_the_origin_goes_on() {
    let size = 128 * MIB;
    let origin = Spec::new(200 * MBIT, 0).seed(&[size]).origin();
    let peer = Spec { dead: Some(secs(2)..secs(1000)), ..Spec::new(200 * MBIT, 0).seed(&[size]) };
    let mut sim = Sim::new(World::new(1, &[size], vec![origin, peer, Spec::new(0, 1000 * MBIT).leech()]));
    sim.run(secs(100));
    let outcome = sim.outcome(2);
    assert!(outcome.finished.is_some() && !outcome.starved);
    assert!(sim.outcome(0).sent > size / 2);
}

/// Where a month's bytes of the origin are bounded, peers are left alone with what they have for as long as a quarter of an hour.
#[test]
fn a_metered_origin_sends_only_what_peers_would_take_very_long_for() {
    let size = 1024 * MIB;
    let asks_origin = |metered: bool, peer_rate: u64| {
        let (mut plan, file, origin, peer) = (plan(), file_id(0), Source::Origin(0), node_id(1));
        plan.handle(secs(0), Event::Metered { origins: metered });
        added(&mut plan, size);
        let mut asked = Vec::new();
        for holder in [peer, origin] {
            asked.extend(plan.handle(secs(0), Event::HolderFound { holder, lan: false }));
            let groups = GroupSet::whole(size).into();
            asked.extend(plan.handle(secs(0), Event::HolderHas { holder, file, groups }));
        }
        let (mut of_peer, mut of_origin, mut before) = (VecDeque::new(), 0, 0);
        for tenth in 1..40 {
            let mut news = vec![Event::Tick];
            for action in std::mem::take(&mut asked) {
                let Action::Request { request, holder, groups, .. } = action else { continue };
                if holder == peer {
                    of_peer.push_back((request, (groups.end - groups.start) * GROUP_BYTES));
                } else {
                    // After two seconds it is known how fast the peer is.
                    of_origin += u32::from(tenth > 20);
                    news.push(Event::SegmentDone { request });
                }
            }
            let came = peer_rate * tenth / 10 - before;
            if let Some((request, total)) = of_peer.front().copied() {
                news.push(Event::SegmentProgress { request, bytes: came });
                if came >= total {
                    before += total;
                    of_peer.pop_front();
                    news.push(Event::SegmentDone { request });
                }
            }
            asked = plan.handle_all(Duration::from_millis(100 * tenth), news);
        }
        of_origin > 0
    };
    // 1 GiB at half a MiB a second takes over half an hour, at 2 MiB under ten minutes.
    assert_eq!([false, true].map(|metered| asks_origin(metered, MIB / 2)), [true, true]);
    assert_eq!([false, true].map(|metered| asks_origin(metered, 2 * MIB)), [true, false]);
}

/// A fast peer has sent all that it has; another says that it has the rest, and is busy each time it is asked for it.
#[test]
fn what_a_peer_claims_and_never_sends_comes_from_the_origin() {
    let (mut plan, file, size) = (plan(), file_id(0), 32 * MIB);
    let (origin, fast, busy) = (Source::Origin(0), node_id(1), node_id(2));
    added(&mut plan, size);
    let all = GroupSet::whole(size);
    let has = |holder, groups: GroupSet| {
        [Event::HolderFound { holder, lan: false }, Event::HolderHas { holder, file, groups: groups.into() }]
    };
    let most = GroupSet::from(0..all.len() - 64);
    let mut news = [has(fast, most), has(busy, all.clone())].concat();
    let (mut now, mut of_origin, mut done) = (secs(0), 0, false);
    while !done && now < secs(60) {
        now += Duration::from_millis(100);
        news.push(Event::Tick);
        if now == secs(4) {
            news.extend(has(origin, all.clone()));
        }
        for action in plan.handle_all(now, std::mem::take(&mut news)) {
            match action {
                Action::Request { request, holder, .. } if holder == busy => {
                    news.push(Event::SegmentFailed { request, kind: Failure::Refused });
                }
                Action::Request { request, holder, groups, .. } => {
                    of_origin += if holder == origin { groups.end - groups.start } else { 0 };
                    news.push(Event::SegmentDone { request });
                }
                Action::FileDone { .. } => done = true,
                _ => {}
            }
        }
    }
    assert!(done && of_origin == 64, "{of_origin} groups of the origin; done: {done}");
}

/// A far peer has nothing to do beside what the local network has. A neighbour loses what it alone had there.
#[test]
fn what_was_left_to_a_neighbour_that_loses_it_is_asked_of_who_is_far() {
    let (mut plan, file, size) = (plan(), file_id(0), 16 * MIB);
    let (loses, stays, far) = (node_id(1), node_id(2), node_id(3));
    added(&mut plan, size);
    let (of_one, all) = (GroupSet::from(0..512), GroupSet::whole(size).len());
    let mut asked = Vec::new();
    for (holder, lan, groups) in
        [(loses, true, of_one.clone()), (stays, true, GroupSet::from(512..all)), (far, false, of_one)]
    {
        asked.extend(plan.handle(secs(0), Event::HolderFound { holder, lan }));
        asked.extend(plan.handle(secs(0), Event::HolderHas { holder, file, groups: groups.into() }));
    }
    let of_far = |action: &Action| matches!(action, Action::Request { holder, .. } if *holder == far);
    assert!(!asked.iter().any(of_far));
    let after = plan.handle(secs(0), Event::HolderHas { holder: loses, file, groups: Arc::default() });
    assert!(after.iter().any(of_far), "{after:?}");
}

#[test]
fn an_origin_that_lies_about_one_file_is_asked_for_others() {
    let mut plan = plan();
    let origin = Source::Origin(0);
    for file in [0, 1] {
        let wanted = GroupSet::whole(MIB);
        let held = GroupSet::new();
        plan.handle(secs(0), Event::FileAdded { file: file_id(file), size: MIB, held, wanted });
    }
    plan.handle(secs(0), Event::HolderFound { holder: origin, lan: false });
    let has =
        |file| Event::HolderHas { holder: origin, file: file_id(file), groups: GroupSet::whole(MIB).into() };
    let asked = plan.handle(secs(0), has(0));
    let [Action::Request { request, .. }] = asked[..] else { panic!("{asked:?}") };
    let failed = Event::SegmentFailed { request, kind: Failure::Wrong };
    assert_eq!(plan.handle(secs(1), failed), []);
    let asked = plan.handle(secs(1), has(1));
    assert!(matches!(asked[..], [Action::Request { file, .. }] if file == file_id(1)), "{asked:?}");
}
