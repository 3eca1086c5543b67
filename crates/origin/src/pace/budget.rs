//! What an origin allows: `RateLimit: "resolvers";r=2998;t=172` (draft-ietf-httpapi-ratelimit-headers) and
//! `Retry-After`. Origins count each token for itself, and by address those who send none: whoever used up his own
//! budget keeps nobody else waiting.
//!
//! **Invariant:** at most [`MAX_PURSES`] tokens are told apart, those that were used last, and none of them is kept.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use hubless_types::Token;

use tokio::time::Instant;

/// Most tokens that are told apart. One that made room has all of its budget, as far as is known here.
const MAX_PURSES: usize = 64;
/// Most policies that are remembered of one payer.
const MAX_POLICIES: usize = 8;
/// Longest header that is read, in bytes.
const MAX_HEADER_BYTES: usize = 1024;
/// Longest wait that an origin can impose.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The wait where it names none.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Answers about repositories.
    Api,
    /// Content.
    Files,
    /// What another service gives out in the origin's name and does not count for it: Xet's store.
    Elsewhere,
}

/// Kinds of lanes.
const LANES: usize = 3;

/// Who pays, where a token was sent: a number that says nothing of the token, and means nothing in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payer(u64);

/// Tells tokens apart.
#[derive(Debug, Default)]
pub(crate) struct Payers(RandomState);

impl Payers {
    /// Whose budget a request with `token` is taken from; `None` for that of all who send none.
    pub(crate) fn of(&self, token: Option<&Token>) -> Option<Payer> {
        token.map(|token| Payer(self.0.hash_one(token.reveal())))
    }
}

/// What a request is counted as, and who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) kind: LaneKind,
    pub(crate) payer: Option<Payer>,
}

/// One item of a `RateLimit` header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    policy: String,
    requests: u64,
    reset: Duration,
}

#[derive(Debug)]
struct Policy {
    name: String,
    left: u64,
    until: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Of all who send no token.
    open: Purse,
    /// The one that was used last is at the end.
    purses: Vec<(Payer, Purse)>,
}

/// What one payer has.
#[derive(Debug, Default)]
struct Purse {
    policies: Vec<Policy>,
    /// Which policy counts a lane, as far as answers told.
    lanes: [Option<usize>; LANES],
    blocked: [Option<Instant>; LANES],
}

impl Budget {
    /// Takes one request out of the budget of `lane`, or says how long there is none.
    pub(crate) fn admit(&mut self, lane: Lane, now: Instant) -> Result<(), Duration> {
        self.of(lane.payer).admit(lane.kind as usize, now)
    }

    /// Notes what an answer says of the budget.
    pub(crate) fn learn(&mut self, lane: Lane, header: &str, now: Instant) {
        self.of(lane.payer).learn(lane.kind as usize, header, now);
    }

    /// Notes a refusal (429, or 503 with `Retry-After`), and says how long to wait.
    pub(crate) fn refused(
        &mut self,
        lane: Lane,
        rate_limit: Option<&str>,
        retry_after: Option<&str>,
        now: Instant,
    ) -> Duration {
        let spent = rate_limit.map(parse).unwrap_or_default().into_iter().filter(|item| item.requests == 0);
        let spent = spent.map(|item| item.reset + Duration::from_secs(1)).max();
        let asked = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let wait = spent.or(asked).unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT);
        self.of(lane.payer).blocked[lane.kind as usize] = Some(now + wait);
        wait
    }

    /// The least that any policy still allows, and the longest that a lane must wait.
    pub(crate) fn seen(&self, now: Instant) -> (Option<u64>, Option<Duration>) {
        let purses = || self.purses.iter().map(|(_, purse)| purse).chain([&self.open]);
        let policies = || purses().flat_map(|purse| &purse.policies);
        let left = policies().filter(|p| now < p.until).map(|p| p.left).min();
        let spent = policies().filter(|p| p.left == 0).map(|p| p.until);
        let until = purses().flat_map(|purse| purse.blocked.iter().flatten().copied()).chain(spent).max();
        (left, until.filter(|until| now < *until).map(|until| until - now))
    }

    fn of(&mut self, payer: Option<Payer>) -> &mut Purse {
        let Some(payer) = payer else { return &mut self.open };
        let entry = match self.purses.iter().position(|(known, _)| *known == payer) {
            Some(place) => self.purses.remove(place),
            None => (payer, Purse::default()),
        };
        if self.purses.len() >= MAX_PURSES {
            self.purses.remove(0);
        }
        self.purses.push(entry);
        let last = self.purses.len() - 1;
        &mut self.purses[last].1
    }
}

impl Purse {
    fn admit(&mut self, lane: usize, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.blocked[lane].filter(|until| now < *until) {
            return Err(until - now);
        }
        let policy = self.lanes[lane].and_then(|p| self.policies.get_mut(p));
        if let Some(policy) = policy.filter(|p| now < p.until) {
            if policy.left == 0 {
                return Err(policy.until - now);
            }
            policy.left -= 1;
        }
        Ok(())
    }

    fn learn(&mut self, lane: usize, header: &str, now: Instant) {
        for item in parse(header) {
            let until = now + item.reset;
            let place = match self.policies.iter().position(|p| p.name == item.policy) {
                Some(place) => place,
                None if self.policies.len() < MAX_POLICIES => {
                    self.policies.push(Policy { name: item.policy, left: item.requests, until });
                    self.policies.len() - 1
                }
                None => return,
            };
            let policy = &mut self.policies[place];
            // Answers overtake each other: within one window the budget only shrinks.
            let same_window = now < policy.until && until <= policy.until + Duration::from_secs(2);
            policy.left = if same_window { policy.left.min(item.requests) } else { item.requests };
            policy.until = until;
            self.lanes[lane] = Some(place);
        }
    }
}

/// Reads the items of a `RateLimit` header; passes over those that are none.
fn parse(header: &str) -> Vec<Left> {
    if header.len() > MAX_HEADER_BYTES {
        return Vec::new();
    }
    header.split(',').take(MAX_POLICIES).filter_map(parse_item).collect()
}

fn parse_item(item: &str) -> Option<Left> {
    let mut words = item.split(';').map(str::trim);
    let policy = words.next()?.strip_prefix('"')?.strip_suffix('"')?.to_owned();
    let (mut requests, mut reset) = (None, None);
    for word in words {
        match word.split_once('=')? {
            ("r", n) => requests = n.parse().ok(),
            ("t", n) => reset = n.parse().ok(),
            _ => {}
        }
    }
    let reset = Duration::from_secs(reset?).min(LONGEST_WAIT);
    Some(Left { policy, requests: requests?, reset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const API: Lane = Lane { kind: LaneKind::Api, payer: None };
    const FILES: Lane = Lane { kind: LaneKind::Files, payer: None };
    const SECOND: Duration = Duration::from_secs(1);

    fn paid_by(payer: u64) -> Lane {
        Lane { payer: Some(Payer(payer)), ..FILES }
    }

    #[test]
    fn tokens_are_told_apart_and_not_kept() {
        let token = |text| Token::new(text).unwrap();
        let payers = Payers::default();
        let [a, again, b] = ["hf_a", "hf_a", "hf_b"].map(|text| payers.of(Some(&token(text))));
        assert!(a == again && a != b && payers.of(None).is_none());
        assert_ne!(Payers::default().of(Some(&token("hf_a"))), a, "another process has other numbers");
    }

    /// Who is throttled, or has used up what the origin allows, keeps no other token waiting, nor those without one.
    #[test]
    fn what_one_token_used_up_is_its_own() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert_eq!(budget.refused(paid_by(1), None, Some("3000"), now), 3000 * SECOND);
        budget.learn(paid_by(2), r#""resolvers";r=0;t=172"#, now);
        assert_eq!(budget.admit(paid_by(1), now), Err(3000 * SECOND));
        assert_eq!(budget.admit(paid_by(2), now), Err(172 * SECOND));
        assert_eq!((budget.admit(paid_by(3), now), budget.admit(FILES, now)), (Ok(()), Ok(())));
        assert_eq!(budget.seen(now), (Some(0), Some(3000 * SECOND)));
    }

    #[test]
    fn tokens_are_bounded_and_those_in_use_stay() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        budget.refused(paid_by(0), None, Some("50"), now);
        for payer in 0..10 * MAX_PURSES as u64 {
            let _ = budget.admit(paid_by(payer), now);
            assert!(budget.admit(paid_by(0), now).is_err());
            assert!(budget.purses.len() <= MAX_PURSES);
        }
    }

    #[test]
    fn a_spent_budget_is_waited_for() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert_eq!(budget.admit(FILES, now), Ok(()));
        budget.learn(FILES, r#""resolvers";r=2;t=172"#, now);
        assert_eq!(budget.seen(now), (Some(2), None));
        assert_eq!((budget.admit(FILES, now), budget.admit(FILES, now)), (Ok(()), Ok(())));
        assert_eq!(budget.admit(FILES, now), Err(172 * SECOND));
        assert_eq!(budget.admit(API, now), Ok(()), "another budget");
        assert_eq!(budget.admit(paid_by(1), now), Ok(()), "another purse");
        assert_eq!(budget.seen(now), (Some(0), Some(172 * SECOND)));
        assert_eq!(budget.admit(FILES, now + 172 * SECOND), Ok(()));
    }

    #[test]
    fn an_answer_that_was_overtaken_gives_nothing_back() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        budget.learn(FILES, r#""resolvers";r=5;t=100"#, now);
        budget.learn(FILES, r#""resolvers";r=9;t=100"#, now);
        assert_eq!(budget.seen(now).0, Some(5));
        budget.learn(FILES, r#""resolvers";r=3000;t=300"#, now + 100 * SECOND);
        assert_eq!(budget.seen(now + 100 * SECOND).0, Some(3000), "a new window");
    }

    #[test]
    fn two_kinds_that_one_policy_counts_share_it() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        budget.learn(API, r#""all";r=1;t=9"#, now);
        budget.learn(FILES, r#""all";r=1;t=9"#, now);
        assert_eq!((budget.admit(API, now), budget.admit(FILES, now)), (Ok(()), Err(9 * SECOND)));
    }

    #[test]
    fn refusals_say_how_long() {
        let now = Instant::now();
        for (rate_limit, retry_after, seconds) in [
            (Some(r#""api";r=0;t=41"#), Some("7"), 42),
            (Some(r#""api";r=3;t=41"#), Some("7"), 7),
            (None, Some(" 7 "), 7),
            (None, Some("Fri, 31 Dec 1999 23:59:59 GMT"), 10),
            (None, None, 10),
            (None, Some("99999999999999"), 3600),
            (Some(r#""api";r=0;t=999999"#), None, 3600),
        ] {
            let mut budget = Budget::default();
            assert_eq!(budget.refused(API, rate_limit, retry_after, now), seconds * SECOND);
            assert_eq!((budget.admit(API, now), budget.admit(FILES, now)), (Err(seconds * SECOND), Ok(())));
            assert_eq!(budget.admit(API, now + seconds * SECOND), Ok(()));
        }
    }

    #[test]
    fn policies_are_bounded() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for i in 0..100 {
            budget.learn(API, &format!(r#""p{i}";r=1;t=9"#), now);
        }
        assert_eq!(budget.open.policies.len(), MAX_POLICIES);
    }

    proptest! {
        #[test]
        fn no_header_panics(header in r#"("?[a-z]{0,5}"?;? ?[rtq]?=?-?[0-9]{0,22}[,;]?){0,6}"#, junk in ".{0,60}") {
            let (mut budget, now) = (Budget::default(), Instant::now());
            for header in [header, junk] {
                budget.learn(API, &header, now);
                let wait = budget.refused(API, Some(&header), Some(&header), now);
                prop_assert!(wait <= LONGEST_WAIT + SECOND);
            }
        }
    }
}
