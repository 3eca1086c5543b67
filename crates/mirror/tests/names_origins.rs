//! Names that an origin answers for: while it answers, and after it is gone.

mod common;

use std::time::Duration;

use common::*;
use hubless_mirror::*;
use hubless_testkit::{MemoryOrigin, OriginFaults, Question};
use hubless_types::*;

const HUB: &str = "https://hub.test";

fn hub() -> MemoryOrigin {
    MemoryOrigin::new(HUB)
}

fn gone(hub: &MemoryOrigin) {
    hub.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
}

fn below(swarm: &Swarm, hub: &MemoryOrigin) -> anyhow::Result<Node> {
    swarm.node_below(vec![hub.origin()], |_| {})
}

/// A node without an origin, that believes `threshold` of these nodes.
fn believing(swarm: &Swarm, witnesses: &[&Node], threshold: usize) -> anyhow::Result<Node> {
    swarm.node_with(|config| {
        config.witnesses = witnesses.iter().map(|node| node.id).collect();
        config.threshold = threshold;
    })
}

fn names_asked(hub: &MemoryOrigin) -> usize {
    hub.asked().iter().filter(|asked| matches!(asked.what, Question::Resolve(_))).count()
}

fn at_origin() -> ResolvedBy {
    ResolvedBy::Origin(HUB.into())
}

async fn after(time: Duration, node: &Node) -> Result<Resolved, MirrorError> {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    node.resolve(&[]).await
}

async fn now(node: &Node) -> Result<Resolved, MirrorError> {
    // What was asked a moment ago is not asked again; a minute later it is.
    after(Duration::from_secs(60), node).await
}

/// Two nodes saw a name at the origin; with the origin gone a third takes it because both agree, says so, and
/// knows it from then on.
#[tokio::test]
async fn a_name_outlives_its_origin() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let (a, b) = (below(&swarm, &hub)?, below(&swarm, &hub)?);
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    let seen = a.resolve(&[]).await?;
    assert_eq!((seen.commit, &seen.by, seen.by_text()), (commit, &at_origin(), format!("origin {HUB}")));
    b.resolve(&[]).await?;
    gone(&hub);

    let c = believing(&swarm, &[&a, &b], 2)?;
    let resolved = c.resolve(&[]).await?;
    assert_eq!((resolved.commit, resolved.by_text().as_str()), (commit, "witnesses 2/2"));
    let stranger = swarm.node()?;
    let refused = stranger.resolve(&[]).await.expect_err("nobody is believed there");
    assert_eq!(refused.kind(), ErrorKind::Untrusted);
    let taken = stranger.resolve(&[a.id]).await?;
    assert_eq!((taken.commit, taken.by_text().as_str()), (commit, "witnesses 1/1"));

    swarm.cut(&a);
    swarm.cut(&b);
    swarm.clock.advance(3 * 3600);
    let alone = now(&c).await?;
    assert_eq!((alone.commit, alone.by_text().as_str()), (commit, "witnesses 2/2"), "their words are kept");
    assert_eq!(alone.age, 3 * 3600);
    Ok(())
}

/// With the origin gone and nobody to believe, a name is what was seen last, and its age is said.
#[tokio::test]
async fn what_was_seen_last_is_shown_with_its_age() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.resolve(&[]).await?;
    gone(&hub);
    swarm.clock.advance(3 * 3600);
    let last = now(&a).await?;
    assert_eq!((last.commit, last.by_text().as_str()), (commit, "last seen 3 h ago"));
    let dev = a.mirror.resolve(&tiny(), &"dev".parse()?, &Caller::anyone()).await.expect_err("never seen");
    assert_eq!(dev.kind(), ErrorKind::Unavailable, "{dev}");
    assert!(dev.to_string().contains(HUB), "{dev}");
    Ok(())
}

/// Too few witnesses are no answer; enough that contradict each other are an error that shows who says what.
#[tokio::test]
async fn witnesses_that_disagree_are_shown() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let (a, b, c) = (below(&swarm, &hub)?, below(&swarm, &hub)?, below(&swarm, &hub)?);
    let mut commits = Vec::new();
    for (node, text) in [(&a, "one"), (&b, "two"), (&c, "three")] {
        commits.push(hub.publish(&tiny(), "main", &[("a.txt", text.as_bytes())])?);
        swarm.clock.advance(100);
        node.resolve(&[]).await?;
    }
    let d = believing(&swarm, &[&a, &b, &c], 2)?;
    let error = d.resolve(&[]).await.expect_err("three say three things");
    assert!(matches!(error, MirrorError::Split { threshold: 2, .. }), "{error}");
    let text = error.to_string();
    for (node, commit) in [(&a, commits[0]), (&b, commits[1]), (&c, commits[2])] {
        assert!(text.contains(&format!("{} says {commit}", node.id)), "{text}");
    }
    // One of them looks again.
    now(&b).await?;
    let agreed = now(&d).await?;
    assert_eq!((agreed.commit, agreed.by_text().as_str()), (commits[2], "witnesses 2/3"));
    let one = believing(&swarm, &[&a, &b, &c], 1)?;
    assert_eq!(one.resolve(&[]).await?.commit, commits[2], "the newest");
    Ok(())
}

/// What witnesses saw before this node looked itself takes no name back.
#[tokio::test]
async fn old_sights_take_nothing_back() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let (a, b) = (below(&swarm, &hub)?, below(&swarm, &hub)?);
    hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.resolve(&[]).await?;
    b.resolve(&[]).await?;
    swarm.clock.advance(100);
    let second = hub.publish(&tiny(), "main", &[("a.txt", b"two")])?;
    let c = swarm.node_below(vec![hub.origin()], |config| {
        config.witnesses = vec![a.id, b.id];
        config.threshold = 2;
    })?;
    assert_eq!(c.resolve(&[]).await?.commit, second);
    gone(&hub);
    let last = now(&c).await?;
    assert_eq!(last.commit, second);
    assert!(matches!(last.by, ResolvedBy::LastSeen { .. }), "{:?}", last.by);
    Ok(())
}

/// A branch that was written anew, or set back, is followed, and shown as a fork; one that grew is not.
#[tokio::test]
async fn a_fork_is_never_silent() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let first = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.pull_from(&[]).await?;
    let second = hub.publish(&tiny(), "main", &[("a.txt", b"two")])?;
    assert_eq!(a.pull_from(&[]).await?.fork, None);
    assert_eq!(now(&a).await?.fork, None, "it grew");

    let other = hub.rewrite(&tiny(), "main", &[("a.txt", b"other")])?;
    let pulled = a.pull_from(&[]).await?;
    let fork = pulled.fork.expect("it does not descend");
    assert_eq!((fork.from, fork.to, fork.kind), (second, other, ForkKind::Diverged));
    assert_eq!(a.resolve(&[]).await?.fork, Some(fork.clone()));

    hub.point(&tiny(), "main", second)?;
    a.pull_from(&[]).await?;
    hub.point(&tiny(), "main", first)?;
    let back = now(&a).await?;
    let shown = back.fork.expect("it went back");
    assert_eq!((shown.from, shown.to, shown.kind), (second, first, ForkKind::RolledBack));
    Ok(())
}

/// A burst asks the origin once; an answer of some seconds ago is given at once, and renewed behind it.
#[tokio::test]
async fn a_burst_asks_once() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let first = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    hub.set_faults(OriginFaults { delay: Duration::from_millis(50), ..OriginFaults::default() });
    let all = futures::future::join_all((0..100).map(|_| a.resolve(&[]))).await;
    assert!(all.into_iter().all(|r| r.is_ok_and(|r| r.commit == first)));
    assert_eq!(names_asked(&hub), 1);

    let second = hub.publish(&tiny(), "main", &[("a.txt", b"two")])?;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    assert_eq!(a.resolve(&[]).await?.commit, first, "at once");
    eventually("it is renewed", async || a.resolve(&[]).await.is_ok_and(|r| r.commit == second)).await?;
    assert_eq!(names_asked(&hub), 2);
    Ok(())
}

/// An origin that is too slow is not waited for, once something is known.
#[tokio::test]
async fn a_slow_origin_has_its_budget_and_no_more() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = swarm.node_below(vec![hub.origin()], |c| c.answer_within = Duration::from_millis(200))?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.resolve(&[]).await?;
    hub.set_faults(OriginFaults { delay: Duration::from_secs(30), ..OriginFaults::default() });
    let started = std::time::Instant::now();
    let last = now(&a).await?;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!((last.commit, last.by), (commit, ResolvedBy::LastSeen { by: RefSource::Origin(HUB.into()) }));
    Ok(())
}

/// A renamed repository is kept under its new name, and found by the old one, also with the origin gone.
#[tokio::test]
async fn a_renamed_repository_is_found_by_both_names() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.resolve(&[]).await?;
    let new: RepoId = "acme/small".parse()?;
    hub.rename(&tiny(), &new)?;
    let resolved = now(&a).await?;
    assert_eq!((&resolved.repo, resolved.commit), (&new, commit));
    gone(&hub);
    let later = now(&a).await?;
    assert_eq!((&later.repo, later.commit), (&new, commit));
    Ok(())
}

/// What a former name is, is asked again after a day, by whoever uses it and behind the answer: another repository that has
/// the name by then is found by it, and has nothing of the renamed one. An origin that is gone changes nothing.
#[tokio::test]
async fn a_former_name_may_be_anothers_later() -> TestResult {
    let (swarm, hub, day) = (Swarm::new()?, hub(), Duration::from_secs(25 * 3600));
    let a = below(&swarm, &hub)?;
    let (catalogue, new) = (a.store.catalogue(), "acme/small".parse::<RepoId>()?);
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.mirror.pin(&tiny(), &Revision::main(), &Caller::anyone()).await?;
    hub.rename(&tiny(), &new)?;
    assert_eq!(now(&a).await?.repo, new);
    assert_eq!((catalogue.commits_of(&new)?, catalogue.pins()?[0].repo.clone()), (vec![commit], new.clone()));

    gone(&hub);
    let last = after(day, &a).await?;
    assert_eq!((&last.repo, last.commit), (&new, commit));
    hub.set_faults(OriginFaults::default());
    let fresh = hub.publish(&tiny(), "main", &[("a.txt", b"another")])?;
    hub.forget_asked();
    for _ in 0..3 {
        assert_eq!(now(&a).await?.repo, new, "it was asked about less than a day ago");
    }
    let of_former = |hub: &MemoryOrigin| hub.asked().iter().filter(|a| a.repo == Some(tiny())).count();
    assert_eq!(of_former(&hub), 0);

    assert_eq!(after(day, &a).await?.repo, new, "at once");
    eventually("it is asked about", async || catalogue.canonical(&tiny()).is_ok_and(|to| to.is_none()))
        .await?;
    assert_eq!(of_former(&hub), 1);
    let found = now(&a).await?;
    assert_eq!((&found.repo, found.commit), (&tiny(), fresh));
    let renamed = a.mirror.resolve(&new, &Revision::main(), &Caller::anyone()).await?;
    assert_eq!((&renamed.repo, renamed.commit), (&new, commit));
    assert!(!catalogue.lists_commit(&tiny(), commit)? && catalogue.lists_commit(&new, commit)?);
    assert_eq!(catalogue.pins()?[0].repo, new);
    Ok(())
}

/// Renamed and back again: it is found by its name, and by the one that it had meanwhile.
#[tokio::test]
async fn a_rename_may_be_undone() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let (catalogue, new) = (a.store.catalogue(), "acme/small".parse::<RepoId>()?);
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.pull_from(&[]).await?;
    hub.rename(&tiny(), &new)?;
    now(&a).await?;
    hub.rename(&new, &tiny())?;
    let back = now(&a).await?;
    assert_eq!((&back.repo, back.commit), (&tiny(), commit));
    assert_eq!((catalogue.canonical(&tiny())?, catalogue.canonical(&new)?), (None, Some(tiny())));
    assert_eq!((catalogue.commits_of(&tiny())?, catalogue.commits_of(&new)?.len()), (vec![commit], 0));
    Ok(())
}

/// What is forgotten by a former name is asked for by it anew.
#[tokio::test]
async fn a_former_name_is_forgotten() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let new: RepoId = "acme/small".parse()?;
    hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.pull_from(&[]).await?;
    hub.rename(&tiny(), &new)?;
    now(&a).await?;
    let fresh = hub.publish(&tiny(), "main", &[("a.txt", b"another")])?;
    let forgotten = a.mirror.forget(&tiny()).await?;
    assert_eq!((&forgotten.repo, forgotten.commits), (&new, 1));
    assert_eq!(a.mirror.canonical(&tiny())?, None);
    let found = a.resolve(&[]).await?;
    assert_eq!((&found.repo, found.commit), (&tiny(), fresh));
    Ok(())
}

/// A repository that is renamed and gated takes with it what was fetched by its former name: peers get none of that.
#[tokio::test]
async fn what_is_renamed_and_gated_is_kept_back() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let new: RepoId = "acme/small".parse()?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.pull_from(&[]).await?;
    assert!(a.store.catalogue().is_commit_shared(commit)?);
    hub.rename(&tiny(), &new)?;
    hub.restrict(&new, Access::GatedManual, &["hf_reader"])?;
    assert_eq!(now(&a).await?.repo, new);
    assert!(!a.store.catalogue().is_commit_shared(commit)?);
    assert!(swarm.node()?.pull_commit(commit).await.is_err());
    Ok(())
}

/// An open repository's origin is shown no token. A private one is shown it for each request, and what its names
/// mean is neither kept nor told; nobody learns of it without a token, or when the origin is gone.
#[tokio::test]
async fn a_private_name_is_asked_for_every_time() -> TestResult {
    let (swarm, hub, other) = (Swarm::new()?, hub(), MemoryOrigin::new("https://other.test"));
    let a = swarm.node_below(vec![hub.origin(), other.origin()], |_| {})?;
    let open: RepoId = "acme/open".parse()?;
    hub.publish(&open, "main", &[("a.txt", b"open")])?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"secret")])?;
    hub.restrict(&tiny(), Access::Private, &["hf_reader"])?;
    let reader = Caller { token: Some(Token::new("hf_reader")?), ..Caller::anyone() };
    a.mirror.resolve(&open, &Revision::main(), &reader).await?;
    assert!(hub.asked().iter().all(|asked| asked.token.is_none()));

    let main = Revision::main();
    for _ in 0..2 {
        let seen = a.mirror.resolve(&tiny(), &main, &reader).await?;
        assert_eq!((seen.commit, seen.by), (commit, at_origin()));
        let refused = a.resolve(&[]).await.expect_err("it shows no token");
        assert_eq!(refused.kind(), ErrorKind::NotFound(NotFound::Repo), "{refused}");
    }
    assert!(other.asked().iter().all(|asked| asked.token.is_none()), "it is not that one's token");
    assert!(a.store.catalogue().refs(&tiny())?.is_empty());
    assert!(a.store.catalogue().statements(&tiny(), None)?.is_empty());
    gone(&hub);
    other.set_faults(OriginFaults { offline: true, ..OriginFaults::default() });
    let unchecked = a.mirror.resolve(&tiny(), &main, &reader).await.expect_err("nobody can say");
    assert_eq!(unchecked.kind(), ErrorKind::Unavailable, "as of one that nobody knows: {unchecked}");
    Ok(())
}

/// What is published here is nobody else's to say, and no origin is asked for it; what a trusted node publishes is
/// found although the origin knows nothing of it.
#[tokio::test]
async fn what_is_published_is_its_publishers_to_say() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let commit = a.add(&swarm.folder("repo", &[("a.txt", b"mine")])?).await?.commit;
    let b = swarm.node_below(vec![hub.origin()], |config| config.trusted = vec![a.id])?;
    let resolved = b.resolve(&[]).await?;
    assert_eq!((resolved.commit, resolved.by), (commit, ResolvedBy::Publisher(a.id)));
    hub.forget_asked();

    hub.publish(&tiny(), "main", &[("a.txt", b"theirs")])?;
    let own = now(&a).await?;
    assert_eq!((own.commit, own.by), (commit, ResolvedBy::Publisher(a.id)));
    assert_eq!(names_asked(&hub), 0);
    Ok(())
}

/// Peers' words are here before they are needed: they are fetched while the origin answers.
#[tokio::test]
async fn statements_are_exchanged_while_the_origin_answers() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let (a, b) = (below(&swarm, &hub)?, below(&swarm, &hub)?);
    hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    a.resolve(&[]).await?;
    b.resolve(&[]).await?;
    eventually("b has a's word", async || {
        let kept = b.store.catalogue().statements(&tiny(), None).unwrap_or_default();
        kept.iter().any(|s| s.signer == a.id && s.body.origin.as_deref() == Some(HUB))
    })
    .await
}

/// Nobody's word is needed for a name that nobody has: an origin's "no" is quick.
#[tokio::test]
async fn what_an_origin_does_not_have_is_not_found() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let none = a.resolve(&[]).await.expect_err("there is none");
    assert_eq!(none.kind(), ErrorKind::NotFound(NotFound::Repo));
    hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    let dev = a.mirror.resolve(&tiny(), &"dev".parse()?, &Caller::anyone()).await.expect_err("no branch");
    assert_eq!(dev.kind(), ErrorKind::NotFound(NotFound::Revision));
    Ok(())
}

/// What an origin listed as a tag is one when the origin is gone too, whether it was asked for before the list or after it,
/// and after a restart.
#[tokio::test]
async fn a_tag_is_a_tag_with_its_origin_gone() -> TestResult {
    let (swarm, hub) = (Swarm::new()?, hub());
    let a = below(&swarm, &hub)?;
    let commit = hub.publish(&tiny(), "main", &[("a.txt", b"one")])?;
    for name in ["refs/tags/v1", "refs/tags/v2", "refs/tags/unasked", "dev"] {
        hub.point(&tiny(), name, commit)?;
    }
    let anyone = Caller::anyone();
    a.resolve(&[]).await?;
    for name in ["v1", "dev"] {
        a.mirror.resolve(&tiny(), &name.parse()?, &anyone).await?;
    }
    assert_eq!(a.mirror.all_refs(&anyone, &tiny()).await?.len(), 5);
    a.mirror.resolve(&tiny(), &"v2".parse()?, &anyone).await?;
    gone(&hub);
    now(&a).await?;
    let names = async |node: &Node| -> anyhow::Result<Vec<String>> {
        Ok(node.mirror.all_refs(&anyone, &tiny()).await?.into_keys().collect())
    };
    let kept = ["refs/heads/dev", "refs/heads/main", "refs/tags/v1", "refs/tags/v2"];
    assert_eq!(names(&a).await?, kept);
    a.mirror.shutdown().await;
    let a = swarm.again(a, hubless_limits::Limits::default())?;
    assert_eq!(names(&a).await?, kept, "after a restart");
    Ok(())
}
