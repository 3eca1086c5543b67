//! What is wrong with a config: file, line, key, value, and what the value must be.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Unfit, keys};

/// Longest piece of a config that an error repeats, in characters.
const SHOWN_CHARS: usize = 80;

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the config `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the config `{}` is longer than {limit} bytes", path.display())]
    TooLong { path: PathBuf, limit: u64 },
    #[error("`{}` line {line}: this is no TOML: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("`{}` line {line}: there is no key `{key}`; `[{section}]` has {known}", path.display())]
    UnknownKey { path: PathBuf, line: usize, key: String, section: String, known: String },
    #[error("`{}` line {line}: there is no section or key `{key}`; there are {known}", path.display())]
    UnknownSection { path: PathBuf, line: usize, key: String, known: String },
    #[error("with these arguments `{key}` is {value}; it must be {must_be}")]
    Arguments { key: String, value: String, must_be: String },
    #[error("`{}` line {line}: `{key}` is `{value}`; it must be {must_be}", path.display())]
    Value { path: PathBuf, line: usize, key: String, value: String, must_be: String },
}

impl ConfigError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Arguments { .. } => None,
            Self::Read { .. } | Self::TooLong { .. } => {
                Some("name a TOML file in UTF-8 that you may read, like those in configs/".into())
            }
            _ => Some("configs/home.toml shows every key with its default; `hubless check-config FILE` tests a file".into()),
        }
    }

    /// Says what `toml` found, by the key at that place.
    pub(super) fn of_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let (path, line) = (path.to_owned(), line_of(text, span.start));
        let Ok(document) = DeTable::parse(text) else {
            return Self::Syntax { path, line, message: one_line(error.message()) };
        };
        let Some(place) = find_place(document.get_ref(), &span, "") else {
            return Self::Syntax { path, line, message: one_line(error.message()) };
        };
        // Of a key that is known, the unknown one stands within its value.
        let inner = keys::find(&place.key).is_some();
        let unknown = error.message().starts_with("unknown field") && !inner;
        match (unknown, place.key.rsplit_once('.')) {
            (true, Some((section, _))) => {
                let known = keys::of_section(section).join(", ");
                Self::UnknownKey { path, line, section: section.to_owned(), key: place.key, known }
            }
            (true, None) => {
                Self::UnknownSection { path, line, key: place.key, known: bracketed(&keys::sections()) }
            }
            (false, _) => {
                let known = keys::find(&place.key).map_or("a section of keys", |key| key.must_be);
                // Of a list, the words' own parsers say which element is wrong; `toml` says only where the list is.
                let must_be = match error.message() {
                    why if why.starts_with('`')
                        || why.starts_with("unknown field")
                        || why.starts_with("missing field") =>
                    {
                        format!("{known} ({})", one_line(why))
                    }
                    _ => known.to_owned(),
                };
                let value = shown(text, span);
                Self::Value { path, line, key: place.key, value, must_be }
            }
        }
    }

    /// Says what validation found once the arguments had overridden the config.
    pub(crate) fn of_arguments(unfit: &Unfit) -> Self {
        let must_be = must_be_of(unfit);
        Self::Arguments { key: unfit.key.to_owned(), value: unfit.value.clone(), must_be }
    }

    /// Says what validation found.
    pub(super) fn of_unfit(path: &Path, text: &str, unfit: Unfit) -> Self {
        let document = DeTable::parse(text).ok();
        let span = document.as_ref().and_then(|table| span_of(table.get_ref(), unfit.key));
        let must_be = must_be_of(&unfit);
        let value = span.clone().map_or(unfit.value, |span| shown(text, span));
        let line = span.map_or(1, |span| line_of(text, span.start));
        Self::Value { path: path.to_owned(), line, key: unfit.key.to_owned(), value, must_be }
    }
}

fn must_be_of(unfit: &Unfit) -> String {
    let known = keys::find(unfit.key).map_or("something else", |key| key.must_be);
    unfit.why.as_ref().map_or_else(|| known.to_owned(), |why| format!("{known} ({why})"))
}

struct Place {
    key: String,
}

/// The innermost key whose name or value covers `span`.
fn find_place(table: &DeTable<'_>, span: &Range<usize>, prefix: &str) -> Option<Place> {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(place) = find_place(inner, span, &key)
        {
            return Some(place);
        }
        if covers(&name.span(), span) || covers(&value.span(), span) {
            return Some(Place { key });
        }
    }
    None
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn span_of(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (section, name) = key.split_once('.')?;
    match child(table, section)?.get_ref() {
        DeValue::Table(inner) => child(inner, name).map(Spanned::span),
        _ => None,
    }
}

fn child<'a, 'd>(table: &'a DeTable<'d>, wanted: &str) -> Option<&'a Spanned<DeValue<'d>>> {
    table.iter().find(|(name, _)| name.get_ref() == wanted).map(|(_, value)| value)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

fn shown(text: &str, span: Range<usize>) -> String {
    let piece = text.get(span).unwrap_or_default();
    let short: String = piece.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    let short = short.replace("\\\"", "\"");
    if piece.chars().nth(SHOWN_CHARS).is_some() { format!("{short}…") } else { short }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

fn bracketed(names: &[&str]) -> String {
    names.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(", ")
}
