//! What is wrong with a cap that somebody wrote.

/// Why a text is no cap. Names the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It is no rate or size.
    #[error("`{text}` is no {what}: {why}")]
    Quantity {
        /// What was written.
        text: String,
        /// `rate` or `size`.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It is no time of the week.
    #[error("`{text}` is no time of the week: {why}")]
    When {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two entries say something of the same hour.
    #[error("`{first}` and `{second}` overlap, and both set `{key}`")]
    Overlap {
        /// The one that stands first.
        first: String,
        /// The other.
        second: String,
        /// `up`, `down` or `origin`.
        key: &'static str,
    },
    /// An entry that changes nothing.
    #[error("`{when}` sets none of `up`, `down` and `origin`")]
    Idle {
        /// Its time.
        when: String,
    },
    /// More entries than are taken.
    #[error("there are {count} entries of hours; at most {limit} are taken")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
    },
}

impl LimitError {
    /// What a person can do.
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Quantity { .. } => {
                "write `20 MB/s`, `50 Mbit/s` or `unlimited` for a rate, and `500 GB` or `unlimited` for a month"
            }
            Self::When { .. } => "write days and hours like `mon-fri 08:00-18:00` or `daily 23:00-07:00`",
            Self::Overlap { .. } => "let one entry end where the other begins",
            Self::Idle { .. } => "say which rate holds then, like `up = \"500 kB/s\"`",
            Self::TooMany { .. } => "put days with the same hours into one entry: `sat,sun 10:00-12:00`",
        })
    }
}
