//! A user's token for an origin.
//!
//! **Invariant:** nothing here prints or serialises it; only the origin's client reads it.

use std::fmt;
use std::sync::{Arc, Weak};

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

    /// Marks what was got by this token, for the request that it came with.
    pub fn loan(&self) -> Loan {
        Loan(Arc::downgrade(&self.0))
    }
}

/// What was got by a token is for the request that it came with: for copies of that very [`Token`], not for another
/// one of the same text, and for nobody once all of them are gone.
#[derive(Clone)]
pub struct Loan(Weak<str>);

impl Loan {
    /// Whether `token` came with the same request.
    pub fn is_of(&self, token: &Token) -> bool {
        self.0.ptr_eq(&Arc::downgrade(&token.0))
    }

    /// Whether the request is over.
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loan(…)")
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
    fn what_a_token_got_is_for_its_own_request() {
        let (token, same_text) = (Token::new("hf_secret").unwrap(), Token::new("hf_secret").unwrap());
        let loan = token.loan();
        assert!(loan.is_of(&token.clone()) && !loan.is_of(&same_text) && !loan.is_over());
        drop(token);
        assert!(loan.is_over() && !loan.is_of(&same_text));
        assert_eq!(format!("{loan:?}"), "Loan(…)");
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new("hf_secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(token.reveal(), "hf_secret");
        let error = Token::new("hf secret").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("secret"));
    }
}
