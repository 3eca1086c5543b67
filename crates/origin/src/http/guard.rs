//! Which addresses are connected to: no redirect leads into a private network, by whatever name.
//!
//! The origin's own host was named by the operator. The first time that its name is resolved decides whether it is
//! a public or a private one; from then on a public one is not followed to a private address either (DNS
//! rebinding), and only a private one may redirect to private addresses; none to link-local ones, where clouds keep
//! the credentials of the machine.
//!
//! **Invariant:** the addresses that are checked are those that are connected to: the check is the resolver.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

const UNKNOWN: u8 = 0;
const PUBLIC: u8 = 1;
const PRIVATE: u8 = 2;

/// A name that leads where this node does not follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shut {
    pub(super) host: String,
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to `{}`, which is in a private network", self.host)
    }
}

impl Error for Shut {}

/// See the module.
#[derive(Debug)]
pub(super) struct Guard {
    own: String,
    class: AtomicU8,
}

impl Guard {
    /// For the origin at `base`.
    pub(super) fn new(base: &Url) -> Self {
        let class = match base.host() {
            Some(Host::Ipv4(ip)) => class_of(is_private(ip.into())),
            Some(Host::Ipv6(ip)) => class_of(is_private(ip.into())),
            _ => UNKNOWN,
        };
        let own = base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Self { own, class: AtomicU8::new(class) }
    }

    /// Whether a redirect may lead to `url`, as far as can be told without resolving its name.
    pub(super) fn allows(&self, url: &Url) -> Result<(), Shut> {
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            _ => return Ok(()),
        };
        self.filter(&ip.to_string(), vec![ip]).map(drop)
    }

    /// Those of the addresses of `host` that may be connected to.
    fn filter(&self, host: &str, mut addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Shut> {
        if host.eq_ignore_ascii_case(&self.own) && !addresses.is_empty() {
            let class = class_of(addresses.iter().copied().all(is_private));
            // Whoever was first decides.
            let _ = self.class.compare_exchange(UNKNOWN, class, Ordering::SeqCst, Ordering::SeqCst);
        }
        let own = host.eq_ignore_ascii_case(&self.own);
        match self.class.load(Ordering::SeqCst) {
            PRIVATE if own => {}
            PRIVATE => addresses.retain(|ip| !is_link_local(*ip)),
            _ => addresses.retain(|ip| !is_private(*ip)),
        }
        if addresses.is_empty() {
            return Err(Shut { host: host.to_owned() });
        }
        Ok(addresses)
    }

    #[cfg(test)]
    pub(crate) fn pretend_public(&self) {
        self.class.store(PUBLIC, Ordering::SeqCst);
    }
}

const fn class_of(private: bool) -> u8 {
    if private { PRIVATE } else { PUBLIC }
}

/// The guard as reqwest's resolver.
#[derive(Debug, Clone)]
pub(super) struct GuardedResolver(pub(super) Arc<Guard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect();
            let allowed = guard.filter(host, found)?;
            let addresses = allowed.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Whether an address is anything but one host on the public internet.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| is_private_v6(ip), is_private_v4),
    }
}

/// Whether an address means something on one wire only.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| ip.is_unicast_link_local(), |ip| ip.is_link_local()),
    }
}

/// IANA's special-purpose registry, as far as it is not reachable from everywhere.
fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && b & 0xfe == 18)
}

const fn is_private_v6(ip: Ipv6Addr) -> bool {
    // Only 2000::/3 is given out as unicast to the world.
    ip.segments()[0] & 0xe000 != 0x2000
}

/// The IPv4 address to which an IPv6 address comes down: mapped, compatible, NAT64, 6to4.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn guard(base: &str) -> Guard {
        Guard::new(&Url::parse(base).unwrap())
    }

    #[test]
    fn private_addresses_in_every_disguise() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1", "64:ff9b::101:101", "::ffff:1.1.1.1"]
        {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_public_origin_leads_to_no_private_address() {
        let guard = guard("https://hub.example");
        assert_eq!(guard.filter("cdn.example", ips(&["10.0.0.1", "1.1.1.1"])), Ok(ips(&["1.1.1.1"])));
        assert!(guard.filter("cdn.example", ips(&["10.0.0.1", "::1"])).is_err());
        assert_eq!(guard.filter("hub.example", ips(&["1.1.1.1"])), Ok(ips(&["1.1.1.1"])));
        assert!(guard.filter("HUB.example", ips(&["127.0.0.1"])).is_err(), "rebound");
        assert!(guard.allows(&Url::parse("http://[::1]/x").unwrap()).is_err());
        assert!(guard.allows(&Url::parse("http://0x7f.1/x").unwrap()).is_err());
        assert!(guard.allows(&Url::parse("http://8.8.8.8/x").unwrap()).is_ok());
    }

    #[test]
    fn a_private_origin_may_lead_to_private_addresses() {
        for base in ["http://127.0.0.1:8090", "http://[fd00::1]"] {
            assert!(guard(base).allows(&Url::parse("http://10.0.0.1").unwrap()).is_ok());
            for metadata in ["169.254.169.254", "[fe80::1]", "[::ffff:a9fe:a9fe]", "0xa9fea9fe"] {
                let url = Url::parse(&format!("http://{metadata}/latest")).unwrap();
                assert!(guard(base).allows(&url).is_err(), "{base} to {metadata}");
            }
        }
        let wire = guard("http://169.254.1.1:8090");
        assert!(
            wire.allows(&Url::parse("http://169.254.1.1:8091").unwrap()).is_ok(),
            "another port of its own"
        );
        let guard = guard("http://hub.lan");
        assert!(guard.filter("store.lan", ips(&["10.0.0.2"])).is_err(), "nothing is known of it yet");
        assert!(guard.filter("hub.lan", ips(&["10.0.0.1"])).is_ok());
        assert!(guard.filter("store.lan", ips(&["10.0.0.2"])).is_ok());
    }
}
