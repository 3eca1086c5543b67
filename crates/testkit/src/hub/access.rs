//! Who may know of a repository, and who may read it.

use base64::Engine as _;
use hubless_types::{Access, RepoId};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::Shared;
use super::answer::Refused;
use super::record::Who;
use super::state::Shown;

/// The token that a request carries: `Bearer`, or as the password of `Basic`.
pub(crate) fn who(headers: &HeaderMap) -> Who {
    let Some(value) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Who::Nobody;
    };
    if let Some(token) = value.strip_prefix("Bearer ") {
        return Who::Token(token.trim().to_owned());
    }
    let basic = value.strip_prefix("Basic ").and_then(|text| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        text.split_once(':').map(|(_, password)| password.to_owned())
    });
    Who::Token(basic.unwrap_or_else(|| value.to_owned()))
}

impl Who {
    pub(crate) fn token(&self) -> Option<&str> {
        match self {
            Self::Nobody => None,
            Self::Token(token) => Some(token),
        }
    }
}

/// A token that is none is refused before anything else.
pub(crate) fn check_token(shared: &Shared, who: &Who) -> Result<(), Refused> {
    match who.token() {
        Some(token) if !shared.state.is_user(token) => {
            Err(Refused::new(401, None, "Invalid credentials in Authorization header"))
        }
        _ => Ok(()),
    }
}

/// A repository's present name and what is said of it, for those who may know of it.
pub(crate) fn enter(shared: &Shared, repo: &RepoId, who: &Who) -> Result<(RepoId, Shown), Refused> {
    check_token(shared, who)?;
    let hidden = || Refused::repo_not_found(who.token().is_some());
    let repo = shared.state.canonical(repo).ok_or_else(hidden)?;
    let shown = shared.state.shown(&repo).ok_or_else(hidden)?;
    if shown.facts.access == Access::Private && !reads(&shown, who) {
        return Err(hidden());
    }
    if shown.disabled {
        return Err(Refused::new(403, None, "Access to this resource is disabled."));
    }
    Ok((repo, shown))
}

fn reads(shown: &Shown, who: &Who) -> bool {
    who.token().is_some_and(|token| shown.readers.contains(token))
}

/// Content of a gated repository is for those who were let in.
pub(crate) fn check_read(repo: &RepoId, shown: &Shown, who: &Who) -> Result<(), Refused> {
    if shown.facts.access.is_open() || reads(shown, who) {
        return Ok(());
    }
    let status = if who.token().is_some() { 403 } else { 401 };
    let message = format!("Access to {repo} is restricted. You must have access to it and be authenticated.");
    Err(Refused::new(status, Some("GatedRepo"), message))
}
