//! Leave to ask Xet's store: what the origin gives for it, and for whom it is kept how long.
//!
//! **Invariant:** what was given to a user's token is used for the request that the token came with, and forgotten with
//! it; neither kind of token is printed.
//! **Not here:** what is asked of the store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hubless_types::{CommitId, Loan, RepoId, Token};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

/// Most passes that are kept.
const MAX_PASSES: usize = 64;
/// Longest token of the store that is taken, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How long before its end a pass is no longer used.
const MARGIN: Duration = Duration::from_secs(30);
/// Longest that one is used, whatever it says.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);

/// The origin's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    access_token: String,
    cas_url: String,
    /// Seconds since 1970, by the origin's clock.
    exp: i64,
}

/// Leave to ask a store.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// `Authorization`, for the store's own host alone.
    pub(super) bearer: HeaderValue,
    /// The store.
    pub(super) cas: Url,
    life: Duration,
}

impl Given {
    /// The pass, if it is one. Its life is counted from the answer's own date, so that no clock has to be right; without
    /// a date it is used once.
    pub(super) fn pass(self, date: Option<jiff::Timestamp>) -> Result<Pass, &'static str> {
        if self.access_token.len() > MAX_TOKEN_BYTES {
            return Err("its token is too long");
        }
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.access_token))
            .map_err(|_| "its token is none")?;
        bearer.set_sensitive(true);
        let cas = Url::parse(&self.cas_url).map_err(|_| "its store's address is none")?;
        if !matches!(cas.scheme(), "http" | "https") || !cas.has_host() {
            return Err("its store's address is none");
        }
        let seconds = date.map_or(0, |date| self.exp.saturating_sub(date.as_second()));
        let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Pass { bearer, cas, life: life.saturating_sub(MARGIN).min(LONGEST_LIFE) })
    }
}

#[derive(Debug)]
struct Kept {
    repo: RepoId,
    commit: CommitId,
    /// By whose token; `None` if it was given to nobody in particular.
    holder: Option<Loan>,
    pass: Pass,
    until: Instant,
}

impl Kept {
    fn is_for(&self, repo: &RepoId, commit: CommitId, token: Option<&Token>) -> bool {
        let same_holder = match (&self.holder, token) {
            (None, None) => true,
            (Some(loan), Some(token)) => loan.is_of(token),
            _ => false,
        };
        same_holder && self.commit == commit && self.repo == *repo
    }
}

/// The passes that are still good.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<Vec<Kept>>);

impl Passes {
    fn with<T>(&self, now: Instant, work: impl FnOnce(&mut Vec<Kept>) -> T) -> T {
        // Nothing that is done under the lock leaves it half changed.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| now < kept.until && !kept.holder.as_ref().is_some_and(Loan::is_over));
        work(&mut kept)
    }

    pub(super) fn get(
        &self,
        repo: &RepoId,
        commit: CommitId,
        token: Option<&Token>,
        now: Instant,
    ) -> Option<Pass> {
        let find = |kept: &mut Vec<Kept>| {
            kept.iter().find(|kept| kept.is_for(repo, commit, token)).map(|kept| kept.pass.clone())
        };
        self.with(now, find)
    }

    pub(super) fn keep(
        &self,
        repo: &RepoId,
        commit: CommitId,
        token: Option<&Token>,
        pass: &Pass,
        now: Instant,
    ) {
        self.with(now, |kept| {
            kept.retain(|kept| !kept.is_for(repo, commit, token));
            if kept.len() >= MAX_PASSES {
                kept.remove(0);
            }
            let (repo, holder, pass) = (repo.clone(), token.map(Token::loan), pass.clone());
            let until = now + pass.life;
            kept.push(Kept { repo, commit, holder, pass, until });
        });
    }

    /// Forgets one that the store no longer takes.
    pub(super) fn drop(&self, repo: &RepoId, commit: CommitId, token: Option<&Token>, now: Instant) {
        self.with(now, |kept| kept.retain(|kept| !kept.is_for(repo, commit, token)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: i64 = 1_700_000_000;

    fn given(token: &str, cas: &str, life: i64) -> Given {
        Given { access_token: token.to_owned(), cas_url: cas.to_owned(), exp: ISSUED.saturating_add(life) }
    }

    fn pass(life: i64) -> Pass {
        let date = jiff::Timestamp::from_second(ISSUED).ok();
        given("xet", "https://cas.example", life).pass(date).unwrap()
    }

    #[test]
    fn a_pass_ends_before_its_token_does() {
        for (life, used) in [(900, 870), (30, 0), (3, 0), (-50, 0), (i64::MAX, 3600), (i64::MIN, 0)] {
            assert_eq!(pass(life).life, Duration::from_secs(used), "{life}");
        }
        assert_eq!(given("xet", "https://cas.example", 900).pass(None).unwrap().life, Duration::ZERO);
        let bad = [
            ("a\nb", "https://cas"),
            ("xet", "cas"),
            ("xet", "file:///etc"),
            (&*"x".repeat(20_000), "https://cas"),
        ];
        for (token, cas) in bad {
            assert!(given(token, cas, 900).pass(None).is_err(), "{token} {cas}");
        }
        assert!(!format!("{:?}", pass(900)).contains("Bearer"));
    }

    #[test]
    fn a_pass_is_for_the_request_that_its_token_came_with() {
        let (passes, now) = (Passes::default(), Instant::now());
        let (repo, commit) = ("acme/tiny".parse().unwrap(), CommitId::from_bytes([1; 20]));
        let (mine, same_text) = (Token::new("hf_a").unwrap(), Token::new("hf_a").unwrap());
        passes.keep(&repo, commit, Some(&mine), &pass(900), now);
        assert!(passes.get(&repo, commit, Some(&mine.clone()), now).is_some());
        assert!(passes.get(&repo, commit, Some(&same_text), now).is_none());
        assert!(passes.get(&repo, commit, None, now).is_none());
        assert!(passes.get(&repo, CommitId::from_bytes([2; 20]), Some(&mine), now).is_none());
        assert!(passes.get(&repo, commit, Some(&mine), now + Duration::from_secs(870)).is_none());
        passes.keep(&repo, commit, Some(&mine), &pass(900), now);
        drop(mine);
        assert!(passes.with(now, |kept| kept.is_empty()), "gone with its request");
        passes.keep(&repo, commit, None, &pass(900), now);
        passes.drop(&repo, commit, None, now);
        assert!(passes.get(&repo, commit, None, now).is_none());
    }

    #[test]
    fn passes_are_bounded() {
        let (passes, now) = (Passes::default(), Instant::now());
        let repo = "acme/tiny".parse().unwrap();
        for i in 0..200 {
            passes.keep(&repo, CommitId::from_bytes([i; 20]), None, &pass(900), now);
        }
        assert_eq!(passes.with(now, |kept| kept.len()), MAX_PASSES);
    }
}
