//! Reads the config again while the node runs: at `hubless reload`, and at SIGHUP.
//!
//! **Invariant:** a config that is wrong anywhere changes nothing. Caps hold at once; every other key that was changed is
//! named, and holds when the node is started again.
//! **Not here:** arguments of `run`: they stand above the config as before.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hubless_gateway::{Reload, ReloadRefused, Reloaded};
use hubless_limits::Limits;
use hubless_types::Clock;

use crate::config::{Config, ConfigError, Written};

/// The keys that hold at once when they change.
const LIVE: [&str; 7] = [
    "limits.up",
    "limits.down",
    "limits.origin",
    "limits.up_month",
    "limits.down_month",
    "limits.origin_month",
    "limits.hours",
];

/// Where the config stands, and what it said when the node was started.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    /// `--config`.
    pub(crate) explicit: Option<PathBuf>,
    /// The data folder, where it stands if no other was named.
    pub(crate) data: PathBuf,
    /// What it said.
    pub(crate) written: Written,
}

/// See the module.
pub(super) struct Reloader {
    file: ConfigFile,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// What of the config holds now: the caps of the last reading, and all else from the start.
    last: Mutex<Written>,
}

impl Reloader {
    pub(super) fn new(file: ConfigFile, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let last = Mutex::new(file.written.clone());
        Self { file, limits, clock, last }
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        let new = Config::find_written(self.file.explicit.as_deref(), &self.file.data).map_err(refused)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_live = |key: &&'static str| LIVE.contains(key);
        let changed: Vec<_> = last.differing(&new).into_iter().filter(is_live).collect();
        let needs_restart: Vec<_> =
            self.file.written.differing(&new).into_iter().filter(|key| !is_live(key)).collect();
        self.limits.reconfigure(new.config.limits.settings(), self.clock.now());
        let config = new.path.as_ref().map(|path| path.display().to_string());
        *last = new;
        tracing::info!(config, changed = changed.join(", "), "read the config again");
        if !needs_restart.is_empty() {
            tracing::warn!(
                keys = needs_restart.join(", "),
                "what was changed here holds when the node is started again"
            );
        }
        Ok(Reloaded { config, changed, needs_restart })
    }
}

fn refused(error: ConfigError) -> ReloadRefused {
    tracing::error!(%error, "the config was not taken, and nothing changed");
    ReloadRefused { error: format!("{error}; nothing changed"), hint: error.hint() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubless_limits::Rate;
    use hubless_types::{ManualClock, Timestamp};
    use jiff::tz::TimeZone;

    struct Story {
        dir: tempfile::TempDir,
        limits: Limits,
        reloader: Reloader,
    }

    impl Story {
        fn begin(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("config.toml"), text).unwrap();
            let written = Config::find_written(None, dir.path()).unwrap();
            let limits = Limits::new(written.config.limits.settings(), TimeZone::UTC);
            let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000)));
            limits.turn(clock.now());
            let file = ConfigFile { explicit: None, data: dir.path().to_owned(), written };
            Self { reloader: Reloader::new(file, limits.clone(), clock), limits, dir }
        }

        fn reload(&self, text: &str) -> Result<Reloaded, ReloadRefused> {
            std::fs::write(self.dir.path().join("config.toml"), text).unwrap();
            self.reloader.reload()
        }

        fn up(&self) -> Option<u64> {
            self.limits.up().rate().bytes()
        }
    }

    #[test]
    fn caps_hold_at_once_and_the_rest_is_named() {
        let story = Story::begin("[limits]\nup = \"1 MB/s\"");
        let text = "[limits]\nup = \"2 MB/s\"\nmax_connections = 90\n[discovery]\nmdns = false";
        let done = story.reload(text).unwrap();
        assert_eq!((done.changed, story.up()), (vec!["limits.up"], Some(2_000_000)));
        assert_eq!(done.needs_restart, ["limits.max_connections", "discovery.mdns"]);
        let again = story.reload(text).unwrap();
        assert_eq!((again.changed.len(), again.needs_restart.len()), (0, 2), "they still wait");
        let back = story.reload("[limits]\nup = \"2 MB/s\"").unwrap();
        assert_eq!((back.changed.len(), back.needs_restart.len()), (0, 0));
    }

    #[test]
    fn a_config_that_is_wrong_anywhere_changes_nothing() {
        let story = Story::begin("[limits]\nup = \"1 MB/s\"");
        for bad in
            ["[limits]\nup = \"2 MB/s\"\ndown = \"fast\"", "[limits]\nup = \"2 MB/s\"\n[names]\nno = 1", "]"]
        {
            let refused = story.reload(bad).unwrap_err();
            assert!(refused.error.ends_with("; nothing changed"), "{}", refused.error);
            assert_eq!(story.up(), Some(1_000_000));
        }
    }

    #[test]
    fn a_config_that_is_gone_is_all_defaults() {
        let story = Story::begin("[limits]\nup = \"1 MB/s\"");
        std::fs::remove_file(story.dir.path().join("config.toml")).unwrap();
        let done = story.reloader.reload().unwrap();
        assert_eq!(
            (done.config, done.changed, story.limits.up().rate()),
            (None, vec!["limits.up"], Rate::UNLIMITED)
        );
    }
}
