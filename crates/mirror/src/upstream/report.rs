//! What is told of origins: what they sent that was something else than it should have been, and why they are waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubless_origin::{Breaker, OriginStatus};
use hubless_types::Link;

use super::remote::Remote;
use crate::mirror::Inner;
use crate::util::locked;

/// Counts, for each origin, what it sent that was wrong. None of it was kept or shown.
#[derive(Default)]
pub(crate) struct Lies(Mutex<BTreeMap<String, Told>>);

#[derive(Debug, Clone, Default)]
struct Told {
    count: u64,
    last: String,
}

impl Lies {
    /// `remote` sent another file.
    pub(super) fn tell(&self, remote: &Remote, how: &str) {
        let entry = &remote.errand().entry;
        self.note(remote.name(), format!("`{}` is to be {}, and {how}", entry.path, entry.digest()));
    }

    /// The file of `link`, which is proven, is here: whatever did not fit its tree was wrong.
    pub(crate) fn blame(&self, remotes: &[Arc<Remote>], link: &Link) {
        for remote in remotes {
            if let Some(offset) = remote.misfit(&link.hash) {
                self.tell(remote, &format!("its bytes at {offset} are others"));
            }
        }
    }

    /// An origin sent something wrong.
    pub(super) fn note(&self, origin: &str, what: String) {
        tracing::warn!(origin, what, "an origin sent something else than it should have; dropped");
        let mut told = locked(&self.0);
        // As many as there are origins, which the config bounds.
        let told = told.entry(origin.to_owned()).or_default();
        told.count += 1;
        told.last = what;
    }

    /// How often `origin` did, and the last of it.
    pub(crate) fn of(&self, origin: &str) -> (u64, Option<String>) {
        let told = locked(&self.0);
        told.get(origin).map_or((0, None), |told| (told.count, Some(told.last.clone())))
    }
}

impl Inner {
    /// What a person is told for whom nothing has come for a while: who is asked, and how they are.
    pub(crate) fn waited_for(&self, quiet: Duration) -> String {
        let origins = self.origins.iter().map(|origin| shown(&origin.status()));
        let peers = self.net.as_ref().map_or(0, |net| net.discovery.peers().len());
        let nodes = match peers {
            1 => "1 connected node".to_owned(),
            n => format!("{n} connected nodes"),
        };
        let asked: Vec<_> = origins.chain([nodes]).collect();
        format!("nothing came for {} s; waiting for {}", quiet.as_secs(), asked.join(", "))
    }
}

fn shown(status: &OriginStatus) -> String {
    let name = &status.name;
    match (status.breaker, status.wait.map(|wait| wait.as_secs() + 1), &status.last_error) {
        (Breaker::Open, Some(wait), Some(error)) => format!("{name} (left alone for {wait} s: {error})"),
        (_, Some(wait), _) => format!("{name} (takes no requests for {wait} s)"),
        (_, None, Some(error)) => format!("{name} (last trouble: {error})"),
        (_, None, None) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_is_waited_for_is_shown_with_its_trouble() {
        let status = |breaker, wait: Option<u64>, error: Option<&str>| OriginStatus {
            name: "https://hub.test".to_owned(),
            breaker,
            trouble: None,
            wait: wait.map(Duration::from_secs),
            budget: None,
            requests: 1,
            failures: 1,
            bytes: 0,
            last_error: error.map(str::to_owned),
        };
        for (status, text) in [
            (status(Breaker::Closed, None, None), "https://hub.test"),
            (status(Breaker::Closed, None, Some("stalled")), "https://hub.test (last trouble: stalled)"),
            (status(Breaker::Closed, Some(9), None), "https://hub.test (takes no requests for 10 s)"),
            (status(Breaker::Open, Some(4), Some("gone")), "https://hub.test (left alone for 5 s: gone)"),
        ] {
            assert_eq!(shown(&status), text);
        }
    }
}
