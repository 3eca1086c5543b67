//! `[gateway]`: the door for Hub clients.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::Unfit;

/// The port that `HF_ENDPOINT` names in every example.
const DEFAULT_PORT: u16 = 8090;

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Where Hub clients are served; port 0 takes any free port.
    pub(crate) listen: SocketAddr,
    /// Names of this host by which what is not for everyone may be asked for.
    pub(crate) hosts: Vec<String>,
    /// Web pages that may read what is not for everyone as well.
    pub(crate) cors_origins: Vec<String>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        Self { listen, hosts: Vec::new(), cors_origins: Vec::new() }
    }
}

impl GatewayConfig {
    pub(super) fn validate(&self) -> Result<(), Unfit> {
        if let Some(none) = self.hosts.iter().find(|host| !is_host(host)) {
            return Err(Unfit::new("gateway.hosts", format!("a list with `{none}`")));
        }
        match self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            Some(none) => Err(Unfit::new("gateway.cors_origins", format!("a list with `{none}`"))),
            None => Ok(()),
        }
    }
}

/// Whether it is a host's name, without a port.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
}

/// Whether a browser may send it as `Origin`: scheme, host and port, in lower case; or all of them are meant.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
    text == "*" || host.is_some_and(|host| !host.is_empty() && host.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_neither_scheme_nor_port() {
        assert!(is_host("mirror.example.org") && is_host("Box-7"));
        assert!(["", "a:80", "http://a", "*.a", "a b"].iter().all(|text| !is_host(text)));
    }

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for good in ["*", "http://localhost:5173", "https://app.example.org", "http://[::1]:80"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "null",
            "localhost:5173",
            "https://",
            "https://a.example/",
            "https://A.example",
            "https://*.a",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
