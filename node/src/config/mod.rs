//! What the operator sets, in TOML. Every key does something; what is not known is refused.
//!
//! **Invariant:** a [`Config`] that was read has been validated.
//! **Not here:** arguments (`cli`), which override what stands here.

mod discovery;
mod error;
mod gateway;
mod keys;
mod limits;
mod names;
mod origin;
mod swarm;
mod transfer;

use std::path::{Path, PathBuf};

use hubless_mirror::MirrorConfig;
use serde::Deserialize;

pub(crate) use discovery::DiscoveryConfig;
pub(crate) use error::ConfigError;
pub(crate) use gateway::GatewayConfig;
pub(crate) use limits::LimitsSection;
pub(crate) use names::NamesConfig;
pub(crate) use origin::{OriginSection, OriginUrl};
pub(crate) use swarm::SwarmConfig;
pub(crate) use transfer::TransferSection;

/// The config that is read when `--config` names none, if it exists: inside the data folder.
pub(crate) const CONFIG_FILE: &str = "config.toml";

/// Longest config that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whose word for a name counts.
    pub(crate) names: NamesConfig,
    /// Where files come from that no node has.
    pub(crate) origin: OriginSection,
    /// Which swarm this node is part of.
    pub(crate) swarm: SwarmConfig,
    /// How much goes out and comes in.
    pub(crate) limits: LimitsSection,
    /// How this node finds others.
    pub(crate) discovery: DiscoveryConfig,
    /// How bytes are passed between nodes.
    pub(crate) transfer: TransferSection,
    /// The door for Hub clients.
    pub(crate) gateway: GatewayConfig,
}

/// A config with what was written, by which two are compared key by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    /// What it means.
    pub(crate) config: Config,
    table: toml::Table,
    /// Where it stands; `None` where there is none.
    pub(crate) path: Option<PathBuf>,
}

impl Written {
    /// The keys that another config writes otherwise.
    pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let value = |table: &toml::Table, path: &str| {
            let (section, name) = path.split_once('.')?;
            table.get(section)?.get(name).cloned()
        };
        let differs = |key: &&keys::Key| value(&self.table, key.path) != value(&other.table, key.path);
        keys::KEYS.iter().filter(differs).map(|key| key.path).collect()
    }
}

/// A value that has the right type and is still no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// `section.key`, as in [`keys::KEYS`].
    pub(crate) key: &'static str,
    /// The value as it would be written.
    pub(crate) value: String,
    /// What is wrong with it, where that does not follow from what it must be.
    pub(crate) why: Option<String>,
}

impl Unfit {
    pub(crate) fn new(key: &'static str, value: impl Into<String>) -> Self {
        Self { key, value: value.into(), why: None }
    }

    /// A value whose parts do not fit one another.
    pub(crate) fn because(key: &'static str, why: String) -> Self {
        Self { key, value: "a list".to_owned(), why: Some(why) }
    }
}

impl Config {
    /// Reads and validates the config in `path`.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, key, value and what the value must be.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&Self::read(path)?, path)
    }

    fn read(path: &Path) -> Result<String, ConfigError> {
        let fail = |source| ConfigError::Read { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(fail)?.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned(), limit: MAX_CONFIG_BYTES });
        }
        std::fs::read_to_string(path).map_err(fail)
    }

    /// Reads `explicit`, else `config.toml` in the data folder, else takes the defaults.
    pub(crate) fn find_written(explicit: Option<&Path>, data: &Path) -> Result<Written, ConfigError> {
        let usual = data.join(CONFIG_FILE);
        let path = explicit.map(Path::to_owned).or_else(|| usual.exists().then_some(usual));
        let Some(path) = path else { return Ok(Written::default()) };
        let text = Self::read(&path)?;
        let config = Self::parse(&text, &path)?;
        // It was parsed a moment ago.
        let table = text.parse().unwrap_or_default();
        Ok(Written { config, table, path: Some(path) })
    }

    /// Takes a config's text; `path` is only named in errors.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| ConfigError::of_toml(path, text, &e))?;
        config.validate().map_err(|unfit| ConfigError::of_unfit(path, text, unfit))?;
        Ok(config)
    }

    /// Checks what types cannot; touches neither disk nor network.
    pub(crate) fn validate(&self) -> Result<(), Unfit> {
        self.swarm.validate()?;
        if let Some(allow) = &self.swarm.allow
            && let Some(stranger) = self.discovery.bootstrap.iter().find(|peer| !allow.contains(&peer.node))
        {
            return Err(Unfit::new(
                "swarm.allow",
                format!("a list without the bootstrap node {}", stranger.node),
            ));
        }
        self.limits.validate()?;
        self.discovery.validate()?;
        self.transfer.validate()?;
        let port = self.transfer.bulk_port;
        if port != 0 && port == self.discovery.listen.port() {
            return Err(Unfit::new("transfer.bulk_port", port.to_string()));
        }
        self.origin.validate()?;
        self.gateway.validate()?;
        self.names.validate()
    }
}

impl Config {
    /// What it says to the mirror.
    pub(crate) fn mirror(&self) -> MirrorConfig {
        MirrorConfig {
            trusted: self.names.trusted.clone(),
            witnesses: self.names.witnesses.clone(),
            threshold: self.names.threshold(),
            lookup_timeout: self.discovery.lookup_timeout,
            answer_within: self.origin.answer_within,
            origin_streams: self.origin.streams,
            honour_removal: self.origin.honour_removal,
            announce: self.discovery.announce,
            announce_interval: self.discovery.announce_interval,
            ..MirrorConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whoever waits longer for providers on purpose does so everywhere.
    #[test]
    fn a_longer_lookup_holds_for_the_mirror_too() {
        let mut config = Config::default();
        assert_eq!(config.mirror().lookup_timeout, Duration::from_secs(5));
        config.discovery.lookup_timeout = Duration::from_secs(40);
        assert_eq!(config.mirror().lookup_timeout, Duration::from_secs(40));
    }

    fn error_of(text: &str) -> String {
        Config::parse(text, Path::new("x.toml")).unwrap_err().to_string()
    }

    #[test]
    fn nothing_at_all_is_a_config() {
        assert_eq!(Config::parse("", Path::new("x.toml")).unwrap(), Config::default());
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key_and_what_it_must_be() {
        for (text, parts) in [
            (
                "[discovery]\nlookup_timeout = 5",
                ["line 2", "`discovery.lookup_timeout` is `5`", "like `10s`"],
            ),
            (
                "[discovery]\nlookup_timeout = \"0s\"",
                ["line 2", "`discovery.lookup_timeout` is `\"0s\"`", "like `10s`"],
            ),
            ("[gateway]\nlisten = \"here\"", ["line 2", "`gateway.listen` is `\"here\"`", "127.0.0.1:8090"]),
            ("\n[names]\ntrusted = [\n \"me\"]", ["line 3", "`names.trusted` is `[", "`me` is no node id"]),
            ("discovery.bootstrap = [\"seed:4001\"]", ["line 1", "`discovery.bootstrap` is", "/ip4/"]),
            ("[swarm]\nallow = []", ["line 2", "`swarm.allow` is `[]`", "at least one"]),
            ("[swarm]\nnetwork = \"a b\"", ["line 2", "`swarm.network` is `\"a b\"`", "letters"]),
            ("[discovery]\nmdns = \"yes\"", ["line 2", "`discovery.mdns` is `\"yes\"`", "`true` or `false`"]),
            ("[limits]\nmax_connections = 0", ["line 2", "`limits.max_connections` is `0`", "16 to"]),
            ("[limits]\nmax_connections = -3", ["line 2", "`limits.max_connections` is `-3`", "16 to"]),
            ("[transfer]\nupload_slots = 0", ["line 2", "`transfer.upload_slots` is `0`", "1 to"]),
            (
                "[limits]\nup = \"20 Mb/s\"",
                ["line 2", "`limits.up` is `\"20 Mb/s\"`", "may mean bits or bytes"],
            ),
            ("[limits]\ndown = 5", ["line 2", "`limits.down` is `5`", "`50 Mbit/s`"]),
            ("[limits]\nup_month = \"lots\"", ["line 2", "`limits.up_month` is `\"lots\"`", "`500 GB`"]),
            (
                "[limits]\nhours = [{ when = \"mon 8-9\", up = \"1 MB/s\" }]",
                ["line 2", "`limits.hours` is", "`mon 8-9` is no time of the week"],
            ),
            (
                "[limits]\nhours = [{ when = \"mon 08:00-09:00\", upp = \"1 MB/s\" }]",
                ["line 2", "`limits.hours` is", "unknown field `upp`"],
            ),
            (
                "[limits]\nhours = [{ when = \"mon 08:00-09:00\" }]",
                ["line 2", "`limits.hours` is", "sets none of"],
            ),
            (
                "[limits]\nhours = [{ when = \"mon 08:00-09:00\", up = \"1 MB/s\" }, { when = \"daily 08:30-10:00\", up = \"2 MB/s\" }]",
                ["line 2", "`limits.hours` is", "overlap"],
            ),
            (
                "[transfer]\nbulk_port = 4001",
                ["line 2", "`transfer.bulk_port` is `4001`", "other than that of"],
            ),
            (
                "[origin]\nurls = [\"ftp://h\"]",
                ["line 2", "`origin.urls` is `[\"ftp://h\"]`", "huggingface.co"],
            ),
            ("[origin]\nanswer_within = \"60s\"", ["line 2", "`origin.answer_within` is", "at most `10s`"]),
            ("[origin]\nstreams = 0", ["line 2", "`origin.streams` is `0`", "1 to 16"]),
            ("names = 3", ["line 1", "`names` is `3`", "a section"]),
        ] {
            let error = error_of(text);
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_refused_and_the_known_ones_named() {
        let error = error_of("[discovery]\nlookup_timeuot = \"5s\"");
        assert!(error.contains("line 2: there is no key `discovery.lookup_timeuot`"), "{error}");
        assert!(error.contains("lookup_timeout"), "{error}");
        let error = error_of("[discovry]\nmdns = true");
        assert!(error.contains("line 1: there is no section or key `discovry`"), "{error}");
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let error = error_of("[discovery]\nmdns = \n");
        assert!(error.starts_with("`x.toml` line 2"), "{error}");
    }

    #[test]
    fn every_key_is_described_and_every_described_key_exists() {
        // A section's together: some keys need others beside them.
        for section in keys::sections() {
            let mut text = format!("[{section}]\n");
            for key in keys::KEYS {
                if let Some(name) = key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
                    text.push_str(&format!("{name} = {}\n", key.example));
                }
            }
            Config::parse(&text, Path::new("x.toml")).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }

    #[test]
    fn the_shipped_configs_name_every_key_and_its_default() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        for name in ["home.toml", "lab.toml", "mirror.toml"] {
            let path = folder.join(name);
            Config::load(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            for key in keys::KEYS {
                let (section, key_name) = key.path.split_once('.').unwrap();
                let mut lines = text.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
                let mut comment = Vec::new();
                let is_it = lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| {
                    let found = line.trim_start_matches("# ").starts_with(&format!("{key_name} ="));
                    match line.strip_prefix("# ") {
                        _ if found => {}
                        Some(said) => comment.push(said.to_owned()),
                        None => comment.clear(),
                    }
                    found
                });
                assert!(is_it, "{name} does not speak of {}", key.path);
                // Above the key stand what it is for, its default, and why this config has it otherwise.
                let default = format!("Default: {}", key.default);
                let at = comment.iter().position(|line| *line == default);
                assert!(at.is_some_and(|at| at > 0), "{name}, {}: {comment:?} lacks {default}", key.path);
            }
        }
    }
}
