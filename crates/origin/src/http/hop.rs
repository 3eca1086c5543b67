//! Redirects: where one leads, and whether it is followed.

use reqwest::header::{HeaderMap, LOCATION};
use url::Url;

use super::guard::Guard;

/// Whether two addresses are of one scheme, host and port: what a token is given to.
pub(super) fn same_host(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Where `headers` lead from `from`, or why nobody goes there. What it says holds no query: one may be a secret.
pub(super) fn next(from: &Url, headers: &HeaderMap, guard: &Guard) -> Result<Url, String> {
    let location = headers.get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let location = location.ok_or("without saying where")?;
    let to = from.join(location).map_err(|_| "to something that is no address")?;
    check(from, &to, guard)?;
    Ok(to)
}

/// Whether one may go from `from` to `to`.
pub(super) fn check(from: &Url, to: &Url, guard: &Guard) -> Result<(), String> {
    if !matches!(to.scheme(), "http" | "https") || !to.has_host() {
        return Err(format!("to an address of the kind `{}`", to.scheme()));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(format!("to {} with a user or a password", shown(to)));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(format!("from https down to {}", shown(to)));
    }
    if same_host(from, to) { Ok(()) } else { guard.allows(to).map_err(|shut| shut.to_string()) }
}

/// Scheme, host and port.
pub(super) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(from: &str, location: &str) -> Result<String, String> {
        let from = Url::parse(from).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().unwrap());
        let guard = Guard::new(&Url::parse("https://1.1.1.1").unwrap());
        next(&from, &headers, &guard).map(|url| url.to_string())
    }

    #[test]
    fn relative_and_public_addresses_are_followed() {
        let from = "https://hub.example/a/b";
        assert_eq!(lead(from, "/c?d=e").unwrap(), "https://hub.example/c?d=e");
        assert_eq!(lead(from, "//cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(lead("http://hub.example/", "https://hub.example/").unwrap(), "https://hub.example/");
    }

    #[test]
    fn nobody_is_led_astray() {
        let from = "https://hub.example/a";
        for bad in [
            "http://cdn.example/",
            "file:///etc/passwd",
            "https://127.0.0.1/",
            "https://[::ffff:10.0.0.1]/",
            "https://u:p@cdn.example/",
            "data:,x",
            "https://",
            "https://2130706433/",
        ] {
            assert!(lead(from, bad).is_err(), "{bad}");
        }
        assert!(!lead(from, "http://cdn.example/?sig=secret").unwrap_err().contains("secret"));
        let guard = Guard::new(&Url::parse(from).unwrap());
        assert!(next(&Url::parse(from).unwrap(), &HeaderMap::new(), &guard).is_err());
    }

    #[test]
    fn a_host_is_its_scheme_name_and_port() {
        let same = |a, b| same_host(&Url::parse(a).unwrap(), &Url::parse(b).unwrap());
        assert!(same("https://a/x", "https://A:443/y"));
        for (a, b) in
            [("https://a", "http://a"), ("https://a", "https://a:444"), ("https://a", "https://a.b")]
        {
            assert!(!same(a, b));
        }
    }
}
