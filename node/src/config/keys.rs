//! Every key: what it must be, an example and its default. Errors and tests read this one table.

/// One key of the config.
pub(crate) struct Key {
    /// `section.key`.
    pub(crate) path: &'static str,
    /// Completes "it must be …".
    pub(crate) must_be: &'static str,
    /// A value that is right, as TOML.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests try it"))]
    pub(crate) example: &'static str,
    /// The value without a config, as the shipped configs show it.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests compare it with the shipped configs"))]
    pub(crate) default: &'static str,
}

const NODE_IDS: &str = "a list of node ids, like `[\"12D3KooW…\"]`, as `hubless status` prints them";

const RATE: &str = "a rate of at least 10 kB/s, like `20 MB/s` or `50 Mbit/s`, or `unlimited`";
const VOLUME: &str = "a size of at least 1 MB, like `500 GB`, or `unlimited`";
const UNLIMITED: &str = "\"unlimited\"";

/// In the order of the sections.
pub(crate) const KEYS: &[Key] = &[
    Key {
        path: "names.trusted",
        must_be: NODE_IDS,
        example: "[\"12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk\"]",
        default: "[] (nobody)",
    },
    Key { path: "origin.enabled", must_be: "`true` or `false`", example: "false", default: "true" },
    Key {
        path: "origin.urls",
        must_be: "a list of at most 16 different addresses, like `[\"https://huggingface.co\"]`, without user, password and \
                  query; of a git host with LFS: `{ url = \"https://git.example.org\", kind = \"git\" }`",
        example: "[\"https://huggingface.co\", { url = \"https://git.example.org\", kind = \"git\" }]",
        default: "[] (none)",
    },
    Key {
        path: "origin.answer_within",
        must_be: "longer than `0s` and at most `10s`, like `3s`",
        example: "\"5s\"",
        default: "\"3s\"",
    },
    Key { path: "origin.streams", must_be: "a number, 1 to 16", example: "2", default: "4" },
    Key { path: "origin.honour_removal", must_be: "`true` or `false`", example: "false", default: "true" },
    Key {
        path: "names.witnesses",
        must_be: "a list of at most 64 different node ids, like `[\"12D3KooW…\"]`, as `hubless status` prints them",
        example: "[\"12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk\"]",
        default: "[] (nobody)",
    },
    Key {
        path: "names.threshold",
        must_be: "a number, 1 to as many as there are `names.witnesses`; name more of them, or leave it out",
        example: "1",
        default: "left out (more than half)",
    },
    Key {
        path: "swarm.network",
        must_be: "1 to 40 lower-case letters, digits and `-`, like `hubless`",
        example: "\"our-lab\"",
        default: "\"hubless\"",
    },
    Key {
        path: "swarm.allow",
        must_be: "a list of at least one node id, the bootstrap nodes among them, like `[\"12D3KooW…\"]`; leave it \
                  out to meet everyone",
        example: "[\"12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk\"]",
        default: "left out (everyone)",
    },
    Key { path: "limits.up", must_be: RATE, example: "\"2 MB/s\"", default: UNLIMITED },
    Key { path: "limits.down", must_be: RATE, example: "\"50 Mbit/s\"", default: UNLIMITED },
    Key { path: "limits.origin", must_be: RATE, example: "\"unlimited\"", default: UNLIMITED },
    Key { path: "limits.up_month", must_be: VOLUME, example: "\"500 GB\"", default: UNLIMITED },
    Key { path: "limits.down_month", must_be: VOLUME, example: "\"1.5 TB\"", default: UNLIMITED },
    Key { path: "limits.origin_month", must_be: VOLUME, example: "\"200 GiB\"", default: UNLIMITED },
    Key {
        path: "limits.hours",
        must_be: "a list of at most 64 entries that do not overlap, like `{ when = \"mon-fri 08:00-18:00\", up = \
                  \"500 kB/s\" }`, with any of `up`, `down` and `origin`",
        example: "[{ when = \"mon-fri 08:00-18:00\", up = \"500 kB/s\" }, { when = \"daily 23:00-07:00\", down = \
                  \"unlimited\" }]",
        default: "[] (the same rates at all hours)",
    },
    Key { path: "limits.max_connections", must_be: "a number, 16 to 20000", example: "200", default: "50" },
    Key {
        path: "discovery.listen",
        must_be: "an address and port, like `0.0.0.0:4001`; port 0 takes any free one",
        example: "\"127.0.0.1:0\"",
        default: "\"0.0.0.0:4001\"",
    },
    Key {
        path: "discovery.bootstrap",
        must_be: "a list of node addresses, like `[\"/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…\"]`",
        example: "[\"/dns/seed.example.org/tcp/4001/p2p/12D3KooWJ9dRkzZ6QUqbBVmbEj7EKG6SWhPzLA6VMRo6R9vxmxPk\"]",
        default: "[] (nobody)",
    },
    Key {
        path: "discovery.external",
        must_be: "a list of addresses and ports, like `[\"203.0.113.5:4001\"]`",
        example: "[\"203.0.113.5:4001\"]",
        default: "[] (found out)",
    },
    Key { path: "discovery.mdns", must_be: "`true` or `false`", example: "false", default: "true" },
    Key {
        path: "discovery.lookup_timeout",
        must_be: "longer than `0s` and at most `5m`, like `10s`",
        example: "\"3s\"",
        default: "\"5s\"",
    },
    Key { path: "discovery.announce", must_be: "`true` or `false`", example: "false", default: "true" },
    Key {
        path: "discovery.announce_interval",
        must_be: "from `10m` to `30h` (records live 48 h), like `22h`",
        example: "\"12h\"",
        default: "\"22h\"",
    },
    Key { path: "transfer.upload_slots", must_be: "a number, 1 to 1000", example: "4", default: "16" },
    Key { path: "transfer.bulk", must_be: "`true` or `false`", example: "false", default: "true" },
    Key {
        path: "transfer.bulk_port",
        must_be: "a port, 0 to 65535, other than that of `discovery.listen`; 0 takes any free one",
        example: "4002",
        default: "0",
    },
    Key {
        path: "gateway.listen",
        must_be: "an address and port, like `127.0.0.1:8090`; port 0 takes any free one",
        example: "\"0.0.0.0:8090\"",
        default: "\"127.0.0.1:8090\"",
    },
    Key {
        path: "gateway.hosts",
        must_be: "a list of names of this host, like `[\"mirror.example.org\"]`, without scheme and port",
        example: "[\"mirror.example.org\"]",
        default: "[] (none)",
    },
    Key {
        path: "gateway.cors_origins",
        must_be: "a list of origins as browsers write them, like `[\"http://localhost:5173\"]`, without a path; or `[\"*\"]`",
        example: "[\"http://localhost:5173\", \"https://app.example.org\"]",
        default: "[] (none)",
    },
];

/// What is known of `path`.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names of a section's keys.
pub(crate) fn of_section(section: &str) -> Vec<&'static str> {
    KEYS.iter().filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.')).collect()
}

/// The names of all sections.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut names: Vec<_> = KEYS.iter().filter_map(|key| Some(key.path.split_once('.')?.0)).collect();
    names.sort_unstable();
    names.dedup();
    names
}
