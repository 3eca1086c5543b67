//! What an origin allows: `RateLimit: "resolvers";r=2998;t=172` (draft-ietf-httpapi-ratelimit-headers) and
//! `Retry-After`. One budget is shared by all who ask that host.

use std::time::Duration;

use tokio::time::Instant;

/// Most policies that are remembered.
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

/// Kinds of lanes, with a token and without.
const LANES: usize = 6;

/// Who pays: origins count those who send a token apart from those who do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) kind: LaneKind,
    pub(crate) token: bool,
}

impl Lane {
    const fn index(self) -> usize {
        self.kind as usize * 2 + self.token as usize
    }
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
    token: bool,
    left: u64,
    until: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    policies: Vec<Policy>,
    /// Which policy counts a lane, as far as answers told.
    lanes: [Option<usize>; LANES],
    blocked: [Option<Instant>; LANES],
}

impl Budget {
    /// Takes one request out of the budget of `lane`, or says how long there is none.
    pub(crate) fn admit(&mut self, lane: Lane, now: Instant) -> Result<(), Duration> {
        let i = lane.index();
        if let Some(until) = self.blocked[i].filter(|until| now < *until) {
            return Err(until - now);
        }
        if let Some(policy) = self.lanes[i].and_then(|p| self.policies.get_mut(p)).filter(|p| now < p.until) {
            if policy.left == 0 {
                return Err(policy.until - now);
            }
            policy.left -= 1;
        }
        Ok(())
    }

    /// Notes what an answer says of the budget.
    pub(crate) fn learn(&mut self, lane: Lane, header: &str, now: Instant) {
        for item in parse(header) {
            let until = now + item.reset;
            let known = self.policies.iter().position(|p| p.name == item.policy && p.token == lane.token);
            let place = match known {
                Some(place) => place,
                None if self.policies.len() < MAX_POLICIES => {
                    let name = item.policy;
                    self.policies.push(Policy { name, token: lane.token, left: item.requests, until });
                    self.policies.len() - 1
                }
                None => return,
            };
            let policy = &mut self.policies[place];
            // Answers overtake each other: within one window the budget only shrinks.
            let same_window = now < policy.until && until <= policy.until + Duration::from_secs(2);
            policy.left = if same_window { policy.left.min(item.requests) } else { item.requests };
            policy.until = until;
            self.lanes[lane.index()] = Some(place);
        }
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
        self.blocked[lane.index()] = Some(now + wait);
        wait
    }

    /// The least that any policy still allows, and the longest that a lane must wait.
    pub(crate) fn seen(&self, now: Instant) -> (Option<u64>, Option<Duration>) {
        let left = self.policies.iter().filter(|p| now < p.until).map(|p| p.left).min();
        let spent = self.policies.iter().filter(|p| p.left == 0).map(|p| p.until);
        let until = self.blocked.iter().flatten().copied().chain(spent).max();
        (left, until.filter(|until| now < *until).map(|until| until - now))
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

    const API: Lane = Lane { kind: LaneKind::Api, token: false };
    const FILES: Lane = Lane { kind: LaneKind::Files, token: false };
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_spent_budget_is_waited_for() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert_eq!(budget.admit(FILES, now), Ok(()));
        budget.learn(FILES, r#""resolvers";r=2;t=172"#, now);
        assert_eq!(budget.seen(now), (Some(2), None));
        assert_eq!((budget.admit(FILES, now), budget.admit(FILES, now)), (Ok(()), Ok(())));
        assert_eq!(budget.admit(FILES, now), Err(172 * SECOND));
        assert_eq!(budget.admit(API, now), Ok(()), "another budget");
        assert_eq!(budget.admit(Lane { token: true, ..FILES }, now), Ok(()), "another purse");
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
        assert_eq!(budget.policies.len(), MAX_POLICIES);
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
