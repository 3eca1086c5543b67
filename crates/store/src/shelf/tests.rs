//! The shelf against a model that looks at everything.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use hubless_types::{Access, RepoFacts, RepoId, RepoKind, Timestamp};
use proptest::prelude::*;

use super::query::Entry;
use super::*;

type Model = BTreeMap<(RepoKind, String), RepoFacts>;

fn repo(name: &str) -> RepoId {
    name.parse().unwrap()
}

fn settle(shelf: &Shelf, model: &Model) {
    let covers = shelf.begin().unwrap();
    shelf
        .write_segment(covers, &AtomicBool::new(false), |visit| {
            model
                .iter()
                .try_for_each(|((kind, name), facts)| visit(&RepoId::new(*kind, name).unwrap(), facts))
        })
        .unwrap();
}

fn tell(shelf: &Shelf, model: &mut Model, repo: &RepoId, facts: Option<RepoFacts>) {
    shelf.tell(repo, facts.as_ref()).unwrap();
    let key = (repo.kind(), repo.name().to_owned());
    match facts {
        Some(facts) => model.insert(key, facts),
        None => model.remove(&key),
    };
}

fn expected(model: &Model, query: &ShelfQuery) -> Vec<String> {
    let mut found: Vec<(u32, String)> = Vec::new();
    for ((kind, name), facts) in model {
        let entry = Entry::new(facts);
        let fits = *kind == query.kind
            && (query.private || facts.access != Access::Private)
            && query.words().iter().all(|w| name.to_lowercase().contains(w.as_str()))
            && query.author.as_ref().is_none_or(|a| name.split_once('/').is_some_and(|(o, _)| o == a))
            && query.term_hashes().iter().all(|h| entry.terms.contains(h))
            && query.gated.is_none_or(|gated| gated != facts.access.is_open());
        if fits {
            found.push((entry.value(query.sort), name.clone()));
        }
    }
    found.sort_by(|a, b| query.order((a.0, &a.1), (b.0, &b.1)));
    found.into_iter().map(|(_, name)| name).collect()
}

fn all_pages(shelf: &Shelf, query: &ShelfQuery) -> Vec<String> {
    let (mut query, mut names) = (query.clone(), Vec::new());
    loop {
        let page = shelf.find(&query).unwrap();
        assert!(page.repos.len() <= query.limit);
        names.extend(page.repos.iter().map(|(r, _)| r.name().to_owned()));
        match page.next {
            Some(next) => query.after = Some(next.to_string().parse().unwrap()),
            None => return names,
        }
    }
}

fn facts(tags: &[&str], n: u64) -> RepoFacts {
    RepoFacts {
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        downloads: n % 5,
        likes: n % 3,
        created: Timestamp(n * 1000),
        modified: Timestamp(n % 7),
        access: [Access::Open, Access::GatedAuto, Access::Private][(n % 3) as usize],
        pipeline_tag: n.is_multiple_of(2).then(|| "text-generation".into()),
        ..RepoFacts::default()
    }
}

fn any_name() -> impl Strategy<Value = String> {
    ("(acme|Acme|zeta|b)", "(bert|llama|gpt|tiny|BERT)", "(-base|-7b|_x|)")
        .prop_map(|(a, b, c)| format!("{a}/{b}{c}"))
}

fn any_query() -> impl Strategy<Value = ShelfQuery> {
    let sort = prop::sample::select(
        &[
            ShelfSort::Name,
            ShelfSort::Downloads,
            ShelfSort::Likes,
            ShelfSort::Created,
            ShelfSort::Modified,
            ShelfSort::Trending,
        ][..],
    );
    let search =
        prop::sample::select(&["", "bert", "Be", "b", "acme tiny", "ert-b", "é", "/", "nothing"][..]);
    let author = prop::option::of(prop::sample::select(&["acme", "Acme", "zeta", "none"][..]));
    let term = prop::sample::select(&[None, Some("mit"), Some("TEXT-generation"), Some("none")][..]);
    (sort, any::<[bool; 2]>(), search, author, term, prop::option::of(any::<bool>()), 1_usize..6).prop_map(
        |(sort, [descending, private], search, author, term, gated, limit)| ShelfQuery {
            search: search.into(),
            author: author.map(Into::into),
            terms: term.map(|t| ShelfTerm::Tag(t.into())).into_iter().collect(),
            gated,
            private,
            sort,
            descending,
            limit,
            ..ShelfQuery::all(RepoKind::Model)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was told before a segment, while it was written and after it, every question is answered as by
    /// looking at everything.
    #[test]
    fn every_question_is_answered_as_by_looking(
        before in prop::collection::btree_map(any_name(), 0_u64..40, 0..40),
        after in prop::collection::btree_map(any_name(), prop::option::of(0_u64..40), 0..20),
        queries in prop::collection::vec(any_query(), 8),
        segment: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path());
        let mut model = Model::new();
        for (name, n) in &before {
            tell(&shelf, &mut model, &repo(name), Some(facts(&["mit"][..(*n % 2) as usize], *n)));
        }
        if segment {
            settle(&shelf, &model);
        }
        for (name, n) in &after {
            tell(&shelf, &mut model, &repo(name), n.map(|n| facts(&["mit"], n)));
        }
        tell(&shelf, &mut model, &repo("datasets/acme/bert"), Some(facts(&["mit"], 1)));
        for query in &queries {
            prop_assert_eq!(all_pages(&shelf, query), expected(&model, query), "{:?}", query);
        }
        prop_assert_eq!(shelf.count(), model.len() as u64);
    }
}

/// A shelf of some thousands, so that walks, gathering, blocks and pages of columns are all used.
#[test]
fn many_repositories_are_found_as_few_are() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path());
    let mut model = Model::new();
    for n in 0..70_000_u64 {
        let name = format!("owner-{}/model-{:x}-{}", n % 700, n.wrapping_mul(2_654_435_761) % 65_536, n % 10);
        let told = RepoFacts { downloads: n % 1000, ..facts(&["mit"], n * 3) };
        model.insert((RepoKind::Model, name), told);
    }
    settle(&shelf, &model);
    let all = ShelfQuery { sort: ShelfSort::Downloads, limit: 1000, ..ShelfQuery::all(RepoKind::Model) };
    for descending in [true, false] {
        for search in ["", "model", "ab", "owner-12/ -7", "ffff-1", "q"] {
            let query = ShelfQuery { search: search.into(), descending, ..all.clone() };
            let expected = expected(&model, &query);
            assert_eq!(shelf.find(&query).unwrap().repos.len(), expected.len().min(1000), "{search}");
            assert!(all_pages(&shelf, &query) == expected, "{search} {descending}");
        }
    }
    let query = ShelfQuery { author: Some("owner-7".into()), ..all.clone() };
    assert_eq!(all_pages(&shelf, &query), expected(&model, &query));
    // A changed one is found as it is now, and the next segment has it.
    tell(
        &shelf,
        &mut model,
        &repo("owner-7/new"),
        Some(RepoFacts { downloads: 5000, ..RepoFacts::default() }),
    );
    for _ in 0..2 {
        let first = shelf.find(&ShelfQuery { descending: true, limit: 1, ..all.clone() }).unwrap();
        assert_eq!(first.repos[0].0, repo("owner-7/new"));
        settle(&shelf, &model);
    }
}

#[test]
fn a_damaged_segment_is_thrown_away_and_reading_one_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path());
    let mut model = Model::new();
    for n in 0..300 {
        let key = (RepoKind::Model, format!("acme/model-{n}"));
        model.insert(key, RepoFacts { access: Access::Open, ..facts(&["mit", "x"], n) });
    }
    settle(&shelf, &model);
    let folder = dir.path().join("shelf/1");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(files.len() > 12);
    for file in files {
        let whole = std::fs::read(&file).unwrap();
        for damage in 0..3 {
            let mut bytes = whole.clone();
            match damage {
                0 => bytes.truncate(whole.len() / 2),
                1 => bytes.iter_mut().for_each(|b| *b = 0xff),
                _ => bytes.iter_mut().step_by(3).for_each(|b| *b = b.wrapping_add(0x81)),
            }
            std::fs::write(&file, &bytes).unwrap();
            if let Ok(segment) = Segment::open(&folder) {
                for sort in [ShelfSort::Trending, ShelfSort::Downloads, ShelfSort::Name] {
                    let terms = vec![ShelfTerm::Tag("mit".into())];
                    for search in ["", "odel"] {
                        let query = ShelfQuery {
                            sort,
                            search: search.into(),
                            terms: terms.clone(),
                            after: Some("3:acme/model-5".parse().unwrap()),
                            ..ShelfQuery::all(RepoKind::Model)
                        };
                        let _ = search::search(&segment, &query, &HashSet::new(), 10);
                    }
                }
            }
        }
        std::fs::write(&file, &whole).unwrap();
    }
    std::fs::write(folder.join("names"), b"short\n").unwrap();
    let shelf = Shelf::open(dir.path());
    assert_eq!((shelf.count(), shelf.covers()), (0, None));
    assert!(!folder.exists(), "what cannot be read is removed");
}

#[test]
fn a_segment_that_was_given_up_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path());
    let mut model = Model::new();
    tell(&shelf, &mut model, &repo("acme/a"), Some(RepoFacts::default()));
    let covers = shelf.begin().unwrap();
    assert_eq!(shelf.begin(), None, "one at a time");
    tell(&shelf, &mut model, &repo("acme/b"), Some(RepoFacts::default()));
    let error = shelf
        .write_segment(covers, &AtomicBool::new(true), |visit| visit(&repo("acme/a"), &RepoFacts::default()));
    assert!(matches!(error, Err(StoreError::Cancelled)));
    let names = all_pages(&shelf, &ShelfQuery::all(RepoKind::Model));
    assert_eq!(names, ["acme/a", "acme/b"]);
    assert!(shelf.is_due());
    assert!(Shelf::open(dir.path()).covers().is_none(), "a folder without its description is no segment");
}
