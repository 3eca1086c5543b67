//! With or without a token: one question to one origin.

use std::future::Future;

use hubless_origin::{OriginError, OriginErrorKind};
use hubless_types::Token;

/// An answer, and whether it was given to a token alone.
#[derive(Debug)]
pub(crate) struct Got<T> {
    pub(crate) value: T,
    pub(crate) by_token: bool,
}

/// Asks an origin: without a token, and with it only where the origin wants one. What is known to be `closed` is
/// asked for with it at once.
pub(crate) async fn ask<T, F>(
    token: Option<&Token>,
    closed: bool,
    question: impl Fn(Option<Token>) -> F,
) -> Result<Got<T>, OriginError>
where
    F: Future<Output = Result<T, OriginError>>,
{
    let open = |value| Got { value, by_token: false };
    let Some(token) = token else { return question(None).await.map(open) };
    if !closed {
        match question(None).await {
            Err(error) if wants_token(&error) => {}
            done => return done.map(open),
        }
    }
    question(Some(token.clone())).await.map(|value| Got { value, by_token: true })
}

/// Whether a token could change the answer. Hubs hide private repositories from whoever shows none.
fn wants_token(error: &OriginError) -> bool {
    // Not by status alone: a content network's 403 is about an address that ran out, or about nothing.
    matches!(error.kind(), OriginErrorKind::Gated | OriginErrorKind::RepoNotFound)
}

/// Whether another origin may know better.
pub(super) fn try_next(error: &OriginError) -> bool {
    !matches!(error.kind(), OriginErrorKind::Gated | OriginErrorKind::Disabled | OriginErrorKind::BadToken)
}

/// Of two refusals the one that tells more: that something exists, rather than that it does not; what an origin
/// says, rather than that none answers.
pub(super) fn more_telling(a: Option<OriginError>, b: OriginError) -> OriginError {
    match a {
        Some(a) if weight(&a) >= weight(&b) => a,
        _ => b,
    }
}

fn weight(error: &OriginError) -> u8 {
    match error.kind() {
        OriginErrorKind::Gated | OriginErrorKind::Disabled | OriginErrorKind::BadToken => 6,
        OriginErrorKind::Wrong => 5,
        OriginErrorKind::Busy => 4,
        OriginErrorKind::Unavailable => 3,
        OriginErrorKind::EntryNotFound => 2,
        OriginErrorKind::RevisionNotFound => 1,
        OriginErrorKind::RepoNotFound => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn refused(kind: OriginErrorKind, status: u16) -> OriginError {
        OriginError::Refused { origin: "o".into(), status, kind, said: String::new() }
    }

    /// Which tokens an origin saw that gives its answer to a token alone.
    async fn seen(token: Option<&str>, closed: bool, first: Result<(), OriginError>) -> (Vec<bool>, bool) {
        let (shown, token) = (Mutex::new(Vec::new()), token.map(|t| Token::new(t).unwrap()));
        let got = ask(token.as_ref(), closed, |token| {
            shown.lock().unwrap().push(token.is_some());
            let first = first.clone();
            async move { if token.is_some() { Ok(()) } else { first } }
        });
        let by_token = got.await.is_ok_and(|got| got.by_token);
        (shown.into_inner().unwrap(), by_token)
    }

    #[tokio::test]
    async fn a_token_is_shown_only_where_it_is_wanted() {
        let gated = || Err(refused(OriginErrorKind::Gated, 403));
        let missing = || Err(refused(OriginErrorKind::EntryNotFound, 404));
        assert_eq!(seen(Some("t"), false, Ok(())).await, (vec![false], false));
        assert_eq!(seen(Some("t"), false, gated()).await, (vec![false, true], true));
        assert_eq!(seen(Some("t"), false, missing()).await, (vec![false], false));
        let elsewhere = || Err(refused(OriginErrorKind::Unavailable, 403));
        assert_eq!(seen(Some("t"), false, elsewhere()).await, (vec![false], false));
        assert_eq!(seen(Some("t"), true, gated()).await, (vec![true], true));
        assert_eq!(seen(None, true, gated()).await, (vec![false], false));
    }

    #[test]
    fn the_more_telling_refusal_is_told() {
        let (gated, missing) =
            (refused(OriginErrorKind::Gated, 403), refused(OriginErrorKind::RepoNotFound, 404));
        for (a, b) in [(gated.clone(), missing.clone()), (missing, gated)] {
            assert_eq!(more_telling(Some(a), b).kind(), OriginErrorKind::Gated);
        }
    }
}
