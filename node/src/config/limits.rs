//! `[limits]`: how much goes out and comes in, and with how many nodes this one is connected.

use hubless_limits::{Each, Hours, Rate, Settings, Volume, When};
use serde::Deserialize;

use super::Unfit;

/// Fewest connections: some for the DHT, some for bytes each way.
const MIN_CONNECTIONS: u32 = 16;
/// Most connections that may be allowed.
const MAX_CONNECTIONS: u32 = 20_000;
/// One of so many connections is the DHT's.
const DHT_PART: u32 = 3;
/// Fewest that the DHT does with.
const DHT_LEAST: u32 = 8;

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsSection {
    /// Bytes a second to other nodes.
    pub(crate) up: Rate,
    /// Bytes a second from other nodes and origins together.
    pub(crate) down: Rate,
    /// Bytes a second from origins.
    pub(crate) origin: Rate,
    /// Bytes a calendar month to other nodes.
    pub(crate) up_month: Volume,
    /// Bytes a calendar month from other nodes and origins together.
    pub(crate) down_month: Volume,
    /// Bytes a calendar month from origins.
    pub(crate) origin_month: Volume,
    /// Hours of the week in which other rates hold.
    pub(crate) hours: Vec<HoursEntry>,
    /// Most connections with other nodes, DHT and transfers together. The TCP lines for large segments belong to one of these
    /// each, and have bounds of their own (`hubless_transfer`'s limits).
    pub(crate) max_connections: u32,
}

/// One entry of `hours`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoursEntry {
    when: When,
    #[serde(default)]
    up: Option<Rate>,
    #[serde(default)]
    down: Option<Rate>,
    #[serde(default)]
    origin: Option<Rate>,
}

/// How the connections are divided, so that none of the three can take the others' part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Of the search for providers, both ways.
    pub(crate) dht: u32,
    /// For bytes: that this node opens, and, as many, that others open with it.
    pub(crate) bytes_each_way: usize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            up: Rate::UNLIMITED,
            down: Rate::UNLIMITED,
            origin: Rate::UNLIMITED,
            up_month: Volume::UNLIMITED,
            down_month: Volume::UNLIMITED,
            origin_month: Volume::UNLIMITED,
            hours: Vec::new(),
            max_connections: 50,
        }
    }
}

impl LimitsSection {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if !(MIN_CONNECTIONS..=MAX_CONNECTIONS).contains(&self.max_connections) {
            return Err(Unfit::new("limits.max_connections", self.max_connections.to_string()));
        }
        self.settings().validate().map_err(|error| Unfit::because("limits.hours", error.to_string()))
    }

    /// What the valves are set to.
    pub(crate) fn settings(&self) -> Settings {
        let hours = self.hours.iter().map(|entry| Hours {
            when: entry.when.clone(),
            rates: Each { up: entry.up, down: entry.down, origin: entry.origin },
        });
        Settings {
            rates: Each { up: self.up, down: self.down, origin: self.origin },
            months: Each { up: self.up_month, down: self.down_month, origin: self.origin_month },
            hours: hours.collect(),
        }
    }

    /// A third for the DHT, and of the rest one half for each direction.
    pub(crate) fn shares(&self) -> Shares {
        let dht = (self.max_connections / DHT_PART).max(DHT_LEAST);
        let rest = self.max_connections.saturating_sub(dht) as usize;
        Shares { dht, bytes_each_way: (rest / 2).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::config::keys::KEYS;

    #[test]
    fn the_connections_are_divided_and_none_is_given_twice() {
        for max_connections in (MIN_CONNECTIONS..200).chain([MAX_CONNECTIONS]) {
            let section = LimitsSection { max_connections, ..LimitsSection::default() };
            section.validate().unwrap();
            let Shares { dht, bytes_each_way } = section.shares();
            assert!(dht >= DHT_LEAST && bytes_each_way >= 4, "{max_connections}");
            let all = dht as usize + 2 * bytes_each_way;
            assert!(
                (max_connections as usize - 1..=max_connections as usize).contains(&all),
                "{max_connections}: {all}"
            );
        }
    }

    /// What a node has whose config says nothing: fifty, as the shipped configs tell people, and all fifty are
    /// given to somebody.
    #[test]
    fn without_a_word_of_it_there_are_fifty_in_all_and_each_part_has_its_own() {
        let shipped = Config::parse("", Path::new("x.toml")).unwrap().limits;
        assert_eq!(shipped.max_connections, 50);
        let Shares { dht, bytes_each_way } = shipped.shares();
        assert_eq!((dht, bytes_each_way), (16, 17), "the search for providers, and bytes each way");
        assert_eq!(dht as usize + 2 * bytes_each_way, 50);
        let told = KEYS.iter().find(|key| key.path == "limits.max_connections").unwrap();
        assert_eq!(told.default, shipped.max_connections.to_string());
        let more = Config::parse("[limits]\nmax_connections = 200", Path::new("x.toml")).unwrap().limits;
        assert_eq!(more.shares(), Shares { dht: 66, bytes_each_way: 67 }, "unless configured");
    }

    #[test]
    fn hours_are_entries_of_a_list() {
        let text = r#"
            up = "2 MB/s"
            down_month = "500 GB"
            hours = [
              { when = "mon-fri 08:00-18:00", up = "500 kB/s", down = "2 MB/s" },
              { when = "daily 23:00-07:00", up = "unlimited" },
            ]
        "#;
        let section: LimitsSection = toml::from_str(text).unwrap();
        section.validate().unwrap();
        let settings = section.settings();
        assert_eq!((settings.rates.up, settings.hours.len()), (Rate::per_second(2_000_000), 2));
        assert_eq!(settings.hours[0].rates.origin, None);
        assert_eq!(settings.months.down.bytes(), Some(500_000_000_000));
    }
}
