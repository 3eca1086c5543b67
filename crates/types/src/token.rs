//! A user's token for an origin.
//!
//! **Invariant:** nothing here prints or serialises it; only the origin's client reads it.

use std::fmt;
use std::sync::Arc;

use crate::ParseError;

/// Longest token that is taken, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// A user's token for an origin. It is forwarded for the request that it came with, and kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// Takes a token as a client sent it.
    ///
    /// # Errors
    /// [`ParseError`] if it is empty, longer than [`MAX_TOKEN_BYTES`] or holds anything but visible ASCII.
    pub fn new(text: &str) -> Result<Self, ParseError> {
        let fits = (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        // The error must not repeat what was given.
        fits.then(|| Self(text.into()))
            .ok_or_else(|| ParseError::new("token", "…", "it has 1 to 4096 visible ASCII characters"))
    }

    /// The token itself, for the origin's own host alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new("hf_secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(token.reveal(), "hf_secret");
        let error = Token::new("hf secret").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("secret"));
    }
}
