//! Single decisions.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hubless_types::{GROUP_BYTES, GroupSet};

use super::super::limits::{MAX_RUNS, SMALL_PART};
use super::super::sim::{file_id, node_id};
use super::super::{
    Action, Dropped, Event, Failure, MAX_HOLDERS, MAX_OUTSTANDING, Plan, PlanConfig, RequestId, TICK,
};
use super::{MIB, added, plan, secs};

#[test]
fn a_file_that_nobody_has_is_called_starved_once_after_the_patience() {
    let mut plan = plan();
    added(&mut plan, MIB);
    let starved = |actions: Vec<Action>| actions.contains(&Action::Starved { file: file_id(0) });
    assert!(!starved(plan.handle(secs(1), Event::Tick)));
    assert!(!starved(plan.handle(secs(10), Event::Tick)));
    assert!(starved(plan.handle(secs(11), Event::Tick)));
    assert!(!starved(plan.handle(secs(30), Event::Tick)));
}

/// What `actions` ask for, and what they take back.
fn asked(actions: &[Action]) -> (Vec<(RequestId, Range<u64>)>, Vec<RequestId>) {
    let asked = actions.iter().filter_map(|action| match action {
        Action::Request { request, groups, .. } => Some((*request, groups.clone())),
        _ => None,
    });
    let cancelled = actions.iter().filter_map(|action| match action {
        Action::Cancel { request } => Some(*request),
        _ => None,
    });
    (asked.collect(), cancelled.collect())
}

#[test]
fn what_waits_at_a_source_is_taken_back_once_the_source_gave_it_to_others() {
    let (mut plan, holder, file) = (plan(), node_id(1), file_id(0));
    added(&mut plan, 64 * MIB);
    plan.handle(secs(0), Event::HolderFound { holder, lan: false });
    let groups = GroupSet::whole(64 * MIB).into();
    let (first, _) = asked(&plan.handle(secs(0), Event::HolderHas { holder, file, groups }));
    let [(begun, ref a), (waits, ref b)] = first[..] else { panic!("{first:?}") };
    plan.handle(secs(0), Event::SegmentStarted { request: begun, after: secs(0) });
    let gave: GroupSet = [a.clone(), b.clone()].into_iter().collect();
    let gives = |gave: &GroupSet| Event::HolderGave { holder, file, groups: Arc::new(gave.clone()) };
    let (anew, cancelled) = asked(&plan.handle(secs(0), gives(&gave)));
    // What has begun to come is on its way; the other is asked of whoever it went to.
    assert_eq!(cancelled, [waits]);
    let [(_, ref other)] = anew[..] else { panic!("{anew:?}") };
    assert!(!gave.overlaps(other.clone()), "{other:?} {gave:?}");
    // A source that has nothing left that it gave to nobody is asked for what it gave.
    let (anew, cancelled) = asked(&plan.handle(secs(0), gives(&GroupSet::whole(64 * MIB))));
    assert_eq!((anew, cancelled), (vec![], vec![]));
}

#[test]
fn a_crowd_asks_for_a_piece_of_who_is_slow_and_for_several_of_who_is_fast() {
    let (holder, file, size) = (node_id(1), file_id(0), 4096 * MIB);
    // How long 512 KiB take; the least mean of what is asked for once that is known, and the longest.
    for (millis, mean, longest) in [(500, 32, 32), (2, 256, 1024)] {
        let mut plan = plan();
        added(&mut plan, size);
        // Another of whom nothing is known yet may want the same.
        plan.handle(secs(0), Event::HolderFound { holder: node_id(2), lan: false });
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        let groups = GroupSet::whole(size).into();
        let (mut todo, _) = asked(&plan.handle(secs(0), Event::HolderHas { holder, file, groups }));
        let (mut now, mut later) = (secs(0), Vec::new());
        while now < secs(5) {
            let (request, groups) = todo.remove(0);
            if now > secs(3) {
                later.push(groups.end - groups.start);
            }
            plan.handle(now, Event::SegmentStarted { request, after: secs(0) });
            now += Duration::from_millis(millis) * (groups.end - groups.start) as u32 / 32;
            todo.extend(asked(&plan.handle(now, Event::SegmentDone { request })).0);
        }
        let sum: u64 = later.iter().sum();
        assert!(sum >= mean * later.len() as u64, "{millis}: {later:?}");
        assert!(later.iter().all(|groups| *groups <= longest), "{millis}: {later:?}");
    }
}

#[test]
fn in_a_crowd_what_a_holder_has_wholly_comes_first() {
    for seed in 0..8 {
        let mut plan = Plan::new(PlanConfig { seed, patience: secs(10), origin_streams: 4 });
        added(&mut plan, MIB);
        let (holder, file) = (node_id(1), file_id(0));
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        // It is being sent the first of two pieces.
        let groups: GroupSet = [0..16, 32..64].into_iter().collect();
        let has = Event::HolderHas { holder, file, groups: groups.into() };
        let (asked, _) = asked(&plan.handle(secs(0), has));
        assert!(asked[0].1.start >= 32, "{asked:?}");
    }
}

#[test]
fn what_one_failed_to_send_is_asked_of_one_who_had_nothing_to_do() {
    let mut plan = plan();
    added(&mut plan, MIB / 2);
    let file = file_id(0);
    let groups: Arc<GroupSet> = GroupSet::whole(MIB / 2).into();
    let mut actions = Vec::new();
    for holder in [node_id(1), node_id(2)] {
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        actions.extend(plan.handle(secs(0), Event::HolderHas { holder, file, groups: groups.clone() }));
    }
    let [Action::Request { request, holder, .. }, ..] = actions[..] else { panic!("{actions:?}") };
    let failed = Event::SegmentFailed { request, kind: Failure::Refused };
    let again = plan.handle(secs(0), failed);
    let other = |action: &Action| matches!(action, Action::Request { holder: other, .. } if *other != holder);
    assert!(again.iter().any(other), "{again:?}");
}

/// Whoever fetches from somebody who is being sent the file itself has all that there is, most of the time.
#[test]
fn who_follows_a_slow_one_does_not_starve() {
    let mut plan = plan();
    added(&mut plan, 64 * MIB);
    let holder = node_id(1);
    plan.handle(secs(0), Event::HolderFound { holder, lan: false });
    for second in 1..30_u64 {
        let now = secs(second);
        let groups = GroupSet::from(0..second * 8);
        let mut todo = plan.handle(now, Event::Tick);
        todo.extend(plan.handle(now, Event::HolderHas { holder, file: file_id(0), groups: groups.into() }));
        while let Some(action) = todo.pop() {
            let Action::Request { request, .. } = action else { panic!("at {second} s: {action:?}") };
            todo.extend(plan.handle(now, Event::SegmentDone { request }));
        }
    }
}

#[test]
fn a_plan_keeps_no_more_holders_than_it_may_and_makes_room_for_useful_ones() {
    let mut plan = plan();
    added(&mut plan, MIB);
    for i in 0..MAX_HOLDERS {
        assert_eq!(plan.handle(secs(0), Event::HolderFound { holder: node_id(i), lan: false }), []);
    }
    let late = Event::HolderFound { holder: node_id(1000), lan: false };
    let refused = Action::DropHolder { holder: node_id(1000), why: Dropped::NoRoom };
    assert_eq!(plan.handle(secs(1), late.clone()), [refused]);
    // Those who have said nothing in a while make room.
    let dropped = plan.handle(secs(20), late);
    assert_eq!(dropped, [Action::DropHolder { holder: node_id(0), why: Dropped::NoRoom }]);
}

/// One who has sent something then fails so many times. While it rests strangers are named, who said nothing yet, one more
/// than there are places: what comes of the last.
fn named_while_another_rests(kind: Failure, times: usize) -> Vec<Action> {
    let mut plan = plan();
    added(&mut plan, 64 * MIB);
    let (resting, file, groups) = (node_id(2000), file_id(0), GroupSet::whole(64 * MIB).into());
    plan.handle(secs(0), Event::HolderFound { holder: resting, lan: false });
    let mut actions = plan.handle(secs(0), Event::HolderHas { holder: resting, file, groups });
    let request = asked(&actions).0[0].0;
    actions.extend(plan.handle(secs(1), Event::SegmentDone { request }));
    let (mut said, mut now) = (0, secs(1));
    while said < times {
        now += TICK;
        actions.extend(plan.handle(now, Event::Tick));
        let (requests, _) = asked(&std::mem::take(&mut actions));
        said += usize::from(!requests.is_empty());
        for (request, _) in requests {
            plan.handle(now, Event::SegmentFailed { request, kind });
        }
    }
    for stranger in 1..MAX_HOLDERS {
        assert_eq!(plan.handle(now, Event::HolderFound { holder: node_id(stranger), lan: false }), []);
    }
    plan.handle(now, Event::HolderFound { holder: node_id(1000), lan: false })
}

#[test]
fn a_holder_that_rests_does_not_give_way_to_a_stranger_unless_it_always_does() {
    let drops = |holder| Action::DropHolder { holder, why: Dropped::NoRoom };
    for (kind, most) in [(Failure::Refused, 8), (Failure::Lost, 2)] {
        for times in [1, most] {
            assert_eq!(named_while_another_rests(kind, times), [drops(node_id(1000))], "{kind:?} {times}");
        }
        assert_eq!(named_while_another_rests(kind, most + 1), [drops(node_id(2000))], "{kind:?}");
    }
}

#[test]
fn a_long_round_trip_gets_many_requests_at_once() {
    let mut plan = plan();
    let size = 1024 * MIB;
    added(&mut plan, size);
    plan.handle(secs(0), Event::HolderFound { holder: node_id(1), lan: false });
    let groups = GroupSet::whole(size).into();
    let mut asked = plan.handle(secs(0), Event::HolderHas { holder: node_id(1), file: file_id(0), groups });
    assert_eq!(asked.len(), 2);
    for second in 1..8_u32 {
        for action in std::mem::take(&mut asked) {
            let Action::Request { request, .. } = action else { continue };
            let (now, after) = (secs(second.into()), Duration::from_millis(100));
            asked.extend(plan.handle(now, Event::SegmentStarted { request, after }));
            asked.extend(plan.handle(now, Event::SegmentDone { request }));
        }
    }
    // As many as a peer serves at once, less those that are kept for a reader.
    assert_eq!(plan.in_flight(), MAX_OUTSTANDING - 2);
}

/// At the end a second is asked for the rest of what comes slowly, from its middle on: the two meet, the later is told to stop,
/// and nothing comes twice. Before the end nobody is asked for what another was.
#[test]
fn what_is_late_at_the_end_is_brought_by_two_until_they_meet() {
    let (mut plan, file, size) = (plan(), file_id(0), 4 * MIB);
    added(&mut plan, size);
    let (slow, quick) = (node_id(1), node_id(2));
    let mut todo = Vec::new();
    for holder in [slow, quick] {
        plan.handle(secs(0), Event::HolderFound { holder, lan: false });
        let groups = GroupSet::whole(size).into();
        todo.extend(plan.handle(secs(0), Event::HolderHas { holder, file, groups }));
    }
    let (mut now, mut seen, mut of_slow, mut brought) = (secs(0), GroupSet::new(), Vec::new(), 0);
    while !of_slow.is_empty() || seen.len() < GroupSet::whole(size).len() {
        now += Duration::from_millis(100);
        assert!(now < secs(8), "{of_slow:?} are never over");
        let mut news = Vec::new();
        for action in std::mem::take(&mut todo) {
            match action {
                Action::Request { request, holder, groups, .. } if holder == slow => {
                    seen.insert(groups.clone());
                    of_slow.push((request, groups));
                    news.push(Event::SegmentStarted { request, after: secs(0) });
                }
                Action::Request { request, groups, .. } => {
                    let again = seen.overlaps(groups.clone());
                    assert!(!again || seen.len() == GroupSet::whole(size).len(), "there was more to ask for");
                    let late = of_slow.iter().position(|(_, late)| late.contains(&groups.start));
                    assert_eq!(again, late.is_some(), "{groups:?} of {of_slow:?}");
                    // What waits behind the first comes as a whole, and so does what is too little for two.
                    let whole = late != Some(0) || groups.end - groups.start < 2 * SMALL_PART;
                    assert!(
                        whole || groups.start > of_slow[0].1.start + SMALL_PART,
                        "{groups:?} of {of_slow:?}"
                    );
                    seen.insert(groups.clone());
                    brought += groups.end - groups.start;
                    news.push(Event::SegmentDone { request });
                }
                Action::Cancel { request } => of_slow.retain(|(late, _)| *late != request),
                other => assert!(matches!(other, Action::FileDone { .. }), "{other:?}"),
            }
        }
        // 120 kB/s: below a quarter of the other, yet not so slow that it is taken from it.
        let bytes = now.as_millis() as u64 * 120;
        news.extend(of_slow.first().map(|(request, _)| Event::SegmentProgress { request: *request, bytes }));
        news.push(Event::Tick);
        todo.extend(news.into_iter().flat_map(|event| plan.handle(now, event)));
    }
    let came = now.as_millis() as u64 * 120 / GROUP_BYTES;
    assert!(came + brought <= GroupSet::whole(size).len() + 2 * SMALL_PART, "{came} and {brought} groups");
}

/// Whatever a stranger says that it has and gave, little of it is kept.
#[test]
fn what_is_kept_of_a_strangers_word_is_bounded() {
    let (mut plan, holder, files) = (plan(), node_id(1), 40);
    let size = MAX_RUNS as u64 * 2 * GROUP_BYTES;
    plan.handle(secs(0), Event::HolderFound { holder, lan: false });
    let every_other: Arc<GroupSet> =
        Arc::new((0..MAX_RUNS as u64 * 2).step_by(2).map(|group| group..group + 1).collect());
    let runs = |plan: &Plan| -> usize {
        plan.holders[&holder].has.values().map(|has| has.groups.runs().len() + has.gave.runs().len()).sum()
    };
    for i in 0..files {
        // Some of them are of one group.
        let (file, size) = (file_id(i), if i < 30 { GROUP_BYTES } else { size });
        let (held, wanted) = (GroupSet::new(), GroupSet::whole(size));
        plan.handle(secs(0), Event::FileAdded { file, size, held, wanted });
        plan.handle(secs(0), Event::HolderGave { holder, file, groups: every_other.clone() });
        plan.handle(secs(0), Event::HolderHas { holder, file, groups: every_other.clone() });
        assert!(i >= 30 || runs(&plan) <= 2 * (i + 1), "{} runs of {} groups", runs(&plan), i + 1);
    }
    assert_eq!(runs(&plan), MAX_RUNS);
    for i in 0..files {
        plan.handle(secs(1), Event::FileRemoved { file: file_id(i) });
    }
    assert_eq!((runs(&plan), plan.holders[&holder].runs), (0, 0));
}
