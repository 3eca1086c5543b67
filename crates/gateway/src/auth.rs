//! Reads the token that a request carries.
//!
//! **Invariant:** whatever is no token counts as none; nothing of it is repeated in a message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hubless_types::{MAX_TOKEN_BYTES, Token};

/// The token of an `Authorization` header: as it is behind `Bearer`, or as the password behind `Basic`, which is
/// how git and git-lfs send it.
pub(crate) fn token(header: &str) -> Option<Token> {
    let (scheme, value) = header.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Token::new(value.trim()).ok();
    }
    // User and password, a third longer in base64.
    if !scheme.eq_ignore_ascii_case("basic") || value.len() > 2 * MAX_TOKEN_BYTES {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    // Some put the token where the name goes.
    Token::new(if password.is_empty() { user } else { password }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_come_in_two_forms() {
        for (header, expected) in [
            ("Bearer hf_x", Some("hf_x")),
            ("bearer  hf_x ", Some("hf_x")),
            ("Basic dXNlcjpoZl94", Some("hf_x")),
            ("Basic aGZfeDo=", Some("hf_x")),
            ("Basic Og==", None),
            ("Basic dXNlcg==", None),
            ("Basic ???", None),
            ("Bearer", None),
            ("Digest x", None),
        ] {
            assert_eq!(token(header).as_ref().map(Token::reveal), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "(Bearer|Basic|basic)? ?[ -~]{0,60}") {
            let _ = token(&header);
        }
    }
}
