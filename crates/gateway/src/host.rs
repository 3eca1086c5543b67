//! Which names of this host requests may come by.
//!
//! A web page may have its own name lead to this machine's loopback address (DNS rebinding): to the browser the door is
//! then a part of that page, and CORS ([`crate::cors`]) is not asked. The name in `Host` tells.
//! **Invariant:** at a loopback address, what is not for everyone is shown only by names that no stranger can own, and by
//! those that the operator named. At any other address whoever reaches the door may read it anyway.

use std::net::{IpAddr, SocketAddr};

/// Whether `host`, the value of a request's `Host`, is a name that somebody else may own.
pub(crate) fn is_foreign(host: Option<&str>, local: Option<SocketAddr>, hosts: &[String]) -> bool {
    let Some(host) = host.filter(|_| local.is_some_and(|addr| addr.ip().is_loopback())) else { return false };
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    // Names without a dot, and these two endings, are in nobody's public DNS (RFC 6761, and ICANN's reserve).
    let is_local = !name.contains('.') || name.ends_with(".localhost") || name.ends_with(".internal");
    !(is_address || is_local || hosts.iter().any(|named| named.eq_ignore_ascii_case(&name)))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_strangers_may_own_are_told() {
        let loopback = Some("127.0.0.1:8090".parse().unwrap());
        let hosts = ["mirror.example.org".to_owned()];
        for own in [
            "127.0.0.1:8090",
            "127.0.0.1",
            "[::1]:8090",
            "[::1]",
            "::1",
            "localhost",
            "LOCALHOST:8090",
            "x.localhost",
            "host.docker.internal:8090",
            "mybox",
            "mirror.example.org",
            "Mirror.Example.org.:443",
            "192.168.1.7:80",
        ] {
            assert!(!is_foreign(Some(own), loopback, &hosts), "{own}");
        }
        for foreign in
            ["evil.com", "evil.com:8090", "localhost.evil.com", "127.0.0.1.evil.com", "a.local", "evil.com."]
        {
            assert!(is_foreign(Some(foreign), loopback, &hosts), "{foreign}");
            assert!(!is_foreign(Some(foreign), Some("192.168.1.7:8090".parse().unwrap()), &hosts));
        }
        assert!(!is_foreign(None, loopback, &[]), "no browser leaves it out");
    }
}
