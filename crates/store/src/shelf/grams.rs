//! Which two and three characters in a row occur in a text: they tell which blocks of names can hold it.

/// Characters of repository names in lower case: letters, digits, `-`, `_`, `.` and `/`.
const LETTERS: u32 = 40;
/// Codes of two characters come first.
const PAIRS: u32 = LETTERS * LETTERS;
/// How many codes there are.
pub(super) const CODES: u32 = PAIRS + PAIRS * LETTERS;

/// The number of a character; `None` if it stands in no name.
fn letter(byte: u8) -> Option<u32> {
    Some(match byte {
        b'a'..=b'z' => u32::from(byte - b'a'),
        b'0'..=b'9' => u32::from(byte - b'0') + 26,
        b'-' => 36,
        b'_' => 37,
        b'.' => 38,
        b'/' => 39,
        _ => return None,
    })
}

/// Whether every character of a text may stand in a name.
pub(super) fn is_possible(word: &str) -> bool {
    word.bytes().all(|byte| letter(byte).is_some())
}

/// Visits the code of every two and every three characters in a row.
pub(super) fn of_name(name: &[u8], mut visit: impl FnMut(u32)) {
    let (mut before, mut last) = (None, None);
    for now in name.iter().map(|byte| letter(*byte)) {
        if let (Some(last), Some(now)) = (last, now) {
            visit(last * LETTERS + now);
            if let Some(before) = before {
                visit(PAIRS + before * PAIRS + last * LETTERS + now);
            }
        }
        (before, last) = (last, now);
    }
}

/// The codes that every name with `word` in it has; the longer ones only, where there are any.
pub(super) fn of_word(word: &str) -> Vec<u32> {
    let mut codes = Vec::new();
    of_name(word.as_bytes(), |code| codes.push(code));
    if word.len() > 2 {
        codes.retain(|code| *code >= PAIRS);
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_has_the_codes_of_its_parts() {
        assert_eq!(of_word("a"), Vec::<u32>::new());
        assert_eq!(of_word("ab"), [1]);
        assert_eq!(of_word("abc").len(), 1);
        assert_eq!(of_word("bert-base").len(), 7);
        assert!(is_possible("bert_base/1.0-x") && !is_possible("bert base") && !is_possible("é"));
    }

    proptest! {
        #[test]
        fn a_name_has_the_codes_of_every_word_in_it(name in "[a-z0-9./_-]{1,40}", from in 0_usize..40, len in 0_usize..12) {
            let mut all = std::collections::HashSet::new();
            of_name(name.as_bytes(), |code| { all.insert(code); });
            prop_assert!(all.iter().all(|code| *code < CODES));
            let word: String = name.chars().skip(from).take(len).collect();
            prop_assert!(of_word(&word).iter().all(|code| all.contains(code)));
        }
    }
}
